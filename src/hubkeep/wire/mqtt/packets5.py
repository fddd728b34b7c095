"""MQTT 5 packets where they differ from 3.1.1: reasons and properties. Source: MQTT Version 5.0 (OASIS Standard)."""

from typing import Any, Final

import msgspec

from .fields import Fields, MqttError, varint
from .packets import HAS_PROPERTIES, Connect, Disconnect, PingRequest, PubAck, Publish, Subscribe, Unsubscribe, Will
from .properties import NO_PROPERTIES, Properties, encode_properties, parse_properties

SUCCESS: Final = 0x00
DISCONNECT_WITH_WILL: Final = 0x04
Packet = Publish | PubAck | Subscribe | Unsubscribe | Disconnect | PingRequest


def parse_connect(fields: Fields) -> Connect:
    """What follows the protocol level of a CONNECT (3.1.2.3 on)."""
    flags = fields.uint8()
    if flags & 1:
        raise MqttError("reserved flag of CONNECT", "MQTT5-3.1.2-3")
    keep_alive = fields.uint16()
    properties = parse_properties(fields, "CONNECT")
    client_id = fields.text()
    will = None
    if flags & 4:
        qos = flags >> 3 & 3
        if qos == 3:
            raise MqttError("will QoS 3", "MQTT5-3.1.2-12")
        will_properties = parse_properties(fields, "will")
        topic = fields.utf8()
        will = Will(topic, fields.binary(), qos, bool(flags & 0x20), will_properties)
    elif flags & 0b00111000:
        raise MqttError("will QoS or retain without a will", "MQTT5-3.1.2-11")
    username = fields.text() if flags & 0x80 else None
    password = fields.binary() if flags & 0x40 else None
    fields.finish()
    return Connect(client_id, bool(flags & 2), keep_alive, username, password, will, 5, properties)


def parse(first: int, data: bytes, at: int, end: int) -> Packet:
    """One packet behind CONNECT: ``first`` is its first byte, its body lies in ``data[at:end]``. Raises MqttError."""
    kind, flags = first >> 4, first & 0x0F
    fields = Fields(data, at, end)
    if kind == 3:
        return _publish(flags, fields)
    if flags != (2 if kind in {8, 10} else 0):
        raise MqttError(f"fixed header flags {flags} in packet type {kind}", "MQTT5-2.1.3-1")
    match kind:
        case 12:
            fields.finish()
            return PingRequest()
        case 4:
            return _puback(fields)
        case 8:
            return _subscribe(fields)
        case 10:
            return _unsubscribe(fields)
        case 14:
            return _disconnect(fields)
        case 1:
            raise MqttError("second CONNECT", "MQTT-3.1.0-2")
        case 5 | 6 | 7:
            raise MqttError("QoS 2 is not offered", "L-M11")
        case 15:
            raise MqttError("AUTH without an authentication method", "L-M11")
        case _:
            raise MqttError(f"packet type {kind} from a client", "L-M5" if kind == 0 else "L-M11")


def _publish(flags: int, fields: Fields) -> Publish:
    topic = fields.utf8()
    if flags & 4:
        raise MqttError("QoS 2 or 3", "L-M13")
    packet_id = b""
    if flags & 2:
        packet_id = fields.take(2)
        if packet_id == b"\0\0":
            raise MqttError("packet id 0", "MQTT-2.3.1-1")
    elif flags & 8:
        raise MqttError("DUP with QoS 0", "MQTT-3.3.1-2")
    properties = parse_properties(fields, "PUBLISH")
    if properties.user or properties.values.keys() - {"topic_alias"}:
        flags |= HAS_PROPERTIES
    return Publish(topic, fields.rest(), flags, packet_id, properties)


def _puback(fields: Fields) -> PubAck:
    packet_id = fields.uint16()
    reason = fields.uint8() if fields.at < fields.end else SUCCESS
    if fields.at < fields.end:
        parse_properties(fields, "PUBACK")
    fields.finish()
    return PubAck(packet_id, reason)


