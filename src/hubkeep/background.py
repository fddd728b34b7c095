"""The hub's own jobs, under one TaskGroup: activity, refusals, retention, scrubbing, the watch on the disk."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from hubkeep.cloud.audit import Refusals
from hubkeep.errors import HubError, StoreUnavailable
from hubkeep.limits import Limits
from hubkeep.model import Retention
from hubkeep.ports import Activity, Clock, IdentityStore

log = logging.getLogger(__name__)

_JUMP_SECONDS = 3600
_CONFIRM_SECONDS = 600


class KeptLog(Protocol):
    """What the jobs need of the event log."""

    async def retain(self, *, newer_than: int, at_most: int) -> bool:
        """Forget some of what is too old or too much. False: more is due."""

    async def scrub(self) -> int: ...


async def every(
    seconds: float, job: Callable[[], Awaitable[None]], name: str, *, sooner: asyncio.Event | None = None
) -> None:
    """Run ``job`` again and again. One run that fails is logged and does not end the next (L-R1).

    sooner: set when the next run should not wait.
    """
    while True:
        if sooner is None:
            await asyncio.sleep(seconds)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await sooner.wait()
            sooner.clear()
        try:
            await job()
        except HubError as error:
            log.warning("%s: %s", name, error.reason)
        except Exception:
            log.exception("%s failed", name)


class ActivityJob:
    """Connection state and last activity go to the registry in batches. What cannot be written is tried again."""

    def __init__(
        self, take: Callable[[], list[Activity]], identities: IdentityStore, refusals: Refusals, limits: Limits
    ) -> None:
        self._take, self._identities, self._refusals = take, identities, refusals
        self._most = limits.activity_kept
        self._unwritten: dict[tuple[str, str], Activity] = {}
        self._writing = asyncio.Lock()  # an older state must not be written over a newer one

    async def run(self) -> None:
        """Raises StoreUnavailable: what was not written is kept for the next run."""
        try:
            async with self._writing:
                await self._write()
        finally:
            await self._refusals.flush()

    async def settle(self) -> None:
        """Before identities are read. What cannot be written now does not keep them from being read."""
        with contextlib.suppress(HubError):
            await self.run()

    async def _write(self) -> None:
        for change in self._take():
            key = (change.device_id, change.module_id)
            self._unwritten[key] = change.after(self._unwritten.get(key))
        if self._unwritten:
            try:
                await self._identities.record_activity(tuple(self._unwritten.values()))
            except BaseException:
                self._bound()
                raise
            self._unwritten.clear()

    def _bound(self) -> None:
        """Times of last activity go before connection states, the oldest first."""
        excess = len(self._unwritten) - self._most
        if excess > 0:
            by_worth = sorted(self._unwritten, key=lambda key: self._unwritten[key].connected is not None)
            for key in by_worth[:excess]:
                del self._unwritten[key]
            log.error("%d changes of connection states could not be written and are given up", excess)


class RetentionJob:
    """Old events go. A wall clock that jumps by over an hour has to say so twice, ten minutes apart (L-K1)."""

    def __init__(
        self, event_log: KeptLog, clock: Clock, kept: Callable[[], Retention], *, last_enqueued: float = 0.0
    ) -> None:
        """kept: what is to be kept now.

        last_enqueued: Unix seconds of the newest event. A clock far from it at the start is doubted as well.
        """
        self._log, self._clock, self._kept = event_log, clock, kept
        self._wall, self._monotonic = last_enqueued or clock.now(), clock.monotonic()
        self._doubt: tuple[float, float] | None = None  # since (monotonic), how far the clock was off

    async def run(self) -> None:
        wall = self._clock.now()
        if not self._is_believed(wall):
            return
        hours, size = self._kept()
        newer_than = int((wall - hours * 3600) * 1000)
        while not await self._log.retain(newer_than=newer_than, at_most=size):
            pass  # one transaction after another, with commits of the log between them

    def _is_believed(self, wall: float) -> bool:
        monotonic = self._clock.monotonic()
        off = wall - (self._wall + monotonic - self._monotonic)
        if abs(off) > _JUMP_SECONDS:
            if self._doubt is None or abs(off - self._doubt[1]) > _JUMP_SECONDS:
                self._doubt = (monotonic, off)
                log.warning("the wall clock is %.0f s from where it should be: nothing is deleted for now", off)
            if monotonic - self._doubt[0] < _CONFIRM_SECONDS:
                return False
        self._doubt = None
        self._wall, self._monotonic = wall, monotonic
        return True


class Refusing(Protocol):
    """A store that can be told to take nothing new. refuse_writes: why; None: it takes all."""

    refuse_writes: HubError | None


class DiskJob:
    """Writes stop while the disk is nearly full, and go on by themselves (L-L27, L-S4)."""

    def __init__(self, directory: Path, stores: Sequence[Refusing], limits: Limits) -> None:
        self._directory, self._stores, self._limits = directory, stores, limits
        self._full: StoreUnavailable | None = None

    async def run(self) -> None:
        usage = shutil.disk_usage(self._directory)
        floor = min(usage.total * self._limits.disk_stop_share // 100, self._limits.disk_stop)
        if usage.free < floor:
            if self._full is None:
                self._full = StoreUnavailable(
                    reason=f"{usage.free >> 20} MiB are free on the disk of {self._directory}; "
                    f"writes need {floor >> 20} MiB",
                    remedy="free space: the hub goes on by itself",
                )
                log.error("%s", self._full.reason)
            for store in self._stores:
                if store.refuse_writes is None:  # another reason stays
                    store.refuse_writes = self._full
        elif self._full is not None:
            for store in self._stores:
                if store.refuse_writes is self._full:
                    store.refuse_writes = None
            self._full = None
            log.info("there is space on the disk again: writes go on")
