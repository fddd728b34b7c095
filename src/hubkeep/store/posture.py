"""What is kept of posture reports, in the registry's file."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy import func as sql
from sqlalchemy.dialects.sqlite import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import PostureRun, RightUse, Waiver

from .tables import POSTURE_FACT, POSTURE_RUN, POSTURE_WAIVER, RIGHT_USE
from .writer import Writer, read

_RECORD_RIGHT: Final = """
    INSERT INTO right_use (policy, "right", is_own, last_used) VALUES (?, ?, ?, ?)
    ON CONFLICT (policy, "right", is_own) DO UPDATE SET last_used = max(last_used, excluded.last_used)
"""


class SqlPosture:
    """See ports.PostureStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def keep_run(self, run: PostureRun, keep: int) -> None:
        async def work(connection: AsyncConnection) -> None:
            content = msgspec.msgpack.encode(run)
            await connection.execute(insert(POSTURE_RUN).values(at=run.at, content=content))
            newest = (await connection.execute(select(sql.max(POSTURE_RUN.c.number)))).scalar_one()
            await connection.execute(delete(POSTURE_RUN).where(POSTURE_RUN.c.number <= newest - keep))

        await self._write(work, when_full=True)

    async def runs(self, most: int) -> Sequence[PostureRun]:
        newest = select(POSTURE_RUN.c.content).order_by(POSTURE_RUN.c.number.desc()).limit(most)
        return [msgspec.msgpack.decode(row["content"], type=PostureRun) for row in await read(self._reading, newest)]

    async def waivers(self) -> Mapping[str, Waiver]:
        rows = await read(self._reading, select(POSTURE_WAIVER))
        return {row["check"]: msgspec.msgpack.decode(row["content"], type=Waiver) for row in rows}

    async def put_waiver(self, waiver: Waiver) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(POSTURE_WAIVER).where(POSTURE_WAIVER.c.check == waiver.check))
            content = msgspec.msgpack.encode(waiver)
            await connection.execute(insert(POSTURE_WAIVER).values(check=waiver.check, content=content))

        await self._write(work, when_full=True)

    async def remove_waiver(self, check: str) -> bool:
        async def work(connection: AsyncConnection) -> bool:
            gone = await connection.execute(delete(POSTURE_WAIVER).where(POSTURE_WAIVER.c.check == check))
            return bool(gone.rowcount)

        return await self._write(work, when_full=True)

    async def facts(self) -> Mapping[str, float]:
        return {row["name"]: row["at"] for row in await read(self._reading, select(POSTURE_FACT))}

    async def put_fact(self, name: str, at: float) -> None:
        put = insert_or(POSTURE_FACT).values(name=name, at=at)
        put = put.on_conflict_do_update(index_elements=[POSTURE_FACT.c.name], set_={"at": at})

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(put)

        await self._write(work, when_full=True)

    async def right_uses(self) -> Sequence[RightUse]:
        rows = await read(self._reading, select(RIGHT_USE))
        return [RightUse(row["policy"], row["right"], row["last_used"], bool(row["is_own"])) for row in rows]

    async def record_rights(self, uses: Sequence[RightUse]) -> None:
        rows = [(each.policy, each.right, each.is_own, each.last_used) for each in uses]

        async def work(connection: AsyncConnection) -> None:
            await connection.exec_driver_sql(_RECORD_RIGHT, rows)

        await self._write(work, when_full=True)
