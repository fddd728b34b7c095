"""What the last life of an event log left: is all of it there that was acknowledged? Start at ``check_what_was_left``.

SQLite ends its reading of the write-ahead log (WAL) at the first frame whose checksum is wrong, and silently drops what
lies behind it: right after a torn write, wrong after a flipped bit. Two things tell the cases apart. The marker says
how far each partition was durable. And a raw scan finds whole transactions behind a damaged frame, which no torn write
leaves.
"""

import contextlib
import logging
import mmap
import sqlite3
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from hubkeep.errors import EventLogDamaged, HubError, StoreUnavailable
from hubkeep.ports import PartitionState

from . import event_file
from .event_marker import Marker
from .start_failures import NotPermitted, SchemaTooNew, is_about_permission

log = logging.getLogger(__name__)

_VERIFY_SECONDS: Final = 0.4  # of a start; the rest is scrubbed in the background
_LOCATE_SECONDS: Final = 10.0  # of a start that is refused anyway: to name what cannot be read
_WAL_MAGIC: Final = (0x377F0682, 0x377F0683)
_WAL_HEADER, _FRAME_HEADER = 32, 24
_INDEX_VERSION: Final = 3007000  # of the WAL-index, in the -shm file


class Left(NamedTuple):
    """damaged: partitions that are served read-only, and why. firsts: the oldest sequence numbers met in records.

    torn_bytes: of the WAL's tail, never acknowledged.
    """

    damaged: dict[int, EventLogDamaged]
    firsts: dict[int, int]
    torn_bytes: int


def check_what_was_left(path: Path, partitions: int, marker: Marker) -> Left:
    """Compare with the marker and check the newest records, without writing: evidence is left as it is.

    Raises EventLogDamaged when acknowledged events are missing or pages cannot be read; StoreUnavailable, SchemaTooNew,
    NotPermitted when the file cannot be opened or is not for this hub.
    """
    try:
        connection = _open_reader(path)
    except sqlite3.Error as error:
        raise cannot_open(path, error) from None
    try:
        return _check(connection, path, partitions, marker)
    except sqlite3.Error as error:
        raise _located(connection, path, partitions, error) from None
    finally:
        connection.close()


def _open_reader(path: Path) -> sqlite3.Connection:
    """A file whose making was cut short is rolled back first, which a reader may not do.

    Such a journal is of the moment before the file had its write-ahead log: nothing was ever stored in it.
    """
    try:
        return event_file.open_reader(path)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return event_file.open_reader(path)


def _check(connection: sqlite3.Connection, path: Path, partitions: int, marker: Marker) -> Left:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('batch', 'log')").fetchone()
    wal = path.with_name(path.name + "-wal")
    damage = scan_wal(wal, valid_frames(path.with_name(path.name + "-shm")))
    if tables:
        check_kind(connection, path, partitions)
    states = event_file.states(connection, partitions) if tables else [PartitionState(0, -1, -1, 0)] * partitions
    marked = marker.read()
    missing = [
        f"partition {partition}: sequence numbers {state.last_sequence + 1} to {marked[partition] - 1}"
        for partition, state in enumerate(states)
        if marked and state.last_sequence + 1 < marked[partition]
    ]
    if missing or damage.is_damage:
        where = f" (frame {damage.frame} of {wal.name}, byte {damage.byte_offset})" if damage.is_damage else ""
        what = "; ".join(missing) or f"{damage.transactions_behind} transactions behind a damaged frame"
        raise EventLogDamaged(reason=f"acknowledged events are missing{where}: {what}", remedy=event_file.RESTORE)
    if any(not state.is_empty for state in states):
        _report(marker, marked)
    if not tables:
        return Left({}, {}, damage.dropped_bytes)
    damaged, firsts = _check_newest(connection, states)
    return Left(damaged, firsts, damage.dropped_bytes)


