"""The device surface over HTTPS: telemetry, single and in batches. Source: device-protocols 5.1."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from hubkeep.errors import BadRequest
from hubkeep.limits import HTTP_DEVICE_BODY
from hubkeep.messaging.device_to_cloud import DeviceToCloud
from hubkeep.model import Message, SystemProperties
from hubkeep.model.message import NO_SYSTEM_PROPERTIES

from ..sessions import Sessions
from ..timestamps import milliseconds
from .answers import no_content
from .bodies import from_base64, strict_json
from .exchange import Endpoint, Exchange

_BATCH: Final = "application/vnd.microsoft.iothub.json"
_APPLICATION: Final = "iothub-app-"
_AT_ONCE: Final = 200  # messages of a batch read before others get their turn
_EXPIRY: Final = "iothub-expiry"
_OURS: Final = frozenset({b"iothub-", b"dt-subj"})  # how the names of headers begin that say something of a message
_SYSTEM: Final = {
    "iothub-to": "to",
    "iothub-messageid": "message_id",
    "iothub-correlationid": "correlation_id",
    "iothub-userid": "user_id",
    "iothub-contenttype": "content_type",
    "iothub-contentencoding": "content_encoding",
    "iothub-ack": "ack",
    "iothub-operation": "operation",
    "iothub-messageschema": "schema",
    "iothub-creationtimeutc": "creation_time",
    "iothub-creation-time-utc": "creation_time",
    "iothub-interface-id": "interface_id",
    "dt-subject": "subject",
}


class DeviceSurface:
    """Handlers for devices. accepted: messages taken since the start."""

    def __init__(self, to_cloud: DeviceToCloud, sessions: Sessions) -> None:
        self._to_cloud, self._sessions = to_cloud, sessions
        self.accepted = 0

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("events/post", self.post_events, "device", dated=False),
            Endpoint("events/post/module", self.post_events, "device", dated=False),
        )

    async def post_events(self, exchange: Exchange) -> web.StreamResponse:
        """POST .../messages/events: 204 once every message is on disk, all or none."""
        principal = exchange.principal
        assert principal is not None
        body = await exchange.body(HTTP_DEVICE_BODY.value)
        content_type = exchange.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if content_type == _BATCH:
            messages = await _from_items(_array(strict_json(body)))
        else:
            messages = [message_from_headers(body, exchange.request.raw_headers)]
        await self._to_cloud.store(self._to_cloud.sender(principal), messages)
        self.accepted += len(messages)
        self._sessions.touch(principal)
        return no_content()


def message_from_headers(body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Message:
    """A message whose properties are the headers of its request. Raises BadRequest for a date that is none."""
    given = {_text(name): _text(value) for name, value in headers if name[:7].lower() in _OURS}
    return _message(body, given, strangers=False)


def _array(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise BadRequest("A batch is a JSON array of messages.")
    return value


async def _from_items(items: list[Any]) -> list[Message]:
    """A body may hold 20,000 messages of no bytes: others get their turn in between (L-O3)."""
    messages: list[Message] = []
    for start in range(0, len(items), _AT_ONCE):
        if start:
            await asyncio.sleep(0)
        messages += map(_from_item, items[start : start + _AT_ONCE])
    return messages


def _from_item(item: Any) -> Message:
    """One message of a batch. Raises BadRequest."""
    if not isinstance(item, dict) or not isinstance(item.get("body"), str):
        raise BadRequest("Each message of a batch is an object with a body of text.")
    text, is_base64 = item["body"], item.get("base64Encoded", True)
    if not isinstance(is_base64, bool):
        raise BadRequest("base64Encoded is true or false.")
    properties = {} if item.get("properties") is None else item["properties"]
    if not isinstance(properties, dict) or any(isinstance(each, dict | list) for each in properties.values()):
        raise BadRequest("The properties of a message are an object of plain values.")
    body = from_base64(text, "The body of a message") if is_base64 else text.encode()
    return _message(body, {name: _plain(value) for name, value in properties.items()}, strangers=True)


def _message(body: bytes, given: Mapping[str, str], *, strangers: bool) -> Message:
    """strangers: a name without prefix that is no system property is an application property."""
    system: dict[str, str | int] = {}
    properties: dict[str, str | None] = {}
    for name, value in given.items():
        lower = name.lower()
        if lower == _EXPIRY:
            system["absolute_expiry"] = milliseconds(value)
        elif (field := _SYSTEM.get(lower)) is not None:
            system[field] = value
        elif lower.startswith(_APPLICATION):
            properties[name[len(_APPLICATION) :]] = value
        elif strangers:
            properties[name] = value
    known = msgspec.convert(system, SystemProperties) if system else NO_SYSTEM_PROPERTIES
    return Message(body=body, system=known, properties=properties)


def _plain(value: Any) -> str:
    """As JSON writes it; null is empty text."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
