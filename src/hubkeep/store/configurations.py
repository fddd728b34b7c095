"""Configurations in the registry's file, and the twins that they are for."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam as bind
from sqlalchemy import delete, exists, func, insert, select, tuple_, update
from sqlalchemy.dialects.sqlite import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.errors import ConfigurationAlreadyExists, QuotaExceeded
from hubkeep.model import Configuration, Hold

from .tables import CONFIGURATION, CONFIGURATION_HOLD, IDENTITY
from .writer import Row, Writer, read

_JSON: Final = ("content", "labels", "metrics")
_HOLD: Final = CONFIGURATION_HOLD.c
_RELEASE: Final = delete(CONFIGURATION_HOLD).where(
    _HOLD.number == bind("number"), _HOLD.device_id == bind("device_id"), _HOLD.module_id == bind("module_id")
)


class SqlConfigurations:
    """See ports.ConfigurationStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def add(self, configuration: Configuration, most: int) -> None:
        of_id = CONFIGURATION.c.configuration_id == configuration.configuration_id
        row = _row(configuration)
        del row["number"]

        async def work(connection: AsyncConnection) -> None:
            live = select(func.count()).select_from(CONFIGURATION).where(~CONFIGURATION.c.is_deleted)
            if (await connection.execute(live.where(of_id))).scalar_one():
                raise ConfigurationAlreadyExists
            if (await connection.execute(live)).scalar_one() >= most:
                raise QuotaExceeded(reason=f"there are {most} configurations", remedy="delete one")
            await connection.execute(insert(CONFIGURATION).values(row))

        await self._write(work)

    async def replace(self, configuration: Configuration, revision: int) -> bool:
        column = CONFIGURATION.c
        change = update(CONFIGURATION).where(
            column.number == configuration.number, column.revision == revision, ~column.is_deleted
        )

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(change.values(_row(configuration)))).rowcount == 1

        return await self._write(work, when_full=configuration.is_deleted)

    async def all(self) -> Sequence[Configuration]:
        query = select(CONFIGURATION).order_by(CONFIGURATION.c.configuration_id, CONFIGURATION.c.number)
        return [_configuration(row) for row in await read(self._reading, query)]

    async def forget_deleted(self) -> None:
        is_held = exists().where(_HOLD.number == CONFIGURATION.c.number)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(CONFIGURATION).where(CONFIGURATION.c.is_deleted, ~is_held))

        await self._write(work, when_full=True)

    async def holds(self, twins: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Sequence[Hold]]:
        query = select(CONFIGURATION_HOLD).where(tuple_(_HOLD.device_id, _HOLD.module_id).in_(twins))
        found: dict[tuple[str, str], list[Hold]] = {}
        for row in await read(self._reading, query):
            hold = Hold(**{**row, "is_touched": bool(row["is_touched"])})
            found.setdefault((hold.device_id, hold.module_id), []).append(hold)
        return found

    async def change_holds(self, held: Sequence[Hold], released: Sequence[Hold]) -> None:
        statement = insert_or(CONFIGURATION_HOLD)
        state = {name: statement.excluded[name] for name in ("status", "is_touched")}
        statement = statement.on_conflict_do_update(index_elements=["device_id", "module_id", "number"], set_=state)

        async def work(connection: AsyncConnection) -> None:
            keys = {(each.device_id, each.module_id) for each in held}
            there = select(IDENTITY.c.device_id, IDENTITY.c.module_id)
            there = there.where(tuple_(IDENTITY.c.device_id, IDENTITY.c.module_id).in_(keys))
            found = {tuple(row) for row in await connection.execute(there)}  # others were deleted meanwhile
            rows = [msgspec.structs.asdict(each) for each in held if (each.device_id, each.module_id) in found]
            if rows:
                await connection.execute(statement, rows)
            if released:
                names = ("number", "device_id", "module_id")
                await connection.execute(_RELEASE, [{name: getattr(each, name) for name in names} for each in released])

        if held or released:
            await self._write(work, when_full=not held)

    async def counts(self) -> Mapping[int, tuple[int, int]]:
        query = select(_HOLD.number, _HOLD.status, func.count().label("count")).group_by(_HOLD.number, _HOLD.status)
        found: dict[int, tuple[int, int]] = {}
        for row in await read(self._reading, query):
            targeted, applied = found.get(row["number"], (0, 0))
            more = row["count"]
            found[row["number"]] = (targeted + more, applied + (more if row["status"] == "Applied" else 0))
        return found

    async def statuses(self, twins: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Mapping[str, str]]:
        query = select(_HOLD.device_id, _HOLD.module_id, _HOLD.status, CONFIGURATION.c.configuration_id)
        query = query.select_from(CONFIGURATION_HOLD.join(CONFIGURATION, CONFIGURATION.c.number == _HOLD.number)).where(
            tuple_(_HOLD.device_id, _HOLD.module_id).in_(twins), ~CONFIGURATION.c.is_deleted
        )
        found: dict[tuple[str, str], dict[str, str]] = {}
        for row in await read(self._reading, query):
            found.setdefault((row["device_id"], row["module_id"]), {})[row["configuration_id"]] = row["status"]
        return found


def _row(configuration: Configuration) -> Row:
    row = msgspec.structs.asdict(configuration)
    return row | {name: msgspec.json.encode(row[name]).decode() for name in _JSON}


def _configuration(row: Row) -> Configuration:
    values: dict[str, Any] = dict(row)
    values |= {name: msgspec.json.decode(row[name]) for name in _JSON}
    return Configuration(**(values | {"is_deleted": bool(row["is_deleted"])}))