def cannot_open(path: Path, error: sqlite3.Error | OSError) -> Exception:
    """What to raise when a file of the log cannot be opened."""
    if is_about_permission(error):
        return NotPermitted(f"{path} cannot be opened: {error}: check its owner and mode, and those of {path.parent}")
    if isinstance(error, OSError):
        return StoreUnavailable(reason=f"{path} cannot be opened: {error.strerror}", remedy="check the disk")
    return event_file.unreadable(error, path.name)


def check_kind(connection: sqlite3.Connection, path: Path, partitions: int) -> int:
    """Unix milliseconds at which the log was made.

    Raises SchemaTooNew, EventLogDamaged, StoreUnavailable for another count of partitions.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > event_file.SCHEMA_VERSION:
        raise SchemaTooNew(
            f"{path} has schema {version}, this version of Hubkeep knows {event_file.SCHEMA_VERSION}:"
            " start the version that wrote it"
        )
    if version < 1:
        raise EventLogDamaged(
            reason=f"{path.name}: schema version {version} was never written", remedy=event_file.RESTORE
        )
    row = connection.execute("SELECT partitions, created FROM log").fetchone()
    if row is None:
        raise EventLogDamaged(reason=f"{path.name}: the row that describes the log is gone", remedy=event_file.RESTORE)
    if row[0] != partitions:
        raise StoreUnavailable(
            reason=f"the log has {row[0]} partitions, the settings say {partitions}",
            remedy=f"set events.partitions = {row[0]}: the number is fixed when the log is made",
        )
    return int(row[1])


def _report(marker: Marker, marked: list[int] | None) -> None:
    """A marker that is gone or damaged costs no event, but then nothing tells whether the newest ones are all there."""
    if marked is None:
        log.error(
            "%s is %s: the log was checked without it, and a loss at its very end would not show",
            marker.path.name,
            "damaged" if marker.damaged_slots else "gone",
        )
    elif marker.damaged_slots:
        log.warning("%s: one of its two slots is damaged; the other one was used", marker.path.name)


def _check_newest(
    connection: sqlite3.Connection, states: Sequence[PartitionState]
) -> tuple[dict[int, EventLogDamaged], dict[int, int]]:
    """Check records, the newest first, and that each is continued by the one behind it, for a bounded time."""
    damaged: dict[int, EventLogDamaged] = {}
    firsts: dict[int, int] = {}
    behind: dict[int, event_file.Row] = {}
    until = time.monotonic() + _VERIFY_SECONDS
    for *record, row_id in connection.execute(f"SELECT {event_file.COLUMNS}, id FROM batch ORDER BY id DESC"):  # noqa: S608  # constants only
        row: event_file.Row = tuple(record)
        partition = row[0]
        try:
            event_file.verify_in_table(connection, row, row_id, len(states))
            firsts[partition] = row[1]
            event_file.check_indexed(connection, row, row_id)
            if partition in behind:
                event_file.check_continues(row, behind[partition])
            elif partition not in damaged:
                _check_is_last(row, states[partition])
            behind[partition] = row
        except EventLogDamaged as damage:
            damaged.setdefault(partition, damage)
            behind.pop(partition, None)
        except event_file.DamagedRecord as record:
            for each in record.partitions:
                damaged.setdefault(each, record.damage)
                behind.pop(each, None)
        if time.monotonic() > until:
            return damaged, firsts
    for partition, first in behind.items():
        try:
            event_file.check_is_first(connection, first)
        except EventLogDamaged as damage:
            damaged.setdefault(partition, damage)
    return damaged, firsts


def _check_is_last(row: event_file.Row, state: PartitionState) -> None:
    if row[1] + row[2] <= state.last_sequence:
        raise event_file.missing(row[0], row[1] + row[2], state.last_sequence)


def _located(connection: sqlite3.Connection, path: Path, partitions: int, error: sqlite3.Error) -> HubError:
    found = event_file.unreadable(error, path.name)
    if isinstance(found, EventLogDamaged):
        ranges = event_file.unreadable_ranges(connection, partitions, _LOCATE_SECONDS)
        found.reason += f"; not readable: {'; '.join(ranges) or 'nothing of the events themselves'}"
    return found


# -- the write-ahead log, raw -----------------------------------------------------------------------------------------


class WalTail(NamedTuple):
    """What lies behind the frames that SQLite takes. frame: the damaged one, counted from 1; 0 is the header."""

    dropped_bytes: int
    frame: int = 0
    byte_offset: int = 0
    transactions_behind: int = 0
    is_damage: bool = False


def valid_frames(index: Path) -> int:
    """How many frames of the WAL SQLite takes: mxFrame of the WAL-index, while a connection holds it open.

    Format: SQLite, "WAL-mode file format", section 2.1. Checking the frames here once more would take a second.
    """
    try:
        with index.open("rb") as file:
            head = file.read(20)
    except FileNotFoundError:
        return 0
    version, _unused, _changes, _flags, frames = struct.unpack("=5I", head.ljust(20, b"\0"))
    if version not in {0, _INDEX_VERSION}:
        raise StoreUnavailable(reason=f"{index.name} has version {version}", remedy="this SQLite library is not known")
    return int(frames)


def scan_wal(path: Path, valid: int) -> WalTail:
    """Look behind the first ``valid`` frames of a WAL file: nothing, a torn tail, or whole transactions.

    Format: SQLite file format, section 4 (the write-ahead log).
    """
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) < _WAL_HEADER + _FRAME_HEADER:
                return WalTail(0)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as wal:
                return _scan(wal, valid)
    except FileNotFoundError:
        return WalTail(0)


def _scan(wal: mmap.mmap, valid: int) -> WalTail:
    magic, _version, page_size, _checkpoint, salt1, salt2, *header_sums = struct.unpack_from(">8I", wal)
    order = ">" if magic & 1 else "<"
    broken = WalTail(len(wal) - _WAL_HEADER, is_damage=True)
    if magic not in _WAL_MAGIC or page_size < 512 or page_size & (page_size - 1):
        return broken
    if _checksum(wal, 0, 24, order, 0, 0) != tuple(header_sums):
        return broken
    size = _FRAME_HEADER + page_size
    at = _WAL_HEADER + valid * size
    # each frame's checksum continues the one before it; the last that SQLite took holds where it stands
    sums: tuple[int, int] = (
        struct.unpack_from(">2I", wal, at - size + 16) if valid else (header_sums[0], header_sums[1])
    )
    damaged = commits_behind = dropped = 0
    for number, at in enumerate(range(at, len(wal) - size + 1, size), valid + 1):  # noqa: B020  # goes on from there
        _page, commit, frame_salt1, frame_salt2, sum1, sum2 = struct.unpack_from(">6I", wal, at)
        is_ours = (frame_salt1, frame_salt2) == (salt1, salt2)
        dropped += size if is_ours else 0
        if damaged:
            commits_behind += is_ours and commit != 0
        elif not is_ours:
            # the rest of an older generation, or this frame's own salt is hit: what follows tells
            damaged = number
        else:
            sums = _checksum(wal, at + 24, page_size, order, *_checksum(wal, at, 8, order, *sums))
            if sums != (sum1, sum2):
                damaged = number
    # One transaction at most can be unsynced, so one commit frame behind may be the torn transaction's own.
    if commits_behind < 2:
        return WalTail(dropped)
    return WalTail(dropped, damaged, _WAL_HEADER + (damaged - 1) * size, commits_behind, is_damage=True)


def _checksum(data: mmap.mmap, at: int, size: int, order: str, s0: int, s1: int) -> tuple[int, int]:
    words = struct.unpack_from(f"{order}{size // 4}I", data, at)
    for i in range(0, len(words), 2):
        s0 = (s0 + words[i] + s1) & 0xFFFFFFFF
        s1 = (s1 + words[i + 1] + s0) & 0xFFFFFFFF
    return s0, s1
