"""One identity's telemetry over MQTT: which topics are its own, and what their property bags say.

Senders repeat themselves, so the stored form of a bag is kept: a publish with a known topic is a look-up (3.7, 3.8).
"""

from typing import TYPE_CHECKING, Final

from hubkeep.errors import BadRequest, Forbidden, HubError, MessageTooLarge, Unauthorized
from hubkeep.limits import TOPIC_LENGTH
from hubkeep.model import Message, Principal
from hubkeep.wire.mqtt import HAS_PROPERTIES, Publish, Will

from ..event_encoding import NO_SECTIONS
from .dialect import with_properties
from .topics import UserName, parse_bag, telemetry_topic, with_flags

if TYPE_CHECKING:
    from .listener import MqttListener

_BAGS_KEPT: Final = 64  # distinct property bags per link whose encoding is kept
_LONGEST_KEPT: Final = 1024  # bytes of a topic
_WILL: Final = {"iothub-MessageType": "Will"}
SAYS_MORE: Final = 9 | HAS_PROPERTIES  # flags: RETAIN and DUP show as properties, MQTT 5 has its own


class Telemetry:
    """known: topic to its encoded sections, for publishes whose flags say no more. sender: of all of them."""

    __slots__ = ("_listener", "_topic", "known", "sender")

    def __init__(self, listener: "MqttListener", principal: Principal, name: UserName) -> None:
        self._listener = listener
        self._topic = telemetry_topic(name.device_id, name.module_id)
        self.sender = listener.to_cloud.sender(principal, name.model_id)
        self.known: dict[bytes, bytes] = {self._topic + b"/": NO_SECTIONS}

    def sections(self, event: Publish) -> bytes:
        """The slow path of a publish: its topic is checked, its bag parsed, its exact size counted.

        Raises Forbidden for a topic of somebody else, BadRequest, MessageTooLarge.
        """
        listener, principal, topic = self._listener, self.sender.principal, self._topic
        rest = event.topic[len(topic) :]
        if not event.topic.startswith(topic) or (rest and rest[0] not in b"/?"):
            raise Forbidden(
                cause="topic-of-another",
                reason=f"a publish to {event.topic[:128].decode(errors='replace')!r}",
                remedy=f"this identity publishes to {topic.decode()}/",
            ).by("L-M14")
        if len(event.topic) > TOPIC_LENGTH.value:
            raise BadRequest(reason="the topic is too long")
        system, properties = parse_bag(rest)
        message = Message(body=event.payload, system=system, properties=properties)
        if event.flags & HAS_PROPERTIES and event.properties is not None:
            message = with_properties(message, event.properties, listener.clock.now())
        if (size := message.size()) > listener.limits.device_to_cloud_size:
            raise MessageTooLarge(reason=f"{size} bytes with properties", remedy="send less at once")
        if event.flags & SAYS_MORE:
            message = with_flags(message, retain=event.retain, dup=event.dup)
            return listener.encoding.sections(principal, message.system, message.properties)
        sections = listener.encoding.sections(principal, system, properties)
        if len(self.known) < _BAGS_KEPT and len(event.topic) < _LONGEST_KEPT:
            self.known[event.topic] = sections
        return sections

    def publish_will(self, will: Will) -> None:
        """The link ended without a good-bye. Raises HubError: the will is not stored."""
        listener = self._listener
        system, properties = parse_bag(will.topic[len(self._topic) :])
        message = Message(body=will.payload, system=system, properties={**properties, **_WILL})
        message = with_flags(message, retain=will.retain, dup=False)
        message = with_properties(message, will.properties, listener.clock.now())
        listener.to_cloud.accept(self.sender, [message], _nobody_waits)


def check_will(will: Will, topic: bytes) -> None:
    """A will is telemetry of the identity whose ``topic`` this is. Raises Unauthorized: the login fails (L-M21)."""
    if not will.topic.startswith(topic) or will.topic[len(topic) :][:1] not in {b"", b"/"}:
        raise Unauthorized(
            cause="will-refused", reason=f"the will's topic is not the device's own: {will.topic[:128]!r}"
        ).by("L-M21")
    if will.qos == 2:
        raise Unauthorized(cause="will-refused", reason="a will with QoS 2")


def _nobody_waits(_error: HubError | None) -> None:
    """A will has no sender left to acknowledge to."""
