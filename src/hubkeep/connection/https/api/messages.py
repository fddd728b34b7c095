"""Telemetry, cloud-to-device messages, feedback and files. Source: service-protocols 2.14, device-protocols 5."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hubkeep.errors import (
    DeviceNotFound,
    HubError,
    LockLost,
    ModuleNotFound,
    QueueFull,
    TooManyUploads,
    UnknownUpload,
    UploadExpired,
    UploadsOff,
)
from hubkeep.limits import HTTP_DEVICE_BODY, HTTP_SERVICE_BODY

from .rows import (
    BYTES,
    ETAG,
    JSON,
    Answer,
    Body,
    Count,
    Described,
    Parameter,
    Time,
    Told,
    empty,
    given,
    top,
)


class BatchedMessage(msgspec.Struct, rename="camel"):
    """properties: `iothub-app-` names and plain ones are the application's; `iothub-` ones the system's."""

    body: str
    base64_encoded: bool = msgspec.field(name="base64Encoded", default=True)
    properties: dict[str, str | int | float | bool | None] | None = None


class WaitingMessage(Told):
    message_id: str | None
    sequence_number: Count
    enqueued_time_utc: Time
    expiry_time_utc: Time
    delivery_count: Count
    ack: Literal["none", "positive", "negative", "full"]
    bytes: Count


class EndedMessage(Told):
    message_id: str | None
    status_code: str
    time_utc: Time


class Queue(Told):
    """waiting: the oldest first. ended: what became of the newest, as far as the hub remembers."""

    waiting: list[WaitingMessage]
    ended: list[EndedMessage]


class PurgeResult(Told):
    total_messages_purged: Count
    device_id: str
    module_id: None


class FeedbackRecord(Told, kw_only=True):
    """What became of a message that asked to be told."""

    original_message_id: str | None
    enqueued_time_utc: Time
    status_code: str
    description: str
    device_id: str
    device_generation_id: str
    module_id: str | UnsetType = UNSET


class FileNotification(Told):
    device_id: str
    blob_uri: str
    blob_name: str
    last_updated_time: str
    blob_size_in_bytes: Count
    enqueued_time_utc: Time


class FileBody(msgspec.Struct, rename="camel"):
    blob_name: Annotated[str, Meta(description="Its path below the device's own folder.")]


class Upload(Told):
    """Put the file to `https://{hostName}/{containerName}/{blobName}{sasToken}` within the hour, then tell of it."""

    correlation_id: str
    host_name: str
    container_name: str
    blob_name: str
    sas_token: str


class UploadEndBody(msgspec.Struct, rename="camel"):
    correlation_id: str
    is_success: bool
    status_code: Any = None
    status_description: Any = None


class UploadOutcomeBody(msgspec.Struct, rename="camel"):
    is_success: bool
    status_code: Any = None
    status_description: Any = None


class StoredFile(Told):
    """path: below the hub's own address; a policy with ServiceConnect reads it there."""

    name: str
    size: Count
    modified: Time
    path: str


_LOCK: Final = Annotated[str, Meta(extra_json_schema={"pattern": "^[0-9]{0,9}$"})]
_LOCK_TIME: Final = Parameter("iothub-messagelocktimeout", _LOCK, "Seconds that the message is held: 5 to 300, 60.")
_SYSTEM: Final = (
    Parameter("iothub-messageid", str, "The message's id."),
    Parameter("iothub-correlationid", str, "What it answers."),
    Parameter("iothub-contenttype", str, "Of the body."),
    Parameter("iothub-contentencoding", str, "Of the body's text."),
)
_EXPIRY: Final = Parameter(
    "iothub-expiry",
    Annotated[str, Meta(extra_json_schema={"format": "date-time"})],
    "When it is worth nothing any more.",
)
_RECEIVED: Final = (
    ETAG._replace(text="The lock token, in quotes."),
    Parameter("iothub-sequencenumber", str, "Its place in the queue."),
    Parameter("iothub-deliverycount", str, "How often it was tried before."),
    Parameter("iothub-enqueuedtime", Time, "When it came."),
)
_UPLOADS: Final[tuple[type[HubError], ...]] = (UploadsOff, UnknownUpload, UploadExpired)


