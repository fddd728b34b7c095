"""The file of the event log: its tables, and what is read from and deleted in them. Every record read is checked.

Damage is told with the exact range, as EventLogDamaged; a file that cannot be used just now is StoreUnavailable.
"""

import contextlib
import functools
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from struct import error as struct_error
from typing import Final, NamedTuple

from hubkeep.errors import EventLogDamaged, HubError, StoreUnavailable
from hubkeep.ports import PartitionState

from .event_batch import Batch, BatchUnreadable, checksum
from .event_gap import gap_of

SCHEMA_VERSION: Final = 1
PAGE_SIZE: Final = 16 * 1024
WAL_PAGES: Final = 1024  # 16 MiB between two checkpoints
COLUMNS: Final = "partition, first_sequence, count, first_offset, enqueued, previous, chain, body"
SCHEMA: Final = """
CREATE TABLE batch (
    id INTEGER PRIMARY KEY, partition INTEGER NOT NULL, first_sequence INTEGER NOT NULL, count INTEGER NOT NULL,
    first_offset INTEGER NOT NULL, enqueued INTEGER NOT NULL, previous INTEGER NOT NULL, chain INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE UNIQUE INDEX batch_by_sequence ON batch (partition, first_sequence);
CREATE TABLE log (partitions INTEGER NOT NULL, created INTEGER NOT NULL);
"""
GAPS: Final = (
    "CREATE TABLE gap (partition INTEGER NOT NULL, first_sequence INTEGER NOT NULL, count INTEGER NOT NULL,"
    " accepted INTEGER NOT NULL)"
)
BACKUP: Final = "restore the data directory from a backup; the files were left as they are"
RESTORE: Final = "restore the data directory from a backup, or accept the loss: hubkeep events accept-loss"
_SOUGHT: Final = {"first_offset": 3, "enqueued": 4}  # place in COLUMNS
_FORGET_AT_ONCE: Final = 2000  # batches of one transaction: appends wait for it
# what SQLite says of a file that is whole: busy, not to be opened, no memory, no space
_NOT_DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
    }
)

Row = tuple[int, int, int, int, int, int, int, bytes]


def open_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes. Made for its owner alone; a commit returns when it is synced."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, cached_statements=64)
    for pragma in (
        f"page_size={PAGE_SIZE}",
        "journal_mode=WAL",
        "synchronous=FULL",
        f"wal_autocheckpoint={WAL_PAGES}",
        "journal_size_limit=67108864",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


@functools.cache
def insertion(rows: int) -> str:
    """The statement that stores ``rows`` batches, the values of COLUMNS for each: all of them or none."""
    return f"INSERT INTO batch ({COLUMNS}) VALUES {','.join(['(?,?,?,?,?,?,?,?)'] * rows)}"  # noqa: S608  # constants


def make_tables(connection: sqlite3.Connection, partitions: int, created: int) -> None:
    """Whole or not at all. created: Unix milliseconds."""
    connection.executescript(f"BEGIN IMMEDIATE;{SCHEMA}")
    connection.execute("INSERT INTO log VALUES (?, ?)", (partitions, created))
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing; its files are open when this returns."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False, isolation_level=None
    )
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return connection


