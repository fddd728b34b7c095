"""Which people have which roles, in the registry's file."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import RoleAssignment

from .tables import ROLE_ASSIGNMENT
from .writer import Writer, read


class SqlRoles:
    """See ports.RoleStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def all(self) -> Sequence[RoleAssignment]:
        rows = await read(self._reading, select(ROLE_ASSIGNMENT).order_by(ROLE_ASSIGNMENT.c.name))
        return [RoleAssignment(**row) for row in rows]

    async def put(self, assignment: RoleAssignment) -> None:
        row = msgspec.structs.asdict(assignment)
        del row["is_fixed"]  # what is stored is none of the settings

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(ROLE_ASSIGNMENT).where(ROLE_ASSIGNMENT.c.name == assignment.name))
            await connection.execute(insert(ROLE_ASSIGNMENT).values(row))

        await self._write(work)

    async def remove(self, name: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(ROLE_ASSIGNMENT).where(ROLE_ASSIGNMENT.c.name == name))

        await self._write(work)
