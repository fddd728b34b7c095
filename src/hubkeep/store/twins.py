"""Twins in the registry's file. Changes that wait for a commit under way share the next one."""

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from hubkeep.errors import HubError, StoreUnavailable
from hubkeep.model import HubEvent, Twin, TwinChange, TwinSection, leaves

from .many_rows import insertions
from .outbox import SqlOutbox
from .tables import TWIN, TWIN_LEAF
from .writer import Prepared, Row, Select, Writer, unavailable

log = logging.getLogger(__name__)

Key = tuple[str, str]  # device id, module id
_Leaf = tuple[str, str, str, str]  # path, value, device id, module id

_COLUMNS: Final = tuple(column.name for column in TWIN.columns)
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM twin WHERE"  # noqa: S608  # column names
_LOOK_UP: Final = f"{_SELECT} device_id = ? AND module_id = ?"
_OF_DEVICES: Final = f"{_SELECT} device_id IN (SELECT value FROM json_each(?))"  # noqa: S608  # no value
_WAITING: Final = 10_000
_encode: Final = msgspec.json.Encoder().encode
_AT_ONCE: Final = 200  # changes of one commit; a statement holds two values for each
_OF_IDENTITY: Final = "WHERE device_id = ? AND module_id = ?"
_WRITE: Final = f"UPDATE twin SET {', '.join(f'{name} = ?' for name in _COLUMNS[2:])} {_OF_IDENTITY}"  # noqa: S608  # column names
_UNINDEX: Final = "DELETE FROM twin_leaf WHERE path = ? AND value = ? AND device_id = ? AND module_id = ?"


class _Change(NamedTuple):
    key: Key
    change: Callable[[Twin], TwinChange]
    committed: Callable[[TwinChange], None]
    done: "asyncio.Future[Twin | None]"


_Outcome = TwinChange | Exception | None


class SqlTwins:
    """See ports.TwinStore."""

    def __init__(self, writer: Writer, look_up: sqlite3.Connection, outbox: SqlOutbox) -> None:
        self._write, self._look_up, self._outbox = writer, look_up, outbox
        self._waiting: deque[_Change] = deque()
        self._committing: asyncio.Task[None] | None = None
        self._being_told: dict[Key, asyncio.Event] = {}  # by twin that the commit under way may change

    async def get(self, device_id: str, module_id: str = "") -> Twin | None:
        key = (device_id, module_id)
        # what is committed shows before it is told: a device would get a twin, then the change that made it so
        while (told := self._being_told.get(key)) is not None:
            await told.wait()
        return self._stored(key)

    async def change(
        self,
        device_id: str,
        module_id: str,
        change: Callable[[Twin], TwinChange],
        committed: Callable[[TwinChange], None],
    ) -> Twin | None:
        self._write.check_room()
        if len(self._waiting) >= _WAITING:
            raise StoreUnavailable(reason=f"{_WAITING} changes of twins wait already")
        loop = asyncio.get_running_loop()
        waiting = _Change((device_id, module_id), change, committed, loop.create_future())
        self._waiting.append(waiting)
        if self._committing is None:
            self._committing = loop.create_task(self._commit_all())
        return await waiting.done

    async def finish(self) -> None:
        """Wait until every change is committed or refused."""
        if self._committing is not None:
            await asyncio.wait([self._committing])

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
                await self._commit(batch)
        finally:
            self._committing = None

    async def _commit(self, batch: Sequence[_Change]) -> None:
        """One transaction. A change that is refused leaves the others alone; a failing disk fails all."""
        told = asyncio.Event()
        self._being_told = dict.fromkeys((each.key for each in batch), told)
        try:
            await self._commit_and_tell(batch)
        finally:
            self._being_told = {}
            told.set()

    async def _commit_and_tell(self, batch: Sequence[_Change]) -> None:
        outcomes: Sequence[_Outcome]
        try:
            outcomes = await self._write.at_once(lambda: self._apply(batch))
        except Exception as error:  # noqa: BLE001  # each caller gets it
            outcomes = [error] * len(batch)
        for each, outcome in zip(batch, outcomes, strict=True):
            result: Twin | None = None
            if isinstance(outcome, TwinChange):
                _tell(each, outcome)
                result = outcome.twin
            if each.done.done():
                continue  # the caller is gone
            if isinstance(outcome, Exception):
                each.done.set_exception(outcome)
            else:
                each.done.set_result(result)

    def _apply(self, batch: Sequence[_Change]) -> tuple[list[_Outcome], list[Prepared]]:
        """All outcomes, and what must be written for them. What was committed before is seen."""
        keys = {each.key for each in batch}
        twins = {key: twin for key in keys if (twin := self._stored(key)) is not None}
        stored = dict(twins)
        changed: dict[Key, Twin] = {}
        outcomes: list[_Outcome] = []
        events: list[HubEvent] = []
        for each in batch:
            before = twins.get(each.key)
            if before is None:
                outcomes.append(None)
                continue
            try:
                change = each.change(before)
            except HubError as error:
                outcomes.append(error)
                continue
            outcomes.append(change)
            if change.twin is not before:
                twins[each.key] = changed[each.key] = change.twin
                events += self._outbox.tells.twin_changed(before, change)
        statements = writing([(stored[key], twin) for key, twin in changed.items()])
        return outcomes, [*statements, *self._outbox.prepared(events, self._write.dialect)]

    def _stored(self, key: Key) -> Twin | None:
        try:
            row = self._look_up.execute(_LOOK_UP, key).fetchone()
        except sqlite3.Error as error:
            raise unavailable(error, "read") from None
        return None if row is None else twin_of_row(dict(zip(_COLUMNS, row, strict=True)))


