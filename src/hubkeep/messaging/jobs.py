"""Scheduled jobs: a method call or a twin update at each device that meets a condition. Source: service-protocols 2.10.

Here they are made, shown and cancelled; ``job_runner`` runs them.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, get_args

import msgspec

from hubkeep.errors import BadRequest, JobNotFound
from hubkeep.limits import Limits
from hubkeep.model import JOB_ENDED, Job, JobCounts, JobPart, JobStatus, JobType, Json, MethodCall
from hubkeep.ports import Clock, JobStore

from .fleet_queries import FleetQueries
from .methods import Methods
from .twin_sections import checked

_OTHER_TYPES: Final = (
    *("unknown", "export", "import", "backup", "readDeviceProperties", "writeDeviceProperties"),
    *("updateDeviceConfiguration", "rebootDevice", "factoryResetDevice", "firmwareUpdate", "restoreFromBackup"),
    "failoverDataCopy",
)
_OTHER_STATUSES: Final = ("unknown", "enqueued", "scheduled")
CANCELED: Final[Json] = {"code": "JobCancelled", "description": "The job was cancelled."}


class Task(msgspec.Struct, frozen=True):
    """What a job does at each of its targets. call: of a method; None for an update of a twin."""

    call: MethodCall | None = None
    response_seconds: int | None = None
    connect_seconds: int = 0
    tags: Any = None
    desired: Any = None
    etag: str = "*"


class _Method(msgspec.Struct):
    name: str = msgspec.field(name="methodName")
    payload: Any = None
    response_seconds: int | None = msgspec.field(default=None, name="responseTimeoutInSeconds")
    connect_seconds: int | None = msgspec.field(default=None, name="connectTimeoutInSeconds")


class _Properties(msgspec.Struct):
    desired: Any = None


class _TwinUpdate(msgspec.Struct):
    tags: Any = None
    properties: _Properties | None = None
    etag: str | None = None


class JobState(NamedTuple):
    job: Job
    counts: JobCounts


class JobPage(NamedTuple):
    """continuation: None on the last page."""

    jobs: Sequence[JobState]
    continuation: str | None


class Jobs:
    """wake, stop: the runner looks for work, and leaves a job alone; it puts itself there."""

    def __init__(self, store: JobStore, queries: FleetQueries, methods: Methods, clock: Clock, limits: Limits) -> None:
        self._store, self._queries, self._methods = store, queries, methods
        self._clock, self._limits = clock, limits
        self.wake: Callable[[], None] = lambda: None
        self.stop: Callable[[str], None] = lambda _job_id: None

    async def create(
        self,
        job_id: str,
        kind: JobType,
        task: Json,
        condition: str,
        *,
        start: float | None = None,
        max_seconds: int | None = None,
    ) -> JobState:
        """start: Unix seconds; None, or a time that is over: at once.

        Raises BadRequest, QueryInvalid, MessageTooLarge, JobAlreadyExists, TooManyJobs, StoreUnavailable.
        """
        limits, now = self._limits, self._clock.now()
        if not job_id or len(job_id) > limits.job_id or not job_id.isprintable():
            raise BadRequest(f"A jobId has 1 to {limits.job_id} characters.")
        seconds = limits.job_seconds if max_seconds is None else max_seconds
        if not 1 <= seconds <= limits.job_seconds_max:
            raise BadRequest(f"maxExecutionTimeInSeconds must be 1 to {limits.job_seconds_max}.")
        condition = condition.strip() or "*"
        self._queries.parse_target(condition)
        self._check(task_of(kind, task))
        job = Job(
            job_id=job_id,
            type=kind,
            task=task,
            condition=condition,
            created=now,
            start=max(now, start or 0.0),
            max_seconds=seconds,
        )
        await self._store.add(job, limits.jobs_active)
        self.wake()
        return JobState(job, JobCounts())

    async def get(self, job_id: str) -> JobState:
        """Raises JobNotFound."""
        job = await self._store.get(job_id)
        if job is None:
            raise JobNotFound
        return JobState(job, (await self._store.counts([job_id])).get(job_id, JobCounts()))

    async def list(self, *, kind: str = "", status: str = "", most: int, continuation: str = "") -> JobPage:
        """The newest first. Raises BadRequest for words that name no type or status."""
        kinds, statuses = get_args(JobType), get_args(JobStatus)
        if kind and kind not in {*kinds, *_OTHER_TYPES}:
            raise BadRequest("There is no such jobType.")
        if status and status not in {*statuses, *_OTHER_STATUSES}:
            raise BadRequest("There is no such jobStatus.")
        found = await self._store.list(
            types=(kind,) if kind else (),
            statuses=(status,) if status else (),
            after=_position(continuation) if continuation else None,
            most=most + 1,
        )
        page = found[:most]
        return JobPage(await self._with_counts(page), _continuation(page[-1]) if len(found) > most else None)

    async def cancel(self, job_id: str) -> JobState:
        """What has not begun at a device does not begin; one that has ended stays as it is. Raises JobNotFound."""
        job, _ = await self.get(job_id)
        now = self._clock.now()
        if job.status not in JOB_ENDED:
            await self._store.put(msgspec.structs.replace(job, status="cancelled", ended=now))
            self.stop(job_id)  # before the parts are settled: what it was writing is written by then
            part = JobPart(job_id="", device_id="", status="canceled", ended=now, updated=now, error=CANCELED)
            await self._store.settle(job_id, ("pending", "running"), part)
        return await self.get(job_id)

    async def _with_counts(self, jobs: Sequence[Job]) -> Sequence[JobState]:
        counts = await self._store.counts([each.job_id for each in jobs])
        return [JobState(each, counts.get(each.job_id, JobCounts())) for each in jobs]

    def _check(self, task: Task) -> None:
        if task.call is not None:
            self._methods.check(task.call, task.response_seconds, task.connect_seconds)
            return
        if task.tags is None and task.desired is None:
            raise BadRequest("updateTwin has neither tags nor desired properties.")
        for name, value in (("tags", task.tags), ("desired", task.desired)):
            if value is not None:
                checked(name, value, self._limits)


def task_of(kind: JobType, task: Json) -> Task:
    """Raises BadRequest."""
    try:
        if kind == "scheduleDeviceMethod":
            method = msgspec.convert(task, _Method)
            call = MethodCall(method.name, msgspec.json.encode(method.payload))
            return Task(call, method.response_seconds, method.connect_seconds or 0)
        update = msgspec.convert(task, _TwinUpdate)
    except msgspec.ValidationError as error:
        raise BadRequest("What the job is to do is not valid.", reason=str(error)) from None
    properties = update.properties or _Properties()
    return Task(tags=update.tags, desired=properties.desired, etag=(update.etag or "").strip('"') or "*")


def _continuation(job: Job) -> str:
    return urlsafe_b64encode(msgspec.json.encode((job.created, job.job_id))).decode().rstrip("=")


def _position(continuation: str) -> tuple[float, str]:
    try:
        raw = urlsafe_b64decode(continuation + "=" * (-len(continuation) % 4))
        return msgspec.json.decode(raw, type=tuple[float, str])
    except ValueError:  # of base64, of JSON
        raise BadRequest("The continuation token is not valid.") from None
