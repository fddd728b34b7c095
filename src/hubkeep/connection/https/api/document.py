"""The rows of the description and of the table of operations as one OpenAPI 3.1 document.

Everything that both tables say is derived: paths, permissions, what a credential or a body can be refused for.
"""

import copy
import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from hubkeep.cloud.policies import permission_words
from hubkeep.device.identities import ID
from hubkeep.errors import (
    BadApiVersion,
    BadRequest,
    Forbidden,
    FormatError,
    HubError,
    MessageTooLarge,
    NotFound,
    QuotaExceeded,
    RequestTimeout,
    ServerBusy,
    StoreUnavailable,
    Throttled,
    Unauthorized,
    UnsupportedEncoding,
    UriTooLong,
    on_wire,
)
from hubkeep.limits import HTTP_URI
from hubkeep.model import Permission

from ...actions import ACTIONS
from ...operations import OPERATIONS, Operation
from ...registration_documents import refused_number
from ...throttling import CLASSES
from ...tiers import METERED
from . import (
    access,
    administration,
    certification,
    messages,
    people,
    posture,
    provisioning,
    registry,
    roots,
    transfers,
    twins,
)
from .rows import JSON, Answer, Body, Described, Parameter, Time, Told

API_VERSION: Final = "2021-04-12"
ROWS: Final[Mapping[str, Described]] = {
    **registry.ROWS,
    **twins.ROWS,
    **transfers.ROWS,
    **messages.ROWS,
    **provisioning.ROWS,
    **administration.ROWS,
    **roots.ROWS,
    **posture.ROWS,
    **access.ROWS,
    **people.ROWS,
    **certification.ROWS,
}
TITLES: Final[Mapping[str, str]] = {
    "devices": "Devices",
    "modules": "Modules",
    "statistics": "Statistics",
    "twins": "Twins",
    "methods": "Direct methods",
    "digitaltwins": "Digital twins",
    "jobs": "Jobs",
    "transfers": "Import and export jobs",
    "configurations": "Configurations",
    "events": "Telemetry",
    "devicebound": "Cloud-to-device messages",
    "feedback": "Feedback",
    "files": "Files",
    "filenotifications": "Notifications of files",
    "registrations": "Provisioning: registrations",
    "enrolments": "Provisioning: enrollments",
    "groups": "Provisioning: groups",
    "est": "Enrolment over Secure Transport",
    "revocation": "Revocation",
    "trust": "Trust of devices in the hub",
    "people": "People",
    "admin": "Administration",
}

