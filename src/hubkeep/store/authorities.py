"""Registered certificate authorities in the registry's file. Certificates are public: nothing is sealed."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import Authority

from .tables import AUTHORITY
from .writer import Writer, read


class SqlAuthorities:
    """See ports.AuthorityStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def all(self) -> Sequence[Authority]:
        return [Authority(**row) for row in await read(self._reading, select(AUTHORITY).order_by(AUTHORITY.c.name))]

    async def put(self, authority: Authority) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(AUTHORITY).where(AUTHORITY.c.name == authority.name))
            await connection.execute(insert(AUTHORITY).values(msgspec.structs.asdict(authority)))

        await self._write(work)

    async def remove(self, name: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(AUTHORITY).where(AUTHORITY.c.name == name))

        await self._write(work, when_full=True)
