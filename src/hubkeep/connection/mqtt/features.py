"""What a device does over MQTT besides telemetry, and the one table from topic or filter to what handles it.

A feature is made when its link first uses it; a link that only sends telemetry has none.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from hubkeep.errors import Forbidden, HubError, MessageTooLarge
from hubkeep.model import LinkInfo, Message, Principal
from hubkeep.wire.mqtt import Publish

from .devicebound import DeviceBound
from .dialect import MOST_PACKET, Dialect
from .methods import MethodFeature
from .twin import TwinFeature

if TYPE_CHECKING:
    from .listener import MqttListener


class Device:
    """What a feature needs of its link. subscriptions: the filters in force, each with its granted QoS."""

    __slots__ = (
        "api_version",
        "dialect",
        "end",
        "is_clogged",
        "link",
        "listener",
        "principal",
        "send",
        "subscriptions",
    )

    def __init__(
        self,
        listener: "MqttListener",
        principal: Principal,
        link: LinkInfo,
        subscriptions: Mapping[bytes, int],
        dialect: Dialect,
        send: Callable[[bytes], None],
        end: Callable[[HubError], None],
        is_clogged: Callable[[], bool],
        api_version: str = "",
    ) -> None:
        """send: writes a packet, unless the link is gone. end: closes the link for a refusal.

        api_version: as a device that registers named it.

        is_clogged: the device takes its bytes slowly: what can wait, waits for ``writable``.
        """
        self.listener, self.principal, self.link, self.subscriptions = listener, principal, link, subscriptions
        self.dialect, self.send, self.end, self.is_clogged = dialect, send, end, is_clogged
        self.api_version = api_version

    def publish(
        self, topic: bytes, payload: bytes, packet_id: int = 0, *, dup: bool = False, message: Message | None = None
    ) -> None:
        """To the device: QoS 1 with a packet id, QoS 0 without. message: what the topic's bag holds.

        A packet larger than an MQTT 5 client takes is not sent, which is recorded (MQTT5-3.1.2-24).
        """
        self.send(self.packet(topic, payload, packet_id, dup=dup, message=message))

    def packet(
        self, topic: bytes, payload: bytes, packet_id: int = 0, *, dup: bool = False, message: Message | None = None
    ) -> bytes:
        """What ``publish`` sends; empty where it sends nothing."""
        packet = self.dialect.publish(topic, payload, packet_id, dup=dup, message=message)
        if len(packet) > self.dialect.max_packet:
            error = MessageTooLarge(
                reason=f"{len(packet)} bytes; the client takes packets of {self.dialect.max_packet} bytes",
                remedy="raise the client's Maximum Packet Size",
            )
            self.listener.refuse(error, self.link, identity=self.principal.name, operation="mqtt/publish")
            return b""
        return packet

    def takes(self, topic: bytes, message: Message) -> bool:
        """Whether a packet with ``message`` is as small as the client wants its packets."""
        most = self.dialect.max_packet
        return (
            most == MOST_PACKET or len(self.dialect.publish(topic, message.body, 1, dup=False, message=message)) <= most
        )


class Feature(Protocol):
    """One row of ``FEATURES``, on one link."""

    def __init__(self, device: Device) -> None: ...

    def publish(self, event: Publish, acknowledge: Callable[[], None]) -> None:
        """The device published to a topic of this feature; ``acknowledge`` is called once that is carried out.

        Raises Forbidden, BadRequest: the link ends.
        """

    def subscribed(self, topic_filter: bytes, qos: int) -> None:
        """After the SUBACK, and after the CONNACK of a session that goes on. May come again for the same filter."""

    def unsubscribed(self, topic_filter: bytes) -> None: ...

    def acknowledged(self, packet_id: int) -> None:
        """A PUBACK came; it may be another feature's."""

    def writable(self) -> None:
        """The device has taken what waited for it."""

    def close(self, *, cut: bool) -> None:
        """The link is gone. cut: its identity may do nothing more; else what the device sent is still carried out."""


# The prefix of a topic or filter, and what handles it. Which filters an identity may subscribe: topics.may_subscribe.
FEATURES: Final[tuple[tuple[bytes, type[Feature]], ...]] = (
    (b"devices/", DeviceBound),
    (b"$iothub/twin/", TwinFeature),
    (b"$iothub/methods/", MethodFeature),
)


class Features:
    """The features of one link. table: ``FEATURES``, or that of a device that registers."""

    __slots__ = ("_device", "_made", "_table")

    def __init__(self, device: Device, table: tuple[tuple[bytes, type[Feature]], ...] = FEATURES) -> None:
        self._device, self._table = device, table
        self._made: dict[type[Feature], Feature] = {}

    def publish(self, event: Publish, acknowledge: Callable[[], None]) -> None:
        """Hand a publish to its feature. Raises Forbidden when no feature has this topic: the link ends."""
        feature = self._of(event.topic)
        if feature is None:
            raise Forbidden(
                cause="topic-of-another",
                reason=f"a publish to {event.topic[:128].decode(errors='replace')!r}",
                remedy="the topics are listed in docs/reference/mqtt.md",
            ).by("L-M14")
        feature.publish(event, acknowledge)

    def subscribed(self, topic_filter: bytes, qos: int) -> None:
        if (feature := self._of(topic_filter)) is not None:
            feature.subscribed(topic_filter, qos)

    def unsubscribed(self, topic_filter: bytes) -> None:
        if (feature := self._of(topic_filter)) is not None:
            feature.unsubscribed(topic_filter)

    def acknowledged(self, packet_id: int) -> None:
        for feature in self._made.values():
            feature.acknowledged(packet_id)

    def writable(self) -> None:
        for feature in self._made.values():
            feature.writable()

    def close(self, *, cut: bool) -> None:
        for feature in self._made.values():
            feature.close(cut=cut)

    def _of(self, topic: bytes) -> Feature | None:
        for prefix, kind in self._table:
            if topic.startswith(prefix):
                if kind not in self._made:
                    self._made[kind] = kind(self._device)
                return self._made[kind]
        return None