_SAS: Final = "sharedAccessSignature"
_CERTIFICATE: Final = "clientCertificate"
_PERSON: Final = "bearerToken"
_REF: Final = "#/components/schemas/{name}"
_ID: Final = Annotated[str, Meta(pattern=f"^{ID.pattern}$")]
_TEXT: Final = Annotated[str, Meta(min_length=1)]
# What a value in the path is called here: one name each, whoever's credential opens the address.
_VALUES: Final[Mapping[str, tuple[str, Any, str]]] = {
    "id": ("deviceId", _ID, "The device, in its own case."),
    "device": ("deviceId", _ID, "The device, in its own case."),
    "module": ("moduleId", _ID, "The module, in its own case."),
    "module_id": ("moduleId", _ID, "The module, in its own case."),
    "job": ("jobId", _TEXT, "The job."),
    "configuration": ("configurationId", Annotated[str, Meta(pattern="^[a-z0-9\\-+%_*!']{1,128}$")], "Its id."),
    "command": ("command", _TEXT, "The command, as the model names it."),
    "component": ("component", _TEXT, "The component, as the model names it."),
    "lock_token": ("lockToken", _TEXT, "From the ETag of what was received."),
    "file": ("file", _TEXT, "The authority's name, and `.crl`."),
    "authority": ("authority", _TEXT, "The authority's name."),
    "request": ("request", _TEXT, "A certificate request's id; of OCSP, base64 of the request (DER), percent-encoded."),
    "label": ("label", _TEXT, "An own authority; of cacerts also `servers`."),
    "mark": ("mark", _TEXT, "What an entry of the deny-list is called."),
    "version": ("version", _TEXT, "A number, or `latest`."),
    "upload": ("correlationId", _TEXT, "From the answer that told where to upload to."),
    "scope": ("idScope", _TEXT, "Of the provisioning service."),
    "registration": ("registrationId", _TEXT, "The device's name in provisioning, in any case."),
    "operation": ("operationId", _TEXT, "From the answer to the request to register."),
    "group": ("enrollmentGroupId", _TEXT, "The group, in any case."),
    "check": ("check", Annotated[str, Meta(pattern="^[Pp][Cc][0-9]{2}$")], "A check of the posture report."),
    "fact": ("fact", Annotated[str, Meta(pattern="^(restore-drill|key-escrow)$")], "What is confirmed."),
    "name": ("name", Annotated[str, Meta(min_length=1, max_length=64)], "Its name."),
}
# Told before the hub knows which operation was meant, so always in form A.
_BEFORE_ROUTING: Final = frozenset({BadRequest, NotFound, UriTooLong})
_VERSION: Final = Parameter(
    "api-version",
    Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}(-[A-Za-z0-9]+)?$", examples=[API_VERSION])],
    "Any date is taken: there is one version.",
)
_UNDATED: Final = ("/api/", "/.well-known/")  # no client made for IoT Hub asks here
_PASSED_OVER: Final = Parameter("api-version", str, "Passed over: clients send it.")
_REQUEST_ID: Final = {"description": "Of this request.", "schema": {"type": "string", "format": "uuid"}}
_RETRY_AFTER: Final = {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
_INTRODUCTION: Final = f"""\
Clients made for Azure IoT Hub speak this API unchanged. Paths are matched in any case; a trailing slash is passed over,
and so are unknown query parameters, headers and members of bodies. A request target has at most {HTTP_URI.value} bytes.

Every refusal has a JSON body, the header `iothub-errorcode` with the name of its number, and a tracking id:
`hubkeep explain ID` tells the operator what was wrong. An address that is not here is refused with 404, a method that
is not here with 405. Files are put and read at an address of their own, in the manner of a storage account.
"""


class Refusal(Told, rename=None):
    """Form A. Message: `ErrorCode:NAME;text`. ExceptionMessage: the tracking id, with which the operator finds why."""

    Message: Annotated[str, Meta(pattern="^ErrorCode:[A-Za-z]+;[^;]+$")]
    ExceptionMessage: Annotated[str, Meta(pattern="^Tracking ID:[0-9a-f]*-G:0-TimeStamp:")]


class NumberedRefusal(Told, rename=None):
    """Form B, of methods and commands. Message: JSON text: errorCode, trackingId, message, timestampUtc."""

    Message: Annotated[
        str,
        Meta(
            pattern='^\\{"errorCode":[45][0-9]{5},',
            extra_json_schema={"contentMediaType": JSON},
        ),
    ]
    ExceptionMessage: Annotated[str, Meta(max_length=0)]


class ProvisioningRefusal(Told):
    """The provisioning service's form: the first three digits of errorCode are the status."""

    error_code: Annotated[int, Meta(ge=400000, le=599999)]
    tracking_id: Annotated[str, Meta(pattern="^[0-9a-f]*$")]
    message: str
    timestamp_utc: Time
    info: dict[str, Any]


class _Place(NamedTuple):
    """Where an operation is. values: the names in its path, as the table has them."""

    method: str
    path: str
    values: Sequence[str]


def described_operations() -> Sequence[Operation]:
    """The rows of the table that are described here."""
    return [each for each in OPERATIONS if each.surface == "https"]


def paths_of() -> Mapping[tuple[str, str], str]:
    """Method and path as they are described, to the operation's name."""
    return {(place.method, place.path): each.name for each in described_operations() for place in [_place(each)]}


@functools.cache
def openapi_document() -> Mapping[str, Any]:
    """The document, as JSON values."""
    operations = described_operations()
    schemas = _Schemas(_shapes(ROWS[each.name] for each in operations))
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        place = _place(each)
        paths.setdefault(place.path, {})[place.method.lower()] = _operation(each, place, ROWS[each.name], schemas)
    used = {each["tags"][0] for methods in paths.values() for each in methods.values()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hubkeep",
            "version": API_VERSION,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": title} for title in TITLES.values() if title in used],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": _hoisted(paths),
            "headers": {"x-ms-request-id": _REQUEST_ID, "Retry-After": _RETRY_AFTER},
            "securitySchemes": {
                _SAS: {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`SharedAccessSignature sr=...&sig=...&se=...&skn=...`, signed with a key of a "
                    "policy that holds one of the permissions named, or of the device itself.",
                },
                _PERSON: {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Of a person, or a program with an account, from the OpenID Connect provider "
                    "that the hub's settings name; a role must hold the data actions named.",
                },
                _CERTIFICATE: {
                    "type": "mutualTLS",
                    "description": "Of a device that is registered with its thumbprint or authority; no token then.",
                },
            },
        },
    }


# -- one operation ---------------------------------------------------------------------------------------------------


