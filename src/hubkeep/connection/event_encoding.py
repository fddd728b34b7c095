"""Events as they are stored and as readers get them. Implements ports.EventEncoding on the AMQP wire's pieces.

head: number of annotations (u8) and their encoded pairs. tail: ingress time in milliseconds (8 bytes), number of the
message's own annotations (u8), their length (u32), their pairs, then properties, application properties and body.
What only the log knows (sequence number, offset, enqueued time) is put in front at delivery.
Annotations: service-protocols 5.6. Telemetry without system properties has no properties section (proved-on-clients 3).
"""

import functools
import struct
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from hubkeep.errors import BadRequest
from hubkeep.model import Principal, SystemProperties
from hubkeep.model.message import NO_SYSTEM_PROPERTIES
from hubkeep.ports import Event
from hubkeep.wire.amqp import OWN, Symbol, Timestamp, decode_message
from hubkeep.wire.amqp.messages import (
    annotations_section,
    data_section_head,
    encode_annotation_pairs,
    encode_application_properties,
    encode_properties,
)

_OWN: Final = struct.Struct(">BI")
_INT64: Final = struct.Struct(">q")
NO_SECTIONS: Final = _OWN.pack(0, 0)
_HEADS: Final = 4096
_NO_FIELDS: Final = dict.fromkeys(
    ("message_id", "user_id", "correlation_id", "content_type", "content_encoding", "absolute_expiry_time")
)
_ENQUEUED_TIME: Final = b"\xa3\x13x-opt-enqueued-time\x83"
_INGRESS_TIME: Final = b"\xa3\x13iothub-enqueuedtime\x83"
_SEQUENCE: Final = b"\xa3\x15x-opt-sequence-number\x81"
_OFFSET: Final = b"\xa3\x0cx-opt-offset\xa1"


class AmqpEventEncoding:
    """See ports.EventEncoding."""

    __slots__ = ()

    def head(self, sender: Principal, *, source: str = "Telemetry", model_id: str | None = None) -> bytes:
        """Identity annotations, settled when the sender connects."""
        method = (
            f'{{"scope":"{sender.auth_scope}","type":"{sender.auth_type}",'
            '"issuer":"iothub","acceptingIpFilterRule":null}'
        )
        return _head(sender.device_id, sender.module_id, method, sender.generation_id, source, model_id or "")

    def sections(self, sender: Principal, system: SystemProperties, properties: Mapping[str, str | None]) -> bytes:
        """Everything of a tail that comes from properties. Raises BadRequest for what cannot be encoded."""
        if not properties and system == NO_SYSTEM_PROPERTIES:
            return NO_SECTIONS
        try:
            return _sections(sender, system, properties)
        except (OverflowError, UnicodeEncodeError) as error:
            raise BadRequest("A property cannot be encoded.", reason=str(error)) from None

    def tail(self, ingress: int, sections: bytes, body: bytes) -> bytes:
        """See ports.EventEncoding.tail."""
        return b"".join((_INT64.pack(ingress), sections, data_section_head(len(body)), body))

    def hub_head(self, device_id: str, module_id: str, source: str) -> bytes:
        """Annotations of an event that the hub tells by itself (service-protocols 6.5)."""
        return _hub_head(device_id, module_id, source)

    def hub_sections(self, system: SystemProperties, properties: Mapping[str, str | None]) -> bytes:
        """See ports.EventEncoding.hub_sections."""
        return _sections(None, system, properties)


def ingress_stamp(ingress: int) -> bytes:
    """What a tail begins with. ingress: Unix milliseconds."""
    return _INT64.pack(ingress)


@functools.lru_cache(_HEADS)  # over HTTPS a sender connects with each message
def _head(device_id: str, module_id: str, method: str, generation_id: str, source: str, model_id: str) -> bytes:
    pairs: dict[str, Any] = {"iothub-connection-device-id": device_id}
    if module_id:
        pairs["iothub-connection-module-id"] = module_id
    pairs["iothub-connection-auth-method"] = method
    pairs["iothub-connection-auth-generation-id"] = generation_id
    pairs["iothub-message-source"] = source
    if model_id:
        pairs["dt-dataschema"] = model_id
    return bytes((len(pairs),)) + encode_annotation_pairs(pairs)


