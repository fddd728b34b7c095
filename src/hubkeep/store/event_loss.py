"""Accept that events are lost: the log is written anew with all that is whole, and a gap in place of each lost range.

``survey`` looks, without writing. ``accept`` writes the new file beside the old one, links the old files into a folder
of their own as evidence, and notes that the change is due; ``finish`` makes it, and is called again at each opening of
the log, so that a kill leaves either the damaged log as it was or the whole one. The note stays until the audit has it.
"""

import contextlib
import datetime as dt
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from hubkeep.errors import EventLogDamaged, StoreUnavailable

from . import event_file
from .durable_files import sync
from .event_file import next_offset_of
from .event_gap import Gap, gap_of, gap_row
from .event_marker import Marker

_OFFSETS_PER_EVENT: Final = 1 << 20  # more than an event takes, where nothing tells how large the lost ones were
_PROBED: Final = 100_000  # ids tried behind the last one that anything knows of
_AT_ONCE: Final = 200  # rows of one statement's worth of work


class Lost(NamedTuple):
    """One range. first_offset, next_offset: between which its events lay, or may have lain."""

    partition: int
    first: int
    last: int
    first_offset: int
    next_offset: int
    enqueued: int
    previous: int
    continued: int | None
    evidence: str

    @property
    def events(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"partition {self.partition}: sequence numbers {self.first} to {self.last} ({self.events} events)"


class Note(msgspec.Struct, frozen=True):
    """What was accepted. at: Unix milliseconds. by: who asked. evidence: the folder of the old files."""

    at: int
    by: str
    evidence: str
    lost: list[str]


class Survey(NamedTuple):
    """lost: nothing, and the log is whole. kept: records that are. partitions, created: of the log."""

    lost: Sequence[Lost]
    kept: int
    partitions: int
    created: int


def survey(path: Path) -> Survey:
    """What of a log is whole and what is not. Nothing is written.

    Raises StoreUnavailable: there is no log, or nothing of it can be read, and a backup is the only way.
    """
    finish(path)
    with _reading(path) as connection:
        partitions, created = _log_row(connection)
        places = _places(connection, partitions)
        return Survey(tuple(each for each, _ in _walk(connection, path, partitions, places) if isinstance(each, Lost)),
                      len(places.whole), partitions, created)  # fmt: skip


def accept(path: Path, seen: Survey, at: int, by: str) -> Note:
    """Make the log whole without what ``seen`` tells as lost. at: Unix milliseconds.

    Raises StoreUnavailable: nothing was changed.
    """
    stamp = dt.datetime.fromtimestamp(at / 1000, dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    evidence = path.with_name(f"{path.stem}-damaged-{stamp}")
    new = _new(path)
    _remove(new)
    try:
        with _reading(path) as connection, contextlib.closing(event_file.open_writer(new)) as target:
            places = _places(connection, seen.partitions)
            _write(connection, target, path, places, seen, at)
        sync(new)
        _keep_evidence(path, evidence)
        note = Note(at, by, evidence.name, [str(each) for each in seen.lost])
        _leave(path, note)
    except StoreUnavailable:
        _remove(new)
        raise
    except (sqlite3.Error, OSError) as error:
        _remove(new)
        raise StoreUnavailable(
            reason=f"the log could not be written anew: {error}", remedy=f"it needs as much space again as {path.name}"
        ) from None
    finish(path)
    return note


def finish(path: Path) -> None:
    """Make the change that was decided and may have been cut short. Harmless where none is due."""
    if not _note(path).exists():
        return
    new = _new(path)
    if new.exists():  # the old log's own frames must not be taken for the new one's
        for beside in ("-wal", "-shm"):
            path.with_name(path.name + beside).unlink(missing_ok=True)
        new.replace(path)
        sync(path.parent)


def accepted(path: Path) -> Note | None:
    """What was accepted and is not in the audit yet. Raises StoreUnavailable."""
    try:
        return msgspec.json.decode(_note(path).read_bytes(), type=Note)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        raise StoreUnavailable(reason=f"{_note(path).name} cannot be read", remedy="move it away") from None


def forget_note(path: Path) -> None:
    """Once the audit holds it."""
    _note(path).unlink(missing_ok=True)


def _remove(new: Path) -> None:
    for name in (new.name, f"{new.name}-wal", f"{new.name}-shm"):
        new.with_name(name).unlink(missing_ok=True)


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}.accepted")


def _note(path: Path) -> Path:
    return path.with_name(f"{path.stem}-accepted.json")


# -- what is there ----------------------------------------------------------------------------------------------------


class _Places(NamedTuple):
    """whole: ids of the records that are, in the order in which they were stored, and where each belongs.

    firsts: the oldest sequence number that anything knows of each partition.
    """

    whole: dict[int, tuple[int, int]]
    firsts: dict[int, int]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.exists():
        raise StoreUnavailable(reason=f"there is no {path.name} in {path.parent}", remedy=event_file.BACKUP)
    try:
        connection = event_file.open_reader(path)
    except sqlite3.Error as error:
        raise StoreUnavailable(reason=f"nothing of {path} can be read: {error}", remedy=event_file.BACKUP) from None
    try:
        yield connection
    finally:
        connection.close()


def _log_row(connection: sqlite3.Connection) -> tuple[int, int]:
    try:
        (partitions, created) = connection.execute("SELECT partitions, created FROM log").fetchone()
    except (sqlite3.Error, TypeError) as error:
        reason = f"nothing tells how many partitions the log has: {error}"
        raise StoreUnavailable(reason=reason, remedy=event_file.BACKUP) from None
    return partitions, created


def _places(connection: sqlite3.Connection, partitions: int) -> _Places:
    """Walk the index and the table as far as either can be read, around what cannot."""
    firsts: dict[int, int] = {}
    ids: set[int] = set()
    index = (
        "SELECT id, partition, first_sequence FROM batch INDEXED BY batch_by_sequence WHERE partition = ? ORDER BY 3"
    )
    for partition in range(partitions):
        with contextlib.suppress(sqlite3.Error):
            for row_id, _, first in connection.execute(index, (partition,)):
                ids.add(row_id)
                if isinstance(first, int):
                    firsts[partition] = min(first, firsts.get(partition, first))
    whole: dict[int, tuple[int, int]] = {}
    last = max(ids, default=0)
    with contextlib.suppress(sqlite3.Error):
        last = max(last, connection.execute("SELECT max(id) FROM batch").fetchone()[0] or 0)
    following = 0
    while following <= last + _PROBED:
        try:
            for *record, row_id in connection.execute(
                f"SELECT {event_file.COLUMNS}, id FROM batch WHERE id >= ? ORDER BY id",  # noqa: S608  # constants only
                (following,),
            ):
                following = row_id + 1
                _sort_in(tuple(record), row_id, partitions, whole, firsts)
            break
        except sqlite3.Error:
            following += 1
    return _Places(whole, firsts)


def _sort_in(
    row: event_file.Row, row_id: int, partitions: int, whole: dict[int, tuple[int, int]], firsts: dict[int, int]
) -> None:
    try:
        event_file.verify(row)
        if gap_of(row) is None:
            event_file.decoded(row)
    except EventLogDamaged:
        return
    if row[0] in range(partitions):
        whole[row_id] = row[:2]
        firsts[row[0]] = min(row[1], firsts.get(row[0], row[1]))


def _walk(
    connection: sqlite3.Connection, path: Path, partitions: int, places: _Places
) -> Iterator[tuple[event_file.Row | Lost, int]]:
    """Records and lost ranges in the order of the new file.

    Raises StoreUnavailable where no gap explains what is there.
    """
    ends: dict[int, event_file.Row] = {}
    for row_id in sorted(places.whole):
        row = _row(connection, row_id)
        before = ends.get(row[0])
        expected = places.firsts[row[0]] if before is None else before[1] + before[2]
        if row[1] > expected:
            yield _between(row[0], expected, before, row), row_id
        elif before is not None and (row[1] < expected or row[5] != before[6]):
            reason = f"partition {row[0]}: the record at sequence number {row[1]} is whole, and of another log"
            raise StoreUnavailable(reason=reason, remedy=event_file.BACKUP)
        ends[row[0]] = row
        yield row, row_id
    marked = _marked(path, partitions)
    for partition in range(partitions):
        before = ends.get(partition)
        end = places.firsts.get(partition, 0) if before is None else before[1] + before[2]
        if end < marked[partition]:
            yield _behind(partition, end, marked[partition], before), 0


def _row(connection: sqlite3.Connection, row_id: int) -> event_file.Row:
    statement = f"SELECT {event_file.COLUMNS} FROM batch WHERE id = ?"  # noqa: S608  # constants only
    row: event_file.Row = connection.execute(statement, (row_id,)).fetchone()
    return row


def _between(partition: int, first: int, before: event_file.Row | None, row: event_file.Row) -> Lost:
    offset = row[3] if before is None else min(next_offset_of(before), row[3])
    enqueued, chain = (row[4], 0) if before is None else (before[4], before[6])
    why = "records that cannot be read or do not match their checksums"
    return Lost(partition, first, row[1] - 1, offset, row[3], enqueued, chain, row[5], why)


def _behind(partition: int, first: int, end: int, before: event_file.Row | None) -> Lost:
    offset = 0 if before is None else next_offset_of(before)
    behind = offset + (end - first) * _OFFSETS_PER_EVENT
    enqueued, chain = (0, 0) if before is None else (before[4], before[6])
    why = "acknowledged by the marker, and not in the log"
    return Lost(partition, first, end - 1, offset, behind, enqueued, chain, None, why)


def _marked(path: Path, partitions: int) -> Sequence[int]:
    """Where each partition ends by the marker; zeros where there is none."""
    marker = Marker(path.with_suffix(".mark"), partitions)
    if not marker.path.exists():
        return [0] * partitions
    marker.open()
    try:
        return marker.read() or [0] * partitions
    finally:
        marker.close()


# -- the new file -----------------------------------------------------------------------------------------------------


def _write(
    connection: sqlite3.Connection, target: sqlite3.Connection, path: Path, places: _Places, seen: Survey, at: int
) -> None:
    """Raises StoreUnavailable when the log is not as it was seen."""
    event_file.make_tables(target, seen.partitions, seen.created)
    target.execute(event_file.GAPS)
    put = event_file.insertion(1)
    lost = []
    target.execute("BEGIN IMMEDIATE")
    for number, (each, _) in enumerate(_walk(connection, path, seen.partitions, places), 1):
        if isinstance(each, Lost):
            lost.append(each)
            row = gap_row(each.partition, each.first, each.events, each.first_offset, each.next_offset, each.enqueued,
                          each.previous, at, each.continued)  # fmt: skip
        else:
            row = each
        target.execute(put, row)
        if (gap := gap_of(row)) is not None:
            target.execute("INSERT INTO gap VALUES (?, ?, ?, ?)", (gap.partition, gap.first, row[2], gap.accepted))
        if number % _AT_ONCE == 0:  # the write-ahead log of one transaction would be as large as the file
            target.execute("COMMIT")
            target.execute("BEGIN IMMEDIATE")
    target.execute("COMMIT")
    if tuple(lost) != tuple(seen.lost):
        raise StoreUnavailable(reason="the log is not as it was shown", remedy="ask again")
    target.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _keep_evidence(path: Path, folder: Path) -> None:
    """The old files under names of their own; none of them goes with the change. Raises OSError."""
    folder.mkdir(mode=0o700)
    for name in (path.name, f"{path.name}-wal"):
        with contextlib.suppress(FileNotFoundError):
            os.link(path.with_name(name), folder / name)
    marker = path.with_suffix(".mark")
    with contextlib.suppress(FileNotFoundError):  # the hub goes on writing to that one
        shutil.copyfile(marker, folder / marker.name)
        sync(folder / marker.name)
    sync(folder)
    sync(path.parent)


def _leave(path: Path, note: Note) -> None:
    """From here on the change is made, whatever comes."""
    note_path = _note(path)
    beside = note_path.with_suffix(".new")
    beside.write_bytes(msgspec.json.encode(note))
    sync(beside)
    beside.replace(note_path)
    sync(path.parent)


def gaps(connection: sqlite3.Connection) -> Sequence[Gap]:
    """What was accepted as lost and lies within what is kept. Raises sqlite3.Error."""
    if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'gap'").fetchone()[0]:
        return ()
    rows = connection.execute("SELECT partition, first_sequence, count, accepted FROM gap ORDER BY 1, 2")
    return [Gap(partition, first, first + count - 1, 0, accepted) for partition, first, count, accepted in rows]
