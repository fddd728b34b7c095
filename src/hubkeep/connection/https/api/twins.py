"""Twins, methods, digital twins, jobs and configurations. Source: service-protocols 2.5, 2.10 to 2.13."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hubkeep.errors import (
    ConfigurationAlreadyExists,
    ConfigurationNotFound,
    DeviceConnectionClosed,
    DeviceNotFound,
    DeviceNotOnline,
    DeviceTimeout,
    HubError,
    JobAlreadyExists,
    JobNotFound,
    ModuleNotFound,
    PreconditionFailed,
    QueryInvalid,
    QuotaExceeded,
    Throttled,
    TooManyJobs,
    TooManyModules,
)
from hubkeep.limits import (
    CONFIGURATIONS,
    HTTP_SERVICE_BODY,
    METHOD_CONNECT_MAX,
    METHOD_RESPONSE_MAX,
    METHOD_RESPONSE_MIN,
)

from ..configurations import ConfigurationBody, ContentBody, QueriesBody
from ..jobs import JobBody
from ..methods import MethodBody
from .registry import AuthenticationType, Capabilities, ConnectionState, Status, Thumbprints
from .rows import (
    CONTINUATION,
    ETAG,
    IF_MATCH,
    IF_MATCH_CREATES,
    JSON,
    NEXT_PAGE,
    PAGE_SIZE,
    Answer,
    Body,
    Count,
    Described,
    Etag,
    Parameter,
    Properties,
    Time,
    Told,
    empty,
    given,
    top,
)


class ConfigurationStatus(Told):
    status: Literal["Targeted", "Applied"]


class TwinSections(Told):
    """Each with its members, `$metadata` (when each was written) and `$version`."""

    desired: dict[str, Any]
    reported: dict[str, Any]


class Twin(Told, kw_only=True):
    """A device's or module's twin, beside what the registry knows of it."""

    device_id: str
    module_id: str | UnsetType = UNSET
    etag: Etag
    device_etag: Annotated[str, Meta(description="The identity's own etag.")]
    status: Status
    status_update_time: Time
    connection_state: ConnectionState
    last_activity_time: Time
    cloud_to_device_message_count: Count
    authentication_type: AuthenticationType
    x509_thumbprint: Thumbprints
    model_id: str
    version: Count
    status_reason: str | UnsetType = UNSET
    tags: dict[str, Any] | UnsetType = UNSET
    properties: TwinSections
    capabilities: Capabilities | UnsetType = UNSET
    device_scope: str | UnsetType = UNSET
    parent_scopes: list[str] | UnsetType = UNSET
    configurations: dict[str, ConfigurationStatus] | UnsetType = UNSET


class TwinPropertiesBody(msgspec.Struct):
    """What a device reports is its own: passed over here."""

    desired: Properties | None = None


class TwinBody(msgspec.Struct):
    """Members of a twin that a back end does not write are passed over."""

    tags: Properties | None = None
    properties: TwinPropertiesBody | None = None


class MethodResult(Told):
    status: Annotated[int, Meta(description="The device's own; 200 by custom.")]
    payload: Any


class PatchOperation(msgspec.Struct):
    op: Literal["add", "replace", "remove"]
    path: Annotated[str, Meta(extra_json_schema={"pattern": "^/[^$/][^/]*(/[^$/][^/]*)?$"})]
    value: Any = None


class JobStatistics(Told):
    device_count: Count
    failed_count: Count
    succeeded_count: Count
    running_count: Count
    pending_count: Count


class Job(Told, kw_only=True):
    """A scheduled job over the fleet."""

    job_id: str
    query_condition: str
    created_time: Time
    start_time: Time
    end_time: Time | None
    max_execution_time_in_seconds: int
    type: Annotated[
        Literal["scheduleDeviceMethod", "scheduleUpdateTwin", "unknown"],
        Meta(description="unknown: the id is of an import or export job."),
    ]
    cloud_to_device_method: dict[str, Any] | None
    update_twin: dict[str, Any] | None
    status: Literal["queued", "running", "completed", "failed", "cancelled", "unknown"]
    failure_reason: str | None
    status_message: None
    device_job_statistics: JobStatistics


class SystemMetricResults(Told):
    targeted_count: Count
    applied_count: Count
    reported_successful_count: Count | UnsetType = UNSET
    reported_failed_count: Count | UnsetType = UNSET


class SystemMetricQueries(Told):
    targeted_count: str
    applied_count: str
    reported_successful_count: str | UnsetType = UNSET
    reported_failed_count: str | UnsetType = UNSET


class SystemMetrics(Told):
    results: SystemMetricResults
    queries: SystemMetricQueries


class Metrics(Told):
    results: dict[str, int]
    queries: dict[str, str]


class Configuration(Told, kw_only=True):
    """Desired properties for every twin that meets a condition."""

    id: str
    schema_version: str
    labels: dict[str, str]
    content: dict[str, Any]
    content_type: str | None
    target_condition: str
    created_time_utc: Time
    last_updated_time_utc: Time
    priority: Count
    system_metrics: SystemMetrics
    metrics: Metrics
    etag: Etag


class QueryErrors(Told):
    """What is wrong with the condition and with queries, by name; null and left out where nothing is."""

    target_condition_error: str | None
    custom_metric_query_errors: dict[str, str]


_LIMIT: Final = HTTP_SERVICE_BODY.value
_TWIN: Final = given(Twin, "The whole twin as it is now.", ETAG)
_CALL: Final[tuple[type[HubError], ...]] = (
    DeviceNotFound,
    ModuleNotFound,
    DeviceNotOnline,
    DeviceConnectionClosed,
    DeviceTimeout,
    Throttled,
)
_WHO: Final = (DeviceNotFound, ModuleNotFound)


def _of_both(name: str, described: Described) -> Mapping[str, Described]:
    """Of the device, and of a module: the same but for one refusal."""
    alone = tuple(each for each in described.refusals if each is not ModuleNotFound)
    of_module = described._replace(summary=described.summary.replace("device", "module"))
    return {name: described._replace(refusals=alone), f"{name}/module": of_module}


def _seconds(name: str, low: int, high: int) -> Parameter:
    return Parameter(name, Annotated[int, Meta(ge=low, le=high)], "Seconds.")


_COMMAND: Final = Described(
    "Send a command to a device's model",
    {
        200: Answer(
            "What the device answered.",
            Any,
            headers=(Parameter("x-ms-command-statuscode", str, "The device's own status."),),
        )
    },
    text="A direct method `command`, or `component*command`. The body is the payload, none for null.",
    body=Body({JSON: Any}, _LIMIT, is_required=False),
    query=(
        _seconds("connectTimeoutInSeconds", 0, METHOD_CONNECT_MAX.value),
        _seconds("responseTimeoutInSeconds", METHOD_RESPONSE_MIN.value, METHOD_RESPONSE_MAX.value),
    ),
    refusals=tuple(each for each in _CALL if each is not ModuleNotFound),
    numbered=True,
)

ROWS: Final[Mapping[str, Described]] = {
    **_of_both("twins/get", Described("Get the twin of a device", _TWIN, refusals=_WHO)),
    **_of_both(
        "twins/patch",
        Described(
            "Change tags and desired properties of a device",
            _TWIN,
            text="Merged into what is there; null removes. The device is told.",
            body=Body({JSON: TwinBody}, _LIMIT),
            headers=(IF_MATCH,),
            refusals=(*_WHO, PreconditionFailed),
        ),
    ),
    **_of_both(
        "twins/put",
        Described(
            "Replace tags and desired properties of a device",
            _TWIN,
            text="What the body does not hold is gone. The device is told.",
            body=Body({JSON: TwinBody}, _LIMIT),
            headers=(IF_MATCH,),
            refusals=(*_WHO, PreconditionFailed),
        ),
    ),
    **_of_both(
        "methods/invoke",
        Described(
            "Call a direct method of a device",
            given(MethodResult, "What the device answered, whatever its status."),
            text="The answer comes when the device's does: within both time-outs together.",
            body=Body({JSON: MethodBody}, _LIMIT),
            refusals=_CALL,
            numbered=True,
        ),
    ),
    "digitaltwins/get": Described(
        "Get a device as its model sees it",
        given(dict[str, Any], "Properties and components, each beside its `$metadata`.", ETAG),
        refusals=(DeviceNotFound,),
    ),
    "digitaltwins/patch": Described(
        "Change desired properties as the model sees them",
        {
            202: Answer(
                "Written; the device is told.", headers=(ETAG, Parameter("Location", str, "Of the digital twin."))
            )
        },
        body=Body({JSON: list[PatchOperation]}, _LIMIT),
        headers=(IF_MATCH,),
        refusals=(DeviceNotFound, PreconditionFailed),
    ),
    "digitaltwins/command": _COMMAND,
    "digitaltwins/command/component": _COMMAND._replace(summary="Send a command to a component"),
    "jobs/create": Described(
        "Schedule a job",
        given(Job, "The job."),
        text="A method call or an update of the twin at every device that meets the condition.",
        body=Body({JSON: JobBody}, _LIMIT),
        refusals=(QueryInvalid, JobAlreadyExists, TooManyJobs),
    ),
    "jobs/get": Described("Get a job", given(Job, "The job, with its counts."), refusals=(JobNotFound,)),
    "jobs/list": Described(
        "List jobs",
        given(
            list[Job],
            "The newest first.",
            Parameter("x-ms-item-type", Literal["jobResponse"], "What the rows are."),
            NEXT_PAGE,
        ),
        query=(
            Parameter(
                "jobType", Literal["scheduleDeviceMethod", "scheduleUpdateTwin", "export", "import"], "Of this type."
            ),
            Parameter(
                "jobStatus",
                Literal["unknown", "enqueued", "running", "completed", "failed", "cancelled", "scheduled", "queued"],
                "In this state.",
            ),
        ),
        headers=(PAGE_SIZE, CONTINUATION),
    ),
    "jobs/cancel": Described(
        "Cancel a job",
        given(Job, "The job. What has not begun at a device does not begin; an ended job stays as it is."),
        refusals=(JobNotFound,),
    ),
    "configurations/list": Described(
        "List configurations", given(list[Configuration], "By id."), query=(top(CONFIGURATIONS.value),)
    ),
    "configurations/get": Described(
        "Get a configuration",
        given(Configuration, "The configuration, its metrics counted now.", ETAG),
        refusals=(ConfigurationNotFound,),
    ),
    "configurations/put": Described(
        "Create or change a configuration",
        given(Configuration, "The configuration.", ETAG),
        text="The content cannot be changed once it is made.",
        body=Body({JSON: ConfigurationBody}, _LIMIT),
        headers=(IF_MATCH_CREATES,),
        refusals=(
            QueryInvalid,
            ConfigurationNotFound,
            ConfigurationAlreadyExists,
            PreconditionFailed,
            QuotaExceeded,
        ),
    ),
    "configurations/delete": Described(
        "Delete a configuration",
        empty("It is gone; its settings are taken back from the twins."),
        headers=(IF_MATCH,),
        refusals=(ConfigurationNotFound, PreconditionFailed),
    ),
    "configurations/test": Described(
        "Try a condition and queries",
        given(QueryErrors, "What is wrong with them."),
        body=Body({JSON: QueriesBody}, _LIMIT),
    ),
    "configurations/apply": Described(
        "Set the modules of one device",
        empty("Every module desires what it should."),
        text="Modules that are not there are made.",
        body=Body({JSON: ContentBody}, _LIMIT),
        refusals=(DeviceNotFound, QuotaExceeded, TooManyModules),
    ),
}
