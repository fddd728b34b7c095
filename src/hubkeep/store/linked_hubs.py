"""Other hubs that devices are assigned to, in the registry's file. What opens them is sealed."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import LinkedHub
from hubkeep.ports import Seal

from .tables import LINKED_HUB
from .writer import Writer, read


class SqlLinkedHubs:
    """See ports.LinkedHubStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine, seal: Seal) -> None:
        self._write, self._reading, self._seal = writer, reading, seal

    async def all(self) -> Sequence[LinkedHub]:
        rows = await read(self._reading, select(LINKED_HUB).order_by(LINKED_HUB.c.name))
        return [
            LinkedHub(
                name=row["name"],
                host_name=row["host_name"],
                weight=row["weight"],
                applies=bool(row["applies"]),
                connection=self._seal.unseal(row["connection"], linked_hub_context(row["name"])).decode(),
            )
            for row in rows
        ]

    async def put(self, hub: LinkedHub) -> None:
        values = {
            "host_name": hub.host_name,
            "weight": hub.weight,
            "applies": hub.applies,
            "connection": self._seal.seal(hub.connection.encode(), linked_hub_context(hub.name)),
        }
        statement = insert_or(LINKED_HUB).values(name=hub.name, **values)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))

        await self._write(work)

    async def remove(self, name: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(LINKED_HUB).where(LINKED_HUB.c.name == name))

        await self._write(work, when_full=True)


def linked_hub_context(name: str) -> str:
    return f"linked-hub/{name}/connection"