def unreadable(error: sqlite3.Error, where: str) -> HubError:
    """What an error of SQLite at reading means: EventLogDamaged, or StoreUnavailable for what passes."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, sqlite3.ProgrammingError) or (code is not None and code & 0xFF in _NOT_DAMAGE):
        return StoreUnavailable(reason=f"{where} cannot be read: {error}", remedy="check owner, mode and disk")
    return EventLogDamaged(reason=f"{where}: {error}", remedy=RESTORE)


@contextlib.contextmanager
def naming_damage(where: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise unreadable(error, where) from None


# -- records ----------------------------------------------------------------------------------------------------------


def verify(row: Row) -> None:
    """Check a record against its checksum. Raises EventLogDamaged naming the range."""
    partition, first_sequence, count, first_offset, enqueued, previous, chain, body = row
    try:
        # a flipped bit in a record's head turns numbers into text, or into none
        whole = checksum(partition, first_sequence, count, first_offset, enqueued, previous, body) == chain
        whole = whole or gap_of(row) is not None
    except (struct_error, TypeError):
        whole = False
    if not whole:
        raise _damaged(row, "the checksum does not match")


def decoded(row: Row) -> Batch:
    """The batch of a record, checked. Raises EventLogDamaged naming the range."""
    verify(row)
    _partition, first_sequence, count, first_offset, enqueued, _previous, chain, body = row
    try:
        return Batch.decode(first_sequence, count, first_offset, enqueued, chain, body)
    except BatchUnreadable as error:
        raise _damaged(row, str(error)) from None


def next_offset_of(row: Row) -> int:
    """The first offset behind a record. Raises EventLogDamaged."""
    gap = gap_of(row)
    return decoded(row).next_offset if gap is None else gap.next_offset


def _damaged(row: Row, what: str) -> EventLogDamaged:
    partition, first, count = row[:3]
    last = first + count - 1 if isinstance(first, int) and isinstance(count, int) else "?"
    return EventLogDamaged(reason=f"partition {partition}: sequence numbers {first} to {last}: {what}", remedy=RESTORE)


def missing(partition: int, first: int, last: int) -> EventLogDamaged:
    return EventLogDamaged(
        reason=f"partition {partition}: sequence numbers {first} to {last} are missing", remedy=RESTORE
    )


def newest(connection: sqlite3.Connection, partition: int) -> Row | None:
    row: Row | None = connection.execute(
        f"SELECT {COLUMNS} FROM batch WHERE partition = ? ORDER BY first_sequence DESC LIMIT 1",  # noqa: S608  # constants only
        (partition,),
    ).fetchone()
    return row


def states(connection: sqlite3.Connection, partitions: int) -> list[PartitionState]:
    """First and last sequence number of each partition, from the index and without a look at the records."""
    found = []
    for partition in range(partitions):
        first, last = (
            connection.execute(
                f"SELECT first_sequence, count FROM batch WHERE partition = ? ORDER BY 1 {direction} LIMIT 1",  # noqa: S608  # two words
                (partition,),
            ).fetchone()
            for direction in ("ASC", "DESC")
        )
        found.append(PartitionState(first[0], sum(last) - 1, -1, 0) if first else PartitionState(0, -1, -1, 0))
    return found


def check_continues(row: Row, behind: Row) -> None:
    """Check that ``behind`` continues ``row``. Raises EventLogDamaged naming what is missing or does not fit."""
    if behind[1] != row[1] + row[2]:
        raise missing(row[0], row[1] + row[2], behind[1] - 1)
    if behind[5] != row[6]:
        raise _damaged(behind, "it does not continue the record before it")


# -- reading ----------------------------------------------------------------------------------------------------------


def load(
    connection: sqlite3.Connection, partition: int, sequence: int, last_sequence: int, *, is_damaged: bool = False
) -> Batch | None:
    """The batch that holds ``sequence``, or the oldest one if that is older than what is kept.

    Where ``sequence`` lies in a gap that was accepted: the batch behind it, or None if there is none yet.

    last_sequence: what is known to be stored. is_damaged: nothing of the partition is ever deleted, so what is not
    found is missing. Raises EventLogDamaged where records are damaged or missing.
    """
    rows = (
        f"SELECT {COLUMNS} FROM batch WHERE partition = ? AND first_sequence"  # noqa: S608  # constants only
        " {} ? ORDER BY first_sequence {} LIMIT 1"
    )
    with naming_damage(f"partition {partition}, from sequence number {sequence} on"):
        row = connection.execute(rows.format("<=", "DESC"), (partition, sequence)).fetchone()
        if row is not None:
            verify(row)
            if sequence < row[1] + row[2] and gap_of(row) is None:
                return decoded(row)
            if sequence < row[1] + row[2]:
                behind_it = row[1] + row[2]
                if behind_it > last_sequence:
                    return None
                return load(connection, partition, behind_it, last_sequence, is_damaged=is_damaged)
        behind = connection.execute(rows.format(">", "ASC"), (partition, sequence)).fetchone()
    if behind is not None:
        verify(behind)
        if row is None and not is_damaged:
            return load(connection, partition, behind[1], last_sequence) if gap_of(behind) else decoded(behind)
    start = sequence if row is None else row[1] + row[2]
    raise missing(partition, start, last_sequence if behind is None else behind[1] - 1)


def seek(
    connection: sqlite3.Connection, partition: int, column: str, value: int, within: Callable[[Batch], int]
) -> int:
    """A sequence number by ``first_offset`` or ``enqueued``, by halving, for both only rise.

    within: asked of the last batch whose column is at most ``value``. Raises as ``load``.
    """
    with naming_damage(f"partition {partition}, at the search for {column} {value}"), _snapshot(connection):
        first, last = connection.execute(
            "SELECT min(first_sequence), max(first_sequence) FROM batch WHERE partition = ?", (partition,)
        ).fetchone()
        if first is None:
            return 0
        low, high, found, gap = first, last, None, None
        while low <= high:
            middle = (low + high) // 2
            row = connection.execute(
                f"SELECT {COLUMNS} FROM batch WHERE partition = ? AND first_sequence <= ?"  # noqa: S608  # constants only
                " ORDER BY first_sequence DESC LIMIT 1",
                (partition, middle),
            ).fetchone()
            if row is None:
                raise missing(partition, first, middle)
            verify(row)  # a damaged offset or time would lead the search past events
            if row[_SOUGHT[column]] <= value:
                found, low, gap = row[1], max(middle + 1, row[1] + row[2]), gap_of(row)
            else:
                high = row[1] - 1
    if found is None:
        return int(first)
    batch = None if gap else load(connection, partition, found, last)
    return low if batch is None else within(batch)


@contextlib.contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """What is read within is of one moment: retention does not come between."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


