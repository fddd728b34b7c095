"""Bare messages: sections to values and back, batches, and the pieces that the telemetry path encodes once.

Source: AMQP 1.0 part 3, 3.2 (message format).
"""

import functools
import struct
from typing import Any, Final

from .types import NESTING, AmqpError, Described, Symbol, compound, decode, encode

BATCH_FORMAT: Final = 0x80013700
_HEADER, _DELIVERY, _ANNOTATIONS, _PROPERTIES, _APPLICATION, _DATA, _SEQUENCE, _VALUE, _FOOTER = range(0x70, 0x79)
_SYMBOLS: Final = {
    "amqp:header:list": _HEADER,
    "amqp:delivery-annotations:map": _DELIVERY,
    "amqp:message-annotations:map": _ANNOTATIONS,
    "amqp:properties:list": _PROPERTIES,
    "amqp:application-properties:map": _APPLICATION,
    "amqp:data:binary": _DATA,
    "amqp:amqp-sequence:list": _SEQUENCE,
    "amqp:amqp-value:*": _VALUE,
    "amqp:footer:map": _FOOTER,
}
PROPERTY_NAMES: Final = (
    "message_id",
    "user_id",
    "to",
    "subject",
    "reply_to",
    "correlation_id",
    "content_type",
    "content_encoding",
    "absolute_expiry_time",
    "creation_time",
    "group_id",
    "group_sequence",
    "reply_to_group_id",
)
_U32 = struct.Struct(">I")
_SECTION_START: Final = b"\x00\x53"  # a descriptor as everybody writes it
_PLACES: Final = {name: place for place, name in enumerate(PROPERTY_NAMES)}


class AmqpMessage:
    """A decoded message. properties: by the names of PROPERTY_NAMES, only those that were sent.

    data: the data sections in order (None when the body is another kind); value: the body of an amqp-value section.
    """

    __slots__ = (
        "annotations",
        "application_properties",
        "data",
        "delivery_annotations",
        "has_value",
        "properties",
        "value",
    )

    def __init__(self) -> None:
        self.annotations: dict[Any, Any] = {}
        self.delivery_annotations: dict[Any, Any] = {}
        self.properties: dict[str, Any] = {}
        self.application_properties: dict[Any, Any] = {}
        self.data: list[bytes] | None = None
        self.value: Any = None
        self.has_value = False

    def body(self) -> bytes:
        """The body as bytes: data sections joined, or a value that is text or binary. Raises AmqpError for others."""
        if self.data is not None:
            return self.data[0] if len(self.data) == 1 else b"".join(self.data)
        if not self.has_value or self.value is None:
            return b""
        if isinstance(self.value, str):
            return self.value.encode()
        if isinstance(self.value, bytes):
            return self.value
        raise AmqpError("amqp:not-implemented", "a body of this kind")


def decode_message(payload: bytes, depth: int = NESTING) -> AmqpMessage:
    """All sections of one message. depth: see ``decode``. Raises AmqpError decode-error."""
    message = AmqpMessage()
    at, end = 0, len(payload)
    while at < end:
        if payload.startswith(_SECTION_START, at) and at + 2 < end:  # needs no decoding
            kind: Any = payload[at + 2]
            value, at = decode(payload, at + 3, end, depth - 1)
        else:
            section, at = decode(payload, at, end, depth)
            if not isinstance(section, Described):
                raise AmqpError("amqp:decode-error", "a message section without a descriptor")
            kind, value = section.descriptor, section.value
            if isinstance(kind, Symbol):
                kind = _SYMBOLS.get(kind, -1)
        if kind == _DATA:
            if not isinstance(value, bytes):
                raise AmqpError("amqp:decode-error", "a data section that is not binary")
            if message.data is None:
                message.data = []
            message.data.append(value)
        elif kind == _VALUE:
            message.value, message.has_value = value, True
        elif kind == _PROPERTIES:
            if not isinstance(value, list) or len(value) > len(PROPERTY_NAMES):
                raise AmqpError("amqp:decode-error", "a properties section that is no list")
            message.properties = {
                name: each for name, each in zip(PROPERTY_NAMES, value, strict=False) if each is not None
            }
        elif kind in {_ANNOTATIONS, _APPLICATION, _DELIVERY, _FOOTER}:
            if not isinstance(value, dict):
                raise AmqpError("amqp:decode-error", "a section that is no map")
            if kind == _ANNOTATIONS:
                message.annotations = value
            elif kind == _APPLICATION:
                message.application_properties = value
            elif kind == _DELIVERY:
                message.delivery_annotations = value
        elif kind == _SEQUENCE:
            message.value, message.has_value = value, True
        elif kind != _HEADER:
            raise AmqpError("amqp:decode-error", "an unknown message section")
    return message


def unbatched(payload: bytes) -> list[bytes]:
    """The messages of a batch (message-format 0x80013700): each data section holds one encoded message."""
    return decode_message(payload).data or []


def message(
    *,
    annotations: dict[Any, Any] | None = None,
    properties: dict[str, Any] | None = None,
    application_properties: dict[Any, Any] | None = None,
    value: Any = None,
    data: bytes | None = None,
) -> bytes:
    """Encode a message. With ``data`` the body is a data section, else an amqp-value section of ``value``."""
    parts = []
    if annotations:
        parts.append(b"\x00\x53\x72" + encode(annotations))
    if properties:
        parts.append(encode_properties(properties))
    if application_properties:
        parts.append(encode_application_properties(application_properties))
    parts.append(encode_data_section(data) if data is not None else b"\x00\x53\x77" + encode(value))
    return b"".join(parts)


def encode_properties(properties: dict[str, Any]) -> bytes:
    """The properties section; nothing at all when there is none (a reader decodes fields whenever it is there)."""
    parts, count = [b"\x40"] * len(PROPERTY_NAMES), 0
    for name, value in properties.items():
        if value is not None:
            place = _PLACES[name]
            parts[place] = encode(value)
            count = max(count, place + 1)
    return b"\x00\x53\x73" + compound(0xC0, count, b"".join(parts[:count])) if count else b""


def encode_application_properties(properties: dict[Any, Any]) -> bytes:
    """The application-properties section, nothing when there are none."""
    return b"\x00\x53\x74" + encode(properties) if properties else b""


def encode_data_section(payload: bytes) -> bytes:
    return data_section_head(len(payload)) + payload


@functools.lru_cache(1024)  # devices repeat their sizes
def data_section_head(size: int) -> bytes:
    """What stands before ``size`` bytes of a data section."""
    if size < 256:
        return bytes((0x00, 0x53, 0x75, 0xA0, size))
    return b"\x00\x53\x75\xb0" + _U32.pack(size)


def encode_annotation_pairs(annotations: dict[str, Any]) -> bytes:
    """Keys as symbols, each followed by its value: entries of an annotations map without its head."""
    return b"".join([encode(Symbol(key)) + encode(value) for key, value in annotations.items()])


def annotations_section(pairs: int, body: bytes) -> bytes:
    """A message-annotations section around encoded pairs."""
    return b"\x00\x53\x72" + compound(0xC1, 2 * pairs, body)


def delivery_annotations_section(annotations: dict[str, Any]) -> bytes:
    return b"\x00\x53\x71" + encode({Symbol(key): value for key, value in annotations.items()})
