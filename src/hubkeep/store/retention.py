"""What the event log retains, as it was chosen while the hub ran, in the registry's file."""

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import RetentionChange

from .tables import RETENTION
from .writer import Writer, read


class SqlRetention:
    """See ports.RetentionStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def get(self) -> RetentionChange:
        rows = await read(self._reading, select(RETENTION))
        return RetentionChange(rows[0]["hours"], rows[0]["size"]) if rows else RetentionChange()

    async def put(self, chosen: RetentionChange) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(RETENTION))
            await connection.execute(insert(RETENTION).values(chosen._asdict()))

        await self._write(work, when_full=True)  # it is how room is made
