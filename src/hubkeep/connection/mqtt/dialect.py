"""How the hub answers a client in the version of MQTT that it speaks. What is answered is decided elsewhere.

A client of MQTT 5 is told why: each refusal has a reason code. Topics are the same in both versions; what MQTT 5 has
beside the topic (user properties, content type, correlation data, expiry) joins the property bag of a message.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from hubkeep.errors import DeviceDisabled, HubError, MessageTooLarge, on_wire
from hubkeep.limits import Limits
from hubkeep.model import Message, SystemProperties
from hubkeep.wire.mqtt import Connect, Properties, connack, packets5, publish, suback, unsuback

# MQTT 5 reasons that say more than the row of errors.ON_WIRE, by the row of limits-and-faults
_REASONS: Final = {"L-M14": 0x90, "L-M15": 0x8F, "L-M19": 0x93, "L-M21": 0x90, "L-L11": 0x97}
_DISCONNECT_ONLY: Final[dict[type[BaseException], int]] = {DeviceDisabled: 0x98}  # administrative action
_NO_SUBSCRIPTION: Final = 0x11
_SUCCESS: Final = 0x00
_QUOTA: Final = 0x97
_CLIENT_ID_NOT_VALID: Final = 0x85
_BAD_CLIENT_ID: Final = 2  # the CONNACK of 3.1.1
NEVER: Final = 0xFFFFFFFF  # a session expiry that never comes
MOST_PACKET: Final = 0xFFFFFFFF


class Dialect(Protocol):
    """One version of MQTT, for one link.

    receive_maximum: messages in flight to the client. max_packet: bytes of a packet that it takes.
    session_expiry: seconds that its session outlives the link; None for ever, 0 not at all.
    over_quota: the code of a filter beyond the limit; None ends the link.
    """

    receive_maximum: int
    max_packet: int
    session_expiry: int | None
    over_quota: int | None

    def accepted(self, *, session_present: bool, limits: Limits, max_packet: int) -> bytes:
        """The CONNACK. max_packet: bytes that the hub takes."""

    def refused(self, error: BaseException) -> bytes:
        """The CONNACK for a login that failed."""

    def suback(self, packet_id: int, codes: bytes) -> bytes: ...

    def unsuback(self, packet_id: int, known: list[bool]) -> bytes:
        """known: for each filter, whether it was subscribed."""

    def publish(self, topic: bytes, payload: bytes, packet_id: int, *, dup: bool, message: Message | None) -> bytes:
        """message: what the topic's bag holds, for clients that read it elsewhere."""

    def farewell(self, error: HubError | None) -> bytes:
        """What goes out before the hub ends the link. None: the hub stops."""


class Mqtt311:
    """Refusals are silent behind CONNACK: the socket is closed."""

    __slots__ = ("max_packet", "over_quota", "receive_maximum", "session_expiry")

    def __init__(self, connect: Connect, limits: Limits) -> None:
        self.receive_maximum = limits.cloud_to_device_in_flight
        self.max_packet = MOST_PACKET
        self.session_expiry = 0 if connect.clean_session else None
        self.over_quota: int | None = None

    def accepted(self, *, session_present: bool, limits: Limits, max_packet: int) -> bytes:
        return connack(0, session_present=session_present)

    def refused(self, error: BaseException) -> bytes:
        return connack(on_wire(error).connack)

    def suback(self, packet_id: int, codes: bytes) -> bytes:
        return suback(packet_id, codes)

    def unsuback(self, packet_id: int, known: list[bool]) -> bytes:
        return unsuback(packet_id)

    def publish(self, topic: bytes, payload: bytes, packet_id: int, *, dup: bool, message: Message | None) -> bytes:
        return publish(topic, payload, packet_id=packet_id, dup=dup)

    def farewell(self, error: HubError | None) -> bytes:
        return b""