def _tell(waiting: _Change, change: TwinChange) -> None:
    try:
        waiting.committed(change)
    except Exception:
        log.exception("telling a change of a twin failed")  # the change stands all the same


def stored_twins(select: Select, keys: Collection[Key]) -> dict[Key, Twin]:
    """The twins of these identities."""
    rows = select(_OF_DEVICES, (_text(list({device_id for device_id, _ in keys})),))
    return {row[:2]: twin_of_row(dict(zip(_COLUMNS, row, strict=True))) for row in rows if row[:2] in keys}


def twins_of_devices(select: Select, devices: Collection[str]) -> list[Twin]:
    """Of devices and of all their modules."""
    rows = select(_OF_DEVICES, (_text(list(devices)),))
    return [twin_of_row(dict(zip(_COLUMNS, row, strict=True))) for row in rows]


def inserting(twins: Sequence[Twin]) -> list[Prepared]:
    """What writes the twins of new identities."""
    rows = [(each.device_id, each.module_id, *_values(each)) for each in twins]
    new = [row for twin in twins for row in _leaf_rows(twin, leaves(twin))]
    return insertions(TWIN, rows) + insertions(TWIN_LEAF, new)


def writing(changed: Sequence[tuple[Twin, Twin]]) -> list[Prepared]:
    """What writes twins, each as it was and as it is to be, with the leaves that queries look them up by."""
    gone: list[_Leaf] = []
    new: list[_Leaf] = []
    for before, after in changed:
        old, now = leaves(before), leaves(after)
        gone += _leaf_rows(after, old - now)
        new += _leaf_rows(after, now - old)
    values = [(*_values(twin), twin.device_id, twin.module_id) for _, twin in changed]
    return [
        *([Prepared(_UNINDEX, gone)] if gone else ()),
        *insertions(TWIN_LEAF, new),
        *([Prepared(_WRITE, values)] if values else ()),
    ]


def unindexing(twins: Sequence[Twin]) -> list[Prepared]:
    """What takes away the leaves of twins that are deleted."""
    gone = [leaf for twin in twins for leaf in _leaf_rows(twin, leaves(twin))]
    return [Prepared(_UNINDEX, gone)] if gone else []


async def delete_leaves(connection: AsyncConnection, device_id: str, module_id: str) -> Sequence[Twin]:
    """Of a module, or of a device with its modules. Call while their twins are still there; they are returned."""
    where = TWIN.c.device_id == device_id
    if module_id:
        where &= TWIN.c.module_id == module_id
    twins = [twin_of_row(dict(row)) for row in (await connection.execute(select(TWIN).where(where))).mappings()]
    for text, rows in unindexing(twins):
        await connection.exec_driver_sql(text, list(rows))
    return twins


def _leaf_rows(twin: Twin, found: set[tuple[str, str]]) -> list[_Leaf]:
    """In the order of the table's columns."""
    return [(path, value, twin.device_id, twin.module_id) for path, value in found]


def fresh_row(device_id: str, module_id: str) -> Row:
    """The row of a new identity's twin."""
    twin = Twin(device_id=device_id, module_id=module_id)
    return dict(zip(_COLUMNS, (device_id, module_id, *_values(twin)), strict=True))


def _values(twin: Twin) -> tuple[Any, ...]:
    """Of all columns behind the ids, in their order."""
    return (
        twin.version,
        twin.revision,
        twin.model_id,
        _text(twin.tags),
        *_section_values(twin.desired),
        *_section_values(twin.reported),
    )


def _section_values(section: TwinSection) -> tuple[str, str, int]:
    return _text(section.properties), _text(section.metadata), section.version


def _text(value: Any) -> str:
    return _encode(value).decode()


def twin_of_row(row: Row) -> Twin:
    """row: holds all columns of the table, and may hold more."""
    decode = msgspec.json.decode
    return Twin(
        device_id=row["device_id"],
        module_id=row["module_id"],
        version=row["version"],
        revision=row["revision"],
        model_id=row["model_id"],
        tags=decode(row["tags"]),
        desired=TwinSection(decode(row["desired"]), decode(row["desired_metadata"]), row["desired_version"]),
        reported=TwinSection(decode(row["reported"]), decode(row["reported_metadata"]), row["reported_version"]),
    )