def _settled(what: str, name: str, parts: str = "") -> Mapping[str, Described]:
    """Ending the lock of a received message, either way."""
    return {
        f"{name}/settle{parts}": Described(
            f"Complete {what}",
            empty("It is gone."),
            query=(Parameter("reject", str, "Present, and not `false`: it goes to the dead letters instead."),),
            refusals=(LockLost,),
        ),
        f"{name}/abandon{parts}": Described(
            f"Abandon {what}", empty("It is back in the queue, one delivery older."), refusals=(LockLost,)
        ),
    }


def _of_device(what: str, parts: str) -> Mapping[str, Described]:
    """Telemetry out, messages in."""
    return {
        f"events/post{parts}": Described(
            f"Send telemetry of a {what}",
            empty("Every message is on disk."),
            text="One message, its properties `iothub-app-NAME` headers; or a batch, all of it or nothing.",
            body=Body(
                {
                    BYTES: None,
                    "application/vnd.microsoft.iothub.json": Annotated[list[BatchedMessage], Meta(min_length=1)],
                },
                HTTP_DEVICE_BODY.value,
                is_required=False,
            ),
            headers=(*_SYSTEM, _EXPIRY),
        ),
        f"devicebound/receive{parts}": Described(
            f"Receive a message to a {what}",
            {200: Answer("The oldest one, locked.", None, BYTES, _RECEIVED), 204: Answer("There is none.")},
            headers=(_LOCK_TIME,),
        ),
        **_settled(f"a message to a {what}", "devicebound", parts),
    }


def _send(what: str, refusals: tuple[type[HubError], ...]) -> Described:
    ack = Parameter("iothub-ack", Literal["none", "positive", "negative", "full"], "Which ends feedback tells of.")
    return Described(
        f"Send a message to a {what}",
        empty("It is on disk, and will be delivered."),
        text="Properties are `iothub-app-NAME` headers.",
        body=Body({BYTES: None}, HTTP_SERVICE_BODY.value, is_required=False),
        headers=(*_SYSTEM, _EXPIRY, ack),
        refusals=(*refusals, QueueFull),
    )


ROWS: Final[Mapping[str, Described]] = {
    **_of_device("device", ""),
    **_of_device("module", "/module"),
    "devicebound/send": _send("device", (DeviceNotFound,)),
    "devicebound/send/module": _send("module", (DeviceNotFound, ModuleNotFound)),
    "devicebound/purge": Described(
        "Empty the queue of a device", given(PurgeResult, "How many went."), refusals=(DeviceNotFound,)
    ),
    "admin/devicebound": Described(
        "Show the queue of a device",
        given(Queue, "Nothing is locked by looking."),
        query=(Parameter("module", str, "Of this module instead."),),
        refusals=(DeviceNotFound,),
    ),
    "feedback/receive": Described(
        "Receive feedback",
        {
            200: Answer(
                "A batch, locked.",
                list[FeedbackRecord],
                "application/vnd.microsoft.iothub.feedback.json",
                _RECEIVED,
            ),
            204: Answer("There is none."),
        },
        headers=(_LOCK_TIME,),
    ),
    **_settled("feedback", "feedback"),
    "filenotifications/receive": Described(
        "Receive a notification of a file",
        {200: Answer("The oldest one, locked.", FileNotification, BYTES, _RECEIVED), 204: Answer("There is none.")},
        headers=(_LOCK_TIME,),
    ),
    **_settled("a notification of a file", "filenotifications"),
    "files/begin": Described(
        "Ask where to upload a file",
        given(Upload, "Where."),
        body=Body({JSON: FileBody}, HTTP_DEVICE_BODY.value),
        refusals=(UploadsOff, TooManyUploads),
    ),
    "files/notify": Described(
        "Tell that an upload has ended",
        empty(),
        body=Body({JSON: UploadEndBody}, HTTP_DEVICE_BODY.value),
        refusals=_UPLOADS,
    ),
    "files/notify/id": Described(
        "Tell that this upload has ended",
        empty(),
        body=Body({JSON: UploadOutcomeBody}, HTTP_DEVICE_BODY.value),
        refusals=_UPLOADS,
    ),
    "files/list": Described(
        "List the files of a device",
        given(list[StoredFile], "By name."),
        query=(top(1000),),
        refusals=(UploadsOff,),
    ),
}