def _subscribe(fields: Fields) -> Subscribe:
    packet_id = fields.uint16()
    if not packet_id:
        raise MqttError("packet id 0", "MQTT-2.3.1-1")
    if "subscription_identifier" in parse_properties(fields, "SUBSCRIBE").values:
        raise MqttError("subscription identifiers are not offered", "MQTT5-3.8.2.1.2")
    filters: list[tuple[bytes, int]] = []
    while fields.at < fields.end:
        topic_filter = fields.utf8()
        options = fields.uint8()
        if options & 0xC0 or options & 3 == 3 or options >> 4 & 3 == 3 or not topic_filter:
            raise MqttError("subscription options or an empty filter", "L-M16")
        filters.append((topic_filter, options & 3))
    if not filters:
        raise MqttError("SUBSCRIBE without a filter", "MQTT-3.8.3-3")
    return Subscribe(packet_id, tuple(filters))


def _unsubscribe(fields: Fields) -> Unsubscribe:
    packet_id = fields.uint16()
    if not packet_id:
        raise MqttError("packet id 0", "MQTT-2.3.1-1")
    parse_properties(fields, "UNSUBSCRIBE")
    filters: list[bytes] = []
    while fields.at < fields.end:
        filters.append(fields.utf8())
    if not filters:
        raise MqttError("UNSUBSCRIBE without a filter", "MQTT-3.10.3-2")
    return Unsubscribe(packet_id, tuple(filters))


def _disconnect(fields: Fields) -> Disconnect:
    reason = fields.uint8() if fields.at < fields.end else SUCCESS
    properties = parse_properties(fields, "DISCONNECT") if fields.at < fields.end else NO_PROPERTIES
    fields.finish()
    return Disconnect(reason, properties)


class TopicAliases:
    """The topics that a client has given numbers to (3.3.2.3.4)."""

    __slots__ = ("_most", "_topics")

    def __init__(self, most: int) -> None:
        self._most = most
        self._topics: dict[int, bytes] = {}

    def resolved(self, publish: Publish) -> Publish:
        """``publish`` with its topic. Raises MqttError: alias 0, above the maximum, or unknown (L-M18)."""
        properties = publish.properties
        alias = properties.values.get("topic_alias") if properties is not None else None
        if alias is None:
            if not publish.topic:
                raise MqttError("an empty topic without an alias", "MQTT5-2.2.2.2")
            return publish
        assert isinstance(alias, int)
        if not 0 < alias <= self._most:
            raise MqttError(f"topic alias {alias}; the maximum is {self._most}", "L-M18")
        if publish.topic:
            self._topics[alias] = publish.topic
            return publish
        topic = self._topics.get(alias)
        if topic is None:
            raise MqttError(f"topic alias {alias} was not set", "L-M18")
        return msgspec.structs.replace(publish, topic=topic)


def connack(reason: int, *, session_present: bool = False, **properties: Any) -> bytes:
    """properties: as ``properties.encode_properties`` takes them."""
    body = bytes((int(session_present), reason)) + encode_properties(**properties)
    return b"\x20" + varint(len(body)) + body


def puback(packet_id: bytes, reason: int) -> bytes:
    """packet_id: the two bytes as they came. For success ``packets.puback`` is the shorter form of the same."""
    return b"\x40\x03" + packet_id + bytes((reason,))


def suback(packet_id: int, reasons: bytes) -> bytes:
    return b"\x90" + varint(3 + len(reasons)) + packet_id.to_bytes(2) + b"\0" + reasons


def unsuback(packet_id: int, reasons: bytes) -> bytes:
    return b"\xb0" + varint(3 + len(reasons)) + packet_id.to_bytes(2) + b"\0" + reasons


def disconnect(reason: int, text: str = "") -> bytes:
    """text: a reason string; short and fixed, it goes to the peer."""
    body = bytes((reason,)) + encode_properties(reason_string=text or None)
    return b"\xe0" + varint(len(body)) + body


def publish(
    topic: bytes, payload: bytes, *, packet_id: int = 0, dup: bool = False, properties: Properties = NO_PROPERTIES
) -> bytes:
    """QoS 1 with a packet id, QoS 0 without."""
    first = 0x30 | (0x02 if packet_id else 0) | (0x08 if dup else 0)
    number = packet_id.to_bytes(2) if packet_id else b""
    encoded = encode_properties(properties.user, **properties.values)
    size = 2 + len(topic) + len(number) + len(encoded) + len(payload)
    return b"".join((bytes((first,)), varint(size), len(topic).to_bytes(2), topic, number, encoded, payload))
