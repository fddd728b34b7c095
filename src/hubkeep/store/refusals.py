"""The newest refusals on SQLite, for the operator's question why."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import (
    delete,
    insert,
    select,
)
from sqlalchemy import func as sql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import Refusal

from .tables import REFUSAL
from .writer import Writer, read


class SqlRefusals:
    """See ports.RefusalStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def add(self, refusals: Sequence[Refusal], keep: int) -> None:
        rows = [
            {**msgspec.structs.asdict(each), "presented": msgspec.json.encode(each.presented).decode()}
            for each in refusals
        ]

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(insert(REFUSAL), rows)
            newest = (await connection.execute(select(sql.max(REFUSAL.c.id)))).scalar_one()
            await connection.execute(delete(REFUSAL).where(REFUSAL.c.id <= newest - keep))

        if rows:
            await self._write(work, when_full=True)

    async def find(self, key: str, most: int) -> Sequence[Refusal]:
        query = select(REFUSAL).order_by(REFUSAL.c.id.desc()).limit(most)
        if key:
            query = query.where((REFUSAL.c.tracking_id == key) | (REFUSAL.c.identity == key))
        found = []
        for row in await read(self._reading, query):
            values = {name: row[name] for name in Refusal.__struct_fields__ if name != "presented"}
            found.append(Refusal(**values, presented=msgspec.json.decode(row["presented"])))
        return found
