"""MQTT 3.1.1 packets: what clients send, parsed; what the hub sends, built.

Source: MQTT Version 3.1.1 (OASIS Standard); requirement numbers stand at the checks. A topic stays bytes: device ids
may hold ``#`` and ``+`` (device-protocols 3.5), so topics are compared literally and never matched with wildcards.
"""

import struct
from typing import Final

import msgspec

from .fields import Fields, MqttError, checked_utf8, varint
from .properties import NO_PROPERTIES, Properties

CONNACK_ACCEPTED: Final = 0
CONNACK_WRONG_LEVEL: Final = 1
HAS_PROPERTIES: Final = 0x10
SUBACK_FAILURE: Final = 0x80
PINGRESP: Final = b"\xd0\x00"

_UINT16: Final = struct.Struct(">H")


class Will(msgspec.Struct, frozen=True):
    topic: bytes
    payload: bytes
    qos: int
    retain: bool
    properties: Properties = NO_PROPERTIES


class Connect(msgspec.Struct, frozen=True):
    """username, password: None when the flag is not set. keep_alive: seconds, 0 for none.

    level: 4 for MQTT 3.1.1, 5 for MQTT 5. clean_session: Clean Start in MQTT 5. properties: of MQTT 5.
    """

    client_id: str
    clean_session: bool
    keep_alive: int
    username: str | None
    password: bytes | None
    will: Will | None
    level: int = 4
    properties: Properties = NO_PROPERTIES

    def __repr__(self) -> str:
        return f"Connect({self.client_id!r}, {self.username!r}, keep_alive={self.keep_alive})"


class Publish(msgspec.Struct, frozen=True, gc=False):
    """flags: the low half of the first byte (dup 8, qos 6, retain 1). packet_id: two bytes as sent, empty for QoS 0.

    properties: of MQTT 5; None in MQTT 3.1.1. flags also holds HAS_PROPERTIES when they say more than an alias, so that
    one test finds every publish whose topic does not tell all.
    """

    topic: bytes
    payload: bytes
    flags: int
    packet_id: bytes
    properties: Properties | None = None

    @property
    def dup(self) -> bool:
        return bool(self.flags & 8)

    @property
    def retain(self) -> bool:
        return bool(self.flags & 1)

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3


class PubAck(msgspec.Struct, frozen=True, gc=False):
    """reason: of MQTT 5; 0x80 and above mean that the message was not taken."""

    packet_id: int
    reason: int = 0


class Subscribe(msgspec.Struct, frozen=True):
    """filters: pairs of topic filter and requested QoS, in order."""

    packet_id: int
    filters: tuple[tuple[bytes, int], ...]


class Unsubscribe(msgspec.Struct, frozen=True):
    packet_id: int
    filters: tuple[bytes, ...]


class Disconnect(msgspec.Struct, frozen=True):
    """reason, properties: of MQTT 5; 0x04 asks for the will to be sent all the same."""

    reason: int = 0
    properties: Properties = NO_PROPERTIES


class PingRequest(msgspec.Struct, frozen=True):
    pass


Event = Connect | Publish | PubAck | Subscribe | Unsubscribe | Disconnect


def parse(first: int, data: bytes, at: int, end: int) -> Event | PingRequest:
    """One packet: ``first`` is its first byte, its body lies in ``data[at:end]``. Raises MqttError."""
    kind, flags = first >> 4, first & 0x0F
    if kind == 3:
        return parse_publish(flags, data, at, end)
    if flags != (2 if kind in {8, 10} else 0):
        raise MqttError(f"fixed header flags {flags} in packet type {kind}", "MQTT-2.2.2-2")
    fields = Fields(data, at, end)
    if kind == 12:
        fields.finish()
        return PingRequest()
    if kind == 4:
        packet_id = fields.uint16()
        fields.finish()
        return PubAck(packet_id)
    if kind == 8:
        return _subscribe(fields)
    if kind == 10:
        return _unsubscribe(fields)
    if kind == 14:
        fields.finish()
        return Disconnect()
    if kind == 1:
        raise MqttError("second CONNECT", "MQTT-3.1.0-2")
    if kind in {5, 6, 7}:
        raise MqttError("QoS 2 is not offered", "L-M11")
    raise MqttError(f"packet type {kind} from a client", "L-M5" if kind in {0, 15} else "L-M11")


