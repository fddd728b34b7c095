"""The event log on SQLite: durable before it is acknowledged, group-committed, every record checked when it is read.

``append`` puts events into the open batch; the writer thread commits whatever has gathered while the commit before was
under way, so one fsync serves many messages and no timer is needed. One connection, on that thread, owns all writes.
Readers get the newest events from memory, older ones from read-only connections on a thread of their own.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from struct import error as struct_error
from typing import Final, NamedTuple, TypeVar

from hubkeep.errors import EventLogDamaged, HubError, StoreUnavailable
from hubkeep.ports import Clock, Event, PartitionState

from .event_batch import Batch, BatchUnreadable, OpenBatch, checksum
from .event_marker import Marker, WalDamage, damage_in_wal

log = logging.getLogger(__name__)
_T = TypeVar("_T")

SCHEMA_VERSION: Final = 1
_PAGE_SIZE: Final = 16 * 1024
_WAL_PAGES: Final = 1024  # 16 MiB: what a start has to scan
_COMMIT_BYTES: Final = 1024 * 1024  # of tails; a reader loads whole batches
_COMMIT_ENTRIES: Final = 30_000  # heads of a batch are counted in 16 bits
_DECODED: Final = 8  # batches from disk kept decoded, for readers that take less than one at a time
_VERIFY_SECONDS: Final = 0.4  # of a start; the rest is scrubbed in the background
_SCHEMA: Final = """
CREATE TABLE batch (
    id INTEGER PRIMARY KEY, partition INTEGER NOT NULL, first_sequence INTEGER NOT NULL, count INTEGER NOT NULL,
    first_offset INTEGER NOT NULL, enqueued INTEGER NOT NULL, previous INTEGER NOT NULL, chain INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE UNIQUE INDEX batch_by_sequence ON batch (partition, first_sequence);
CREATE TABLE log (partitions INTEGER NOT NULL, created INTEGER NOT NULL);
"""
_COLUMNS: Final = "partition, first_sequence, count, first_offset, enqueued, previous, chain, body"

OnDurable = Callable[[HubError | None], None]


class _Waiting(NamedTuple):
    partition: int
    head: bytes
    tails: Sequence[bytes]
    size: int
    on_durable: OnDurable | None


class _Tail:
    """Where a partition ends: what the next batch continues. Owned by the writer thread."""

    __slots__ = ("chain", "enqueued", "next_offset", "next_sequence")

    def __init__(self, next_sequence: int = 0, next_offset: int = 0, enqueued: int = 0, chain: int = 0) -> None:
        self.next_sequence, self.next_offset, self.enqueued, self.chain = next_sequence, next_offset, enqueued, chain


class _Committed(NamedTuple):
    batches: list[tuple[int, Batch]]
    acknowledge: list[OnDurable]
    size: int
    seconds: float
    error: HubError | None


class SqliteEventLog:
    """See ports.EventLog. Make with ``await open_event_log(...)``; all methods run on the loop that opened it.

    created: Unix milliseconds at which the log was made. uncommitted_limit: bytes after which ``congested`` is true.
    """

    def __init__(
        self,
        path: Path,
        *,
        partitions: int,
        clock: Clock,
        cache_bytes: int,
        uncommitted_limit: int,
        commit_interval: float = 0.0,
    ) -> None:
        self.path, self.partitions, self._clock = path, partitions, clock
        self.pending_bytes = 0
        self.created = 0
        self.commits = self.committed_bytes = 0
        self.commit_seconds = 0.0
        self.refuse_writes: HubError | None = None
        self.damaged: dict[int, EventLogDamaged] = {}
        self._uncommitted_limit, self._cache_bytes, self._commit_interval = (
            uncommitted_limit,
            cache_bytes,
            commit_interval,
        )
        self._waiting: deque[_Waiting] = deque()
        self._signal: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._writer_idle = False
        self._stopping = False
        self._failures = 0
        self._tails = [_Tail() for _ in range(partitions)]  # the writer thread's
        self._states = [PartitionState(0, -1, -1, 0) for _ in range(partitions)]  # the loop's
        self._cache: list[deque[Batch]] = [deque() for _ in range(partitions)]
        self._cache_order: deque[tuple[int, int]] = deque()  # partition, bytes
        self._cached = 0
        self._wakes: list[list[Callable[[], None]]] = [[] for _ in range(partitions)]
        self._relieved: list[Callable[[], None]] = []
        self._errands: queue.SimpleQueue[Callable[[sqlite3.Connection], None]] = queue.SimpleQueue()
        self._decoded: OrderedDict[tuple[int, int], Batch] = OrderedDict()
        self._readers = ThreadPoolExecutor(2, "event-log-reader", initializer=self._open_reader)
        self._reader = threading.local()
        self._loop = asyncio.get_running_loop()
        self._marker: Marker
        self._connection: sqlite3.Connection
        self._writer = threading.Thread(target=self._write_forever, name="event-log-writer", daemon=True)

    # -- appending ---------------------------------------------------------------------------------------------------

    def append(self, partition: int, head: bytes, tails: Sequence[bytes], on_durable: OnDurable | None) -> None:
        """See ports.EventLog.append."""
        if self.refuse_writes is not None:
            raise self.refuse_writes
        if partition in self.damaged:
            raise self.damaged[partition]
        size = sum(map(len, tails))
        self.pending_bytes += size
        self._waiting.append(_Waiting(partition, head, tails, size, on_durable))
        if self._writer_idle:
            self._writer_idle = False
            self._signal.put(None)

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
        sequence = max(sequence, self._states[partition].first_sequence)
        cached = self.read_cached(partition, sequence, max_bytes)
        if cached is not None:
            return cached
        for (of, first), decoded in self._decoded.items():
            if of == partition and first <= sequence < decoded.next_sequence:
                return decoded.events(sequence, max_bytes)
        try:
            batch = await self._loop.run_in_executor(self._readers, self._load, partition, sequence)
        except EventLogDamaged as damage:
            self._mark_damaged(partition, damage)
            raise
        if batch is not None:
            self._decoded[partition, batch.first_sequence] = batch
            if len(self._decoded) > _DECODED:
                self._decoded.popitem(last=False)
        else:
            # retention took it between the look and the read
            return await self.read(partition, self._states[partition].first_sequence, max_bytes)
        return batch.events(sequence, max_bytes)

    async def sequence_at_offset(self, partition: int, offset: int) -> int:
        """See ports.EventLog.sequence_at_offset."""
        return await self._seek(partition, "first_offset <= ?", offset, lambda batch: batch.sequence_at_offset(offset))

    async def sequence_after_time(self, partition: int, milliseconds: int) -> int:
        """See ports.EventLog.sequence_after_time."""
        return await self._seek(partition, "enqueued <= ?", milliseconds, lambda batch: batch.next_sequence)

    async def _seek(self, partition: int, condition: str, value: int, within: Callable[[Batch], int]) -> int:
        """Find the last batch that meets ``condition`` by halving, for offsets and times only rise."""

        def seek() -> int:
            connection = self._reader.connection
            first, last = connection.execute(
                "SELECT min(first_sequence), max(first_sequence) FROM batch WHERE partition = ?", (partition,)
            ).fetchone()
            if first is None:
                return 0
            column = condition.partition(" ")[0]
            low, high, found = first, last, None
            while low <= high:
                middle = (low + high) // 2
                row = connection.execute(
                    f"SELECT first_sequence, count, {column} FROM batch WHERE partition = ? AND first_sequence <= ?"  # noqa: S608  # column: one of two words above
                    " ORDER BY first_sequence DESC LIMIT 1",
                    (partition, middle),
                ).fetchone()
                if row is None or row[2] <= value:
                    found = row[0] if row else None
                    low = max(middle + 1, (row[0] + row[1]) if row else first)
                else:
                    high = row[0] - 1
            if found is None:
                return int(first)
            batch = self._load(partition, found)
            return within(batch) if batch is not None else int(first)

        try:
            return await self._loop.run_in_executor(self._readers, seek)
        except EventLogDamaged as damage:
            self._mark_damaged(partition, damage)
            raise

    def _open_reader(self) -> None:
        self._reader.connection = sqlite3.connect(
            f"file:{self.path}?mode=ro", uri=True, check_same_thread=False, isolation_level=None
        )

    def _load(self, partition: int, sequence: int) -> Batch | None:
        """The batch that holds ``sequence``, checked; None when it is older than what is kept. On a reader thread."""
        rows = (
            f"SELECT {_COLUMNS} FROM batch WHERE partition = ? AND first_sequence"  # noqa: S608  # constants only
            " {} ? ORDER BY first_sequence {} LIMIT 1"
        )
        connection = self._reader.connection
        try:
            row = connection.execute(rows.format("<=", "DESC"), (partition, sequence)).fetchone()
            if row is not None and sequence < row[1] + row[2]:
                return _checked(row)
            behind = connection.execute(rows.format(">", "ASC"), (partition, sequence)).fetchone()
        except sqlite3.DatabaseError as error:
            raise EventLogDamaged(
                reason=f"partition {partition}, from sequence number {sequence}: {error}", remedy=_RESTORE
            ) from None
        if row is None or behind is None:
            return None
        raise EventLogDamaged(
            reason=f"partition {partition}: sequence numbers {row[1] + row[2]} to {behind[1] - 1} are missing",
            remedy=_RESTORE,
        )

    def _mark_damaged(self, partition: int, damage: EventLogDamaged) -> None:
        if partition not in self.damaged:
            self.damaged[partition] = damage
            log.error("event log damaged: %s; %s", damage.reason, damage.remedy)

    # -- retention and scrubbing -------------------------------------------------------------------------------------

    async def retain(self, *, newer_than: int, at_most: int) -> int:
        """Forget batches enqueued before ``newer_than`` (Unix ms), and the oldest beyond ``at_most`` bytes.

        The newest batch of each partition stays, so that sequence numbers go on after it. Returns batches forgotten.
        """
        done: asyncio.Future[tuple[int, list[int | None]]] = self._loop.create_future()

        def retain(connection: sqlite3.Connection) -> None:
            forgotten = 0
            keep = [row[0] for row in connection.execute("SELECT max(id) FROM batch GROUP BY partition")]
            marks = ",".join("?" * len(keep))
            (pages,), (free,) = (connection.execute(f"PRAGMA {p}").fetchone() for p in ("page_count", "freelist_count"))
            excess = (pages - free) * _PAGE_SIZE - at_most
            doomed: list[tuple[int]] = []
            rows = connection.execute(
                f"SELECT id, enqueued, length(body) FROM batch WHERE id NOT IN ({marks}) ORDER BY id LIMIT 2000",  # noqa: S608  # question marks only
                keep,
            )
            for row, enqueued, size in rows:
                if enqueued >= newer_than and excess <= 0:
                    break
                doomed.append((row,))
                excess -= size
            if doomed:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("DELETE FROM batch WHERE id = ?", doomed)
                connection.execute("COMMIT")
                forgotten = len(doomed)
            firsts: list[int | None] = [None] * self.partitions
            for partition, first in connection.execute("SELECT partition, min(first_sequence) FROM batch GROUP BY 1"):
                firsts[partition] = first
            self._loop.call_soon_threadsafe(_resolve, done, (forgotten, firsts))

        self._errands.put(retain)
        self._signal.put(None)
        forgotten, firsts = await done
        for partition, first in enumerate(firsts):
            if first is not None:
                self._states[partition] = self._states[partition]._replace(first_sequence=first)
                cache = self._cache[partition]
                while cache and cache[0].next_sequence <= first:
                    cache.popleft()
        return forgotten

    async def scrub(self, pause: float = 0.01) -> int:
        """Check every stored batch once, oldest first, resting ``pause`` seconds between batches.

        Damage makes its partition read-only and is logged with its exact range. Returns batches checked.
        """
        checked = 0
        for partition in range(self.partitions):
            sequence = self._states[partition].first_sequence
            while sequence <= self._states[partition].last_sequence and partition not in self.damaged:
                try:
                    batch = await self._loop.run_in_executor(self._readers, self._load, partition, sequence)
                except EventLogDamaged as damage:
                    self._mark_damaged(partition, damage)
                    break
                sequence = batch.next_sequence if batch else self._states[partition].first_sequence
                checked += 1
                await asyncio.sleep(pause)
        return checked

    # -- life --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Check what the last life left, then accept. Raises EventLogDamaged, StoreUnavailable."""
        await self._loop.run_in_executor(None, self._open)
        self._writer.start()

    async def close(self) -> None:
        """Commit what waits, then let go of the files."""
        self._readers.shutdown(cancel_futures=True)
        self._stopping = True
        self._signal.put(None)
        if self._writer.is_alive():
            await self._loop.run_in_executor(None, self._writer.join)
        await asyncio.sleep(0)  # the last commit's call back
        self._marker.close()

    def _open(self) -> None:
        marker_path = self.path.with_suffix(".mark")
        is_new = not self.path.exists()
        damage = damage_in_wal(self.path.with_name(self.path.name + "-wal"))
        self._marker = Marker(marker_path, self.partitions)
        marked = self._marker.read()
        if is_new and marked is not None and any(marked):
            raise EventLogDamaged(
                reason=f"{self.path.name} is gone, although {sum(marked)} events were acknowledged", remedy=_RESTORE
            )
        try:
            if not is_new:
                self._check_what_was_left(marked, damage)
            self._connection = self._connect()
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise EventLogDamaged(reason=f"{self.path.name}: {error}", remedy=_RESTORE) from None
        self._marker.write([tail.next_sequence for tail in self._tails])

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, cached_statements=16)
        connection.execute(f"PRAGMA page_size={_PAGE_SIZE}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
        connection.execute("PRAGMA journal_size_limit=67108864")
        return connection

    def _prepare(self) -> None:
        connection = self._connection
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
            created = int(self._clock.now() * 1000)
            connection.execute("INSERT INTO log VALUES (?, ?)", (self.partitions, created))
        elif version > SCHEMA_VERSION:
            raise StoreUnavailable(
                reason=f"{self.path.name} was written by a newer version (schema {version})",
                remedy="start the version that wrote it",
            )
        partitions, self.created = connection.execute("SELECT partitions, created FROM log").fetchone()
        if partitions != self.partitions:
            raise StoreUnavailable(
                reason=f"the log has {partitions} partitions, the settings say {self.partitions}",
                remedy=f"set events.partitions = {partitions}: the number is fixed when the log is made",
            )
        self._states = _states(connection, self.partitions)
        for partition, state in enumerate(self._states):
            row = self._newest(connection, partition)
            if row is not None:
                batch = _checked(row)
                self._tails[partition] = _Tail(batch.next_sequence, batch.next_offset, batch.enqueued, batch.chain)
                self._states[partition] = state._replace(last_offset=batch.last_offset, last_enqueued=batch.enqueued)

    @staticmethod
    def _newest(
        connection: sqlite3.Connection, partition: int
    ) -> tuple[int, int, int, int, int, int, int, bytes] | None:
        row: tuple[int, int, int, int, int, int, int, bytes] | None = connection.execute(
            f"SELECT {_COLUMNS} FROM batch WHERE partition = ? ORDER BY first_sequence DESC LIMIT 1",  # noqa: S608  # constants only
            (partition,),
        ).fetchone()
        return row

    def _check_what_was_left(self, marked: list[int] | None, damage: WalDamage | None) -> None:
        """Compare with the marker and check the newest records, without writing: evidence is left as it is."""
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, isolation_level=None)
        try:
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'batch'").fetchone()
            states = (
                _states(connection, self.partitions) if tables else [PartitionState(0, -1, -1, 0)] * self.partitions
            )
            missing = [
                f"partition {partition}: sequence numbers {state.last_sequence + 1} to {marked[partition] - 1}"
                for partition, state in enumerate(states)
                if marked and state.last_sequence + 1 < marked[partition]
            ]
            if missing or damage:
                where = f" (frame {damage.frame} of the write-ahead log, byte {damage.byte_offset})" if damage else ""
                what = "; ".join(missing) or "transactions behind a damaged frame"
                raise EventLogDamaged(reason=f"acknowledged events are missing{where}: {what}", remedy=_RESTORE)
            until = time.monotonic() + _VERIFY_SECONDS
            rows = connection.execute(f"SELECT {_COLUMNS} FROM batch ORDER BY id DESC")  # noqa: S608  # constants only
            for row in rows:
                _checked(row)
                if time.monotonic() > until:
                    break
        finally:
            connection.close()

    # -- the writer thread -------------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        waiting, signal = self._waiting, self._signal
        rest_until = 0.0
        while True:
            self._writer_idle = True
            if not waiting and self._errands.empty():
                if self._stopping:
                    break
                signal.get()
            self._writer_idle = False
            while not self._errands.empty():
                self._run_errand(self._errands.get())
            pause = rest_until - time.monotonic()
            if pause > 0 and not self._stopping:
                time.sleep(pause)
            if waiting:
                started = time.monotonic()
                self._commit(self._take(), started)
                rest_until = started + self._commit_interval
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()
        except sqlite3.Error as error:
            log.warning("the event log was not checkpointed at its close: %s", error)

    def _take(self) -> list[_Waiting]:
        """What goes into one commit: all that waits, up to the bounds of a batch."""
        waiting, entries, size = self._waiting, [], 0
        for _ in range(min(len(waiting), _COMMIT_ENTRIES)):
            entry = waiting.popleft()
            entries.append(entry)
            size += entry.size
            if size > _COMMIT_BYTES:
                break
        return entries

    def _run_errand(self, errand: Callable[[sqlite3.Connection], None]) -> None:
        try:
            errand(self._connection)
        except sqlite3.Error as error:
            self._rollback()
            log.warning("event log: %s", error)

    def _commit(self, entries: list[_Waiting], started: float) -> None:
        open_batches: dict[int, OpenBatch] = {}
        acknowledge: list[OnDurable] = []
        size = 0
        for partition, head, tails, entry_size, on_durable in entries:
            batch = open_batches.get(partition)
            if batch is None:
                batch = open_batches[partition] = OpenBatch()
            batch.add(head, tails)
            size += entry_size
            if on_durable is not None:
                acknowledge.append(on_durable)
        error: HubError | None = None
        batches: list[tuple[int, Batch]] = []
        try:
            batches = self._store(open_batches)
            self._failures = 0
        except sqlite3.Error as failure:
            batches = []
            error = self._failed(failure)
        done = _Committed(batches, acknowledge, size, time.monotonic() - started, error)
        try:
            self._loop.call_soon_threadsafe(self._committed, done)
        except RuntimeError:
            log.warning("the loop ended before the last commit could be acknowledged")

    def _store(self, open_batches: dict[int, OpenBatch]) -> list[tuple[int, Batch]]:
        now = int(self._clock.now() * 1000)
        rows, batches = [], []
        for partition, new in open_batches.items():
            tail = self._tails[partition]
            batch = Batch(
                tail.next_sequence, tail.next_offset, max(now, tail.enqueued), new.heads, new.head_indexes, new.tails
            )
            body = batch.encode()
            place = (partition, batch.first_sequence, len(batch), batch.first_offset, batch.enqueued, tail.chain)
            batch.chain = checksum(*place, body)
            rows.append((*place, batch.chain, body))
            batches.append((partition, batch))
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        self._connection.executemany(f"INSERT INTO batch ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)", rows)  # noqa: S608  # constants only
        execute("COMMIT")
        for partition, batch in batches:
            self._tails[partition] = _Tail(batch.next_sequence, batch.next_offset, batch.enqueued, batch.chain)
        self._marker.write([tail.next_sequence for tail in self._tails])
        return batches

    def _failed(self, failure: sqlite3.Error) -> HubError:
        """What to answer for a commit that failed; a full disk leaves the log usable, anything else reopens it."""
        self._rollback()
        full = getattr(failure, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        if full:
            return StoreUnavailable(
                reason=f"the disk is full: {failure}", remedy="free space; the hub goes on by itself"
            )
        self._failures += 1
        log.error("a commit of the event log failed: %s", failure)
        error = StoreUnavailable(reason=f"the event log cannot be written: {failure}", remedy="check the disk")
        try:
            # After a failed sync the kernel may have dropped the pages: what is on disk is asked afresh, never retried.
            self._connection.close()
            self._connection = self._connect()
            self._prepare_again()
        except (sqlite3.Error, HubError) as again:
            log.error("the event log could not be opened again: %s", again)  # noqa: TRY400  # the cause stands above
            self._failures += 1
        if self._failures > 1:
            self.refuse_writes = error
        return error

    def _prepare_again(self) -> None:
        for partition in range(self.partitions):
            row = self._newest(self._connection, partition)
            if row is not None:
                batch = _checked(row)
                self._tails[partition] = _Tail(batch.next_sequence, batch.next_offset, batch.enqueued, batch.chain)

    def _rollback(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            log.warning("event log: rollback: %s", error)

    # -- back on the loop --------------------------------------------------------------------------------------------

    def _committed(self, done: _Committed) -> None:
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
            for wake in tuple(self._wakes[partition]):
                try:
                    wake()
                except Exception:
                    log.exception("a reader failed at its wake-up")
        if self._relieved and not self.congested:
            relieved, self._relieved = self._relieved, []
            for call in relieved:
                call()

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


_RESTORE: Final = "restore the data directory from a backup; the files were left as they are"


def _states(connection: sqlite3.Connection, partitions: int) -> list[PartitionState]:
    states = []
    for partition in range(partitions):
        first, last = (
            connection.execute(
                f"SELECT first_sequence, count FROM batch WHERE partition = ? ORDER BY 1 {direction} LIMIT 1",  # noqa: S608
                (partition,),
            ).fetchone()
            for direction in ("ASC", "DESC")
        )
        states.append(PartitionState(first[0], sum(last) - 1, -1, 0) if first else PartitionState(0, -1, -1, 0))
    return states


def _checked(row: tuple[int, int, int, int, int, int, int, bytes]) -> Batch:
    """Raises EventLogDamaged naming the range."""
    partition, first_sequence, count, first_offset, enqueued, previous, chain, body = row
    try:
        if checksum(partition, first_sequence, count, first_offset, enqueued, previous, body) != chain:
            raise BatchUnreadable("the checksum does not match")
        return Batch.decode(first_sequence, count, first_offset, enqueued, chain, body)
    except (BatchUnreadable, struct_error) as error:
        last = first_sequence + count - 1
        raise EventLogDamaged(
            reason=f"partition {partition}: sequence numbers {first_sequence} to {last}: {error}", remedy=_RESTORE
        ) from None


def _resolve(future: "asyncio.Future[_T]", value: _T) -> None:
    if not future.done():
        future.set_result(value)
