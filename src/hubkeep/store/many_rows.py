"""Many rows by one statement, without what SQLAlchemy does anew for each of them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Delete, Insert, Table, Update, insert
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from .writer import Prepared, Row


def prepared(statement: Insert | Update | Delete, rows: Sequence[Row], dialect: Dialect) -> Prepared:
    """rows: the values of its parameters by name."""
    text, names = _compiled(statement, dialect)
    return Prepared(text, [tuple(map(row.__getitem__, names)) for row in rows])


async def insert_rows(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
    """rows: with every column of the table, values as the driver takes them."""
    await execute_rows(connection, row_insertion(table), rows)


async def execute_rows(connection: AsyncConnection, statement: Insert | Update | Delete, rows: Sequence[Row]) -> None:
    """The statement once for each row. rows: the values of its parameters; none: nothing happens."""
    if rows:
        text, values = prepared(statement, rows, connection.dialect)
        await connection.exec_driver_sql(text, values)


@lru_cache
def row_insertion(table: Table) -> Insert:
    """Of one row with every column of the table."""
    return insert(table).values({column.name: None for column in table.columns})


@lru_cache
def _compiled(statement: Any, dialect: Dialect) -> tuple[str, tuple[str, ...]]:
    """Its text for this driver, and the names of its parameters in their order."""
    compiled = statement.compile(dialect=dialect)
    return str(compiled), tuple(compiled.positiontup or ())
