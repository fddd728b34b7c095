"""The thread that owns all writes of the event log: it commits what has gathered, each time the loop asks."""

import errno
import logging
import queue
import shutil
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from hubkeep.errors import EventLogDamaged, HubError, StoreUnavailable
from hubkeep.ports import Clock, PartitionState

from . import event_file
from .event_batch import Batch, OpenBatch, checksum
from .event_gap import gap_of
from .event_marker import Marker

log = logging.getLogger(__name__)

_COMMIT_BYTES: Final = 1024 * 1024  # of tails; a reader loads whole batches
_COMMIT_ENTRIES: Final = 30_000  # heads of a batch are counted in 16 bits
_FAILURES_TO_STOP: Final = 2  # in a row (L-S3)
_SPACE_TO_WORK: Final = 1024 * 1024  # bytes: with less, SQLite reports all kinds of errors
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

OnDurable = Callable[[HubError | None], None]
Errand = Callable[[sqlite3.Connection], None]


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """Appended and not yet taken into a commit. size: bytes of the tails."""

    partition: int
    head: bytes
    tails: Sequence[bytes]
    size: int
    on_durable: OnDurable | None


class Committed(NamedTuple):
    """One commit. error: it failed, nothing of it may be acknowledged."""

    batches: list[tuple[int, Batch]]
    acknowledge: list[OnDurable]
    size: int
    seconds: float
    error: HubError | None


class Tail:
    """Where a partition ends: what the next batch continues."""

    __slots__ = ("chain", "enqueued", "next_offset", "next_sequence")

    def __init__(self, next_sequence: int = 0, next_offset: int = 0, enqueued: int = 0, chain: int = 0) -> None:
        self.next_sequence, self.next_offset, self.enqueued, self.chain = next_sequence, next_offset, enqueued, chain


