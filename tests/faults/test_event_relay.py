"""A partition that takes nothing holds up its own events alone, and not for ever (L-D10)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from faults.event_logs import opened
from hubkeep.cloud.secrets import open_seal
from hubkeep.connection.event_encoding import AmqpEventEncoding, described
from hubkeep.errors import EventLogDamaged
from hubkeep.messaging.partitions import partition_of
from hubkeep.messaging.routing.hub_events import HubEvents
from hubkeep.messaging.routing.relay import EventRelay
from hubkeep.messaging.routing.table import RoutingTable
from hubkeep.model import Identity
from hubkeep.store.event_log import SqliteEventLog
from hubkeep.store.registry import Registry, open_registry
from hubkeep.testing import MovableClock

KEPT = 3600.0  # seconds that events are tried for


@contextlib.asynccontextmanager
async def relayed(folder: Path, clock: MovableClock) -> AsyncIterator[tuple[Registry, SqliteEventLog, EventRelay]]:
    """A registry that tells of identities, a log of two partitions, and what passes events from one to the other."""
    table = RoutingTable()
    table.set_built_in(["deviceLifecycleEvents"])
    seal = open_seal(folder / "key", create=True)
    async with (
        opened(folder, clock=clock) as log,
        open_registry(folder / "registry.db", seal, tells=HubEvents(table, clock)) as registry,
    ):
        encoding = AmqpEventEncoding()
        relay = EventRelay(registry.outbox, log, encoding, hub_name="hub", keep_seconds=lambda: KEPT, clock=clock)
        running = asyncio.create_task(relay.run())
        yield registry, log, relay
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # what is waited for has no event of its own
            await asyncio.sleep(0.01)


async def devices(log: SqliteEventLog, partition: int) -> list[Any]:
    events: list[Any] = []
    while found := await log.read(partition, len(events), 1 << 20):
        events += found
    return [described(each)["device"] for each in events]


def named(partition: int, count: int) -> list[str]:
    """Ids of devices whose events go to this partition."""
    return [name for name in map("d{}".format, range(100)) if partition_of(name, 2) == partition][:count]


async def test_other_partitions_go_on_and_what_waits_keeps_its_order(tmp_path: Path) -> None:
    good, bad = named(0, 6), named(1, 6)
    async with relayed(tmp_path, MovableClock()) as (registry, log, relay):
        log.damaged[1] = EventLogDamaged(reason="as a test wants it")
        for pair in zip(good, bad, strict=True):
            for name in pair:
                await registry.identities.create(Identity(device_id=name))
        await until(lambda: relay.passed["deviceLifecycleEvents"] == len(good))
        assert (await devices(log, 0), await devices(log, 1)) == (good, [])
        del log.damaged[1]
        await until(lambda: relay.passed["deviceLifecycleEvents"] == len(good) + len(bad))
        assert (await devices(log, 0), await devices(log, 1)) == (good, bad)
        assert await registry.outbox.waiting(0, 10) == []


async def test_what_waited_for_too_long_is_given_up_and_counted(tmp_path: Path) -> None:
    clock, (first, second) = MovableClock(), named(1, 2)
    async with relayed(tmp_path, clock) as (registry, log, relay):
        log.damaged[1] = EventLogDamaged(reason="as a test wants it")
        await registry.identities.create(Identity(device_id=first))
        clock.move(KEPT + 1)
        await registry.identities.create(Identity(device_id=second))
        await until(lambda: relay.expired == 1)
        del log.damaged[1]
        await until(lambda: relay.passed["deviceLifecycleEvents"] == 1)
        assert await devices(log, 1) == [second]
