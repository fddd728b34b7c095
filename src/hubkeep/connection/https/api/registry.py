"""Devices, modules, bulk requests, statistics and queries. Source: service-protocols 2.3 to 2.8, 2.15."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, UnsetType, field

from hubkeep.errors import (
    BulkRefused,
    DeviceAlreadyExists,
    DeviceNotFound,
    ModuleAlreadyExists,
    ModuleNotFound,
    PreconditionFailed,
    QueryInvalid,
    QuotaExceeded,
    Throttled,
    TooManyModules,
)
from hubkeep.limits import BULK_RECORDS, HTTP_SERVICE_BODY, LIST_TOP

from ..bulk import RotationBody
from ..fleet_records import RecordBody
from ..modules import ModuleBody
from ..queries import QueryBody
from ..service import DeviceBody
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
    Time,
    Told,
    empty,
    given,
    top,
)

ConnectionState = Literal["Connected", "Disconnected"]
Status = Literal["enabled", "disabled"]
AuthenticationType = Literal["sas", "selfSigned", "certificateAuthority", "none"]


class SymmetricKeys(Told):
    """Base64; null for an identity that does not authenticate by keys."""

    primary_key: str | None
    secondary_key: str | None


class Thumbprints(Told):
    """Hexadecimal digits of SHA-1 or SHA-256; null where there is none."""

    primary_thumbprint: str | None
    secondary_thumbprint: str | None


class Authentication(Told):
    symmetric_key: SymmetricKeys
    x509_thumbprint: Thumbprints
    type: AuthenticationType


class Capabilities(Told):
    iot_edge: bool


class Device(Told, kw_only=True):
    """A device identity."""

    device_id: str
    generation_id: str
    etag: Etag
    connection_state: ConnectionState
    status: Status
    status_reason: str | None
    connection_state_updated_time: Time
    status_updated_time: Time
    last_activity_time: Time
    cloud_to_device_message_count: Count
    authentication: Authentication
    capabilities: Capabilities
    device_scope: str | UnsetType = UNSET
    parent_scopes: list[str] | UnsetType = UNSET


class Module(Told, kw_only=True):
    """A module identity: a part of a device with credentials, twin and messages of its own."""

    module_id: str
    managed_by: str | None
    device_id: str
    generation_id: str
    etag: Etag
    connection_state: ConnectionState
    connection_state_updated_time: Time
    last_activity_time: Time
    cloud_to_device_message_count: Count
    authentication: Authentication


class BulkError(Told, kw_only=True):
    """Why one record was not carried out."""

    device_id: str
    module_id: str | None
    error_code: str
    error_status: str
    operation: str


class BulkWarning(Told):
    device_id: str
    warning_code: str
    warning_status: str


class BulkResult(Told):
    is_successful: bool
    errors: list[BulkError]
    warnings: list[BulkWarning]


class RotatedKeys(Told):
    id: str
    module_id: str | None
    primary_key: str | None
    secondary_key: str | None


class RotationError(Told):
    id: str
    module_id: str | None
    error_code: str
    error_status: str


class RotationResult(Told):
    policy_key: str
    rotated_keys: list[RotatedKeys]
    errors: list[RotationError]


class RegistryStatistics(Told):
    total_device_count: Count
    enabled_device_count: Count
    disabled_device_count: Count


class ServiceStatistics(Told):
    connected_device_count: Count


class TwinParts(Told):
    desired: dict[str, Any]
    reported: dict[str, Any]


class ExportedIdentity(Told, kw_only=True):
    """A record that a bulk request makes the identity of again."""

    id: str
    module_id: str | UnsetType = UNSET
    managed_by: str | UnsetType | None = UNSET
    e_tag: Etag
    status: Status
    status_reason: str | None
    authentication: Authentication
    twin_etag: Etag = field(name="twinETag")
    tags: dict[str, Any]
    properties: TwinParts
    capabilities: Capabilities | UnsetType = UNSET
    device_scope: str | UnsetType = UNSET
    parent_scopes: list[str] | UnsetType = UNSET


_MANY: Final = f"1 to {BULK_RECORDS.value} records, each carried out whole or not at all."
_ITEM_TYPE: Final = Parameter(
    "x-ms-item-type", Literal["twin", "raw", "deviceJob"], "What the rows are: whole twins, parts of jobs, or values."
)
_RECORDS = Annotated[list[RecordBody], Meta(min_length=1, max_length=BULK_RECORDS.value)]
_LIMIT: Final = HTTP_SERVICE_BODY.value

ROWS: Final[Mapping[str, Described]] = {
    "devices/list": Described(
        "List devices",
        given(list[Device], "Devices by id. There is no second page: queries have pages."),
        query=(top(LIST_TOP.value),),
    ),
    "devices/get": Described("Get a device", given(Device, "The device.", ETAG), refusals=(DeviceNotFound,)),
    "devices/put": Described(
        "Create or replace a device",
        given(Device, "The device as it is now, keys included.", ETAG),
        text="A device without keys or thumbprint gets two random keys. Disabling it cuts its links.",
        body=Body({JSON: DeviceBody}, _LIMIT),
        headers=(IF_MATCH_CREATES,),
        refusals=(DeviceNotFound, DeviceAlreadyExists, PreconditionFailed, QuotaExceeded),
    ),
    "devices/delete": Described(
        "Delete a device",
        empty("It is gone, with its modules, twin, messages; its links are cut."),
        headers=(IF_MATCH,),
        refusals=(DeviceNotFound, PreconditionFailed),
    ),
    "devices/bulk": Described(
        "Create, change or delete many identities",
        {
            200: Answer("Every record was carried out.", BulkResult),
            400: Answer("Some records were not carried out: they are listed; the others were.", BulkResult),
        },
        text=_MANY + " importMode is createOrUpdate where it is left out.",
        body=Body({JSON: _RECORDS}, _LIMIT),
        refusals=(BulkRefused,),
    ),
    "devices/keys": Described(
        "Give many identities new keys",
        {
            200: Answer("All have new keys.", RotationResult),
            207: Answer("Some have; the others are listed as errors.", RotationResult),
            400: Answer("None has.", RotationResult),
        },
        text="policyKey: which key is new; `swap` exchanges the two and makes none.",
        body=Body({JSON: RotationBody}, _LIMIT),
        refusals=(BulkRefused,),
    ),
    "devices/query": Described(
        "Query devices, modules and jobs",
        given(list[dict[str, Any]], "One page of rows; it may be empty and not the last.", _ITEM_TYPE, NEXT_PAGE),
        text="The language: docs/reference/queries.md.",
        body=Body({JSON: QueryBody}, _LIMIT),
        headers=(PAGE_SIZE, CONTINUATION),
        refusals=(QueryInvalid, Throttled),
    ),
    "statistics/devices": Described("Count devices", given(RegistryStatistics, "By status.")),
    "statistics/service": Described("Count connected devices", given(ServiceStatistics, "Those with a live link.")),
    "modules/list": Described(
        "List the modules of a device",
        given(list[Module], "By id."),
        refusals=(DeviceNotFound,),
    ),
    "modules/get": Described(
        "Get a module", given(Module, "The module.", ETAG), refusals=(DeviceNotFound, ModuleNotFound)
    ),
    "modules/put": Described(
        "Create or replace a module",
        given(Module, "The module as it is now, keys included.", ETAG),
        body=Body({JSON: ModuleBody}, _LIMIT),
        headers=(IF_MATCH_CREATES,),
        refusals=(
            DeviceNotFound,
            ModuleNotFound,
            ModuleAlreadyExists,
            PreconditionFailed,
            QuotaExceeded,
            TooManyModules,
        ),
    ),
    "modules/delete": Described(
        "Delete a module",
        empty(),
        headers=(IF_MATCH,),
        refusals=(DeviceNotFound, ModuleNotFound, PreconditionFailed),
    ),
    "admin/identities": Described(
        "Export identities with keys and twins",
        given(list[ExportedIdentity], "By name, devices before their modules."),
        query=(
            Parameter("after", str, "The name of the last one that is known already: `device` or `device/module`."),
            top(LIST_TOP.value)._replace(name="most"),
            Parameter("keys", Literal["true", "false"], "`false` leaves the keys out."),
        ),
    ),
}