def _place(operation: Operation) -> _Place:
    method, pattern = operation.address.split(" ", 1)
    values = re.findall(r"\{(\w+)\}", pattern)
    for name in values:
        pattern = pattern.replace(f"{{{name}}}", f"{{{_VALUES[name][0]}}}")
    return _Place(method, pattern, values)


def _operation(operation: Operation, place: _Place, row: Described, schemas: "_Schemas") -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": operation.name.replace("/", "."),
        "tags": [TITLES[operation.name.partition("/")[0]]],
        "summary": row.summary,
    }
    if text := " ".join(filter(None, (row.text, operation.note[:1].upper() + operation.note[1:]))):
        told["description"] = text if text.endswith(".") else f"{text}."
    if parameters := list(_parameters(operation, place, row, schemas)):
        told["parameters"] = parameters
    if row.body is not None:
        told["requestBody"] = _body(row.body, schemas)
    told["responses"] = _responses(operation, row, schemas)
    told["security"] = _security(operation)
    return told


def is_of_device(operation: Operation) -> bool:
    """Whether a device's own credential opens it."""
    return "{device}" in operation.address


def is_of_registration(operation: Operation) -> bool:
    """Whether what proves a device to the provisioning service opens it."""
    return operation.any_of == (Permission.REGISTER,)


def is_dated(operation: Operation) -> bool:
    """Whether it asks for ``api-version``: what clients made for IoT Hub send to the service's paths."""
    path = operation.address.partition(" ")[2]
    return bool(operation.any_of) and not is_of_device(operation) and not path.startswith(_UNDATED)


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    words = (permission_words(each) for each in operation.any_of)
    needed: list[dict[str, list[str]]] = [{_SAS: each.split(", ") if each else []} for each in words]
    if is_of_device(operation) or is_of_registration(operation):
        needed.append({_CERTIFICATE: []})
    if operation.name in ACTIONS:
        needed.append({_PERSON: list(ACTIONS[operation.name])})
    return needed


def _parameters(operation: Operation, place: _Place, row: Described, schemas: "_Schemas") -> Iterator[dict[str, Any]]:
    for value in place.values:
        name, shape, text = _VALUES[value]
        yield _parameter("path", Parameter(name, shape, text, is_required=True), schemas)
    if operation.any_of and not operation.address.partition(" ")[2].startswith(_UNDATED):
        version = _VERSION._replace(is_required=True) if is_dated(operation) else _PASSED_OVER
        yield _parameter("query", version, schemas)
    for each in row.query:
        yield _parameter("query", each, schemas)
    for each in row.headers:
        yield _parameter("header", each, schemas)


def _parameter(where: str, parameter: Parameter, schemas: "_Schemas") -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": parameter.name,
        "in": where,
        "description": parameter.text,
        "schema": schemas.of(parameter.shape),
    }
    if where == "path" or parameter.is_required:
        told["required"] = True
    return told


def _body(body: Body, schemas: "_Schemas") -> dict[str, Any]:
    contents = {media: {} if shape is None else {"schema": schemas.of(shape)} for media, shape in body.contents.items()}
    return {"description": f"At most {body.limit} bytes.", "content": contents, "required": body.is_required}


# -- answers ---------------------------------------------------------------------------------------------------------


def refusals_of(operation: Operation) -> Sequence[type[HubError]]:
    """Everything that the operation may be refused for."""
    row = ROWS[operation.name]
    found: list[type[HubError]] = [BadRequest, UriTooLong, *row.refusals]
    if (kind := CLASSES.get(operation.name)) is not None:  # of rates, which are off by default
        found += [Throttled, QuotaExceeded] if kind in METERED else [Throttled]
    if operation.any_of:
        found += [Unauthorized, Forbidden, StoreUnavailable, ServerBusy]
    if is_dated(operation):
        found.append(BadApiVersion)
    if "{" in operation.address:
        found.append(NotFound)
    if row.body is not None:
        found += [FormatError, MessageTooLarge, RequestTimeout, UnsupportedEncoding]
    return sorted(set(found), key=lambda kind: (on_wire(kind()).number, kind.__name__))


def _responses(operation: Operation, row: Described, schemas: "_Schemas") -> dict[str, Any]:
    responses = {status: _answer(each, schemas) for status, each in row.answers.items()}
    refusals: dict[int, list[type[HubError]]] = {}
    for kind in refusals_of(operation):
        refusals.setdefault(on_wire(kind()).http, []).append(kind)
    for status, kinds in refusals.items():
        refused = _refused(kinds, schemas, row=row)
        if (also := responses.get(status)) is not None:
            schema = [each["content"][JSON]["schema"] for each in (also, refused)]
            refused["description"] = f"{also['description']}\n\n{refused['description']}"
            refused["content"][JSON]["schema"] = {"anyOf": schema}
            del refused["headers"]["iothub-errorcode"]["required"]
        responses[status] = refused
    return {str(status): responses[status] for status in sorted(responses)}


