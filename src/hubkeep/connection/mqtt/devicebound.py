"""Cloud-to-device messages over MQTT: topic, packet ids, PUBACK (device-protocols 3.10)."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from hubkeep.errors import BadRequest, Forbidden, HubError
from hubkeep.model import Locked, Message, QueueName
from hubkeep.wire.mqtt import Publish

from ..deliveries import Feed
from ..timestamps import milliseconds, time_stamp

if TYPE_CHECKING:
    from .features import Device

_TOPIC_BYTES: Final = 65_535  # what the length of a topic can say
_IN_FLIGHT_BYTES: Final = 256 * 1024
_GATHERED_BYTES: Final = 64 * 1024  # then they are written, so that a client that does not read is noticed
_OPERATION: Final = "devicebound/deliver"


class DeviceBound:
    """See features.Feature. QoS 1: a PUBACK completes the message. QoS 0: sending it does."""

    __slots__ = (
        "_bytes",
        "_device",
        "_feed",
        "_filter",
        "_gathered",
        "_in_flight",
        "_number",
        "_prefix",
        "_qos",
        "_queue",
    )

    def __init__(self, device: "Device") -> None:
        self._device = device
        principal = device.principal
        self._queue = QueueName(principal.device_id, principal.module_id)
        self._prefix = devicebound_prefix(self._queue)
        self._filter = self._prefix + b"#"
        self._feed: Feed | None = None
        self._qos = 0
        self._number = 0
        self._bytes = 0
        self._in_flight: dict[int, Locked] = {}
        self._gathered = bytearray()  # packets for one write

    # -- features.Feature --------------------------------------------------------------------------------------------

    def publish(self, event: Publish, acknowledge: Callable[[], None]) -> None:
        raise Forbidden(cause="topic-of-another", reason="a publish to the topic of messages for the device").by(
            "L-M14"
        )

    def subscribed(self, topic_filter: bytes, qos: int) -> None:
        if topic_filter != self._filter:
            return  # a module's inputs: nothing of a hub is routed there
        self._qos = qos
        if self._feed is None:
            self._feed = self._device.listener.deliveries.open(self._queue, self)
        self._feed.wake()

    def unsubscribed(self, topic_filter: bytes) -> None:
        if topic_filter == self._filter:
            self._stop()

    def acknowledged(self, packet_id: int) -> None:
        message = self._in_flight.pop(packet_id, None)
        if message is None or self._feed is None:
            self._device.listener.stray_acknowledgements += 1
            return
        self._bytes -= len(message.queued.message.body)
        self._feed.settle(message, "completed")

    def writable(self) -> None:
        if self._feed is not None:
            self._feed.wake()

    def close(self, *, cut: bool) -> None:
        self._stop()

    # -- deliveries.Receiver -----------------------------------------------------------------------------------------

    def room(self) -> int:
        if self._bytes >= _IN_FLIGHT_BYTES or self._device.is_clogged():
            return 0
        return self._device.dialect.receive_maximum - len(self._in_flight)

    def deliver(self, message: Locked) -> None:
        feed = self._feed
        assert feed is not None, "a feed delivers only while it is open"
        content = message.queued.message
        topic = self._prefix + encode_bag(content)
        if len(topic) > _TOPIC_BYTES or not self._device.takes(topic, content):
            error = BadRequest(
                reason=f"message {content.system.message_id} does not fit a topic or a packet of the client",
                remedy="send fewer or shorter properties, or receive over AMQP",
            )
            self._refused(error)
            feed.settle(message, "rejected")
        elif self._qos:
            packet_id = self._packet_id(message)
            if packet_id not in self._in_flight:
                self._bytes += len(content.body)
            self._in_flight[packet_id] = message
            self._gather(self._device.packet(topic, content.body, packet_id, dup=message.again, message=content))
        else:
            self._gather(self._device.packet(topic, content.body, message=content))
            feed.settle(message, "completed")

    def write_out(self) -> None:
        if self._gathered:
            packets, self._gathered = bytes(self._gathered), bytearray()
            self._device.send(packets)

    def idle(self) -> None:
        return

    def failed(self, error: HubError) -> None:
        self._refused(error)
        self._device.end(error)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _gather(self, packet: bytes) -> None:
        self._gathered += packet
        if len(self._gathered) > _GATHERED_BYTES:
            self.write_out()

    def _packet_id(self, message: Locked) -> int:
        """The one that the message has already, where its lock lapsed and it comes again; else a free one."""
        for packet_id, sent in self._in_flight.items():
            if sent.queued.sequence == message.queued.sequence:
                return packet_id
        while True:
            self._number = self._number % 0xFFFF + 1
            if self._number not in self._in_flight:
                return self._number

    def _stop(self) -> None:
        self.write_out()
        self._in_flight.clear()
        self._bytes = 0
        if self._feed is not None:
            self._feed.stop()
            self._feed = None

    def _refused(self, error: HubError) -> None:
        device = self._device
        device.listener.refuse(error, device.link, identity=device.principal.name, operation=_OPERATION)


def devicebound_prefix(queue: QueueName) -> bytes:
    """The topic up to its bag; ``#`` behind it is the filter."""
    path = f"{queue.device_id}/modules/{queue.module_id}" if queue.module_id else queue.device_id
    return f"devices/{path}/messages/devicebound/".encode()


def encode_bag(message: Message) -> bytes:
    """The property bag as every client reads it: never empty, a system property first, ``$`` as ``%24``."""
    return "&".join(_items(message)).encode()


def _items(message: Message) -> Iterator[str]:
    system = message.system
    named: tuple[tuple[str, str | None], ...] = (
        ("%24.mid", system.message_id),
        ("%24.to", system.to or ""),
        ("%24.cid", system.correlation_id),
        ("%24.uid", system.user_id),
        ("%24.ct", system.content_type),
        ("%24.ce", system.content_encoding),
        ("%24.exp", _date(system.absolute_expiry)),
        ("%24.ctime", _creation(system.creation_time)),
        ("iothub-operation", system.operation),
        ("iothub-message-schema", system.schema),
        ("iothub-ack", system.ack),
    )
    for name, value in named:
        if value is not None:
            yield f"{name}={quote(value, safe='')}"
    for name, value in message.properties.items():
        key = quote(name, safe="")
        yield key if value is None else f"{key}={quote(value, safe='')}"


def _date(unix_milliseconds: int | None) -> str | None:
    return None if unix_milliseconds is None else time_stamp(unix_milliseconds / 1000)


def _creation(text: str | None) -> str | None:
    """In the one form that .NET parses (D-N4); what is no date at all cannot be told."""
    try:
        return None if text is None else time_stamp(milliseconds(text) / 1000)
    except BadRequest:
        return None
