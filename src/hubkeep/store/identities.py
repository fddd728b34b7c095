"""Identities on SQLite. The look-up at each connect is a prepared statement on the loop (see ``registry``)."""

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import (
    ColumnElement,
    and_,
    delete,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy import bindparam as bind
from sqlalchemy import func as sql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.errors import DeviceAlreadyExists, DeviceNotFound, HubError, ModuleAlreadyExists, StoreUnavailable
from hubkeep.model import Identity, Twin
from hubkeep.ports import Activity, Held, IdentityCount, IdentityEdit, Kept, Seal

from .connection_events import connected_among, tell_all_gone, tell_connections
from .group_commit import GroupCommit
from .identity_edits import Codec, edited, identity_context
from .outbox import SqlOutbox
from .queues import delete_queues
from .tables import DEVICE_COUNT, IDENTITY, TWIN
from .twins import delete_leaves, fresh_row, twin_of_row
from .writer import Prepared, Row, Writer, read, unavailable

_KEYS: Final = ("primary_key", "secondary_key")
_COLUMNS: Final = tuple(column.name for column in IDENTITY.columns)
_TWIN_COLUMNS: Final = tuple(column for column in TWIN.columns if column.name not in {"device_id", "module_id"})
_LOOK_UP: Final = f"SELECT {', '.join(_COLUMNS)} FROM identity WHERE device_id = ? AND module_id = ?"  # noqa: S608  # column names
_COUNT: Final = "SELECT total, disabled, connected, modules FROM device_count"
_Outcome = tuple[Held, Kept] | HubError
_UNSEAL_AT_ONCE: Final = 100  # identities of a list between two turns of the loop


class SqlIdentities:
    """See ports.IdentityStore."""

    def __init__(
        self,
        writer: Writer,
        commits: GroupCommit,
        reading: AsyncEngine,
        look_up: sqlite3.Connection,
        seal: Seal,
        outbox: SqlOutbox,
    ) -> None:
        self._write, self._commits = writer, commits
        self._reading, self._look_up, self._seal = reading, look_up, seal
        self.codec = Codec(self._row, self._identity)
        self._outbox = outbox
        self._editing = asyncio.Lock()

    async def get(self, device_id: str, module_id: str = "") -> Identity | None:
        row = self._one(_LOOK_UP, (device_id, module_id))
        return None if row is None else self._identity(dict(zip(_COLUMNS, row, strict=True)))

    async def create(self, *identities: Identity) -> None:
        rows = [self._row(each) for each in identities]

        async def work(connection: AsyncConnection) -> None:
            for row in rows:
                await self._create(connection, row)
            twins = (Twin(device_id=each.device_id, module_id=each.module_id) for each in identities)
            await self._outbox.put(connection, self._outbox.tells.created(twins))

        await self._write(work)

    async def modules(self, device_id: str) -> Sequence[Identity]:
        modules = select(IDENTITY).where(IDENTITY.c.device_id == device_id, IDENTITY.c.module_id != "")
        rows = await read(self._reading, modules.order_by(IDENTITY.c.module_id))
        return [self._identity(row) for row in rows]

    async def replace(self, identity: Identity, etag: str | None) -> bool:
        row = self._row(identity)
        for name in ("generation_id", "connected", "connection_updated", "last_activity"):
            del row[name]
        # shutting somebody out must be possible always
        is_disabled = identity.status == "disabled"
        return await self._write(lambda connection: self._replace(connection, row, etag), when_full=is_disabled)

    async def delete(self, device_id: str, module_id: str, etag: str | None) -> bool:
        return await self._write(
            lambda connection: self._delete(connection, device_id, module_id, etag), when_full=True
        )

    async def edit(self, edits: Sequence[IdentityEdit]) -> Sequence[_Outcome]:
        # to its end even if the caller goes away: whoever comes next must see what these edits did
        return await asyncio.shield(asyncio.ensure_future(self._edit(edits)))

    async def list(self, top: int, after: str = "") -> Sequence[Identity]:
        devices = select(IDENTITY).where(IDENTITY.c.module_id == "", IDENTITY.c.device_id > after)
        rows = await read(self._reading, devices.order_by(IDENTITY.c.device_id).limit(top))
        found = []
        for row in rows:
            found.append(self._identity(row))
            if len(found) % _UNSEAL_AT_ONCE == 0:
                await asyncio.sleep(0)
        return found

    async def page(self, most: int, after: tuple[str, str] = ("", "")) -> Sequence[tuple[Identity, Twin]]:
        ids = IDENTITY.c.device_id, IDENTITY.c.module_id
        same = (TWIN.c.device_id == ids[0]) & (TWIN.c.module_id == ids[1])
        query = select(IDENTITY, *_TWIN_COLUMNS).join(TWIN, same).where(tuple_(*ids) > tuple_(*after))
        found = []
        for row in await read(self._reading, query.order_by(*ids).limit(most)):
            found.append((self._identity({name: row[name] for name in _COLUMNS}), twin_of_row(row)))
            if len(found) % _UNSEAL_AT_ONCE == 0:
                await asyncio.sleep(0)
        return found

    async def count(self) -> IdentityCount:
        total, disabled, connected, modules = self._one(_COUNT, ()) or (0, 0, 0, 0)
        return IdentityCount(total, total - disabled, disabled, connected, modules)

    async def record_activity(self, changes: Iterable[Activity]) -> None:
        active: dict[tuple[str, str], float] = {}
        states: dict[tuple[str, str], Activity] = {}
        for change in changes:
            key = (change.device_id, change.module_id)
            active[key] = max(change.at, active.get(key, change.at))
            if change.connected is not None:
                states[key] = change.after(states.get(key))
        if not active:
            return

        async def work(connection: AsyncConnection) -> None:
            await tell_connections(connection, states, self._outbox)
            await self._record(connection, active, states.values())

        await self._write(work, when_full=True)

    async def disconnect_all(self, at: float) -> None:
        async def work(connection: AsyncConnection) -> None:
            await tell_all_gone(connection, at, self._outbox)
            values = {"connected": False, "connection_updated": at}
            await connection.execute(update(IDENTITY).where(IDENTITY.c.connected).values(values))
            await connection.execute(update(DEVICE_COUNT).values(connected=0))

        await self._write(work)

    async def _edit(self, edits: Sequence[IdentityEdit]) -> Sequence[_Outcome]:
        async with self._editing:
            return await self._commits.together(self._plan, edits, when_full=True)

    def _plan(
        self, asked: Sequence[Sequence[IdentityEdit]]
    ) -> tuple[Sequence[Sequence[_Outcome] | HubError], Sequence[Prepared]]:
        (edits,) = asked  # one at a time
        outcomes, statements = edited(self._all, edits, self.codec, self._outbox, self._write.dialect)
        refusal = self._write.refuse_writes
        if refusal is not None and any(isinstance(each, tuple) and each[1].identity for each in outcomes):
            # nothing of all that is kept, unless it is deletions alone
            return [StoreUnavailable(reason=refusal.reason, remedy=refusal.remedy)], ()
        return [outcomes], statements

    # -- inside a transaction ----------------------------------------------------------------------------------------

    async def _create(self, connection: AsyncConnection, row: Row) -> None:
        if row["module_id"] and await self._stored(connection, row["device_id"], "", None) is None:
            raise DeviceNotFound
        try:
            await connection.execute(insert(IDENTITY).values(row))
        except IntegrityError:
            raise (ModuleAlreadyExists if row["module_id"] else DeviceAlreadyExists) from None
        await connection.execute(insert(TWIN).values(fresh_row(row["device_id"], row["module_id"])))
        if row["module_id"]:
            await _count(connection, modules=1)
        else:
            await _count(connection, 1, row["status"] == "disabled", row["connected"])

    async def _replace(self, connection: AsyncConnection, row: Row, etag: str | None) -> bool:
        stored = await self._stored(connection, row["device_id"], row["module_id"], etag)
        if stored is None:
            return False
        await connection.execute(update(IDENTITY).where(*_is(row["device_id"], row["module_id"])).values(row))
        if not row["module_id"] and stored["status"] != row["status"]:
            await _count(connection, disabled=1 if row["status"] == "disabled" else -1)
        return True

    async def _delete(self, connection: AsyncConnection, device_id: str, module_id: str, etag: str | None) -> bool:
        stored = await self._stored(connection, device_id, module_id, etag)
        if stored is None:
            return False
        where = and_(*_is(device_id, module_id)) if module_id else IDENTITY.c.device_id == device_id
        connected = await connected_among(connection, where, self._outbox)
        twins = await delete_leaves(connection, device_id, module_id)
        await self._outbox.put(connection, self._outbox.tells.deleted(twins, connected))
        gone = (await connection.execute(delete(IDENTITY).where(where))).rowcount
        await delete_queues(connection, device_id, module_id)
        if module_id:
            await _count(connection, modules=-1)
        else:  # its modules went with it
            await _count(connection, -1, -(stored["status"] == "disabled"), -stored["connected"], 1 - gone)
        return True

    @staticmethod
    async def _record(
        connection: AsyncConnection, active: dict[tuple[str, str], float], states: Iterable[Activity]
    ) -> None:
        row = (IDENTITY.c.device_id == bind("device")) & (IDENTITY.c.module_id == bind("module"))
        seen = update(IDENTITY).where(row).values(last_activity=sql.max(IDENTITY.c.last_activity, bind("at")))
        values = [{"device": device, "module": module, "at": at} for (device, module), at in active.items()]
        await connection.execute(seen, values)
        moved = 0
        for connected in (True, False):
            changed = [each for each in states if each.connected is connected]
            for is_device in (True, False):
                values = [
                    {"device": each.device_id, "module": each.module_id, "at": each.at}
                    for each in changed
                    if (not each.module_id) == is_device
                ]
                if values:
                    turned = update(IDENTITY).where(row, IDENTITY.c.connected.is_not(connected))
                    done = await connection.execute(turned.values(connected=connected), values)
                    moved += (done.rowcount if connected else -done.rowcount) if is_device else 0
                    await connection.execute(update(IDENTITY).where(row).values(connection_updated=bind("at")), values)
        if moved:
            await _count(connection, connected=moved)

    @staticmethod
    async def _stored(connection: AsyncConnection, device_id: str, module_id: str, etag: str | None) -> Row | None:
        where = _is(device_id, module_id)
        if etag is not None:
            where.append(IDENTITY.c.etag == etag)
        query = select(IDENTITY.c.status, IDENTITY.c.connected).where(*where)
        row = (await connection.execute(query)).mappings().one_or_none()
        return None if row is None else dict(row)

    # -- rows --------------------------------------------------------------------------------------------------------

    def _one(self, statement: str, values: tuple[str, ...]) -> Any:
        return next(iter(self._all(statement, values)), None)

    def _all(self, statement: str, values: Sequence[Any]) -> Sequence[Any]:
        try:
            return self._look_up.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise unavailable(error, "read") from None

    def _row(self, identity: Identity) -> Row:
        row = msgspec.structs.asdict(identity)  # in the order of the columns
        for key in _KEYS:
            if row[key] is not None:
                row[key] = self._seal.seal(row[key], identity_context(identity.device_id, identity.module_id, key))
        scopes = identity.parent_scopes
        row["parent_scopes"] = msgspec.json.encode(scopes).decode() if scopes else "[]"
        return row

    def _identity(self, row: Row) -> Identity:
        for key in _KEYS:
            if row[key] is not None:
                row[key] = self._seal.unseal(row[key], identity_context(row["device_id"], row["module_id"], key))
        scopes = row["parent_scopes"]
        row["parent_scopes"] = tuple(msgspec.json.decode(scopes)) if scopes != "[]" else ()
        row["connected"], row["iot_edge"] = bool(row["connected"]), bool(row["iot_edge"])
        return Identity(**row)


def _is(device_id: str, module_id: str) -> list[ColumnElement[bool]]:
    return [IDENTITY.c.device_id == device_id, IDENTITY.c.module_id == module_id]


async def _count(
    connection: AsyncConnection, total: int = 0, disabled: int = 0, connected: int = 0, modules: int = 0
) -> None:
    """Add to the counts of devices, and to that of modules."""
    counts = DEVICE_COUNT.c
    values = {
        "total": counts.total + total,
        "disabled": counts.disabled + int(disabled),
        "connected": counts.connected + int(connected),
        "modules": counts.modules + modules,
    }
    await connection.execute(update(DEVICE_COUNT).values(values))