class Mqtt5:
    """See Dialect; MQTT Version 5.0."""

    __slots__ = ("_keep_alive", "max_packet", "over_quota", "receive_maximum", "session_expiry")

    def __init__(self, connect: Connect, limits: Limits) -> None:
        asked = connect.properties
        self._keep_alive = connect.keep_alive
        self.receive_maximum = min(asked.number("receive_maximum", 0xFFFF), limits.cloud_to_device_in_flight)
        self.max_packet = asked.number("maximum_packet_size", MOST_PACKET)
        expiry = asked.number("session_expiry")
        self.session_expiry = None if expiry == NEVER else expiry
        self.over_quota: int | None = _QUOTA

    def accepted(self, *, session_present: bool, limits: Limits, max_packet: int) -> bytes:
        longest = limits.keep_alive_cap * 2 // 3
        return packets5.connack(
            _SUCCESS,
            session_present=session_present,
            receive_maximum=limits.uncommitted_publishes,
            maximum_qos=1,
            maximum_packet_size=max_packet,
            topic_alias_maximum=limits.topic_aliases,
            subscription_identifiers_available=0,
            shared_subscriptions_available=0,
            server_keep_alive=None if 0 < self._keep_alive <= longest else longest,
        )

    def refused(self, error: BaseException) -> bytes:
        if on_wire(error).connack == _BAD_CLIENT_ID:
            return packets5.connack(_CLIENT_ID_NOT_VALID)
        return packets5.connack(_reason(error), reason_string=_text(error))

    def suback(self, packet_id: int, codes: bytes) -> bytes:
        return packets5.suback(packet_id, codes)

    def unsuback(self, packet_id: int, known: list[bool]) -> bytes:
        return packets5.unsuback(packet_id, bytes(_SUCCESS if each else _NO_SUBSCRIPTION for each in known))

    def publish(self, topic: bytes, payload: bytes, packet_id: int, *, dup: bool, message: Message | None) -> bytes:
        properties = Properties() if message is None else _properties_of(message)
        return packets5.publish(topic, payload, packet_id=packet_id, dup=dup, properties=properties)

    def farewell(self, error: HubError | None) -> bytes:
        if error is None:
            return packets5.disconnect(0x8B)  # server shutting down
        return packets5.disconnect(_DISCONNECT_ONLY.get(type(error), _reason(error)), _text(error) or "")


def dialect_of(connect: Connect, limits: Limits) -> Dialect:
    return Mqtt5(connect, limits) if connect.level == 5 else Mqtt311(connect, limits)


def with_properties(message: Message, properties: Properties, now: float) -> Message:
    """What MQTT 5 says beside the topic joins the bag, which wins where both speak. now: Unix seconds."""
    system: dict[str, Any] = msgspec.structs.asdict(message.system)
    beside: Mapping[str, Any] = {
        "content_type": properties.text("content_type"),
        "correlation_id": _as_text(properties.binary("correlation_data")),
        "absolute_expiry": _expiry(properties, now),
    }
    for name, value in beside.items():
        if system[name] is None:
            system[name] = value
    return msgspec.structs.replace(
        message,
        system=SystemProperties(**system),
        properties={**dict(properties.user), **message.properties},
    )


def _expiry(properties: Properties, now: float) -> int | None:
    if "message_expiry" not in properties.values:
        return None
    return int((now + properties.number("message_expiry")) * 1000)


def _as_text(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return raw.hex() if raw is not None else None


def _properties_of(message: Message) -> Properties:
    values: dict[str, int | str | bytes] = {}
    if message.system.content_type is not None:
        values["content_type"] = message.system.content_type
    if message.system.correlation_id is not None:
        values["correlation_data"] = message.system.correlation_id.encode()
    return Properties(values, tuple((name, value or "") for name, value in message.properties.items()))


def _reason(error: BaseException) -> int:
    if isinstance(error, MessageTooLarge):
        return on_wire(error).mqtt5
    return _REASONS.get(getattr(error, "row", ""), on_wire(error).mqtt5)


def _text(error: BaseException) -> str | None:
    """Short and fixed, and the tracking id with which the operator finds the cause."""
    if not isinstance(error, HubError):
        return None
    return f"{error} Tracking id {error.tracking_id}" if error.tracking_id else str(error)
