"""What a device may say and hear over MQTT: user name, topics and property bag (device-protocols 3.1, 3.6, 3.7)."""

from typing import NamedTuple

import msgspec

from hubkeep.errors import Unauthorized
from hubkeep.model import Message, SystemProperties
from hubkeep.wire.sas import percent_decoded

from ..timestamps import milliseconds

_SYSTEM = {
    "$.mid": "message_id",
    "$.cid": "correlation_id",
    "$.uid": "user_id",
    "$.to": "to",
    "$.ct": "content_type",
    "$.ce": "content_encoding",
    "$.ctime": "creation_time",
    "iothub-creation-time-utc": "creation_time",
    "$.sub": "subject",
    "$.ifid": "interface_id",
    "$.schema": "schema",
    "iothub-message-schema": "schema",
    "$.on": "output_name",
    "iothub-operation": "operation",
    "iothub-ack": "ack",
    "ack": "ack",
    "$.diagid": "diagnostic_id",
    "$.diagctx": "diagnostic_context",
}

METHODS = b"$iothub/methods/POST/"
_COMMON_FILTERS = frozenset({METHODS + b"#", b"$iothub/twin/res/#", b"$iothub/twin/PATCH/properties/desired/#"})


class UserName(NamedTuple):
    """What a CONNECT says of itself. Nothing here is proven."""

    host: str
    device_id: str
    module_id: str
    client_type: str
    model_id: str | None


def parse_user_name(user_name: str, client_id: str) -> UserName:
    """All forms of device-protocols 3.1. Raises Unauthorized when it names another identity than the client id."""
    host, slash, rest = user_name.partition("/")
    if not slash or not rest.startswith(client_id):
        raise Unauthorized(
            cause="user-name-of-another" if rest else "user-name-malformed",
            reason=f"the user name does not name the client id {client_id!r} behind the host",
            remedy="user name: {host}/{client id}/?api-version=2021-04-12",
        )
    rest = rest[len(client_id) :]
    if rest and rest[0] not in "/?":
        raise Unauthorized(
            cause="user-name-of-another",
            reason=f"the user name names another identity than the client id {client_id!r}",
        )
    parameters = rest.lstrip("/?").split("&")
    first = parameters[0]
    if first and ("/" in first.partition("=")[0] or "=" not in first):
        # one tolerated exception: an extra segment in front of the parameters, as some module containers send it
        extra, _, first = first.partition("/")
        if "=" in extra or "=" not in first or "/" in first.partition("=")[0]:
            raise Unauthorized(
                cause="user-name-of-another",
                reason=f"the user name names another identity than the client id {client_id!r}",
            )
        parameters[0] = first
    values: dict[str, str] = {}
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        values.setdefault(name, percent_decoded(value))
    device_id, _, module_id = client_id.partition("/")
    return UserName(host, device_id, module_id, values.get("DeviceClientType", "")[:256], values.get("model-id"))


def telemetry_topic(device_id: str, module_id: str) -> bytes:
    """Prefix of the topics that this identity may publish telemetry to, without the trailing slash."""
    path = f"{device_id}/modules/{module_id}" if module_id else device_id
    return f"devices/{path}/messages/events".encode()


def may_subscribe(topic_filter: bytes, device_id: str, module_id: str) -> bool:
    """Whether a filter is one of device-protocols 3.6 for this identity, or a narrower one for methods.

    Compared literally: ``#`` and ``+`` may occur in ids.
    """
    if topic_filter in _COMMON_FILTERS:
        return True
    if topic_filter.startswith(METHODS) and topic_filter.endswith(b"/#"):
        return True
    if not module_id:
        return topic_filter == f"devices/{device_id}/messages/devicebound/#".encode()
    base = f"devices/{device_id}/modules/{module_id}"
    return topic_filter in {
        each.encode() for each in (f"{base}/messages/devicebound/#", f"{base}/inputs/#", f"{base}/#")
    }


def request_topic(topic: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """A ``$iothub`` or ``$dps`` topic without its closing slash, and what follows its question mark, undecoded."""
    path, _, query = topic.partition(b"?")
    parameters: dict[bytes, bytes] = {}
    for item in query.split(b"&") if query else ():
        name, _, value = item.partition(b"=")
        parameters.setdefault(name, value)
    return path.removesuffix(b"/"), parameters


def parse_bag(rest: bytes) -> tuple[SystemProperties, dict[str, str | None]]:
    """The property bag: what follows ``/messages/events`` in the topic. Tolerant (3.7), linear in its length.

    Raises BadRequest for an ``$.exp`` that is no date.
    """
    text = rest.decode().removeprefix("/").removeprefix("?").removesuffix("/")
    system: dict[str, str | int] = {}
    properties: dict[str, str | None] = {}
    for item in text.split("&") if text else ():
        if not item:
            continue
        name, equals, value = item.partition("=")
        name, value = percent_decoded(name), percent_decoded(value)
        if name == "$.exp":
            system["absolute_expiry"] = milliseconds(value)
        elif (field := _SYSTEM.get(name)) is not None:
            system[field] = value
        else:
            properties[name] = value if equals else None
    return msgspec.convert(system, SystemProperties), properties


def with_flags(message: Message, *, retain: bool, dup: bool) -> Message:
    """RETAIN and DUP show as application properties (device-protocols 3.8)."""
    extra: dict[str, str | None] = {}
    if retain:
        extra["mqtt-retain"] = "true"
    if dup:
        extra["mqtt-dup"] = "true"
    return msgspec.structs.replace(message, properties={**message.properties, **extra}) if extra else message
