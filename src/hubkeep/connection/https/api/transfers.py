"""Import and export jobs. Source: service-protocols 2.9."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import Meta

from hubkeep.errors import EgressRefused, JobNotFound, JobQuotaExceeded
from hubkeep.limits import HTTP_SERVICE_BODY

from ..transfers import TransferBody
from .rows import JSON, Body, Described, Time, Told, empty, given

Container = Annotated[str, Meta(description="The URL of a container, without its signature.")]


class TransferJob(Told, kw_only=True):
    """An import or export job."""

    job_id: str
    start_time_utc: Time
    end_time_utc: Time | None
    type: Literal["import", "export"]
    status: Literal["enqueued", "running", "completed", "failed", "cancelled"]
    progress: Annotated[int, Meta(ge=0, le=100, description="Per cent.")]
    input_blob_container_uri: Container | None
    input_blob_name: str
    output_blob_container_uri: Container
    output_blob_name: str
    exclude_keys_in_export: bool
    storage_authentication_type: Literal["keyBased"]
    identity: None
    failure_reason: str | None
    include_configurations: bool
    configurations_blob_name: str


ROWS: Final[Mapping[str, Described]] = {
    "transfers/create": Described(
        "Import or export the fleet",
        given(TransferJob, "The job."),
        text="From or to a container of blobs that a URL opens, one record a line. One such job runs at a time.",
        body=Body({JSON: TransferBody}, HTTP_SERVICE_BODY.value),
        refusals=(EgressRefused, JobQuotaExceeded),
    ),
    "transfers/list": Described("List import and export jobs", given(list[TransferJob], "The newest first.")),
    "transfers/get": Described("Get an import or export job", given(TransferJob, "The job."), refusals=(JobNotFound,)),
    "transfers/cancel": Described(
        "Cancel an import or export job",
        empty("What it did stays done; a job that has ended stays as it is."),
        refusals=(JobNotFound,),
    ),
}
