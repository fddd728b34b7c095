"""Replays in the registry's database. See ports.ReplayStore."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy import func as sql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import Replay

from .tables import REPLAY
from .writer import Writer, read


class SqlReplays:
    """See ports.ReplayStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def add(self, replays: Sequence[Replay], keep: int) -> None:
        rows = [msgspec.structs.asdict(each) for each in replays]

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(insert(REPLAY), rows)
            newest = (await connection.execute(select(sql.max(REPLAY.c.id)))).scalar_one()
            await connection.execute(delete(REPLAY).where(REPLAY.c.id <= newest - keep))

        await self._write(work)

    async def find(self, identity: str, most: int) -> Sequence[Replay]:
        query = select(REPLAY).order_by(REPLAY.c.id.desc()).limit(most)
        if identity:
            query = query.where(REPLAY.c.identity == identity)
        rows = await read(self._reading, query)
        return [Replay(**{name: row[name] for name in Replay.__struct_fields__}) for row in rows]
