"""Sealing anew what is sealed in the registry's file."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import LargeBinary, Table, bindparam, literal, or_, select, tuple_, update
from sqlalchemy import func as sql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import enrolment_key
from hubkeep.ports import Seal

from .enrolments import enrolment_context
from .identity_edits import identity_context
from .linked_hubs import linked_hub_context
from .tables import ENROLMENT, IDENTITY, LINKED_HUB, METADATA, POLICY, SIGNING_KEY, TRANSFER_JOB
from .transfers import transfer_context
from .uploads import signing_key_context
from .writer import Row, Writer, read

_AT_ONCE: Final = 200  # rows of one transaction: others write between two of them


class _Sealed(NamedTuple):
    """context: as the table's own store binds it, of a row and a column."""

    table: Table
    columns: tuple[str, ...]
    context: Callable[[Row, str], str]


_KEYS: Final = ("primary_key", "secondary_key")
_SEALED: Final = (
    _Sealed(POLICY, _KEYS, lambda row, name: f"policy/{row['name']}/{name}"),
    _Sealed(LINKED_HUB, ("connection",), lambda row, _: linked_hub_context(row["name"])),
    _Sealed(SIGNING_KEY, ("key",), lambda row, _: signing_key_context(row["name"])),
    _Sealed(TRANSFER_JOB, ("input_url", "output_url"), lambda row, name: transfer_context(row["job_id"], name)),
    _Sealed(
        ENROLMENT, _KEYS, lambda row, name: enrolment_context(enrolment_key(bool(row["is_group"]), row["key"]), name)
    ),
    _Sealed(IDENTITY, _KEYS, lambda row, name: identity_context(row["device_id"], row["module_id"], name)),
)


class SqlSealed:
    """See ports.SealedRecords."""

    def __init__(self, writer: Writer, reading: AsyncEngine, seal: Seal) -> None:
        self._write, self._reading, self._seal = writer, reading, seal

    async def reseal(self, prefix: bytes) -> int:
        return sum([await self._reseal_table(each, prefix) for each in _SEALED])

    async def holds(self, prefix: bytes) -> bool:
        for table in METADATA.sorted_tables:
            columns = [each for each in table.columns if isinstance(each.type, LargeBinary)]
            if columns:
                begins = or_(*(sql.substr(each, 1, len(prefix)) == prefix for each in columns))
                if await read(self._reading, select(literal(1).label("found")).where(begins).limit(1)):
                    return True
        return False

    async def _reseal_table(self, sealed: _Sealed, prefix: bytes) -> int:
        keys = tuple(sealed.table.primary_key.columns)
        changed = update(sealed.table).where(*(each == bindparam(f"is_{each.name}") for each in keys))
        after: Sequence[Any] = ()
        count = 0

        async def work(connection: AsyncConnection) -> tuple[Sequence[Row], int]:
            others = [sealed.table.c[name] for name in sealed.columns]
            query = select(*keys, *others).where(or_(*(sql.substr(each, 1, len(prefix)) != prefix for each in others)))
            if after:
                query = query.where(tuple_(*keys) > tuple_(*(literal(each) for each in after)))
            found = [dict(row) for row in (await connection.execute(query.order_by(*keys).limit(_AT_ONCE))).mappings()]
            rows = [self._resealed(sealed, row, prefix) for row in found]
            if rows:
                values: Row = {name: bindparam(f"new_{name}") for name in sealed.columns}
                await connection.execute(changed.values(values), rows)
            return found, len(rows)

        while True:
            found, done = await self._write(work)
            count += done
            if not found:
                return count
            after = [found[-1][each.name] for each in keys]

    def _resealed(self, sealed: _Sealed, row: Row, prefix: bytes) -> Row:
        values: Row = {f"is_{each.name}": row[each.name] for each in sealed.table.primary_key.columns}
        for name in sealed.columns:
            value = row[name]
            if value is not None and not value.startswith(prefix):
                context = sealed.context(row, name)
                value = self._seal.seal(self._seal.unseal(value, context), context)
            values[f"new_{name}"] = value
        return values