def _answer(answer: Answer, schemas: "_Schemas") -> dict[str, Any]:
    told: dict[str, Any] = {"description": answer.text, "headers": _headers(answer.headers, schemas)}
    if answer.shape is not None:
        told["content"] = {answer.content: {"schema": schemas.of(answer.shape)}}
    elif answer.content != JSON:
        told["content"] = {answer.content: {}}
    return told


def _headers(headers: Iterable[Parameter], schemas: "_Schemas") -> dict[str, Any]:
    told: dict[str, Any] = {each.name: {"description": each.text, "schema": schemas.of(each.shape)} for each in headers}
    return told | {"x-ms-request-id": {"$ref": "#/components/headers/x-ms-request-id"}}


def _refused(kinds: Sequence[type[HubError]], schemas: "_Schemas", *, row: Described) -> dict[str, Any]:
    lines: dict[str, None] = {}
    for kind in kinds:
        told = on_wire(kind())
        number = refused_number(kind()) if row.is_of_provisioning else told.number
        lines[f"- {number} `{told.name}`: {kind.text}"] = None
    names = list(dict.fromkeys(on_wire(kind()).name for kind in kinds))
    code = {"description": "The name of its number.", "schema": {"enum": names}, "required": True}
    headers = {"iothub-errorcode": code, **_headers((), schemas)}
    if any(hasattr(kind, "retry_after") for kind in kinds):
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    shape = ProvisioningRefusal if row.is_of_provisioning else NumberedRefusal if row.numbered else Refusal
    schema = schemas.of(shape)
    if shape is not Refusal and not _BEFORE_ROUTING.isdisjoint(kinds):
        schema = {"anyOf": [schema, schemas.of(Refusal)]}
    return {"description": "\n".join(lines), "headers": headers, "content": {JSON: {"schema": schema}}}


def _hoisted(paths: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Answers that several operations share, moved out of them."""
    places = [
        (each["responses"], status)
        for methods in paths.values()
        for each in methods.values()
        for status in each["responses"]
    ]
    keys = [msgspec.json.encode(responses[status]) for responses, status in places]
    counts, names = Counter(keys), dict[bytes, str]()
    shared: dict[str, Any] = {}
    for key, (responses, status) in zip(keys, places, strict=True):
        if counts[key] == 1:
            continue
        if key not in names:
            others = sum(each.startswith(f"Answer{status}") for each in shared)
            names[key] = f"Answer{status}" + (f"x{others + 1}" if others else "")
            shared[names[key]] = responses[status]
        responses[status] = {"$ref": f"#/components/responses/{names[key]}"}
    return dict(sorted(shared.items()))


# -- shapes ----------------------------------------------------------------------------------------------------------


def _shapes(rows: Iterable[Described]) -> Iterator[Any]:
    yield from (Refusal, NumberedRefusal, ProvisioningRefusal, _VERSION.shape, _PASSED_OVER.shape)
    yield from (shape for _, shape, _ in _VALUES.values())
    for row in rows:
        for answer in row.answers.values():
            yield answer.shape
            yield from (each.shape for each in answer.headers)
        yield from (each.shape for each in (*row.query, *row.headers))
        yield from row.body.contents.values() if row.body is not None else ()


class _Schemas:
    """JSON Schemas of types; those of records stand among the components."""

    def __init__(self, shapes: Iterable[Any]) -> None:
        wanted = [each for each in shapes if each is not None]
        found, components = msgspec.json.schema_components(wanted, ref_template=_REF)
        self._found = [(shape, _plain(schema)) for shape, schema in zip(wanted, found, strict=True)]
        self.components = {name: _plain(schema) for name, schema in sorted(components.items())}

    def of(self, shape: Any) -> dict[str, Any]:
        return copy.deepcopy(next(schema for known, schema in self._found if known is shape or known == shape))


def _plain(schema: Any) -> Any:
    """Without what msgspec tells of Python: titles that repeat the name, and defaults of members that mean nothing."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {
        name: {key: _plain(each) for key, each in value.items()} if name == "properties" else _plain(value)
        for name, value in schema.items()
        if name != "title" and not (name == "default" and value is None)
    }
    if isinstance(text := plain.get("description"), str):
        plain["description"] = " ".join(text.replace("``", "`").split())
    return plain
