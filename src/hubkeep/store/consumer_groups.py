"""Consumer groups in the registry's file."""

from collections.abc import Sequence

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import ConsumerGroup

from .tables import CONSUMER_GROUP
from .writer import Writer, read


class SqlConsumerGroups:
    """See ports.ConsumerGroupStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def all(self) -> Sequence[ConsumerGroup]:
        return [ConsumerGroup(**row) for row in await read(self._reading, select(CONSUMER_GROUP))]

    async def add(self, group: ConsumerGroup) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(insert(CONSUMER_GROUP).values(name=group.name, created=group.created))

        await self._write(work)

    async def remove(self, name: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(CONSUMER_GROUP).where(CONSUMER_GROUP.c.name == name))

        await self._write(work, when_full=True)
