"""Small event logs to damage, and what can still be read of them."""

import asyncio
import contextlib
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from hubkeep.errors import EventLogDamaged, HubError
from hubkeep.ports import Event
from hubkeep.store.event_log import SqliteEventLog
from hubkeep.testing import MovableClock

PARTITIONS = 2
FILES = ("events.db", "events.db-wal", "events.mark")
Events = dict[int, list[Event]]


def make_log(folder: Path, *, partitions: int = PARTITIONS, clock: MovableClock | None = None) -> SqliteEventLog:
    return SqliteEventLog(
        folder / "events.db",
        partitions=partitions,
        clock=clock or MovableClock(),
        cache_bytes=0,  # everything but the newest batch is read from the file
        uncommitted_limit=1 << 20,
    )


@contextlib.asynccontextmanager
async def opened(
    folder: Path, *, partitions: int = PARTITIONS, clock: MovableClock | None = None
) -> AsyncIterator[SqliteEventLog]:
    log = make_log(folder, partitions=partitions, clock=clock)
    await log.open()
    try:
        yield log
    finally:
        await log.close()


async def store(log: SqliteEventLog, partition: int, *tails: bytes, head: bytes = b"head") -> None:
    """One commit; returns when it is acknowledged. Raises what the log answers."""
    done: asyncio.Future[HubError | None] = asyncio.get_running_loop().create_future()
    log.append(partition, head, tails, done.set_result)
    if (error := await done) is not None:
        raise error


async def fill(log: SqliteEventLog, commits: int, size: int = 900, seed: int = 1) -> None:
    source = random.Random(seed)
    for number in range(commits):
        tails = [source.randbytes(source.randrange(1, size)) for _ in range(source.randrange(1, 6))]
        await store(log, number % log.partitions, *tails, head=b"head of %d" % (number % 5))


async def read_all(log: SqliteEventLog) -> tuple[Events, list[EventLogDamaged]]:
    """What can be read of each partition up to its first damage, and the damages."""
    events: Events = {}
    damages = []
    for partition in range(log.partitions):
        found = events[partition] = []
        state = log.state(partition)
        sequence = state.first_sequence
        try:
            while sequence <= state.last_sequence:
                some = await log.read(partition, sequence, 1 << 16)
                assert some, "nothing where something is stored"
                found += some
                sequence = some[-1].sequence + 1
        except EventLogDamaged as damage:
            damages.append(damage)
    return events, damages


def copy_log(source: Path, target: Path, *files: str) -> Path:
    """The files as they are now: what a kill would leave, if the log is open."""
    target.mkdir()
    for name in files or FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    return target


def flip(path: Path, position: int, bit: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes((byte ^ (1 << bit),)))


def zero(path: Path, position: int, size: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        file.write(bytes(size))
