"""The event log on SQLite: durable before it is acknowledged, group-committed, every record checked when it is read.

``append`` puts events into the open batch; a commit takes all that has gathered while the one before was under way, so
one fsync serves many messages and no timer is needed. One connection, on the writer's thread, owns all writes.
Readers get the newest events from memory, older ones from read-only connections on threads of their own.
"""

import asyncio
import logging
import queue
import sqlite3
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from hubkeep.errors import EventLogDamaged, HubError, StoreUnavailable
from hubkeep.ports import Clock, Event, PartitionState

from . import event_file, event_loss
from .event_batch import Batch
from .event_check import Left, cannot_open, check_kind, check_what_was_left
from .event_gap import Gap
from .event_marker import Marker
from .event_writer import Committed, EventWriter, OnDurable, Tail, Waiting, tails_and_states

log = logging.getLogger(__name__)
_T = TypeVar("_T")

_READERS: Final = 2  # threads, each with a connection
_DECODED: Final = 8  # batches from disk kept decoded, for readers that take less than one at a time
_STOPPING: Final = "the hub is stopping"
_SCRUB_SECONDS: Final = 0.005  # of work between two rests


class SqliteEventLog:
    """See ports.EventLog. ``await open()`` before anything else; all methods run on the loop that made it.

    created: Unix milliseconds at which the log was made. uncommitted_limit: bytes after which ``congested`` is true.
    damaged: partitions that are read-only, and why. refuse_writes: why nothing can be stored now.
    torn_bytes: of the write-ahead log's tail that the last life had not acknowledged, dropped at the start.
    gaps: ranges whose loss was accepted; readers pass over them.
    """

    def __init__(
        self,
        path: Path,
        *,
        partitions: int,
        clock: Clock,
        cache_bytes: int,
        uncommitted_limit: int,
    ) -> None:
        self.path, self.partitions, self._clock = path, partitions, clock
        self.pending_bytes = 0
        self.created = self.torn_bytes = 0
        self.commits = self.committed_bytes = 0
        self.commit_seconds = 0.0
        self.refuse_writes: HubError | None = None
        self.damaged: dict[int, EventLogDamaged] = {}
        self.gaps: Sequence[Gap] = ()
        self._uncommitted_limit, self._cache_bytes = uncommitted_limit, cache_bytes
        self._states = [PartitionState(0, -1, -1, 0) for _ in range(partitions)]
        self._cache: list[deque[Batch]] = [deque() for _ in range(partitions)]
        self._cache_order: deque[tuple[int, int]] = deque()  # partition, bytes
        self._cached = 0
        self._wakes: list[list[Callable[[], None]]] = [[] for _ in range(partitions)]
        self._relieved: list[Callable[[], None]] = []
        self._decoded: OrderedDict[tuple[int, int], Batch] = OrderedDict()
        self._is_closing = False
        self._is_commit_due = False  # or under way
        self._readers = ThreadPoolExecutor(_READERS, "event-log-reader")
        self._connections: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._loop = loop = asyncio.get_running_loop()
        self._marker = Marker(path.with_suffix(".mark"), partitions)
        self._writer = EventWriter(
            path,
            self._marker,
            clock,
            committed=lambda done: _call(loop, self._committed, done),
            reopened=lambda states: _call(loop, self._reopened, states),
            broken=lambda error: _call(loop, self._stop_writes, error),
        )

    # -- appending ---------------------------------------------------------------------------------------------------

    def append(self, partition: int, head: bytes, tails: Sequence[bytes], on_durable: OnDurable | None) -> None:
        """See ports.EventLog.append."""
        if self.refuse_writes is not None:
            raise self.refuse_writes.again()
        if partition in self.damaged:
            raise self.damaged[partition].again()
        size = sum(map(len, tails))
        self.pending_bytes += size
        self._writer.waiting.append(Waiting(partition, head, tails, size, on_durable))
        if not self._is_commit_due:
            self._commit_after_this_turn()

    def _commit_after_this_turn(self) -> None:
        """Let all sockets that are readable now be read first.

        That makes fewer, larger commits, and the writer does not contend for the interpreter lock while the loop reads:
        a thread that starts amid a burst costs a quarter of all CPU time.
        """
        self._is_commit_due = True
        self._loop.call_soon(self._writer.commit)

    @property
    def congested(self) -> bool:
        """More is waiting for the disk than the hub wants to hold: leave sockets unread until ``when_relieved``."""
        return self.pending_bytes > self._uncommitted_limit

    def when_relieved(self, call: Callable[[], None]) -> None:
        """Call once when ``congested`` has become false."""
        self._relieved.append(call)

    # -- reading -----------------------------------------------------------------------------------------------------

    def state(self, partition: int) -> PartitionState:
        """See ports.EventLog.state. Only what is durable shows."""
        return self._states[partition]

    def on_commit(self, partition: int, wake: Callable[[], None]) -> Callable[[], None]:
        """See ports.EventLog.on_commit."""
        wakes = self._wakes[partition]
        wakes.append(wake)

        def end() -> None:
            if wake in wakes:
                wakes.remove(wake)

        return end

    def read_cached(self, partition: int, sequence: int, max_bytes: int) -> Sequence[Event] | None:
        """See ports.EventLog.read_cached."""
        state = self._states[partition]
        if sequence > state.last_sequence:
            return ()
        cache = self._cache[partition]
        if not cache or sequence < cache[0].first_sequence:
            return None
        index = bisect_right(cache, sequence, key=lambda batch: batch.first_sequence) - 1
        return cache[index].events(sequence, max_bytes)

    async def read(self, partition: int, sequence: int, max_bytes: int) -> Sequence[Event]:
        """See ports.EventLog.read."""
        state = self._states[partition]
        sequence = max(sequence, state.first_sequence)
        cached = self.read_cached(partition, sequence, max_bytes)
        if cached is not None:
            return cached
        for (of, first), decoded in self._decoded.items():
            if of == partition and first <= sequence < decoded.next_sequence:
                return decoded.events(sequence, max_bytes)
        is_damaged = partition in self.damaged
        batch = await self._on_reader_of(
            partition,
            lambda connection: event_file.load(
                connection, partition, sequence, state.last_sequence, is_damaged=is_damaged
            ),
        )
        if batch is None:  # nothing is stored behind a gap yet
            return ()
        self._decoded[partition, batch.first_sequence] = batch
        if len(self._decoded) > _DECODED:
            self._decoded.popitem(last=False)
        return batch.events(sequence, max_bytes)

    async def sequence_at_offset(self, partition: int, offset: int) -> int:
        """See ports.EventLog.sequence_at_offset."""
        return await self._seek(partition, "first_offset", offset, lambda batch: batch.sequence_at_offset(offset))

    async def sequence_after_time(self, partition: int, milliseconds: int) -> int:
        """See ports.EventLog.sequence_after_time."""
        return await self._seek(partition, "enqueued", milliseconds, lambda batch: batch.next_sequence)

    async def _seek(self, partition: int, column: str, value: int, within: Callable[[Batch], int]) -> int:
        return await self._on_reader_of(
            partition, lambda connection: event_file.seek(connection, partition, column, value, within)
        )

    async def _on_reader_of(self, partition: int, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """``_on_reader``; damage that it finds makes the partition read-only."""
        try:
            return await self._on_reader(work)
        except EventLogDamaged as damage:
            self._mark_damaged(partition, damage)
            raise

    async def _on_reader(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        def run() -> _T:
            connection = self._connections.get()
            try:
                return work(connection)
            finally:
                self._connections.put(connection)

        return await self._loop.run_in_executor(self._readers, run)

    def _mark_damaged(self, partition: int, damage: EventLogDamaged) -> None:
        if partition not in self.damaged:
            self.damaged[partition] = damage.again()
            log.error("event log damaged: %s; %s", damage.reason, damage.remedy)

    def _known_from(self, partition: int, firsts: Mapping[int, int]) -> None:
        """A damaged index hides what is older than its first entry: readers must meet the gap, not pass it."""
        state = self._states[partition]
        first = min(state.first_sequence, firsts.get(partition, state.first_sequence))
        self._states[partition] = state._replace(first_sequence=first)

    # -- retention and scrubbing -------------------------------------------------------------------------------------

    async def retain(self, *, newer_than: int, at_most: int) -> bool:
        """Forget batches enqueued before ``newer_than`` (Unix ms), and the oldest beyond ``at_most`` bytes.

        The newest batch of each partition stays, so that sequence numbers go on after it; nothing of a damaged
        partition goes. False: that was a part, more is due. Raises StoreUnavailable; then nothing went.
        """
        done: asyncio.Future[event_file.Forgotten] = self._loop.create_future()
        spare = tuple(self.damaged)

        def retain(connection: sqlite3.Connection) -> None:
            try:
                forgotten = event_file.forget(
                    connection, self.partitions, newer_than=newer_than, at_most=at_most, spare=spare
                )
            except sqlite3.Error as error:
                refusal = StoreUnavailable(reason=f"old events cannot be deleted: {error}", remedy="check the disk")
                _call(self._loop, _fail, done, refusal)
            else:
                _call(self._loop, _resolve, done, forgotten)

        if self._is_closing:
            raise StoreUnavailable(reason=_STOPPING)
        self._writer.run(retain)
        forgotten = await done
        for partition, first in enumerate(forgotten.firsts):
            if first is not None:
                self._states[partition] = self._states[partition]._replace(first_sequence=first)
                cache = self._cache[partition]
                while cache and cache[0].next_sequence <= first:
                    cache.popleft()
        return forgotten.is_all

    async def scrub(self, rest: float = 0.045) -> int:
        """Check every stored batch once, oldest first, resting ``rest`` seconds between short turns of work.

        Damage makes its partition read-only and is logged with its exact range. Returns batches checked.
        """
        scrub = event_file.Scrub(self._states.copy(), self.damaged)
        while not scrub.is_done:
            try:
                await self._on_reader(lambda connection: scrub.check_some(connection, _SCRUB_SECONDS))
            except EventLogDamaged as damage:  # of the tree itself: nobody knows which partitions it concerns
                scrub.damaged.update(dict.fromkeys(range(self.partitions), damage))
                scrub.is_done = True
            for partition, found in scrub.damaged.items():
                self._mark_damaged(partition, found)
                self._known_from(partition, scrub.firsts)
            await asyncio.sleep(rest)
        return scrub.batches

    # -- life --------------------------------------------------------------------------------------------------------

    async def open(self, *, is_expected: bool = False) -> None:
        """Check what the last life left, then accept. is_expected: the file was made before and must be there.

        Raises EventLogDamaged naming what is missing, StoreUnavailable, SchemaTooNew, NotPermitted.
        """
        try:
            connection, tails = await self._loop.run_in_executor(None, self._open, is_expected)
        except BaseException:
            self._let_readers_go()
            self._marker.close()
            raise
        for damage in self.damaged.values():
            log.error("event log damaged: %s; %s", damage.reason, damage.remedy)
        for gap in self.gaps:
            log.warning("event log: %s were lost, which was accepted", gap)
        self._writer.start(connection, tails)

    async def close(self) -> None:
        """Commit what waits, then let go of the files. What is appended from now on is refused."""
        self.refuse_writes = StoreUnavailable(reason=_STOPPING)
        self._is_closing = True
        await self._loop.run_in_executor(None, self._let_readers_go)  # first: the last to close takes the WAL away
        await self._loop.run_in_executor(None, self._writer.finish)
        await asyncio.sleep(0)  # the last commit's call back
        self._marker.close()

    def _let_readers_go(self) -> None:
        self._readers.shutdown(cancel_futures=True)
        while not self._connections.empty():
            self._connections.get().close()

    def _open(self, is_expected: bool) -> tuple[sqlite3.Connection, list[Tail]]:
        try:
            self._marker.open()
            event_loss.finish(self.path)
            if self.path.exists():
                left = check_what_was_left(self.path, self.partitions, self._marker)
            else:
                left = Left({}, {}, 0)
                self._check_new(is_expected)
            self.damaged, self.torn_bytes = left.damaged, left.torn_bytes
            connection = event_file.open_writer(self.path)
            try:
                tails = self._prepare(connection)
                self.gaps = event_loss.gaps(connection)
                for partition in self.damaged:
                    self._known_from(partition, left.firsts)
                for _ in range(_READERS):  # held from the start: out of descriptors, the log is still read (L-O5)
                    self._connections.put(event_file.open_reader(self.path))
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise cannot_open(self.path, error) from None
        return connection, tails

    def _check_new(self, is_expected: bool) -> None:
        """Raises EventLogDamaged when the file that is not there was there."""
        marked = self._marker.read()
        if is_expected or (marked and any(marked)):
            lost = [
                f"partition {each}: sequence numbers up to {end - 1}" for each, end in enumerate(marked or ()) if end
            ]
            raise EventLogDamaged(
                reason=f"{self.path.name} is gone{', and with it ' if lost else ''}{'; '.join(lost)}",
                remedy=event_file.RESTORE,
            )

    def _prepare(self, connection: sqlite3.Connection) -> list[Tail]:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            created = int(self._clock.now() * 1000)
            event_file.make_tables(connection, self.partitions, created)
        self.created = check_kind(connection, self.path, self.partitions)
        marked = self._marker.read() or [0] * self.partitions
        tails, self._states = tails_and_states(connection, [Tail(each) for each in marked], self.damaged)
        self._marker.reserve()
        self._marker.write([tail.next_sequence for tail in tails])
        return tails

    # -- back on the loop --------------------------------------------------------------------------------------------

    def _committed(self, done: Committed) -> None:
        self._is_commit_due = False
        if self._writer.waiting:
            self._commit_after_this_turn()
        self.pending_bytes -= done.size
        self.commits += 1
        self.committed_bytes += done.size
        self.commit_seconds += done.seconds
        for partition, batch in done.batches:
            state = self._states[partition]
            first = state.first_sequence if state.last_sequence >= 0 else batch.first_sequence
            self._states[partition] = PartitionState(first, batch.next_sequence - 1, batch.last_offset, batch.enqueued)
            self._remember(partition, batch)
        for on_durable in done.acknowledge:
            try:
                on_durable(done.error)
            except Exception:
                log.exception("an acknowledgement failed")
        for partition, _ in done.batches:
            self._wake(partition)
        if self._relieved and not self.congested:
            relieved, self._relieved = self._relieved, []
            for call in relieved:
                call()

    def _reopened(self, states: list[PartitionState]) -> None:
        """After a failed sync: what is on disk counts, and may hold events that nobody was told of."""
        self._states = states
        self._decoded.clear()
        self._cache_order.clear()
        self._cached = 0
        for partition, cache in enumerate(self._cache):
            cache.clear()
            self._wake(partition)

    def _stop_writes(self, error: HubError) -> None:
        log.error("nothing is stored any more until the hub is started again: %s", error.reason)
        self.refuse_writes = error

    def _wake(self, partition: int) -> None:
        for wake in tuple(self._wakes[partition]):
            try:
                wake()
            except Exception:
                log.exception("a reader failed at its wake-up")

    def _remember(self, partition: int, batch: Batch) -> None:
        size = batch.next_offset - batch.first_offset
        self._cache[partition].append(batch)
        self._cache_order.append((partition, size))
        self._cached += size
        while self._cached > self._cache_bytes and len(self._cache_order) > 1:
            oldest, oldest_size = self._cache_order.popleft()
            if self._cache[oldest]:
                self._cache[oldest].popleft()
            self._cached -= oldest_size


def _call(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    """Have the loop call, from another thread. A loop that has ended has nobody left to tell."""
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:
        log.warning("the loop ended before the event log's last word")


def _resolve(future: "asyncio.Future[_T]", value: _T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: "asyncio.Future[_T]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