class EventWriter:
    """The loop puts into ``waiting`` and calls ``commit``; it is told on this thread, and passes it on.

    committed: called with each commit. reopened: called with what the file holds after a failed sync, before that
    commit's own ``committed``. broken: called once, when the disk failed again: nothing more will be stored.
    """

    def __init__(
        self,
        path: Path,
        marker: Marker,
        clock: Clock,
        *,
        committed: Callable[[Committed], None],
        reopened: Callable[[list[PartitionState]], None],
        broken: Callable[[HubError], None],
    ) -> None:
        self.waiting: deque[Waiting] = deque()
        self._path, self._marker, self._clock = path, marker, clock
        self._committed, self._reopened, self._broken = committed, reopened, broken
        self._connection: sqlite3.Connection
        self._tails: list[Tail] = []
        self._errands: queue.SimpleQueue[Errand | None] = queue.SimpleQueue()  # None: the last one was before it
        self._failures = 0
        self._thread = threading.Thread(target=self._write_forever, name="event-log-writer", daemon=True)

    def start(self, connection: sqlite3.Connection, tails: list[Tail]) -> None:
        """Take over the connection and write. tails: of each partition."""
        self._connection, self._tails = connection, tails
        self._thread.start()

    def commit(self) -> None:
        """Make durable what is in ``waiting`` when the thread comes to it, up to the bounds of a batch."""
        self._errands.put(self._commit_waiting)

    def run(self, errand: Errand) -> None:
        """Have ``errand`` run on the writing connection, between two commits. It must not raise."""
        self._errands.put(errand)

    def finish(self) -> None:
        """Commit what waits, then let go of the file. Blocks. Append nothing any more."""
        self._errands.put(None)
        if self._thread.is_alive():
            self._thread.join()

    # -- on the thread -----------------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        while (errand := self._errands.get()) is not None:
            self._run_errand(errand)
        while self.waiting:
            self._commit_waiting(self._connection)
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()
        except sqlite3.Error as error:
            log.warning("the event log was not checkpointed at its close: %s", error)

    def _commit_waiting(self, _connection: sqlite3.Connection) -> None:
        started = time.monotonic()
        if entries := self._take():
            self._commit(entries, started)

    def _take(self) -> list[Waiting]:
        """What goes into one commit: all that waits, up to the bounds of a batch."""
        waiting, entries, size = self.waiting, [], 0
        for _ in range(min(len(waiting), _COMMIT_ENTRIES)):
            entry = waiting.popleft()
            entries.append(entry)
            size += entry.size
            if size > _COMMIT_BYTES:
                break
        return entries

    def _run_errand(self, errand: Errand) -> None:
        try:
            errand(self._connection)
        except Exception:
            log.exception("event log")
        self._rollback()

    def _commit(self, entries: list[Waiting], started: float) -> None:
        open_batches: dict[int, OpenBatch] = {}
        acknowledge: list[OnDurable] = []
        size = 0
        for entry in entries:
            batch = open_batches.get(entry.partition)
            if batch is None:
                batch = open_batches[entry.partition] = OpenBatch()
            batch.add(entry.head, entry.tails)
            size += entry.size
            if entry.on_durable is not None:
                acknowledge.append(entry.on_durable)
        error: HubError | None = None
        batches: list[tuple[int, Batch]] = []
        try:
            batches = self._store(open_batches)
            self._failures = 0
        except Exception as failure:  # noqa: BLE001  # the writer must outlive whatever comes: nobody else commits
            batches = []
            error = self._failed(failure)
        self._committed(Committed(batches, acknowledge, size, time.monotonic() - started, error))

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
        # One statement is one transaction. Each call into SQLite lets go of the interpreter and has to win it back from
        # the busy loop, so a commit is one call.
        self._connection.execute(event_file.insertion(len(rows)), [value for row in rows for value in row])
        for partition, batch in batches:
            self._tails[partition] = Tail(batch.next_sequence, batch.next_offset, batch.enqueued, batch.chain)
        self._marker.write([tail.next_sequence for tail in self._tails])
        return batches

    # -- when a commit fails -----------------------------------------------------------------------------------------

    def _failed(self, failure: Exception) -> HubError:
        """What to answer for a commit that failed. A full disk leaves the log usable; anything else reopens it."""
        self._rollback()
        if not isinstance(failure, sqlite3.Error | OSError):
            log.error("a batch could not be made", exc_info=failure)
            return StoreUnavailable(reason=f"a batch could not be made: {failure!r}", remedy="report this: a bug")
        is_full = _is_full(failure) or _is_short_of_space(self._path.parent)
        if _is_full(failure) and isinstance(failure, sqlite3.Error):
            # nothing of the transaction was written: the file is as it was
            return StoreUnavailable(
                reason=f"the disk is full: {failure}", remedy="free space; the hub goes on by itself"
            )
        log.error("a commit of the event log failed: %s", failure)
        self._failures += not is_full
        try:
            self._reopen()
        except (sqlite3.Error, OSError, HubError) as again:
            log.error("the event log could not be opened again: %s", again)  # noqa: TRY400  # the cause stands above
            self._failures += not is_full
        error = StoreUnavailable(reason=f"the event log cannot be written: {failure}", remedy="check the disk")
        if self._failures >= _FAILURES_TO_STOP:
            self._broken(error)
        return error

    def _reopen(self) -> None:
        """Ask the disk afresh what it holds, and have all of it synced once more.

        After a failed sync the kernel may have dropped the pages or may merely think them clean: neither the sync nor
        the log's tail can be trusted. A checkpoint writes and syncs every page again, and ends that WAL.
        """
        self._connection.close()
        self._connection = event_file.open_writer(self._path)
        busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreUnavailable(reason="the write-ahead log could not be checkpointed: a reader holds it")
        self._tails, states = tails_and_states(self._connection, self._tails, range(len(self._tails)))
        self._marker.write([tail.next_sequence for tail in self._tails])
        self._reopened(states)

    def _rollback(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            log.warning("event log: rollback: %s", error)


def tails_and_states(
    connection: sqlite3.Connection, known: Sequence[Tail], damaged: Container[int]
) -> tuple[list[Tail], list[PartitionState]]:
    """Where each partition ends by its newest record.

    known: how far each was durable. damaged: partitions that may end there, with a newest record that is damaged; for
    others that raises EventLogDamaged.
    """
    tails, states = [], event_file.states(connection, len(known))
    for partition, state in enumerate(states):
        row = event_file.newest(connection, partition)
        try:
            gap = gap_of(row) if row is not None else None
            if row is not None and gap is not None:
                tails.append(Tail(gap.last + 1, gap.next_offset, row[4], row[6]))
                states[partition] = state._replace(last_offset=gap.next_offset - 1, last_enqueued=row[4])
                continue
            batch = event_file.decoded(row) if row is not None else None
        except EventLogDamaged:
            if partition not in damaged:
                raise
            batch = None
        if batch is None:
            known_end = known[partition]
            known_end.next_sequence = max(known_end.next_sequence, state.last_sequence + 1)
            tails.append(known_end)
            continue
        tails.append(Tail(batch.next_sequence, batch.next_offset, batch.enqueued, batch.chain))
        states[partition] = state._replace(last_offset=batch.last_offset, last_enqueued=batch.enqueued)
    return tails, states


def _is_full(failure: Exception) -> bool:
    if isinstance(failure, OSError):
        return failure.errno in _NO_SPACE
    return (getattr(failure, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_FULL


def _is_short_of_space(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _SPACE_TO_WORK
    except OSError:  # a disk that has gone
        return False
