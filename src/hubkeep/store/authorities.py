"""Certificate authorities in the registry's file. Certificates are public: nothing is sealed; keys lie elsewhere."""

import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import Authority

from .tables import AUTHORITY, AUTHORITY_USE
from .writer import Row, Writer, read, unavailable

_LAST_USE: Final = "SELECT last_used FROM authority_use WHERE authority = ? AND device_id = ? AND module_id = ?"


class SqlAuthorities:
    """See ports.AuthorityStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine, look_up: sqlite3.Connection) -> None:
        self._write, self._reading, self._look_up = writer, reading, look_up

    async def all(self) -> Sequence[Authority]:
        return [_authority(row) for row in await read(self._reading, select(AUTHORITY).order_by(AUTHORITY.c.name))]

    async def put(self, authority: Authority) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(AUTHORITY).where(AUTHORITY.c.name == authority.name))
            await connection.execute(insert(AUTHORITY).values(_row(authority)))

        await self._write(work)

    async def remove(self, name: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(AUTHORITY).where(AUTHORITY.c.name == name))
            await connection.execute(delete(AUTHORITY_USE).where(AUTHORITY_USE.c.authority == name))

        await self._write(work, when_full=True)
        await self._write(work)

    async def last_use(self, name: str, device_id: str, module_id: str) -> float:
        try:
            row = self._look_up.execute(_LAST_USE, (name, device_id, module_id)).fetchone()
        except sqlite3.Error as error:
            raise unavailable(error, "read") from None
        return float(row[0]) if row else 0.0

    async def used_since(self, name: str, since: float) -> int:
        uses = AUTHORITY_USE.c
        query = select(func.count().label("count")).where(uses.authority == name, uses.last_used >= since)
        return int((await read(self._reading, query))[0]["count"])


def read_authorities(registry: Path) -> Sequence[Authority]:
    """Those of a registry that nobody need be serving. Raises sqlite3.Error: no registry, or of another version."""
    connection = sqlite3.connect(f"{registry.absolute().as_uri()}?mode=ro", uri=True)
    try:
        connection.row_factory = sqlite3.Row
        return [_authority(dict(row)) for row in connection.execute("SELECT * FROM authority ORDER BY name")]
    finally:
        connection.close()


def _row(authority: Authority) -> Row:
    row = msgspec.structs.asdict(authority)
    row["chain"] = msgspec.json.encode([b64encode(each).decode() for each in authority.chain]).decode()
    row["allowed_ids"] = msgspec.json.encode(authority.allowed_ids).decode()
    return row


def _authority(row: Row) -> Authority:
    row["chain"] = tuple(b64decode(each) for each in msgspec.json.decode(row["chain"]))
    row["allowed_ids"] = tuple(msgspec.json.decode(row["allowed_ids"]))
    row["vouched"], row["manual_approval"] = bool(row["vouched"]), bool(row["manual_approval"])
    return Authority(**row)
