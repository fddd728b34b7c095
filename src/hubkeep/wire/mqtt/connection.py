"""One client's MQTT connection (3.1.1 or 5), seen from the hub. Pulled: one event at a time."""

import enum
from typing import Final

import msgspec

from ..inbox import Inbox
from . import packets5
from .fields import Fields, MqttError
from .packets import (
    PINGRESP,
    Disconnect,
    Event,
    PingRequest,
    Publish,
    connect_level,
    parse,
    parse_connect,
    parse_publish,
)


class State(enum.Enum):
    FRESH = enum.auto()  # nothing but CONNECT may come
    ASKING = enum.auto()  # CONNECT was handed out; what follows stays unread until it is answered
    OPEN = enum.auto()
    HELD = enum.auto()  # the caller settles a packet; what stands behind it stays unread
    CLOSED = enum.auto()


class MqttBounds(msgspec.Struct, frozen=True):
    """max_connect, max_packet: bytes of a packet's body. connect_within, keep_alive_cap: seconds.

    topic_aliases: how many an MQTT 5 client may set.
    """

    max_connect: int = 65_536
    max_packet: int = 262_144 + 32_768 + 4
    connect_within: float = 30
    keep_alive_cap: float = 1767
    topic_aliases: int = 10


_DEFAULT_BOUNDS: Final = MqttBounds()


class HubConnection(Inbox):
    """Call receive_data, then next_event until None, then send data_to_send.

    Times are monotonic seconds from the caller. No clock, socket or task inside.
    """

    __slots__ = ("_aliases", "_bounds", "_length", "_now", "_outbox", "_patience", "_since", "state")

    def __init__(self, now: float, bounds: MqttBounds = _DEFAULT_BOUNDS) -> None:
        super().__init__()
        self.state = State.FRESH
        self._bounds = bounds
        self._now = self._since = now
        self._patience = float(bounds.connect_within)
        self._outbox = b""
        self._length = 0
        self._aliases: packets5.TopicAliases | None = None  # of a client of MQTT 5

    @property
    def level(self) -> int:
        """Of the protocol: 5, or 4 for MQTT 3.1.1 and for a client that has not said yet."""
        return 4 if self._aliases is None else 5

    @property
    def deadline(self) -> float:
        """When the connection is dead unless a whole packet comes before: MQTT-3.1.2-24, L-L4, L-M25."""
        return self._since + self._patience

    def receive_data(self, data: bytes, now: float) -> None:
        """Take what came from the socket at ``now``."""
        self._now = now
        self._put(data)

    def next_event(self) -> Event | None:
        """The next event; None means: read more, or answer the CONNECT first.

        Stopping in ASKING keeps a refused client's PUBLISH unread (MQTT-3.1.4-5).
        Raises MqttError when the client broke the protocol: send what data_to_send holds, close.
        """
        if self.state is not State.OPEN:
            return self._first_event() if self.state is State.FRESH else None
        if self._held is not None and not self._is_worth_parsing():
            return None
        try:
            while True:
                data, at = self._data, self._at
                have = len(data) - at
                if have < 2:
                    return None
                length = data[at + 1]
                body = at + 2
                if length & 0x80:
                    if have > 2 and data[at + 2] < 0x80:  # two bytes: most publishes
                        length, body = length & 0x7F | data[at + 2] << 7, at + 3
                        if length > self._bounds.max_packet:
                            raise MqttError("the packet is too large", "L-M12")
                    elif (body := self._long_length(at)) == 0:
                        return None
                    else:
                        length = self._length
                stop = body + length
                if stop - at > have:
                    self._wait(stop - at)
                    return None
                self._at = stop
                self._since = self._now
                first = data[at]
                packet: Event | PingRequest
                if self._aliases is not None:
                    packet = packets5.parse(first, data, body, stop)
                    if isinstance(packet, Publish):
                        return self._aliases.resolved(packet)
                elif first & 0xF0 == 0x30:
                    return parse_publish(first & 0x0F, data, body, stop)
                else:
                    packet = parse(first, data, body, stop)
                if isinstance(packet, PingRequest):
                    self._outbox += PINGRESP
                    continue
                if isinstance(packet, Disconnect):
                    self.state = State.CLOSED
                return packet
        except MqttError:
            self.state = State.CLOSED
            raise

    def accept(self, keep_alive: float) -> None:
        """The CONNECT was accepted; the caller has sent or will send CONNACK. keep_alive: as the client asked."""
        cap = self._bounds.keep_alive_cap
        self._patience = min(1.5 * keep_alive, cap) if keep_alive else cap
        self._since = self._now
        self.state = State.OPEN

    def hold(self) -> None:
        """Hand out nothing more until ``go_on``."""
        if self.state is State.OPEN:
            self.state = State.HELD

    def go_on(self) -> None:
        if self.state is State.HELD:
            self.state = State.OPEN

    def refuse(self) -> None:
        """The CONNECT was refused: nothing behind it will be read."""
        self.state = State.CLOSED
        self._discard()

    def data_to_send(self) -> bytes:
        """Answers that need no decision (PINGRESP)."""
        out, self._outbox = self._outbox, b""
        return out

    def _first_event(self) -> Event | None:
        if not self._is_worth_parsing():
            return None
        data = self._data
        try:
            if not data:
                return None
            if data[0] != 0x10:
                raise MqttError("the first packet is not CONNECT", "MQTT-3.1.0-1")
            if len(data) < 2:
                return None
            length, body = data[1], 2
            if length & 0x80:
                if (body := self._long_length(0)) == 0:
                    return None
                length = self._length
            if length > self._bounds.max_connect:
                raise MqttError("CONNECT is too long", "L-M2")
            if len(data) < body + length:
                self._wait(body + length)
                return None
            fields = Fields(data, body, body + length)
            if connect_level(fields) == 5:
                self._aliases = packets5.TopicAliases(self._bounds.topic_aliases)
                packet = packets5.parse_connect(fields)
            else:
                packet = parse_connect(fields)
        except MqttError:
            self.state = State.CLOSED
            raise
        self._at = body + length
        self.state = State.ASKING
        return packet

    def _long_length(self, at: int) -> int:
        """Remaining length of two to four bytes; returns where the body begins, 0 when bytes are missing.

        A length over the bound ends the connection before the bytes are waited for (L-R4, L-M12).
        """
        data, value, shift = self._data, 0, 0
        for index in range(at + 1, min(at + 5, len(data))):
            byte = data[index]
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                if value > self._bounds.max_packet:
                    raise MqttError("the packet is too large", "L-M12")
                self._length = value
                return index + 1
        if len(data) >= at + 5:
            raise MqttError("remaining length in five bytes", "L-M3")
        return 0
