"""All twins for queries, found through the index of their leaves where a condition names one."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Select, Table, and_, exists, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.expression import FromClause

from hubkeep.model import INDEXED_CHARACTERS, Identity, Json, Narrowing, Primitive, Twin, TwinPart, TwinSection, indexed
from hubkeep.ports import FleetRow

from .tables import IDENTITY, TWIN, TWIN_LEAF
from .writer import Row, read

_UNREAD: Final = ("primary_key", "secondary_key")
_IDENTITY_COLUMNS: Final = tuple(column for column in IDENTITY.columns if column.name not in _UNREAD)
_IDENTITY_NAMES: Final = tuple(column.name for column in _IDENTITY_COLUMNS)
_IDS: Final = (IDENTITY.c.device_id, IDENTITY.c.module_id)
_LAST_CHARACTER: Final = "\U0010ffff"
_ESTIMATED: Final = 2000  # rows counted to tell which of two conditions finds less
_INDEXED_ROOTS: Final = ("tags.", "properties.desired.", "properties.reported.")


def _is_connected(value: Primitive) -> object:
    return {"Connected": True, "Disconnected": False}.get(str(value))


_Convert = Callable[[Primitive], object]
_COLUMNS: Final[dict[str, tuple[ColumnElement[Any], _Convert]]] = {
    "deviceId": (IDENTITY.c.device_id, str),
    "moduleId": (IDENTITY.c.module_id, str),
    "status": (IDENTITY.c.status, str),
    "authenticationType": (IDENTITY.c.authentication, str),
    "connectionState": (IDENTITY.c.connected, _is_connected),
    "capabilities.iotEdge": (IDENTITY.c.iot_edge, bool),
    "modelId": (TWIN.c.model_id, str),
}


class SqlFleet:
    """See ports.FleetStore."""

    def __init__(self, reading: AsyncEngine) -> None:
        self._reading = reading

    async def rows(
        self,
        narrowings: Sequence[Narrowing],
        *,
        modules: bool,
        parts: frozenset[TwinPart],
        after: tuple[str, str],
        most: int,
    ) -> Sequence[FleetRow]:
        conditions = [_column_condition(each) for each in narrowings if each.path in _COLUMNS]
        looked_up = [each for each in narrowings if each.path.startswith(_INDEXED_ROOTS)]
        by_id = any(each.path == "deviceId" for each in narrowings)
        driver = await self._narrowest(looked_up) if looked_up and not by_id else None
        query = _select(parts, driver, [each for each in looked_up if each is not driver])
        ids: Table = IDENTITY if driver is None else TWIN_LEAF
        query = query.where(
            *conditions,
            IDENTITY.c.module_id != "" if modules else IDENTITY.c.module_id == "",
            tuple_(ids.c.device_id, ids.c.module_id) > tuple_(*after),
        )
        query = query.order_by(ids.c.device_id, ids.c.module_id).limit(most)
        return [_fleet_row(row) for row in await read(self._reading, query)]

    async def count(self, *, modules: bool) -> int:
        of_kind = IDENTITY.c.module_id != "" if modules else IDENTITY.c.module_id == ""
        (row,) = await read(self._reading, select(func.count().label("count")).where(of_kind))
        return int(row["count"])

    async def _narrowest(self, narrowings: Sequence[Narrowing]) -> Narrowing:
        """The one that finds least, as far as a short count tells."""
        if len(narrowings) == 1:
            return narrowings[0]
        counts = []
        for each in narrowings:
            some = select(TWIN_LEAF.c.device_id).where(_leaf_condition(TWIN_LEAF, each)).limit(_ESTIMATED).subquery()
            (row,) = await read(self._reading, select(func.count().label("count")).select_from(some))
            counts.append(row["count"])
        return narrowings[counts.index(min(counts))]


def _select(parts: frozenset[TwinPart], driver: Narrowing | None, others: Sequence[Narrowing]) -> Select[Any]:
    columns = [*(_IDENTITY_COLUMNS if "identity" in parts else _IDS), *_twin_columns(parts)]
    same_twin = and_(TWIN.c.device_id == IDENTITY.c.device_id, TWIN.c.module_id == IDENTITY.c.module_id)
    source: FromClause = IDENTITY.join(TWIN, same_twin)
    query = select(*columns)
    if driver is not None:
        found = and_(TWIN_LEAF.c.device_id == IDENTITY.c.device_id, TWIN_LEAF.c.module_id == IDENTITY.c.module_id)
        source = TWIN_LEAF.join(IDENTITY, found).join(TWIN, same_twin)
        query = query.where(_leaf_condition(TWIN_LEAF, driver))
    query = query.select_from(source)
    for each in others:
        leaf = TWIN_LEAF.alias()
        of_same = and_(leaf.c.device_id == IDENTITY.c.device_id, leaf.c.module_id == IDENTITY.c.module_id)
        query = query.where(exists().where(of_same, _leaf_condition(leaf, each)))
    return query


def _twin_columns(parts: frozenset[TwinPart]) -> list[ColumnElement[Any]]:
    names = ["version", "revision", "model_id", "desired_version", "reported_version"]
    names += [part for part in ("tags", "desired", "reported") if part in parts]
    if "metadata" in parts:
        names += ["desired_metadata", "reported_metadata"]
    return [TWIN.c[name] for name in names]


def _column_condition(narrowing: Narrowing) -> ColumnElement[bool]:
    column, convert = _COLUMNS[narrowing.path]
    if narrowing.prefix:
        return and_(column >= narrowing.prefix, column < narrowing.prefix + _LAST_CHARACTER)
    return column.in_([convert(value) for value in narrowing.among])


def _leaf_condition(leaf: FromClause, narrowing: Narrowing) -> ColumnElement[bool]:
    column = leaf.c
    if narrowing.prefix:
        least = indexed(narrowing.prefix)
        values = and_(column.value >= least, column.value < least[: INDEXED_CHARACTERS + 1] + _LAST_CHARACTER)
    else:
        values = or_(*(column.value == key for key in {indexed(value) for value in narrowing.among}))
    return and_(column.path == narrowing.path, values)


def _fleet_row(row: Row) -> FleetRow:
    device_id, module_id = row["device_id"], row["module_id"]
    twin = Twin(
        device_id=device_id,
        module_id=module_id,
        version=row["version"],
        revision=row["revision"],
        model_id=row["model_id"],
        tags=_decode(row["tags"]) if "tags" in row else {},
        desired=_section(row, "desired"),
        reported=_section(row, "reported"),
    )
    if "status" not in row:
        return FleetRow(Identity(device_id=device_id, module_id=module_id), twin)
    values = {name: row[name] for name in _IDENTITY_NAMES}
    scopes = values["parent_scopes"]
    values["parent_scopes"] = () if scopes == "[]" else tuple(_decode(scopes))
    return FleetRow(Identity(**values), twin)


def _section(row: Row, name: str) -> TwinSection:
    """Of what was read of it."""
    properties, metadata = row.get(name), row.get(f"{name}_metadata")
    if properties is None and metadata is None:
        return TwinSection(_NOTHING, _NOTHING, row[f"{name}_version"])
    return TwinSection(
        {} if properties is None else _decode(properties),
        {} if metadata is None else _decode(metadata),
        row[f"{name}_version"],
    )


_NOTHING: Final[Json] = {}  # shared: a row is read, never written
_decode: Final[Callable[[str], Any]] = msgspec.json.Decoder().decode