def parse_publish(flags: int, data: bytes, at: int, end: int) -> Publish:
    """The hot path: topic as bytes, payload as bytes. QoS 2 and 3 are refused (L-M13)."""
    topic_at = at + 2
    if topic_at > end:
        raise MqttError("a field passes the end of its packet", "L-M6")
    topic_end = topic_at + (data[at] << 8 | data[at + 1])
    if topic_end > end:
        raise MqttError("a field passes the end of its packet", "L-M6")
    topic = data[topic_at:topic_end]
    if not topic.isascii() or 0 in topic:
        checked_utf8(topic)
    if not flags & 6:
        if flags & 8:
            raise MqttError("DUP with QoS 0", "MQTT-3.3.1-2")
        return Publish(topic, data[topic_end:end], flags, b"")
    if flags & 4:
        raise MqttError("QoS 2 or 3", "L-M13")
    payload_at = topic_end + 2
    if payload_at > end:
        raise MqttError("a field passes the end of its packet", "L-M6")
    packet_id = data[topic_end:payload_at]
    if packet_id == b"\0\0":
        raise MqttError("packet id 0", "MQTT-2.3.1-1")
    return Publish(topic, data[payload_at:end], flags, packet_id)


def connect_level(fields: Fields) -> int:
    """The protocol level that a CONNECT begins with: 4 or 5. Raises MqttError for any other protocol (L-M4)."""
    name = fields.binary()
    level = fields.uint8()
    if name != b"MQTT":
        raise MqttError("protocol name", "L-M4", connack=CONNACK_WRONG_LEVEL if name == b"MQIsdp" else None)
    if level not in {4, 5}:
        # a client of a later version reads the form of 5.0: reason 0x84 and no properties
        raise MqttError(f"protocol level {level}", "L-M4", connack=0x84 if level > 5 else CONNACK_WRONG_LEVEL)
    return level


def parse_connect(fields: Fields) -> Connect:
    """What follows the protocol level of a CONNECT of MQTT 3.1.1."""
    flags = fields.uint8()
    if flags & 1:
        raise MqttError("reserved flag of CONNECT", "MQTT-3.1.2-3")
    keep_alive = fields.uint16()
    client_id = fields.text()
    will = None
    will_flags = flags & 0b00111000
    if flags & 4:
        qos = flags >> 3 & 3
        if qos == 3:
            raise MqttError("will QoS 3", "MQTT-3.1.2-14")
        topic = fields.utf8()
        will = Will(topic, fields.binary(), qos, bool(flags & 0x20))
    elif will_flags:
        raise MqttError("will QoS or retain without a will", "MQTT-3.1.2-11")
    username = fields.text() if flags & 0x80 else None
    if flags & 0x40 and username is None:
        raise MqttError("password without user name", "MQTT-3.1.2-22", connack=5)
    password = fields.binary() if flags & 0x40 else None
    fields.finish()
    return Connect(client_id, bool(flags & 2), keep_alive, username, password, will)


def _subscribe(fields: Fields) -> Subscribe:
    packet_id = fields.uint16()
    if not packet_id:
        raise MqttError("packet id 0", "MQTT-2.3.1-1")
    filters: list[tuple[bytes, int]] = []
    while fields.at < fields.end:
        topic_filter = fields.utf8()
        qos = fields.uint8()
        if qos > 2 or not topic_filter:
            raise MqttError("requested QoS or empty filter", "L-M16")
        filters.append((topic_filter, qos))
    if not filters:
        raise MqttError("SUBSCRIBE without a filter", "MQTT-3.8.3-3")
    return Subscribe(packet_id, tuple(filters))


def _unsubscribe(fields: Fields) -> Unsubscribe:
    packet_id = fields.uint16()
    if not packet_id:
        raise MqttError("packet id 0", "MQTT-2.3.1-1")
    filters: list[bytes] = []
    while fields.at < fields.end:
        filters.append(fields.utf8())
    if not filters:
        raise MqttError("UNSUBSCRIBE without a filter", "MQTT-3.10.3-2")
    return Unsubscribe(packet_id, tuple(filters))


def connack(code: int, *, session_present: bool = False) -> bytes:
    """Return codes: table 3.1. 0x84 and above answer a client of MQTT 5 in its own form."""
    if code >= 0x80:
        return bytes((0x20, 3, 0, code, 0))
    return bytes((0x20, 2, int(session_present), code))


def puback(packet_id: bytes) -> bytes:
    """packet_id: the two bytes as they came."""
    return b"\x40\x02" + packet_id


def suback(packet_id: int, codes: bytes) -> bytes:
    return b"\x90" + varint(2 + len(codes)) + _UINT16.pack(packet_id) + codes


def unsuback(packet_id: int) -> bytes:
    return b"\xb0\x02" + _UINT16.pack(packet_id)


def publish(topic: bytes, payload: bytes, *, packet_id: int = 0, dup: bool = False) -> bytes:
    """QoS 1 with a packet id, QoS 0 without."""
    first = 0x30 | (0x02 if packet_id else 0) | (0x08 if dup else 0)
    number = _UINT16.pack(packet_id) if packet_id else b""
    size = 2 + len(topic) + len(number) + len(payload)
    return b"".join((bytes((first,)), varint(size), _UINT16.pack(len(topic)), topic, number, payload))
