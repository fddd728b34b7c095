"""The service REST surface of scheduled jobs. Source: service-protocols 2.10."""

import datetime as dt
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Final, get_args

import msgspec
from aiohttp import web

from hubkeep.device.transfers import Transfers
from hubkeep.errors import BadRequest, JobNotFound
from hubkeep.limits import HTTP_SERVICE_BODY, JOB_SECONDS_MAX, QUERY_TEXT
from hubkeep.messaging.job_documents import TASKS, job_document, unknown_document
from hubkeep.messaging.jobs import Jobs, JobState
from hubkeep.model import JobType

from .answers import json_answer
from .bodies import documented, json_as
from .exchange import Endpoint, Exchange
from .queries import CONTINUATION, page_size

_ITEM_TYPE: Final = "jobResponse"


class JobBody(msgspec.Struct, frozen=True, rename="camel"):
    """What a back end may say; everything else of a job is the hub's own."""

    type: Annotated[str, documented(enum=list(get_args(JobType)))]
    job_id: str | None = None
    cloud_to_device_method: dict[str, Any] | None = None
    update_twin: dict[str, Any] | None = None
    query_condition: Annotated[str, documented(maxLength=QUERY_TEXT.value)] | None = None
    start_time: Annotated[str, documented(description="ISO 8601; at once if it is left out or over.")] | None = None
    max_execution_time_in_seconds: Annotated[int, documented(minimum=1, maximum=JOB_SECONDS_MAX.value)] | None = None


class JobSurface:
    """settle: see ServiceSurface."""

    def __init__(self, jobs: Jobs, transfers: Transfers, settle: Callable[[], Awaitable[None]]) -> None:
        self._jobs, self._transfers, self._settle = jobs, transfers, settle

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("jobs/create", self.create, "service"),
            Endpoint("jobs/get", self.get, "service"),
            Endpoint("jobs/list", self.list, "service"),
            Endpoint("jobs/cancel", self.cancel, "service"),
        )

    async def create(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /jobs/v2/{id}"""
        job_id = exchange.values["job"]
        body = json_as(JobBody, await exchange.body(HTTP_SERVICE_BODY.value))
        if body.job_id is not None and body.job_id != job_id:
            raise BadRequest("The jobId of the body is not the one of the address.")
        kinds: dict[str, JobType] = {kind: kind for kind in get_args(JobType)}
        kind = kinds.get(body.type)
        if kind is None:
            raise BadRequest(f"The type of a job is one of {', '.join(kinds)}.")
        task = body.cloud_to_device_method if kind == "scheduleDeviceMethod" else body.update_twin
        if task is None:
            raise BadRequest(f"A job of this type has {TASKS[kind]}.")
        await self._settle()  # a condition may name the state of connections
        return _answer(
            await self._jobs.create(
                job_id,
                kind,
                task,
                body.query_condition or "",
                start=_seconds(body.start_time),
                max_seconds=body.max_execution_time_in_seconds,
            )
        )

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """GET /jobs/v2/{id}: an import or export job is unknown here, and no refusal (service-protocols 2.10)."""
        job_id = exchange.values["job"]
        try:
            return _answer(await self._jobs.get(job_id))
        except JobNotFound:
            await self._transfers.get(job_id)
            return json_answer(unknown_document(job_id))

    async def cancel(self, exchange: Exchange) -> web.StreamResponse:
        """POST /jobs/v2/{id}/cancel"""
        return _answer(await self._jobs.cancel(exchange.values["job"]))

    async def list(self, exchange: Exchange) -> web.StreamResponse:
        """GET /jobs/v2/query: an array, the newest first; the header says whether there is another page."""
        page = await self._jobs.list(
            kind=exchange.query.get("jobtype", ""),
            status=exchange.query.get("jobstatus", ""),
            most=page_size(exchange),
            continuation=exchange.request.headers.get(CONTINUATION, ""),
        )
        answer = json_answer([job_document(*each) for each in page.jobs])
        answer.headers["x-ms-item-type"] = _ITEM_TYPE
        if page.continuation is not None:
            answer.headers[CONTINUATION] = page.continuation
        return answer


def _answer(state: JobState) -> web.Response:
    return json_answer(job_document(*state))


def _seconds(text: str | None) -> float | None:
    """Unix seconds of an ISO 8601 time, UTC where it names no zone. Raises BadRequest."""
    if not text:
        return None
    try:
        time = dt.datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, OverflowError):
        raise BadRequest("startTime is not a time in ISO 8601.") from None