class Scrub:
    """One check of all records, oldest first, a few at a time.

    batches: checked so far. damaged: the first damage of each partition; behind it that partition is not checked.
    firsts: the oldest sequence number met of each partition.
    """

    def __init__(self, states: Sequence[PartitionState], damaged: Collection[int]) -> None:
        """states: of each partition now; what comes later is checked as well, up to the end that is met."""
        self.batches = 0
        self.damaged: dict[int, EventLogDamaged] = {}
        self.firsts: dict[int, int] = {}
        self.is_done = False
        self._states = states
        self._passed_over = {*damaged}
        self._next_id = 0
        self._ends: dict[int, Row] = {}  # the last record of each partition

    def check_some(self, connection: sqlite3.Connection, seconds: float) -> None:
        """Go on for at most ``seconds``. Raises EventLogDamaged or StoreUnavailable where the walk itself fails."""
        until = time.monotonic() + seconds
        with naming_damage(f"all partitions, behind batch {self._next_id - 1}"), _snapshot(connection):
            rows = f"SELECT {COLUMNS}, id FROM batch WHERE id >= ? ORDER BY id"  # noqa: S608  # constants only
            for *record, row_id in connection.execute(rows, (self._next_id,)):
                row: Row = tuple(record)
                self._next_id = row_id + 1
                if row[0] not in self._passed_over:
                    self._check(connection, row, row_id)
                if time.monotonic() > until:
                    return
        self.is_done = True
        for partition, state in enumerate(self._states):
            met = self._ends[partition][1] + self._ends[partition][2] if partition in self._ends else 0
            if partition not in self._passed_over and met <= state.last_sequence:
                self._found(partition, missing(partition, met, state.last_sequence))

    def _check(self, connection: sqlite3.Connection, row: Row, row_id: int) -> None:
        try:
            verify_in_table(connection, row, row_id, len(self._states))
            self.firsts.setdefault(row[0], row[1])
            check_indexed(connection, row, row_id)
            if (before := self._ends.get(row[0])) is not None:
                check_continues(before, row)
            else:
                check_is_first(connection, row)
        except EventLogDamaged as damage:
            self._found(row[0], damage)
        except DamagedRecord as record:
            for partition in record.partitions:
                self._found(partition, record.damage)
        self._ends[row[0]] = (*row[:-1], b"")
        self.batches += 1

    def _found(self, partition: int, damage: EventLogDamaged) -> None:
        self.damaged.setdefault(partition, damage)
        self._passed_over.add(partition)


def verify_in_table(connection: sqlite3.Connection, row: Row, row_id: int, partitions: int) -> None:
    """``verify`` for a record that was met in the table, where the damage may have hit the place that it tells.

    Raises DamagedRecord with the place that the index knows; sqlite3.Error.
    """
    try:
        verify(row)
    except EventLogDamaged:
        place = connection.execute(
            "SELECT partition, first_sequence FROM batch INDEXED BY batch_by_sequence WHERE id = ?", (row_id,)
        ).fetchone()
        partition, first = place or row[:2]
        is_known = isinstance(partition, int) and partition in range(partitions)
        damage = _damaged((partition, first, *row[2:]), "the checksum does not match")
        raise DamagedRecord(damage, [partition] if is_known else range(partitions)) from None


class DamagedRecord(Exception):
    """damage: of one record. partitions: the one that it belongs to, or all that it may belong to."""

    def __init__(self, damage: EventLogDamaged, partitions: Collection[int]) -> None:
        super().__init__(damage.reason)
        self.damage, self.partitions = damage, partitions


