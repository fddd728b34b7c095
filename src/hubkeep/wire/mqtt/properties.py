"""Properties of MQTT 5 packets (MQTT 5, 2.2.2): which there are, what they hold, and where each may stand."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from .fields import Fields, MqttError, varint

Place = Literal["CONNECT", "will", "PUBLISH", "PUBACK", "SUBSCRIBE", "UNSUBSCRIBE", "DISCONNECT"]
Value = int | str | bytes

_USER_PROPERTY: Final = 0x26
# each takes an identifier and a length of its own: no more of them fit into the packets the hub reads
_READ: Final[Mapping[str, Callable[[Fields], Value]]] = {
    "byte": Fields.uint8,
    "uint16": Fields.uint16,
    "uint32": Fields.uint32,
    "varint": Fields.varint,
    "text": Fields.text,
    "binary": Fields.binary,
}


class _Property(NamedTuple):
    name: str
    kind: str
    places: frozenset[str]  # packets of a client; the hub's own packets are its own affair


def _row(name: str, kind: str, *places: Place) -> _Property:
    return _Property(name, kind, frozenset(places))


# MQTT 5, table 2-4
_PROPERTIES: Final = {
    0x01: _row("payload_format", "byte", "PUBLISH", "will"),
    0x02: _row("message_expiry", "uint32", "PUBLISH", "will"),
    0x03: _row("content_type", "text", "PUBLISH", "will"),
    0x08: _row("response_topic", "text", "PUBLISH", "will"),
    0x09: _row("correlation_data", "binary", "PUBLISH", "will"),
    0x0B: _row("subscription_identifier", "varint", "SUBSCRIBE"),
    0x11: _row("session_expiry", "uint32", "CONNECT", "DISCONNECT"),
    0x12: _row("assigned_client_id", "text"),
    0x13: _row("server_keep_alive", "uint16"),
    0x15: _row("authentication_method", "text", "CONNECT"),
    0x16: _row("authentication_data", "binary", "CONNECT"),
    0x17: _row("request_problem_information", "byte", "CONNECT"),
    0x18: _row("will_delay", "uint32", "will"),
    0x19: _row("request_response_information", "byte", "CONNECT"),
    0x1F: _row("reason_string", "text", "PUBACK", "DISCONNECT"),
    0x21: _row("receive_maximum", "uint16", "CONNECT"),
    0x22: _row("topic_alias_maximum", "uint16", "CONNECT"),
    0x23: _row("topic_alias", "uint16", "PUBLISH"),
    0x24: _row("maximum_qos", "byte"),
    0x25: _row("retain_available", "byte"),
    0x27: _row("maximum_packet_size", "uint32", "CONNECT"),
    0x28: _row("wildcard_subscriptions_available", "byte"),
    0x29: _row("subscription_identifiers_available", "byte"),
    0x2A: _row("shared_subscriptions_available", "byte"),
}
_BY_NAME: Final = {row.name: (identifier, row.kind) for identifier, row in _PROPERTIES.items()}
_USER_PLACES: Final = frozenset({"CONNECT", "will", "PUBLISH", "PUBACK", "SUBSCRIBE", "UNSUBSCRIBE", "DISCONNECT"})
# values that the standard gives no meaning (3.1.2.11, 3.3.2.3)
_NOT_ZERO: Final = frozenset({"receive_maximum", "maximum_packet_size"})
_TRUTHS: Final = frozenset({"payload_format", "request_problem_information", "request_response_information"})


class Properties(msgspec.Struct, frozen=True):
    """values: by name, as in the table above. user: pairs in their order, names may repeat."""

    values: dict[str, Value] = {}
    user: tuple[tuple[str, str], ...] = ()

    def number(self, name: str, default: int = 0) -> int:
        value = self.values.get(name, default)
        assert isinstance(value, int)
        return value

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        assert value is None or isinstance(value, str)
        return value

    def binary(self, name: str) -> bytes | None:
        value = self.values.get(name)
        assert value is None or isinstance(value, bytes)
        return value


NO_PROPERTIES: Final = Properties()


def parse_properties(fields: Fields, place: Place) -> Properties:
    """The properties that begin here. Raises MqttError: unknown, not for this packet, or twice (L-M7)."""
    length = fields.varint()
    if not length:
        return NO_PROPERTIES
    inner = Fields(fields.data, fields.at, fields.at + length)
    fields.take(length)
    values: dict[str, Value] = {}
    user: list[tuple[str, str]] = []
    while inner.at < inner.end:
        identifier = inner.varint()
        if identifier == _USER_PROPERTY and place in _USER_PLACES:
            user.append((inner.text(), inner.text()))
            continue
        row = _PROPERTIES.get(identifier)
        if row is None:
            raise MqttError(f"property 0x{identifier:02x}", "L-M7")
        if place not in row.places:
            raise MqttError(f"property {row.name} in {place}", "MQTT5-2.2.2.2")
        if row.name in values:
            raise MqttError(f"property {row.name} stands twice", "MQTT5-2.2.2.2")
        value = _READ[row.kind](inner)
        if (row.name in _NOT_ZERO and not value) or (row.name in _TRUTHS and value not in {0, 1}):
            raise MqttError(f"property {row.name} is {value!r}", "MQTT5-2.2.2.2")
        values[row.name] = value
    return Properties(values, tuple(user))


def encode_properties(user: tuple[tuple[str, str], ...] = (), **values: Any) -> bytes:
    """With their length in front. values: None is left out."""
    out = bytearray()
    for name, value in values.items():
        if value is None:
            continue
        identifier, kind = _BY_NAME[name]
        out.append(identifier)
        if kind == "varint":
            out += varint(value)
        elif kind in {"text", "binary"}:
            out += _prefixed(value.encode() if kind == "text" else value)
        else:
            out += value.to_bytes({"byte": 1, "uint16": 2, "uint32": 4}[kind])
    for name, value in user:
        out.append(_USER_PROPERTY)
        out += _prefixed(name.encode()) + _prefixed(value.encode())
    return varint(len(out)) + bytes(out)


def _prefixed(raw: bytes) -> bytes:
    return len(raw).to_bytes(2) + raw
