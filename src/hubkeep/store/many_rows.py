"""Many rows by one statement, without what SQLAlchemy does anew for each of them."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from sqlalchemy import Delete, Insert, Table, Update
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from .writer import Prepared, Row

_ROWS: Final = (100, 10, 1)  # of one step; SQLite takes 32,766 values


def prepared(statement: Insert | Update | Delete, rows: Sequence[Row], dialect: Dialect) -> Prepared:
    """rows: the values of its parameters by name."""
    text, names = _compiled(statement, dialect)
    return Prepared(text, [tuple(map(row.__getitem__, names)) for row in rows])


def insertions(table: Table, rows: Sequence[tuple[Any, ...]]) -> list[Prepared]:
    """New rows, each with a value for every column of the table, many by one step of one statement.

    With each step the driver lets go of the interpreter's lock and waits to have it back: milliseconds while the loop
    is busy. Few sizes, because the driver keeps what it compiled.
    """
    statements, start = [], 0
    for size in _ROWS:
        stop = len(rows) - (len(rows) - start) % size
        values = [tuple(chain.from_iterable(rows[at : at + size])) for at in range(start, stop, size)]
        if values:
            statements.append(Prepared(_insertion(table, size), values))
        start = stop
    return statements


async def execute_rows(connection: AsyncConnection, statement: Insert | Update | Delete, rows: Sequence[Row]) -> None:
    """The statement once for each row. rows: the values of its parameters; none: nothing happens."""
    if rows:
        text, values = prepared(statement, rows, connection.dialect)
        await connection.exec_driver_sql(text, values)


@lru_cache
def _insertion(table: Table, count: int) -> str:
    names = [column.name for column in table.columns]
    row = f"({', '.join('?' * len(names))})"
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {', '.join([row] * count)}"  # noqa: S608  # column names


@lru_cache
def _compiled(statement: Any, dialect: Dialect) -> tuple[str, tuple[str, ...]]:
    """Its text for this driver, and the names of its parameters in their order."""
    compiled = statement.compile(dialect=dialect)
    return str(compiled), tuple(compiled.positiontup or ())