def _hub_head(device_id: str, module_id: str, source: str) -> bytes:
    pairs = {"iothub-connection-device-id": device_id}
    if module_id:
        pairs["iothub-connection-module-id"] = module_id
    pairs["iothub-message-source"] = source
    return bytes((len(pairs),)) + encode_annotation_pairs(pairs)


def _sections(sender: Principal | None, system: SystemProperties, properties: Mapping[str, str | None]) -> bytes:
    """sender: None for the hub itself, whose events are addressed to nobody."""
    annotations = (
        ("dt-subject", system.subject),
        ("iothub-interface-id", system.interface_id),
        ("iothub-creation-time-utc", system.creation_time),
        ("iothub-message-schema", system.schema),
        ("iothub-outputname", system.output_name),
        ("iothub-operation", system.operation),
        ("iothub-ack", system.ack),
        ("Diagnostic-Id", system.diagnostic_id),
        ("Correlation-Context", system.diagnostic_context),
    )
    own = {name: value for name, value in annotations if value is not None}
    own_pairs = encode_annotation_pairs(own) if own else b""
    fields: dict[str, Any] = {
        "message_id": system.message_id,
        "user_id": system.user_id.encode() if system.user_id is not None else None,
        "correlation_id": system.correlation_id,
        "content_type": _symbol(system.content_type),
        "content_encoding": _symbol(system.content_encoding),
        "absolute_expiry_time": Timestamp(system.absolute_expiry) if system.absolute_expiry is not None else None,
    }
    if sender is not None and fields != _NO_FIELDS:
        fields["to"] = _events_of(sender.device_id, sender.module_id)
    application = encode_application_properties(dict(properties)) if properties else b""
    return b"".join((_OWN.pack(len(own), len(own_pairs)), own_pairs, encode_properties(fields), application))


@functools.lru_cache(_HEADS)
def _events_of(device_id: str, module_id: str) -> str:
    """Where an identity's telemetry goes to, as its events say."""
    module = f"/modules/{quote(module_id, safe='')}" if module_id else ""
    return f"/devices/{quote(device_id, safe='')}{module}/messages/events"


def _symbol(text: str | None) -> Any:
    """A symbol is ASCII; what is not stays a string, which readers take as well."""
    if text is None:
        return None
    return Symbol(text) if text.isascii() else text


def delivered(event: Event) -> bytes:
    """The message that a reader of the Event Hubs-compatible endpoint gets."""
    tail, head = event.tail, event.head
    own, own_size = _OWN.unpack_from(tail, 8)
    offset = b"%d" % event.offset
    body = b"".join(
        (
            _SEQUENCE,
            _INT64.pack(event.sequence),
            _OFFSET,
            bytes((len(offset),)),
            offset,
            _ENQUEUED_TIME,
            _INT64.pack(event.enqueued),
            _INGRESS_TIME,
            tail[:8],
            head[1:],
            tail[13 : 13 + own_size],
        )
    )
    return annotations_section(4 + head[0] + own, body) + tail[13 + own_size :]


def described(event: Event) -> dict[str, Any]:
    """An event for people: everything in it as JSON values, the body as text where it is UTF-8, else base64."""
    message = decode_message(delivered(event), OWN)
    body = message.body()
    try:
        content: dict[str, Any] = {"body": body.decode()}
    except UnicodeDecodeError:
        content = {"body_base64": _plain(body)}
    return {
        "sequence_number": event.sequence,
        "offset": str(event.offset),
        "enqueued": event.enqueued,
        "device": message.annotations.get("iothub-connection-device-id"),
        "module": message.annotations.get("iothub-connection-module-id"),
        "source": message.annotations.get("iothub-message-source"),
        "annotations": {str(name): _plain(value) for name, value in message.annotations.items()},
        "system_properties": {name: _plain(value) for name, value in message.properties.items()},
        "properties": {str(name): _plain(value) for name, value in message.application_properties.items()},
        **content,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    return str(value)
