"""Event sources that were switched on while the hub ran, in the registry's file."""

from collections.abc import Sequence

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import EventSource

from .tables import EVENT_SOURCE
from .writer import Writer, read


class SqlEventSources:
    """See ports.EventSourceStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def all(self) -> Sequence[str]:
        return [row["source"] for row in await read(self._reading, select(EVENT_SOURCE))]

    async def put(self, source: EventSource, *, is_on: bool) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(EVENT_SOURCE).where(EVENT_SOURCE.c.source == source))
            if is_on:
                await connection.execute(insert(EVENT_SOURCE).values(source=source))

        await self._write(work)
