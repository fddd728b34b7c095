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
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import aiosqlite
from sqlalchemy import (
    URL,
    Engine,
    NullPool,
    create_engine,
    event,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from hubkeep.errors import HubError, StoreUnavailable
from hubkeep.ports import ChangeEvents, Seal

from .access import SqlAccess
from .audit import SqlAudit
from .authorities import SqlAuthorities
from .certificates import SqlCertificateRequests, SqlCertificates, SqlDenials, SqlRevocationLists
from .configurations import SqlConfigurations
from .consumer_groups import SqlConsumerGroups
from .credential_uses import SqlCredentialUses
from .durable_files import sync
from .enrolments import SqlEnrolments
from .event_sources import SqlEventSources
from .fleet import SqlFleet
from .group_commit import GroupCommit
from .identities import SqlIdentities
from .jobs import SqlJobs
from .linked_hubs import SqlLinkedHubs
from .outbox import Silence, SqlOutbox
from .policies import SqlPolicies
from .posture import SqlPosture
from .queues import SqlQueues, SqlSubscriptions
from .refusals import SqlRefusals
from .registrations import SqlRegistrations
from .replays import SqlReplays
from .resealing import SqlSealed
from .retention import SqlRetention
from .roles import SqlRoles
from .start_failures import DataDirectoryInUse, NotPermitted, SchemaTooNew, is_about_permission
from .tables import HEAD
from .transfers import SqlTransfers
from .trust_proofs import SqlTrustProofs
from .twins import SqlTwins
from .uploads import SqlUploads
from .writer import Writer

_BUSY_MILLISECONDS: Final = 2000
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
        self.commits = GroupCommit(writer)
        self.identities = SqlIdentities(writer, self.commits, reading, look_up, seal, self.outbox)
        self.twins = SqlTwins(writer, look_up, self.outbox)
        self.fleet = SqlFleet(reading)
        self.policies = SqlPolicies(writer, reading, seal)
        self.authorities = SqlAuthorities(writer, reading, look_up)
        self.certificate_requests = SqlCertificateRequests(writer, reading)
        self.denials = SqlDenials(writer, reading)
        self.revocation_lists = SqlRevocationLists(writer, reading)
        self.access = SqlAccess(writer, reading)
        self.roles = SqlRoles(writer, reading)
        self.credential_uses = SqlCredentialUses(writer, reading)
        self.trust_proofs = SqlTrustProofs(writer, reading)
        self.refusals = SqlRefusals(writer, reading)
        self.replays = SqlReplays(writer, reading)
        self.posture = SqlPosture(writer, reading)
        self.audit = SqlAudit(self.commits, reading, look_up, seal)
        self.certificates = SqlCertificates(self.commits, reading, look_up)
        self.queues = SqlQueues(self.commits, look_up)
        self.subscriptions = SqlSubscriptions(self.commits, look_up)
        self.consumer_groups = SqlConsumerGroups(writer, reading)
        self.uploads = SqlUploads(writer, reading, seal)
        self.jobs = SqlJobs(writer, reading, self.outbox)
        self.transfers = SqlTransfers(writer, reading, seal)
        self.configurations = SqlConfigurations(writer, reading)
        self.linked_hubs = SqlLinkedHubs(writer, reading, seal)
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
            look_up.execute("SELECT 1 FROM identity LIMIT 1")
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
