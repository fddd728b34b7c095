"""``hubkeep job ...``: method calls and twin updates at every device that meets a condition."""

import time
from collections.abc import Sequence
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .client import HubClient
from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import err, print_fields, print_json, print_list, print_table
from .query import rows_of
from .twins import ConnectOption, PayloadOption, SetOption, TagOption, TimeoutOption, json_payload, patch_of

app = typer.Typer(
    no_args_is_help=True, help="Method calls and twin updates at many devices: create, list, show, cancel."
)

_ENDED: Final = ("completed", "failed", "cancelled")
_LOOK_SECONDS: Final = 0.5
_PAGE: Final = 100

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id; one that no other job has.")]
WhereOption = Annotated[
    str, typer.Option("--where", metavar="CONDITION", help="Which devices, as behind WHERE in a query; * for all.")
]
StartOption = Annotated[str | None, typer.Option(metavar="TIME", help="When, in ISO 8601; at once if not given.")]
SecondsOption = Annotated[int, typer.Option("--max-seconds", min=1, help="What is not done by then is given up.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Show the progress, and wait for the end.")]


@app.command("create-method")
def create_method(
    job_id: JobArgument,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="The method's name.")],
    where: WhereOption,
    payload: PayloadOption = None,
    timeout: TimeoutOption = 30,
    connect_timeout: ConnectOption = 0,
    start: StartOption = None,
    max_seconds: SecondsOption = 3600,
    wait: WaitOption = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Call a direct method of every device that meets a condition."""
    call: dict[str, Any] = {
        "methodName": method,
        "responseTimeoutInSeconds": timeout,
        "connectTimeoutInSeconds": connect_timeout,
    }
    if payload is not None:
        call["payload"] = json_payload(payload)
    body = _job(job_id, "scheduleDeviceMethod", where, start, max_seconds) | {"cloudToDeviceMethod": call}
    with client_of(data, connection_string) as client:
        _create(client, body, wait=wait, as_json=as_json)


@app.command("create-twin")
def create_twin(
    job_id: JobArgument,
    where: WhereOption,
    changes: SetOption = None,
    tags: TagOption = None,
    start: StartOption = None,
    max_seconds: SecondsOption = 3600,
    wait: WaitOption = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change desired properties or tags of every device that meets a condition."""
    patch = patch_of([*(changes or []), *(f"tags.{each}" for each in tags or [])])
    if not patch:
        raise CommandFailure("nothing is to be changed", "--set desired.interval=5, or --tag site=hall-3", MISUSED)
    body = _job(job_id, "scheduleUpdateTwin", where, start, max_seconds) | {"updateTwin": {"etag": "*", **patch}}
    with client_of(data, connection_string) as client:
        _create(client, body, wait=wait, as_json=as_json)


@app.command("list")
def list_jobs(
    status: Annotated[str, typer.Option(help="queued, running, completed, failed or cancelled alone.")] = "",
    top: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = _PAGE,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Jobs, the newest first."""
    with client_of(data, connection_string) as client:
        jobs = client.get_page("/jobs/v2/query", top, jobStatus=status or None)
    rows = ((each["jobId"], each["type"], each["status"], _progress(each), each["startTime"][:19]) for each in jobs)
    print_list(
        jobs,
        ("job", "type", "status", "progress", "start"),
        rows,
        none="no jobs: hubkeep job create-twin JOB --where CONDITION --set desired.interval=5",
        as_json=as_json,
    )


@app.command()
def show(
    job_id: JobArgument,
    devices: Annotated[bool, typer.Option("--devices", help="What became of it at each device.")] = False,
    wait: WaitOption = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """One job, and how far it is."""
    with client_of(data, connection_string) as client:
        job = client.get(_path(job_id))
        if wait:
            job = _wait(client, job)
        parts = _parts(client, job_id) if devices else []
    if as_json:
        print_json({**job, "devices": parts} if devices else job)
        return
    _print(job)
    if devices:
        rows = ((_name(each), each["status"], _outcome(each)) for each in parts)
        print_table(("device", "status", "outcome"), rows)


@app.command()
def cancel(
    job_id: JobArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel a job: where it has not begun, it does not begin."""
    with client_of(data, connection_string) as client:
        job = client.request("POST", f"{_path(job_id)}/cancel")
    if as_json:
        print_json(job)
    else:
        _print(job)


def _create(client: HubClient, body: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    job = client.request("PUT", _path(body["jobId"]), body=body)
    if wait:
        job = _wait(client, job)
    if as_json:
        print_json(job)
    else:
        _print(job)


def _job(job_id: str, kind: str, where: str, start: str | None, max_seconds: int) -> dict[str, Any]:
    return {
        "jobId": job_id,
        "type": kind,
        "queryCondition": where,
        "startTime": start,
        "maxExecutionTimeInSeconds": max_seconds,
    }


def _wait(client: HubClient, job: dict[str, Any]) -> dict[str, Any]:
    """The job at its end; a bar on the terminal until then."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        bar = progress.add_task(job["status"], total=None)
        while True:
            counts = job["deviceJobStatistics"]
            done = counts["succeededCount"] + counts["failedCount"]
            progress.update(bar, description=job["status"], completed=done, total=counts["deviceCount"] or None)
            if job["status"] in _ENDED:
                return job
            time.sleep(_LOOK_SECONDS)
            job = client.get(_path(job["jobId"]))


def _parts(client: HubClient, job_id: str) -> Sequence[dict[str, Any]]:
    text = job_id.replace("\\", "\\\\").replace("'", "\\'")
    query = f"SELECT * FROM devices.jobs WHERE jobId = '{text}'"  # noqa: S608  # escaped, and no SQL
    return list(rows_of(client, query, None))


def _print(job: dict[str, Any]) -> None:
    fields = {
        "job": job["jobId"],
        "type": job["type"],
        "where": job["queryCondition"],
        "status": job["status"],
        "why": job["failureReason"],
        "progress": _progress(job),
        "start": job["startTime"][:19],
        "end": (job["endTime"] or "")[:19],
    }
    print_fields(fields)


def _progress(job: dict[str, Any]) -> str:
    counts = job["deviceJobStatistics"]
    text = f"{counts['succeededCount']} of {counts['deviceCount']} done"
    return f"{text}, {counts['failedCount']} failed" if counts["failedCount"] else text


def _name(part: dict[str, Any]) -> str:
    return f"{part['deviceId']}/{part['moduleId']}" if "moduleId" in part else str(part["deviceId"])


def _outcome(part: dict[str, Any]) -> str:
    if "error" in part:
        return f"{part['error']['code']}: {part['error']['description']}"
    answer = part["outcome"]["deviceMethodResponse"]
    return f"answered {answer['status']}" if answer else ""


def _path(job_id: str) -> str:
    if not job_id:
        raise CommandFailure("a job id is empty", "hubkeep job list shows those that exist", MISUSED)
    return f"/jobs/v2/{quote(job_id, safe='')}"