def check_indexed(connection: sqlite3.Connection, row: Row, row_id: int) -> None:
    """Check that readers, who come through the index, find this record. Raises EventLogDamaged, sqlite3.Error."""
    found = connection.execute(
        "SELECT id FROM batch INDEXED BY batch_by_sequence WHERE partition = ? AND first_sequence = ?", row[:2]
    ).fetchone()
    if found != (row_id,):
        raise _damaged(row, "the index does not lead to it")


def check_is_first(connection: sqlite3.Connection, row: Row) -> None:
    """Check that the index knows of nothing older. Raises EventLogDamaged, sqlite3.Error."""
    (first,) = connection.execute(
        "SELECT min(first_sequence) FROM batch INDEXED BY batch_by_sequence WHERE partition = ?", row[:1]
    ).fetchone()
    if first != row[1]:
        raise missing(row[0], min(first, row[1]), max(first, row[1]) - 1)


def unreadable_ranges(connection: sqlite3.Connection, partitions: int, seconds: float) -> list[str]:
    """Where a file whose pages are damaged cannot be read, as text; as far as it can be told within ``seconds``."""
    found: list[str] = []
    until = time.monotonic() + seconds
    for partition in range(partitions):
        next_sequence: int | None = None
        while time.monotonic() < until:
            try:
                after = -1 if next_sequence is None else next_sequence - 1
                index = connection.execute(
                    "SELECT id, first_sequence FROM batch WHERE partition = ? AND first_sequence > ?"
                    " ORDER BY first_sequence LIMIT 1",
                    (partition, after),
                ).fetchone()
                if index is None:
                    break
            except sqlite3.Error:
                found.append(f"partition {partition}: from sequence number {next_sequence or 0} on")
                break
            row_id, first = index
            if next_sequence is not None and first > next_sequence:
                found.append(f"partition {partition}: sequence numbers {next_sequence} to {first - 1}")
            try:
                row = connection.execute(f"SELECT {COLUMNS} FROM batch WHERE id = ?", (row_id,)).fetchone()  # noqa: S608  # constants only
                verify(row or (partition, first, 1, 0, 0, 0, 0, b""))
                next_sequence = first + row[2]
            except (sqlite3.Error, EventLogDamaged):
                next_sequence = first + 1
                found.append(f"partition {partition}: the batch at sequence number {first}")
    return found


# -- retention --------------------------------------------------------------------------------------------------------


class Forgotten(NamedTuple):
    """firsts: the oldest sequence number of each partition, None where there is none. is_all: nothing more is due."""

    batches: int
    firsts: list[int | None]
    is_all: bool


def forget(
    connection: sqlite3.Connection, partitions: int, *, newer_than: int, at_most: int, spare: Collection[int]
) -> Forgotten:
    """Delete batches enqueued before ``newer_than`` (Unix ms) and the oldest beyond ``at_most`` bytes, some at once.

    The newest batch of each partition stays, so that sequence numbers go on after it. spare: partitions that are
    damaged; nothing of them is deleted (L-S6).
    """
    keep = [
        row[0]
        for partition in range(partitions)
        if (
            row := connection.execute(
                "SELECT id FROM batch WHERE partition = ? ORDER BY first_sequence DESC LIMIT 1", (partition,)
            ).fetchone()
        )
    ]
    (pages,), (free,) = (connection.execute(f"PRAGMA {p}").fetchone() for p in ("page_count", "freelist_count"))
    excess = (pages - free) * PAGE_SIZE - at_most
    doomed: list[tuple[int]] = []
    rows = connection.execute(
        "SELECT id, enqueued, length(body) FROM batch"  # noqa: S608  # question marks only
        f" WHERE id NOT IN ({','.join('?' * len(keep))}) AND partition NOT IN ({','.join('?' * len(spare))})"
        f" ORDER BY id LIMIT {_FORGET_AT_ONCE}",
        (*keep, *spare),
    )
    for row_id, enqueued, size in rows:
        if enqueued >= newer_than and excess <= 0:
            break
        doomed.append((row_id,))
        excess -= size
    if doomed:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("DELETE FROM batch WHERE id = ?", doomed)
        connection.execute("COMMIT")
    firsts = [state.first_sequence if not state.is_empty else None for state in states(connection, partitions)]
    return Forgotten(len(doomed), firsts, len(doomed) < _FORGET_AT_ONCE)
