"""Passes the hub's own events on from where they are durable to the log that the built-in endpoint is read from.

In order, and at least once: an event is forgotten when the log has it on disk. A partition that takes nothing holds up
its own events alone; they are tried again with growing waits until they are as old as what the log retains (L-D10).
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from hubkeep.errors import HubError
from hubkeep.model import HubEvent
from hubkeep.ports import Clock, EventEncoding, EventLog, EventOutbox

from ..partitions import partition_of
from .hub_events import as_message

log = logging.getLogger(__name__)

_AT_ONCE: Final = 200
_WAITS: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # seconds between two attempts
_FINISH_WITHIN: Final = 2.0


class EventRelay:
    """``run`` is one background task of the hub. passed: events by source. expired: that were given up."""

    def __init__(
        self,
        outbox: EventOutbox,
        event_log: EventLog,
        encoding: EventEncoding,
        *,
        hub_name: str,
        keep_seconds: Callable[[], float],
        clock: Clock,
    ) -> None:
        """keep_seconds: after which an event that could not be passed on is given up."""
        self._outbox, self._log, self._encoding = outbox, event_log, encoding
        self._hub_name, self._keep_seconds, self._clock = hub_name, keep_seconds, clock
        self.passed: Counter[str] = Counter()
        self.expired = 0
        self._new, self._idle = asyncio.Event(), asyncio.Event()
        self._new.set()  # what the last life left
        self._after = 0
        self._stuck: set[int] = set()  # partitions that take nothing for now
        self._attempts = 0
        outbox.wake = self._wake

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self._new.clear()
            failed = await self._tried()
            if failed or self._stuck:
                await self._wait_to_retry()
            elif not self._new.is_set():
                self._idle.set()
                await self._new.wait()

    async def finish(self) -> None:
        """Wait until nothing waits any more, for two seconds at most: what is left is passed on at the next start."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_WITHIN):
                await self._idle.wait()

    def _wake(self) -> None:
        self._idle.clear()
        self._new.set()

    async def _tried(self) -> bool:
        """Pass on what waits. Whether that failed altogether."""
        try:
            await self._pass_on()
        except HubError as error:
            log.warning("the hub's own events wait: %s", error.reason)
        except Exception:
            log.exception("passing on the hub's own events failed")
        else:
            return False
        return True

    async def _wait_to_retry(self) -> None:
        """New events of the other partitions go on meanwhile."""
        self._idle.set()
        loop = asyncio.get_running_loop()
        until = loop.time() + _WAITS[min(self._attempts, len(_WAITS) - 1)]
        self._attempts += 1
        while (left := until - loop.time()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._new.wait()
            except TimeoutError:
                break
            self._new.clear()
            await self._tried()
            self._idle.set()
        self._after = 0
        self._stuck.clear()
        self._new.set()

    async def _pass_on(self) -> None:
        while events := await self._outbox.waiting(self._after, _AT_ONCE):
            done = await self._stored(events)
            await self._outbox.forget([each.number for each in done])
            self.passed.update(each.source for each in done)
            if self._stuck:
                self._after = events[-1].number
                numbers = {each.number for each in done}
                await self._give_up([each for each in events if each.number not in numbers])
        if not self._stuck:
            self._attempts = 0

    async def _stored(self, events: Sequence[HubEvent]) -> list[HubEvent]:
        """Those that the log has on disk."""
        loop = asyncio.get_running_loop()
        under_way: list[tuple[HubEvent, int, asyncio.Future[HubError | None]]] = []
        for event in events:
            partition = partition_of(event.device_id, self._log.partitions)
            if partition in self._stuck:
                continue
            head, tail = self._encoded(event)
            outcome: asyncio.Future[HubError | None] = loop.create_future()
            try:
                self._log.append(partition, head, [tail], outcome.set_result)
            except HubError as error:
                log.warning("the hub's own events for partition %d wait: %s", partition, error.reason)
                self._stuck.add(partition)
                continue
            under_way.append((event, partition, outcome))
        done = []
        for event, partition, outcome in under_way:
            failure = await asyncio.shield(outcome)
            if failure is None:
                done.append(event)
            else:
                self._stuck.add(partition)
        return done

    def _encoded(self, event: HubEvent) -> tuple[bytes, bytes]:
        message = as_message(event, self._hub_name)
        ingress = int(self._clock.now() * 1000)
        head = self._encoding.hub_head(event.device_id, event.module_id, event.source)
        sections = self._encoding.hub_sections(message.system, message.properties)
        return head, self._encoding.tail(ingress, sections, message.body)

    async def _give_up(self, events: Sequence[HubEvent]) -> None:
        oldest = self._clock.now() - self._keep_seconds()
        if too_old := [each.number for each in events if each.at < oldest]:
            await self._outbox.forget(too_old)
            self.expired += len(too_old)
            log.error("%d of the hub's own events could not be stored in time and are given up", len(too_old))
