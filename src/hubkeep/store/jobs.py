"""Scheduled jobs in the registry's file."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import and_, delete, func, insert, or_, select, tuple_, update
from sqlalchemy import bindparam as bind
from sqlalchemy.dialects.sqlite import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.errors import JobAlreadyExists, TooManyJobs
from hubkeep.model import JOB_ENDED, Job, JobCounts, JobPart, PartStatus

from .outbox import SqlOutbox
from .tables import JOB, JOB_PART
from .writer import Row, Writer, read

_IS_ACTIVE: Final = JOB.c.status.in_(("queued", "running"))
_ENDED: Final = tuple(JOB_ENDED)
_PART_KEY: Final = (JOB_PART.c.job_id, JOB_PART.c.device_id, JOB_PART.c.module_id)
_PART_STATE: Final = ("status", "started", "ended", "updated", "answer", "error")
_TOLD_AT_ONCE: Final = 300  # parts of one statement
_RECORD: Final = (
    update(JOB_PART)
    .where(
        JOB_PART.c.job_id == bind("of_job"),
        JOB_PART.c.device_id == bind("of_device"),
        JOB_PART.c.module_id == bind("of_module"),
        JOB_PART.c.status == "running",
    )
    .values({name: bind(name) for name in _PART_STATE})
)


class SqlJobs:
    """See ports.JobStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine, outbox: SqlOutbox) -> None:
        self._write, self._reading, self._outbox = writer, reading, outbox

    async def add(self, job: Job, most: int) -> None:
        async def work(connection: AsyncConnection) -> None:
            there = await connection.execute(select(JOB.c.job_id).where(JOB.c.job_id == job.job_id))
            if there.first() is not None:
                raise JobAlreadyExists
            active = await connection.execute(select(func.count()).select_from(JOB).where(_IS_ACTIVE))
            if active.scalar_one() >= most:
                raise TooManyJobs(reason=f"{most} jobs wait or run", remedy="cancel some, or wait for their end")
            await connection.execute(insert(JOB).values(_job_row(job)))

        await self._write(work)

    async def get(self, job_id: str) -> Job | None:
        rows = await read(self._reading, select(JOB).where(JOB.c.job_id == job_id))
        return _job(rows[0]) if rows else None

    async def put(self, job: Job) -> bool:
        change = update(JOB).where(JOB.c.job_id == job.job_id, JOB.c.status.not_in(_ENDED)).values(_job_row(job))

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(change)).rowcount == 1

        return await self._write(work, when_full=True)

    async def list(
        self, *, types: Sequence[str], statuses: Sequence[str], after: tuple[float, str] | None, most: int
    ) -> Sequence[Job]:
        query = select(JOB).order_by(JOB.c.created.desc(), JOB.c.job_id.desc()).limit(most)
        if types:
            query = query.where(JOB.c.type.in_(types))
        if statuses:
            query = query.where(JOB.c.status.in_(statuses))
        if after is not None:
            query = query.where(tuple_(JOB.c.created, JOB.c.job_id) < tuple_(*after))
        return [_job(row) for row in await read(self._reading, query)]

    async def due(self, now: float, most: int) -> Sequence[Job]:
        may_begin = and_(JOB.c.status == "queued", JOB.c.start <= now)
        query = select(JOB).where(or_(JOB.c.status == "running", may_begin))
        rows = await read(self._reading, query.order_by(JOB.c.status.desc(), JOB.c.start, JOB.c.created).limit(most))
        return [_job(row) for row in rows]

    async def counts(self, job_ids: Sequence[str]) -> Mapping[str, JobCounts]:
        column = JOB_PART.c
        query = select(column.job_id, column.status, func.count().label("count"))
        query = query.where(column.job_id.in_(job_ids)).group_by(column.job_id, column.status)
        found: dict[str, JobCounts] = {}
        for row in await read(self._reading, query):
            before = found.get(row["job_id"], JobCounts())
            found[row["job_id"]] = before._replace(**{row["status"]: row["count"]})
        return found

    async def spread(self, job_id: str, targets: Sequence[tuple[str, str]], now: float) -> None:
        parts = [JobPart(job_id=job_id, device_id=device, module_id=module, updated=now) for device, module in targets]

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(insert_or(JOB_PART).on_conflict_do_nothing(), [_part_row(each) for each in parts])

        if parts:
            await self._write(work)

    async def take(self, job_id: str, most: int, now: float) -> Sequence[JobPart]:
        pending = select(JOB_PART).where(JOB_PART.c.job_id == job_id, JOB_PART.c.status == "pending").limit(most)

        async def work(connection: AsyncConnection) -> Sequence[JobPart]:
            rows = (await connection.execute(pending)).mappings().all()
            change = {"status": "running", "started": now, "updated": now}
            if rows:
                keys = [(row["job_id"], row["device_id"], row["module_id"]) for row in rows]
                await connection.execute(update(JOB_PART).where(tuple_(*_PART_KEY).in_(keys)).values(change))
            parts = [_part({**row, **change}) for row in rows]
            await self._tell(connection, parts)
            return parts

        return await self._write(work)

    async def record(self, parts: Sequence[JobPart]) -> None:
        rows = [
            {
                "of_job": each.job_id,
                "of_device": each.device_id,
                "of_module": each.module_id,
                **_part_state(each),
            }
            for each in parts
        ]

        async def work(connection: AsyncConnection) -> None:
            if self._is_told:
                keys = [(each.job_id, each.device_id, each.module_id) for each in parts]
                query = select(*_PART_KEY).where(tuple_(*_PART_KEY).in_(keys), JOB_PART.c.status == "running")
                running = {tuple(row) for row in await connection.execute(query)}
                await self._tell(connection, [each for key, each in zip(keys, parts, strict=True) if key in running])
            await connection.execute(_RECORD, rows)

        if rows:
            await self._write(work, when_full=True)

    async def settle(self, job_id: str, statuses: Sequence[PartStatus], part: JobPart) -> None:
        state = {name: value for name, value in _part_state(part).items() if name != "started"}
        those = and_(JOB_PART.c.job_id == job_id, JOB_PART.c.status.in_(statuses))

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(update(JOB_PART).where(those).values(state))

        async def work_some(connection: AsyncConnection) -> bool:
            """Some of them, each told of. Whether there were as many as that."""
            rows = (await connection.execute(select(JOB_PART).where(those).limit(_TOLD_AT_ONCE))).mappings().all()
            parts = [_part({**row, **state}) for row in rows]
            keys = [(each.job_id, each.device_id, each.module_id) for each in parts]
            await connection.execute(update(JOB_PART).where(tuple_(*_PART_KEY).in_(keys)).values(state))
            await self._tell(connection, parts)
            return len(rows) == _TOLD_AT_ONCE

        if not self._is_told:
            await self._write(work, when_full=True)
            return
        while await self._write(work_some, when_full=True):
            pass

    @property
    def _is_told(self) -> bool:
        return self._outbox.tells.wants("deviceJobLifecycleEvents")

    async def _tell(self, connection: AsyncConnection, parts: Sequence[JobPart]) -> None:
        """Tell of parts as they are now."""
        if parts and self._is_told:
            query = select(JOB).where(JOB.c.job_id.in_({each.job_id for each in parts}))
            jobs = {row["job_id"]: _job(dict(row)) for row in (await connection.execute(query)).mappings()}
            told = [(jobs[each.job_id], each) for each in parts if each.job_id in jobs]
            await self._outbox.put(connection, self._outbox.tells.job_parts_changed(told))

    async def parts(
        self, *, job_ids: Sequence[str], device_ids: Sequence[str], after: tuple[str, str, str], most: int
    ) -> Sequence[tuple[Job, JobPart]]:
        query = select(JOB_PART).where(tuple_(*_PART_KEY) > tuple_(*after)).order_by(*_PART_KEY).limit(most)
        if job_ids:
            query = query.where(JOB_PART.c.job_id.in_(job_ids))
        if device_ids:
            query = query.where(JOB_PART.c.device_id.in_(device_ids))
        parts = [_part(row) for row in await read(self._reading, query)]
        of_jobs = select(JOB).where(JOB.c.job_id.in_({each.job_id for each in parts}))
        jobs = {row["job_id"]: _job(row) for row in await read(self._reading, of_jobs)}
        return [(jobs[each.job_id], each) for each in parts if each.job_id in jobs]

    async def forget(self, ended_before: float) -> None:
        is_old = and_(JOB.c.status.in_(_ENDED), JOB.c.ended < ended_before)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(JOB).where(is_old))  # their parts go with them

        if await read(self._reading, select(JOB.c.job_id).where(is_old).limit(1)):
            await self._write(work, when_full=True)


def _job_row(job: Job) -> Row:
    return {**msgspec.structs.asdict(job), "task": _text(job.task)}


def _job(row: Row) -> Job:
    return Job(**{**row, "task": msgspec.json.decode(row["task"]), "is_spread": bool(row["is_spread"])})


def _part_row(part: JobPart) -> Row:
    return {**msgspec.structs.asdict(part), **_part_state(part)}


def _part_state(part: JobPart) -> Row:
    state = {name: getattr(part, name) for name in _PART_STATE}
    for name in ("answer", "error"):
        state[name] = None if state[name] is None else _text(state[name])
    return state


def _part(row: Any) -> JobPart:
    values = dict(row)
    for name in ("answer", "error"):
        values[name] = None if values[name] is None else msgspec.json.decode(values[name])
    return JobPart(**values)


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
