"""The one writing connection of the registry, for all stores that share its file."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import aiosqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.errors import HubError, StoreUnavailable

_T = TypeVar("_T")
Row = dict[str, Any]
Work = Callable[[AsyncConnection], Awaitable[_T]]
Select = Callable[[str, Sequence[Any]], Sequence[Any]]  # a query's text and values to its rows, as plain tuples

_WAITING_WRITES: Final = 1000


class Prepared(NamedTuple):
    """A statement as the driver takes it, once for each row of values."""

    text: str
    rows: Sequence[tuple[Any, ...]]


Plan = Callable[[], tuple[_T, Sequence[Prepared]]]  # what the caller gets, and the statements to carry out


class Writer:
    """Transactions on the one writing connection, one after another.

    Each runs to its end, even if its caller is gone: a cancelled statement would cost the connection.
    after_commit: called after each.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()
        self._driver: aiosqlite.Connection | None = None  # the connection behind the engine's, once it was asked for
        self._under_way: set[asyncio.Future[Any]] = set()
        self.failures = 0  # in a row
        self.refuse_writes: HubError | None = None  # why nothing new can be stored now
        self.after_commit: Callable[[], None] = _nothing

    async def __call__(self, work: Work[_T], *, when_full: bool = False) -> _T:
        """Run ``work`` in a transaction. Raises StoreUnavailable: then nothing was written.

        when_full: also while the disk is nearly full, because it frees space, or ends what was begun, or the hub keeps
        a bounded number of such rows anyway (L-S4).
        """
        if not when_full:
            self.check_room()
        if len(self._under_way) >= _WAITING_WRITES:
            raise StoreUnavailable(reason=f"{_WAITING_WRITES} writes to the registry wait already")
        task = asyncio.ensure_future(self._transaction(work))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    @property
    def dialect(self) -> Dialect:
        """Of the statements that ``at_once`` takes."""
        return self._engine.dialect

    async def at_once(self, plan: Plan[_T]) -> _T:
        """A transaction that is passed to the driver's thread once, not once for each statement; what ``plan`` returns.

        plan: called when all that was asked for before is committed.
        Must not be cancelled. Raises StoreUnavailable: then nothing was written.
        """
        async with self._turn:
            result, statements = plan()
            if statements:
                try:
                    await self._carry_out(statements)
                except (DBAPIError, sqlite3.Error) as error:
                    raise await self._failed(error) from None
                self.failures = 0
                self.after_commit()
            return result

    async def _carry_out(self, statements: Sequence[Prepared]) -> None:
        if self._driver is None:
            async with self._engine.connect() as connection:
                self._driver = await driver_of(connection)
        run: Any = self._driver._execute  # noqa: SLF001  # there is no public call that runs a function on its thread
        await run(_transact, self._driver, statements)

    async def _failed(self, error: DBAPIError | sqlite3.Error) -> StoreUnavailable:
        """After a failed sync the file is opened anew, never tried again as it is (L-S3)."""
        self.failures += 1
        self._driver = None
        await self._engine.dispose()
        return unavailable(error, "written")

    def check_room(self) -> None:
        """Raises StoreUnavailable while the disk is nearly full."""
        if (refusal := self.refuse_writes) is not None:
            # a new one: an exception that is raised many times would keep the frames of all its raisers
            raise StoreUnavailable(reason=refusal.reason, remedy=refusal.remedy)

    async def finish(self) -> None:
        """Wait for what is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _transaction(self, work: Work[_T]) -> _T:
        async with self._turn:
            try:
                async with self._engine.begin() as connection:
                    result = await work(connection)
            except (DBAPIError, sqlite3.Error) as error:
                raise await self._failed(error) from None
            self.failures = 0
            self.after_commit()
            return result

    def _ended(self, task: "asyncio.Future[Any]") -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone


async def driver_of(connection: AsyncConnection) -> aiosqlite.Connection:
    """What SQLAlchemy's connection writes through."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, aiosqlite.Connection)
    return driver


def _transact(driver: aiosqlite.Connection, statements: Sequence[Prepared]) -> None:
    """On the driver's thread. Raises sqlite3.Error: then nothing was written."""
    connection = driver._conn  # noqa: SLF001  # see _carry_out
    connection.execute("BEGIN IMMEDIATE")
    try:
        for text, rows in statements:
            connection.executemany(text, rows)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _nothing() -> None:
    """Nobody asked to hear of commits."""


def unavailable(error: DBAPIError | sqlite3.Error, what: str) -> StoreUnavailable:
    """What the caller is told when the registry cannot be ``what`` (written, read)."""
    # only the driver's words: SQLAlchemy's text holds the statement with its values
    cause = error.orig if isinstance(error, DBAPIError) else error
    return StoreUnavailable(reason=f"the registry cannot be {what}: {cause}", remedy="check the disk")


async def read(reading: AsyncEngine, query: Any) -> list[Row]:
    """The rows of a query. Raises StoreUnavailable."""
    try:
        async with reading.connect() as connection:
            result = await connection.execute(query)
            names = tuple(result.keys())
            return [dict(zip(names, row, strict=True)) for row in result]  # half the cost of the result's mappings
    except DBAPIError as error:
        raise unavailable(error, "read") from None
