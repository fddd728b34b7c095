"""Runs scheduled jobs: finds their targets, works at a bounded number of them at once, keeps what came of it.

Every step is durable, so that a hub that starts again goes on where it stopped. A part is marked before its device is
called: what a method call came to when the hub stopped nobody knows, and it is not made twice.
"""

import asyncio
import logging
from typing import Final

import msgspec

from hubkeep.errors import HubError, StoreUnavailable, on_wire
from hubkeep.limits import Limits
from hubkeep.model import Job, JobPart, JobStatus, Json
from hubkeep.ports import Clock, JobStore

from .fleet_queries import FleetQueries
from .jobs import Jobs, Task, task_of
from .methods import Methods
from .twins import Twins

log = logging.getLogger(__name__)

_LOOK: Final = 1.0  # seconds between two looks at the hub's clock
_FORGET_EVERY: Final = 3600.0
_STOPPED: Final[Json] = {
    "code": "JobInterrupted",
    "description": "The hub stopped while the device was called: whether it did what it was asked is not known.",
}
_OUT_OF_TIME: Final[Json] = {"code": "JobTimedOut", "description": "The job's execution time was over."}


class JobRunner:
    """``run`` is one background task of the hub; each job that runs is another below it."""

    def __init__(
        self,
        store: JobStore,
        jobs: Jobs,
        queries: FleetQueries,
        methods: Methods,
        twins: Twins,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._store, self._queries, self._methods, self._twins = store, queries, methods, twins
        self._clock, self._limits = clock, limits
        self._running: dict[str, asyncio.Task[None]] = {}
        self._work = asyncio.Event()
        jobs.wake, jobs.stop = self._work.set, self._stop

    async def run(self) -> None:
        """Until it is cancelled. What fails in one job neither ends another nor this (L-R1)."""
        forget_at = self._clock.monotonic()
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await self._start(group)
                    if self._clock.monotonic() >= forget_at:
                        await self._store.forget(self._clock.now() - self._limits.job_history)
                        forget_at = self._clock.monotonic() + _FORGET_EVERY
                except HubError as error:
                    log.warning("jobs: %s", error.reason)
                except Exception:
                    log.exception("looking for jobs failed")
                try:
                    async with asyncio.timeout(_LOOK):
                        await self._work.wait()
                except TimeoutError:
                    pass
                self._work.clear()

    async def _start(self, group: asyncio.TaskGroup) -> None:
        for job in await self._store.due(self._clock.now(), self._limits.jobs_running):
            if len(self._running) >= self._limits.jobs_running:
                return
            if job.job_id not in self._running:
                self._running[job.job_id] = group.create_task(self._run_one(job), name=f"job {job.job_id}")

    def _stop(self, job_id: str) -> None:
        if (task := self._running.get(job_id)) is not None:
            task.cancel()

    async def _run_one(self, job: Job) -> None:
        try:
            status, failure = await self._outcome(job)
            await self._end(job, status, failure)
        except StoreUnavailable as error:
            log.warning("job %s waits: %s", job.job_id, error.reason)
            await asyncio.sleep(_LOOK)  # it is due still, and taken up again
        except Exception:
            log.exception("job %s could not be ended", job.job_id)
        finally:
            del self._running[job.job_id]
            self._work.set()

    async def _outcome(self, job: Job) -> tuple[JobStatus, str]:
        """Raises StoreUnavailable: the job goes on later."""
        try:
            await self._run_job(job)
        except StoreUnavailable:
            raise
        except HubError as error:
            return "failed", str(error)
        except Exception:
            log.exception("job %s failed", job.job_id)
            return "failed", "A fault of the hub ended the job."
        return "completed", ""

    async def _run_job(self, job: Job) -> None:
        if job.status == "running":
            await self._settle_interrupted(job)
        else:
            job = msgspec.structs.replace(job, status="running", begun=self._clock.now())
            if not await self._store.put(job):
                return  # cancelled meanwhile
        if not job.is_spread:
            async for targets in self._queries.matching(self._queries.parse_target(job.condition)):
                await self._store.spread(job.job_id, targets, self._clock.now())
            job = msgspec.structs.replace(job, is_spread=True)
            await self._store.put(job)
        await self._work_off(job)

    async def _settle_interrupted(self, job: Job) -> None:
        """Nobody is at work at parts that an earlier run took: a twin is updated again, a method not called again."""
        now = self._clock.now()
        part = JobPart(job_id="", device_id="", updated=now)
        if job.type == "scheduleDeviceMethod":
            part = JobPart(job_id="", device_id="", status="failed", ended=now, updated=now, error=_STOPPED)
        await self._store.settle(job.job_id, ("running",), part)

    async def _work_off(self, job: Job) -> None:
        task, deadline = task_of(job.type, job.task), job.begun + job.max_seconds
        at_work: set[asyncio.Task[JobPart]] = set()
        is_more = True
        try:
            while self._clock.now() < deadline:
                room = self._limits.job_parts_running - len(at_work)
                if is_more and room:
                    parts = await self._store.take(job.job_id, room, self._clock.now())
                    is_more = len(parts) == room
                    at_work |= {asyncio.create_task(self._do(task, each)) for each in parts}
                if not at_work:
                    return
                done, at_work = await asyncio.wait(at_work, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)
                await self._store.record([each.result() for each in done])
        finally:
            for each in at_work:
                each.cancel()
            await asyncio.gather(*at_work, return_exceptions=True)

    async def _do(self, task: Task, part: JobPart) -> JobPart:
        """Never raises: what fails at one device is that part's outcome."""
        answer: Json | None = None
        error: Json | None = None
        try:
            if task.call is None:
                await self._twins.update(
                    part.device_id, part.module_id, tags=task.tags, desired=task.desired, etag=task.etag
                )
            else:
                answered = await self._methods.invoke(
                    part.device_id,
                    part.module_id,
                    task.call,
                    response_seconds=task.response_seconds,
                    connect_seconds=task.connect_seconds,
                )
                answer = {"status": answered.status, "payload": msgspec.json.decode(answered.payload)}
        except HubError as refused:
            error = {"code": on_wire(refused).name, "description": str(refused)}
        except Exception as fault:
            log.exception("a job failed at %s", part.device_id)
            error = {"code": on_wire(fault).name, "description": "A fault of the hub."}
        now = self._clock.now()
        status = "completed" if error is None else "failed"
        return msgspec.structs.replace(part, status=status, ended=now, updated=now, answer=answer, error=error)

    async def _end(self, job: Job, status: JobStatus, failure: str) -> None:
        now = self._clock.now()
        part = JobPart(job_id="", device_id="", status="failed", ended=now, updated=now, error=_OUT_OF_TIME)
        await self._store.settle(job.job_id, ("pending", "running"), part)
        newest = await self._store.get(job.job_id)
        if newest is not None:
            await self._store.put(msgspec.structs.replace(newest, status=status, ended=now, failure=failure))
