"""``hubkeep transfer ...``: the hub itself imports from and exports to a container of blobs."""

import time
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from .client import HubClient
from .failure import CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import err, print_fields, print_json, print_list, print_plain

app = typer.Typer(
    no_args_is_help=True, help="Import and export jobs of the hub, through a container of blobs: start, show, cancel."
)

_ENDED: Final = ("completed", "failed", "cancelled")
_LOOK_SECONDS: Final = 0.5

ContainerArgument = Annotated[
    str,
    typer.Argument(
        metavar="URL",
        envvar="HUBKEEP_CONTAINER",
        help="The container, with the signature that opens it; others on this machine do not see it in the variable.",
    ),
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
BlobOption = Annotated[str, typer.Option("--blob", help="The name of the blob with the records.")]
ConfigurationsOption = Annotated[bool, typer.Option("--configurations", help="configurations.txt as well.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Show the progress, and wait for the end.")]


@app.command("export")
def export_to(
    container: ContainerArgument,
    blob: BlobOption = "devices.txt",
    no_keys: Annotated[bool, typer.Option("--no-keys", help="Leave symmetric keys out.")] = False,
    configurations: ConfigurationsOption = False,
    wait: WaitOption = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export the fleet to a container."""
    body = {
        "type": "export",
        "outputBlobContainerUri": container,
        "outputBlobName": blob,
        "excludeKeysInExport": no_keys,
        "includeConfigurations": configurations,
    }
    _start(body, data, connection_string, wait=wait, as_json=as_json)


@app.command("import")
def import_from(
    container: ContainerArgument,
    blob: BlobOption = "devices.txt",
    configurations: ConfigurationsOption = False,
    wait: WaitOption = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import the fleet from a container; what is refused is written to importErrors.log there."""
    body = {
        "type": "import",
        "inputBlobContainerUri": container,
        "outputBlobContainerUri": container,
        "inputBlobName": blob,
        "includeConfigurations": configurations,
    }
    _start(body, data, connection_string, wait=wait, as_json=as_json)


@app.command("list")
def list_transfers(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """Import and export jobs, the newest first."""
    with client_of(data, connection_string) as client:
        jobs = client.get("/jobs")
    rows = ((each["jobId"], each["type"], each["status"], f"{each['progress']} %") for each in jobs)
    print_list(
        jobs,
        ("job", "type", "status", "progress"),
        rows,
        none="no import and export jobs: hubkeep transfer export URL",
        as_json=as_json,
    )


@app.command()
def show(
    job_id: JobArgument,
    wait: WaitOption = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """One job."""
    with client_of(data, connection_string) as client:
        _told(client, client.get(f"/jobs/{job_id}"), wait=wait, as_json=as_json)


@app.command()
def cancel(
    job_id: JobArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
) -> None:
    """Stop a job; what it did stays done."""
    with client_of(data, connection_string) as client:
        client.request("DELETE", f"/jobs/{job_id}")
    print_plain(f"{job_id} is cancelled, unless it had ended")


def _start(body: dict[str, Any], data: Any, connection_string: str | None, *, wait: bool, as_json: bool) -> None:
    with client_of(data, connection_string) as client:
        _told(client, client.request("POST", "/jobs/create", body=body), wait=wait, as_json=as_json)


def _told(client: HubClient, job: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    if wait:
        job = _wait(client, job)
    if as_json:
        print_json(job)
    else:
        print_fields(
            {
                "job": job["jobId"],
                "type": job["type"],
                "status": job["status"],
                "progress": f"{job['progress']} %",
                "from": job["inputBlobContainerUri"],
                "to": job["outputBlobContainerUri"],
                "failure": job["failureReason"],
            }
        )
    if wait and job["status"] != "completed":
        raise CommandFailure(f"the job is {job['status']}", job["failureReason"] or "")


def _wait(client: HubClient, job: dict[str, Any]) -> dict[str, Any]:
    """The job at its end; a bar on the terminal until then."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        bar = progress.add_task(job["status"], total=100)
        while True:
            progress.update(bar, description=job["status"], completed=job["progress"])
            if job["status"] in _ENDED:
                return job
            time.sleep(_LOOK_SECONDS)
            job = client.get(f"/jobs/{job['jobId']}")
