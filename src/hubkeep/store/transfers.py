"""Import and export jobs in the registry's file."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.errors import JobQuotaExceeded
from hubkeep.model import TRANSFER_ENDED, TransferJob
from hubkeep.ports import Seal

from .tables import TRANSFER_JOB
from .writer import Row, Writer, read

_ENDED: Final = tuple(TRANSFER_ENDED)
_HAS_ENDED: Final = TRANSFER_JOB.c.status.in_(_ENDED)
_SEALED: Final = ("input_url", "output_url")
_TRUTHS: Final = ("with_keys", "with_configurations")


class SqlTransfers:
    """See ports.TransferStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine, seal: Seal) -> None:
        self._write, self._reading, self._seal = writer, reading, seal

    async def add(self, job: TransferJob) -> None:
        row = self._row(job)
        active = select(func.count()).select_from(TRANSFER_JOB).where(~_HAS_ENDED)

        async def work(connection: AsyncConnection) -> None:
            if (await connection.execute(active)).scalar_one():
                raise JobQuotaExceeded(remedy="wait for its end, or cancel it: DELETE /jobs/{id}")
            await connection.execute(insert(TRANSFER_JOB).values(row))

        await self._write(work)

    async def get(self, job_id: str) -> TransferJob | None:
        return await self._one(select(TRANSFER_JOB).where(TRANSFER_JOB.c.job_id == job_id))

    async def list(self, most: int) -> Sequence[TransferJob]:
        newest = select(TRANSFER_JOB).order_by(TRANSFER_JOB.c.created.desc(), TRANSFER_JOB.c.job_id).limit(most)
        return [self._job(row) for row in await read(self._reading, newest)]

    async def active(self) -> TransferJob | None:
        return await self._one(select(TRANSFER_JOB).where(~_HAS_ENDED))

    async def put(self, job: TransferJob) -> bool:
        change = update(TRANSFER_JOB).where(TRANSFER_JOB.c.job_id == job.job_id, ~_HAS_ENDED).values(self._row(job))

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(change)).rowcount == 1

        return await self._write(work, when_full=True)

    async def forget(self, ended_before: float) -> None:
        is_old = and_(_HAS_ENDED, TRANSFER_JOB.c.ended < ended_before)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(TRANSFER_JOB).where(is_old))

        if await self._one(select(TRANSFER_JOB).where(is_old).limit(1)) is not None:
            await self._write(work, when_full=True)

    async def _one(self, query: Any) -> TransferJob | None:
        rows = await read(self._reading, query)
        return self._job(rows[0]) if rows else None

    def _row(self, job: TransferJob) -> Row:
        row = msgspec.structs.asdict(job)
        return row | {name: self._seal.seal(row[name].encode(), transfer_context(job.job_id, name)) for name in _SEALED}

    def _job(self, row: Row) -> TransferJob:
        urls = {name: self._seal.unseal(row[name], transfer_context(row["job_id"], name)).decode() for name in _SEALED}
        return TransferJob(**{**row, **urls, **{name: bool(row[name]) for name in _TRUTHS}})


def transfer_context(job_id: str, name: str) -> str:
    return f"transfer_job/{job_id}/{name}"
