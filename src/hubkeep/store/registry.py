"""The registry on SQLite: identities, policies, refusals. Start at ``open_registry``.

Statements are SQLAlchemy Core over one writing connection; the look-up at each connect is a prepared statement on a
read-only connection of its own, because it is on the path of every login.
"""

import asyncio
import contextlib
import fcntl
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
from sqlalchemy import ColumnElement, Connection, create_engine, delete, func, insert, select, update
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import StaticPool

from hubkeep.errors import DeviceAlreadyExists, DeviceNotFound, ModuleAlreadyExists, StoreUnavailable
from hubkeep.model import Identity, Permission, Policy, Refusal
from hubkeep.ports import Activity, IdentityCount, Seal

from .tables import HEAD, IDENTITY, POLICY, REFUSAL

_KEYS = ("primary_key", "secondary_key")
_COLUMNS = tuple(column.name for column in IDENTITY.columns)
_LOOK_UP = f"SELECT {', '.join(_COLUMNS)} FROM identity WHERE device_id = ? AND module_id = ?"  # noqa: S608  # column names


class DataDirectoryInUse(Exception):
    """Another process serves this data directory."""


class SchemaTooNew(Exception):
    """The registry was written by a newer version of Hubkeep."""


@contextlib.contextmanager
def locked(directory: Path) -> Any:
    """Hold the data directory alone. Raises DataDirectoryInUse."""
    lock: IO[bytes]
    with (directory / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataDirectoryInUse(f"{directory} is served by another process") from None
        yield


class Registry:
    """The three stores of one file. A lock keeps the writing connection's transactions apart."""

    def __init__(self, connection: AsyncConnection, reader: sqlite3.Connection, seal: Seal) -> None:
        lock = asyncio.Lock()
        self.identities = SqlIdentities(connection, lock, reader, seal)
        self.policies = SqlPolicies(connection, lock, seal)
        self.refusals = SqlRefusals(connection, lock)


@contextlib.asynccontextmanager
async def open_registry(path: Path, seal: Seal) -> AsyncIterator[Registry]:
    """Open, migrating first if need be. Raises SchemaTooNew, StoreUnavailable."""
    try:
        await asyncio.get_running_loop().run_in_executor(None, _migrate, path)
    except (sqlite3.DatabaseError, DatabaseError) as error:
        raise StoreUnavailable(
            reason=f"{path.name} cannot be opened: {error}", remedy="restore it from a backup"
        ) from None
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", poolclass=StaticPool)
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False, isolation_level=None)
    try:
        async with engine.connect() as connection:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
                await connection.exec_driver_sql(f"PRAGMA {pragma}")
            await connection.commit()
            yield Registry(connection, reader, seal)
    finally:
        reader.close()
        await engine.dispose()


def _migrate(path: Path) -> None:
    if _revision(path) == HEAD:
        return
    # Alembic is slow to import; only a new or old registry needs it
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    engine = create_engine(f"sqlite:///{path}")
    try:
        connection: Connection
        with engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise SchemaTooNew(
                    f"{path} was written by a newer version of Hubkeep ({error}): start the version that wrote it"
                ) from None
    finally:
        engine.dispose()


def _revision(path: Path) -> str | None:
    if not path.exists():
        return None
    connection = sqlite3.connect(path)
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        return None
    finally:
        connection.close()
    return row[0] if row else None


class SqlIdentities:
    """See ports.IdentityStore."""

    def __init__(self, connection: AsyncConnection, lock: asyncio.Lock, reader: sqlite3.Connection, seal: Seal) -> None:
        self._connection, self._lock, self._reader, self._seal = connection, lock, reader, seal

    async def get(self, device_id: str, module_id: str = "") -> Identity | None:
        row = self._reader.execute(_LOOK_UP, (device_id, module_id)).fetchone()
        return None if row is None else self._identity(dict(zip(_COLUMNS, row, strict=True)))

    async def create(self, identity: Identity) -> None:
        async with self._lock, _transaction(self._connection):
            if identity.module_id and await self.get(identity.device_id) is None:
                raise DeviceNotFound
            try:
                await self._connection.execute(insert(IDENTITY).values(self._row(identity)))
            except IntegrityError:
                raise (ModuleAlreadyExists if identity.module_id else DeviceAlreadyExists) from None

    async def replace(self, identity: Identity, etag: str | None) -> bool:
        row = self._row(identity)
        for live in ("connected", "connection_updated", "last_activity"):
            del row[live]
        async with self._lock, _transaction(self._connection):
            where = _is(identity.device_id, identity.module_id, etag)
            return bool((await self._connection.execute(update(IDENTITY).where(*where).values(row))).rowcount)

    async def delete(self, device_id: str, module_id: str, etag: str | None) -> bool:
        async with self._lock, _transaction(self._connection):
            gone = (await self._connection.execute(delete(IDENTITY).where(*_is(device_id, module_id, etag)))).rowcount
            if gone and not module_id:
                await self._connection.execute(delete(IDENTITY).where(IDENTITY.c.device_id == device_id))
            return bool(gone)

    async def list(self, top: int, after: str = "") -> Sequence[Identity]:
        query = (
            select(IDENTITY)
            .where(IDENTITY.c.module_id == "", IDENTITY.c.device_id > after)
            .order_by(IDENTITY.c.device_id)
            .limit(top)
        )
        async with self._lock:
            rows = (await self._connection.execute(query)).mappings().all()
            await self._connection.rollback()
        return [self._identity(dict(row)) for row in rows]

    async def count(self) -> IdentityCount:
        by_status = (
            select(IDENTITY.c.status, func.count()).where(IDENTITY.c.module_id == "").group_by(IDENTITY.c.status)
        )
        connected = select(func.count()).select_from(IDENTITY).where(IDENTITY.c.connected, IDENTITY.c.module_id == "")
        async with self._lock:
            counts = {status: number for status, number in (await self._connection.execute(by_status)).all()}  # noqa: C416  # rows are not pairs to mypy
            now_connected = (await self._connection.execute(connected)).scalar_one()
            await self._connection.rollback()
        enabled, disabled = counts.get("enabled", 0), counts.get("disabled", 0)
        return IdentityCount(enabled + disabled, enabled, disabled, now_connected)

    async def record_activity(self, changes: Iterable[Activity]) -> None:
        async with self._lock, _transaction(self._connection):
            for change in changes:
                values: dict[str, Any] = {"last_activity": change.at}
                if change.connected is not None:
                    values |= {"connected": change.connected, "connection_updated": change.at}
                where = _is(change.device_id, change.module_id, None)
                await self._connection.execute(update(IDENTITY).where(*where).values(values))

    async def disconnect_all(self, at: float) -> None:
        async with self._lock, _transaction(self._connection):
            values = {"connected": False, "connection_updated": at}
            await self._connection.execute(update(IDENTITY).where(IDENTITY.c.connected).values(values))

    def _row(self, identity: Identity) -> dict[str, Any]:
        row = {name: getattr(identity, name) for name in _COLUMNS}
        for key in _KEYS:
            if row[key] is not None:
                row[key] = self._seal.seal(row[key], _context(identity.device_id, identity.module_id, key))
        row["parent_scopes"] = msgspec.json.encode(identity.parent_scopes).decode()
        return row

    def _identity(self, row: dict[str, Any]) -> Identity:
        for key in _KEYS:
            if row[key] is not None:
                row[key] = self._seal.unseal(row[key], _context(row["device_id"], row["module_id"], key))
        row["parent_scopes"] = tuple(msgspec.json.decode(row["parent_scopes"]))
        row["connected"], row["iot_edge"] = bool(row["connected"]), bool(row["iot_edge"])
        return Identity(**row)


