"""The registry on SQLite: identities with their twins, policies, refusals. Start at ``open_registry``.

One connection owns all writes (SQLite 3.40 has a race between checkpoints of several writers); reading has connections
of its own. The look-up at each connect is a prepared statement on the loop: it is on the path of every login, and
passing it to a thread would cost several times the look-up.
"""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import aiosqlite
import msgspec
from sqlalchemy import (
    URL,
    ColumnElement,
    Engine,
    NullPool,
    and_,
    create_engine,
    delete,
    event,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy import bindparam as bind
from sqlalchemy import func as sql
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from hubkeep.errors import DeviceAlreadyExists, DeviceNotFound, HubError, ModuleAlreadyExists, StoreUnavailable
from hubkeep.model import Identity, Networks, Permission, Policy, Refusal, Twin
from hubkeep.ports import Activity, ChangeEvents, Held, IdentityCount, IdentityEdit, Kept, Seal

from .access import SqlAccess
from .audit import SqlAudit
from .authorities import SqlAuthorities
from .certificates import SqlCertificateRequests, SqlCertificates, SqlDenials, SqlRevocationLists
from .configurations import SqlConfigurations
from .connection_events import connected_among, tell_all_gone, tell_connections
from .consumer_groups import SqlConsumerGroups
from .credential_uses import SqlCredentialUses
from .durable_files import sync
from .enrolments import SqlEnrolments
from .event_sources import SqlEventSources
from .fleet import SqlFleet
from .group_commit import GroupCommit
from .identity_edits import Codec, edit_identities, identity_context
from .jobs import SqlJobs
from .outbox import Silence, SqlOutbox
from .queues import SqlQueues, SqlSubscriptions, delete_queues
from .registrations import SqlRegistrations
from .replays import SqlReplays
from .resealing import SqlSealed
from .retention import SqlRetention
from .start_failures import DataDirectoryInUse, NotPermitted, SchemaTooNew, is_about_permission
from .tables import DEVICE_COUNT, HEAD, IDENTITY, POLICY, REFUSAL, TWIN
from .transfers import SqlTransfers
from .trust_proofs import SqlTrustProofs
from .twins import SqlTwins, delete_leaves, fresh_row, twin_of_row
from .uploads import SqlUploads
from .writer import Row, Writer, read, unavailable

_KEYS: Final = ("primary_key", "secondary_key")
_NETWORKS: Final = ("allow", "deny")
_COLUMNS: Final = tuple(column.name for column in IDENTITY.columns)
_TWIN_COLUMNS: Final = tuple(column for column in TWIN.columns if column.name not in {"device_id", "module_id"})
_LOOK_UP: Final = f"SELECT {', '.join(_COLUMNS)} FROM identity WHERE device_id = ? AND module_id = ?"  # noqa: S608  # column names
_COUNT: Final = "SELECT total, disabled, connected FROM device_count"
_BUSY_MILLISECONDS: Final = 2000
_UNSEAL_AT_ONCE: Final = 100  # identities of a list between two turns of the loop
_migrating = threading.Lock()  # Alembic's context belongs to the process


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the data directory alone; the kernel lets go of it when the process ends.

    Raises DataDirectoryInUse, NotPermitted.
    """
    path = directory / "hubkeep.lock"
    try:
        lock = path.open("ab")
    except PermissionError:
        raise NotPermitted(f"{path} may not be written: check the owner and mode of {directory}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataDirectoryInUse(f"{directory} is served by another process") from None
        yield


class Registry:
    """The stores of one file."""

    def __init__(
        self, writer: "Writer", reading: AsyncEngine, look_up: sqlite3.Connection, seal: Seal, tells: ChangeEvents
    ) -> None:
        self.outbox = SqlOutbox(writer, reading, tells)
        self.event_sources = SqlEventSources(writer, reading)
        self.retention = SqlRetention(writer, reading)
        self.identities = SqlIdentities(writer, reading, look_up, seal, self.outbox)
        self.twins = SqlTwins(writer, look_up, self.outbox)
        self.fleet = SqlFleet(reading)
        self.policies = SqlPolicies(writer, reading, seal)
        self.authorities = SqlAuthorities(writer, reading, look_up)
        self.certificate_requests = SqlCertificateRequests(writer, reading)
        self.denials = SqlDenials(writer, reading)
        self.revocation_lists = SqlRevocationLists(writer, reading)
        self.access = SqlAccess(writer, reading)
        self.credential_uses = SqlCredentialUses(writer, reading)
        self.trust_proofs = SqlTrustProofs(writer, reading)
        self.refusals = SqlRefusals(writer, reading)
        self.replays = SqlReplays(writer, reading)
        self.commits = GroupCommit(writer)
        self.audit = SqlAudit(self.commits, reading, look_up, seal)
        self.certificates = SqlCertificates(self.commits, reading, look_up)
        self.queues = SqlQueues(self.commits, look_up)
        self.subscriptions = SqlSubscriptions(self.commits, look_up)
        self.consumer_groups = SqlConsumerGroups(writer, reading)
        self.uploads = SqlUploads(writer, reading, seal)
        self.jobs = SqlJobs(writer, reading, self.outbox)
        self.transfers = SqlTransfers(writer, reading, seal)
        self.configurations = SqlConfigurations(writer, reading)
        self.enrolments = SqlEnrolments(writer, self.commits, reading, look_up, seal)
        self.registrations = SqlRegistrations(self.commits, reading, self.identities.codec, self.outbox)
        self.sealed = SqlSealed(writer, reading, seal)
        self._writer = writer

    @property
    def refuse_writes(self) -> HubError | None:
        """Why nothing new can be stored now: what the watch on the disk says. Deletions go on."""
        return self._writer.refuse_writes

    @refuse_writes.setter
    def refuse_writes(self, refusal: HubError | None) -> None:
        self._writer.refuse_writes = refusal

    @property
    def failing(self) -> bool:
        """Whether the last two writes failed: the hub is not healthy (L-S3)."""
        return self._writer.failures >= 2


@contextlib.asynccontextmanager
async def open_registry(
    path: Path, seal: Seal, *, is_expected: bool = False, tells: ChangeEvents | None = None
) -> AsyncIterator[Registry]:
    """Open the file, made or migrated first if need be. is_expected: it was made before and must be there.

    tells: what is told of changes; None: nothing.

    Raises SchemaTooNew, DataDirectoryInUse, NotPermitted, StoreUnavailable (with the reason: damaged, disk full).
    """
    path = path.absolute()  # noqa: ASYNC240  # asks the kernel for the working directory alone
    if is_expected and not path.exists():  # at the start nobody waits for the loop
        raise StoreUnavailable(reason=f"{path} is gone, and with it all identities", remedy="restore it from a backup")
    read_only = f"{path.as_uri()}?mode=ro"
    writing = create_async_engine(
        _url("sqlite+aiosqlite", str(path)),
        pool_size=1,
        max_overflow=0,
        pool_reset_on_return=None,  # the writer ends each of its transactions itself
    )
    reading = create_async_engine(_url("sqlite+aiosqlite", read_only), pool_size=1, max_overflow=0)
    _make_durable(writing.sync_engine)
    async with contextlib.AsyncExitStack() as opened:
        opened.push_async_callback(writing.dispose)
        opened.push_async_callback(reading.dispose)
        try:
            await asyncio.get_running_loop().run_in_executor(None, _prepare, path)
            async with writing.connect():
                pass  # stays in the pool: readers want the files beside the registry that a writer makes
            look_up = sqlite3.connect(read_only, uri=True, timeout=1, check_same_thread=False, isolation_level=None)
            opened.callback(look_up.close)
            look_up.execute(_COUNT)
        except (sqlite3.Error, DBAPIError, OSError) as error:
            raise _cannot_open(path, error) from None
        writer = Writer(writing)
        opened.push_async_callback(writer.finish)
        registry = Registry(writer, reading, look_up, seal, tells or Silence())
        opened.push_async_callback(registry.twins.finish)
        opened.push_async_callback(registry.commits.finish)
        yield registry


def _url(driver: str, database: str) -> URL:
    return URL.create(driver, database=database, query={"uri": "true"} if database.startswith("file:") else {})


def _make_durable(engine: Engine) -> None:
    """Every connection syncs before a commit returns, and every transaction is one, DDL included."""

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # the driver's own transactions leave DDL out, and a migration cut short would stay half done (L-S9)
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (f"busy_timeout={_BUSY_MILLISECONDS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        pooled = connection.connection
        if isinstance(pooled.driver_connection, aiosqlite.Connection):  # passed to its thread once, not four times
            pooled.run_async(lambda driver: driver.execute_fetchall("BEGIN IMMEDIATE"))
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare(path: Path) -> None:
    """Make the file, for its owner alone, and bring its tables up to date, whole or not at all."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    sync(path.parent)
    engine = create_engine(_url("sqlite", str(path)), poolclass=NullPool)
    _make_durable(engine)
    try:
        migrate(engine, path)
    finally:
        engine.dispose()


def migrate(engine: Engine, path: Path) -> None:
    """Upgrade the tables to ``HEAD`` in one transaction. Raises SchemaTooNew."""
    with engine.begin() as connection:
        table = "SELECT name FROM sqlite_master WHERE name = 'alembic_version'"
        revision = None
        if connection.exec_driver_sql(table).scalar() is not None:
            revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        if revision == HEAD:
            return
        # Alembic is slow to import; only a new or an old registry needs it
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415
        from alembic.script import ScriptDirectory  # noqa: PLC0415

        config = Config()
        folder = str(Path(__file__).parent / "migrations")
        config.set_main_option("script_location", folder.replace("%", "%%"))
        config.attributes["connection"] = connection
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if revision is not None and revision not in known:
            raise SchemaTooNew(
                f"{path} has schema {revision}, this version of Hubkeep knows {HEAD}: start the version that wrote it"
            )
        with _migrating:
            command.upgrade(config, "head")


def _cannot_open(path: Path, error: Exception) -> Exception:
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorname", "")
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return DataDirectoryInUse(f"{path} is in use by another process")
    if is_about_permission(cause):
        return NotPermitted(f"{path} cannot be opened: {cause}: check its owner and mode, and those of {path.parent}")
    remedy = "restore it from a backup" if code in {"SQLITE_NOTADB", "SQLITE_CORRUPT"} else "check owner, mode and disk"
    text = cause.strerror if isinstance(cause, OSError) else cause
    return StoreUnavailable(reason=f"{path} cannot be opened: {text}", remedy=remedy)


class SqlIdentities:
    """See ports.IdentityStore."""

    def __init__(
        self, writer: Writer, reading: AsyncEngine, look_up: sqlite3.Connection, seal: Seal, outbox: SqlOutbox
    ) -> None:
        self._write, self._reading, self._look_up, self._seal = writer, reading, look_up, seal
        self.codec = Codec(self._row, self._identity)
        self._outbox = outbox

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

    async def edit(self, edits: Sequence[IdentityEdit]) -> Sequence[tuple[Held, Kept] | HubError]:
        async def work(connection: AsyncConnection) -> Sequence[tuple[Held, Kept] | HubError]:
            outcomes = await edit_identities(connection, edits, self.codec, self._outbox)
            if any(isinstance(each, tuple) and each[1].identity is not None for each in outcomes):
                self._write.check_room()  # nothing of all that is kept, unless it is deletions alone
            return outcomes

        return await self._write(work, when_full=True)

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
        total, disabled, connected = self._one(_COUNT, ()) or (0, 0, 0)
        return IdentityCount(total, total - disabled, disabled, connected)

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

    # -- inside a transaction ----------------------------------------------------------------------------------------

    async def _create(self, connection: AsyncConnection, row: Row) -> None:
        if row["module_id"] and await self._stored(connection, row["device_id"], "", None) is None:
            raise DeviceNotFound
        try:
            await connection.execute(insert(IDENTITY).values(row))
        except IntegrityError:
            raise (ModuleAlreadyExists if row["module_id"] else DeviceAlreadyExists) from None
        await connection.execute(insert(TWIN).values(fresh_row(row["device_id"], row["module_id"])))
        if not row["module_id"]:
            await _count(connection, 1, row["status"] == "disabled", row["connected"])

    async def _replace(self, connection: AsyncConnection, row: Row, etag: str | None) -> bool:
        stored = await self._stored(connection, row["device_id"], row["module_id"], etag)
        if stored is None:
            return False
        await connection.execute(update(IDENTITY).where(*_is(row["device_id"], row["module_id"])).values(row))
        if not row["module_id"] and stored["status"] != row["status"]:
            await _count(connection, 0, 1 if row["status"] == "disabled" else -1, 0)
        return True

    async def _delete(self, connection: AsyncConnection, device_id: str, module_id: str, etag: str | None) -> bool:
        stored = await self._stored(connection, device_id, module_id, etag)
        if stored is None:
            return False
        where = and_(*_is(device_id, module_id)) if module_id else IDENTITY.c.device_id == device_id
        connected = await connected_among(connection, where, self._outbox)
        twins = await delete_leaves(connection, device_id, module_id)
        await self._outbox.put(connection, self._outbox.tells.deleted(twins, connected))
        await connection.execute(delete(IDENTITY).where(where))
        await delete_queues(connection, device_id, module_id)
        if not module_id:
            await _count(connection, -1, -(stored["status"] == "disabled"), -stored["connected"])
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
            await _count(connection, 0, 0, moved)

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
        try:
            return self._look_up.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            raise unavailable(error, "read") from None

    def _row(self, identity: Identity) -> Row:
        row = {name: getattr(identity, name) for name in _COLUMNS}
        for key in _KEYS:
            if row[key] is not None:
                row[key] = self._seal.seal(row[key], identity_context(identity.device_id, identity.module_id, key))
        row["parent_scopes"] = msgspec.json.encode(identity.parent_scopes).decode()
        return row

    def _identity(self, row: Row) -> Identity:
        for key in _KEYS:
            if row[key] is not None:
                row[key] = self._seal.unseal(row[key], identity_context(row["device_id"], row["module_id"], key))
        scopes = row["parent_scopes"]
        row["parent_scopes"] = tuple(msgspec.json.decode(scopes)) if scopes != "[]" else ()
        row["connected"], row["iot_edge"] = bool(row["connected"]), bool(row["iot_edge"])
        return Identity(**row)


class SqlPolicies:
    """See ports.PolicyStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine, seal: Seal) -> None:
        self._write, self._reading, self._seal = writer, reading, seal

    async def all(self) -> Sequence[Policy]:
        return [
            Policy(
                name=row["name"],
                permissions=Permission(row["permissions"]),
                primary_key=self._seal.unseal(row["primary_key"], f"policy/{row['name']}/primary_key"),
                secondary_key=self._seal.unseal(row["secondary_key"], f"policy/{row['name']}/secondary_key"),
                networks=Networks(**{name: tuple(msgspec.json.decode(row[name])) for name in _NETWORKS}),
            )
            for row in await read(self._reading, select(POLICY).order_by(POLICY.c.name))
        ]

    async def put(self, policy: Policy) -> None:
        values = {
            "name": policy.name,
            "permissions": int(policy.permissions),
            "primary_key": self._seal.seal(policy.primary_key, f"policy/{policy.name}/primary_key"),
            "secondary_key": self._seal.seal(policy.secondary_key, f"policy/{policy.name}/secondary_key"),
            **{name: msgspec.json.encode(getattr(policy.networks, name)).decode() for name in _NETWORKS},
        }

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(POLICY).where(POLICY.c.name == policy.name))
            await connection.execute(insert(POLICY).values(values))

        await self._write(work, when_full=True)  # a few rows in all, and a key that leaked must be replaced

    async def delete(self, name: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(POLICY).where(POLICY.c.name == name))

        await self._write(work, when_full=True)


class SqlRefusals:
    """See ports.RefusalStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def add(self, refusals: Sequence[Refusal], keep: int) -> None:
        rows = [
            {**msgspec.structs.asdict(each), "presented": msgspec.json.encode(each.presented).decode()}
            for each in refusals
        ]

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(insert(REFUSAL), rows)
            newest = (await connection.execute(select(sql.max(REFUSAL.c.id)))).scalar_one()
            await connection.execute(delete(REFUSAL).where(REFUSAL.c.id <= newest - keep))

        if rows:
            await self._write(work, when_full=True)

    async def find(self, key: str, most: int) -> Sequence[Refusal]:
        query = select(REFUSAL).order_by(REFUSAL.c.id.desc()).limit(most)
        if key:
            query = query.where((REFUSAL.c.tracking_id == key) | (REFUSAL.c.identity == key))
        found = []
        for row in await read(self._reading, query):
            values = {name: row[name] for name in Refusal.__struct_fields__ if name != "presented"}
            found.append(Refusal(**values, presented=msgspec.json.decode(row["presented"])))
        return found


def _is(device_id: str, module_id: str) -> list[ColumnElement[bool]]:
    return [IDENTITY.c.device_id == device_id, IDENTITY.c.module_id == module_id]


async def _count(connection: AsyncConnection, total: int, disabled: int, connected: int) -> None:
    """Add to the counts of devices."""
    counts = DEVICE_COUNT.c
    values = {
        "total": counts.total + total,
        "disabled": counts.disabled + int(disabled),
        "connected": counts.connected + int(connected),
    }
    await connection.execute(update(DEVICE_COUNT).values(values))