class SqlPolicies:
    """See ports.PolicyStore."""

    def __init__(self, connection: AsyncConnection, lock: asyncio.Lock, seal: Seal) -> None:
        self._connection, self._lock, self._seal = connection, lock, seal

    async def all(self) -> Sequence[Policy]:
        async with self._lock:
            rows = (await self._connection.execute(select(POLICY))).mappings().all()
            await self._connection.rollback()
        return [
            Policy(
                name=row["name"],
                permissions=Permission(row["permissions"]),
                primary_key=self._seal.unseal(row["primary_key"], f"policy/{row['name']}/primary_key"),
                secondary_key=self._seal.unseal(row["secondary_key"], f"policy/{row['name']}/secondary_key"),
            )
            for row in rows
        ]

    async def put(self, policy: Policy) -> None:
        values = {
            "name": policy.name,
            "permissions": int(policy.permissions),
            "primary_key": self._seal.seal(policy.primary_key, f"policy/{policy.name}/primary_key"),
            "secondary_key": self._seal.seal(policy.secondary_key, f"policy/{policy.name}/secondary_key"),
        }
        async with self._lock, _transaction(self._connection):
            await self._connection.execute(delete(POLICY).where(POLICY.c.name == policy.name))
            await self._connection.execute(insert(POLICY).values(values))


class SqlRefusals:
    """See ports.RefusalStore."""

    def __init__(self, connection: AsyncConnection, lock: asyncio.Lock) -> None:
        self._connection, self._lock = connection, lock

    async def add(self, refusals: Sequence[Refusal], keep: int) -> None:
        rows = [
            {**msgspec.structs.asdict(each), "presented": msgspec.json.encode(each.presented).decode()}
            for each in refusals
        ]
        async with self._lock, _transaction(self._connection):
            await self._connection.execute(insert(REFUSAL), rows)
            newest = (await self._connection.execute(select(func.max(REFUSAL.c.id)))).scalar_one()
            await self._connection.execute(delete(REFUSAL).where(REFUSAL.c.id <= newest - keep))

    async def find(self, key: str, most: int) -> Sequence[Refusal]:
        query = select(REFUSAL).order_by(REFUSAL.c.id.desc()).limit(most)
        if key:
            query = query.where((REFUSAL.c.tracking_id == key) | (REFUSAL.c.identity == key))
        async with self._lock:
            rows = (await self._connection.execute(query)).mappings().all()
            await self._connection.rollback()
        found = []
        for row in rows:
            values = {name: row[name] for name in Refusal.__struct_fields__ if name != "presented"}
            found.append(Refusal(**values, presented=msgspec.json.decode(row["presented"])))
        return found


def _context(device_id: str, module_id: str, key: str) -> str:
    """What a sealed key belongs to: it cannot be moved to another identity or place."""
    return f"identity/{device_id}/{module_id}/{key}"


def _is(device_id: str, module_id: str, etag: str | None) -> list[ColumnElement[bool]]:
    where = [IDENTITY.c.device_id == device_id, IDENTITY.c.module_id == module_id]
    if etag is not None:
        where.append(IDENTITY.c.etag == etag)
    return where


@contextlib.asynccontextmanager
async def _transaction(connection: AsyncConnection) -> AsyncIterator[None]:
    """All or nothing; a store that fails is told as such, with no detail for the peer."""
    try:
        yield
        await connection.commit()
    except DatabaseError as error:
        await connection.rollback()
        raise StoreUnavailable(
            reason=f"the registry cannot be written: {error.orig}", remedy="check the disk"
        ) from None
    except BaseException:
        await connection.rollback()
        raise
