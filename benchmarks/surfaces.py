"""What an operation costs the hub on its other surfaces: AMQP, HTTPS, direct methods, twins, cloud to device.

One thread sends bursts of prepared bytes over several TLS connections and waits for each burst's answers, so its own
speed bounds the rates: the hub's CPU time per operation is the figure to compare.
"""

import contextlib
import json
import socket
import ssl
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from machine import Process
from report import Row
from servers import ADDRESS, API, HOST, Hubkeep, client_preamble

from hubkeep.wire.amqp import Described, ULong, encode
from hubkeep.wire.amqp.messages import data_section_head
from hubkeep.wire.amqp.performatives import Attach, Begin, Disposition, Flow, Open, Transfer, encode_performative
from hubkeep.wire.amqp.performatives import frame as framed
from hubkeep.wire.amqp.performatives import parse as parse_performative

_BURST: Final = 10
_BODY: Final = bytes(range(256))
_WITHIN: Final = 20.0  # seconds for an answer
_ID: Final = 0x01020304  # of a delivery, where its own is written later
_IDS: Final = struct.Struct(">IBBI")  # delivery id and tag
_BARE: Final = Path(__file__).with_name("bare_http.py")


class Peer(Protocol):
    """burst: operations of one ``send``. ``finish`` returns when all of them are answered."""

    burst: int

    def send(self) -> None: ...
    def finish(self) -> None: ...


class Cost(NamedTuple):
    rate: float
    cpu_us: float


class Wire:
    """A TLS socket with what it has received and nobody has taken."""

    def __init__(self, hub: Hubkeep, port: int) -> None:
        raw = socket.create_connection((ADDRESS, port), _WITHIN)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = ssl.create_default_context(cafile=str(hub.trust)).wrap_socket(raw, server_hostname=HOST)
        self.send = self._socket.sendall
        self._data = b""

    def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes. Raises RuntimeError when the hub closes instead."""
        while len(self._data) < size:
            self._receive()
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def line(self) -> bytes:
        while b"\r\n" not in self._data:
            self._receive()
        line, _, self._data = self._data.partition(b"\r\n")
        return line

    def _receive(self) -> None:
        more = self._socket.recv(65536)
        if not more:
            raise RuntimeError(f"the hub closed the connection; unread: {self._data[:200]!r}")
        self._data += more


# -- MQTT -------------------------------------------------------------------------------------------------------------


class Mqtt(Wire):
    """One device's connection."""

    def __init__(self, hub: Hubkeep, number: int) -> None:
        super().__init__(hub, hub.ports["mqtt"])
        name, user, token, topic = hub.credentials(number)
        self.name, self.topic = name, topic
        texts = b"".join(len(each).to_bytes(2) + each.encode() for each in (name, user, token))
        self.send(_packet(0x10, b"\x00\x04MQTT\x04\xc2\x00\x3c" + texts))
        if (answer := self.packet()) != (0x20, b"\x00\x00"):
            raise RuntimeError(f"refused: {answer}")

    def packet(self) -> tuple[int, bytes]:
        first, length = self.take(2)
        if length & 0x80:
            length = length & 0x7F | self.take(1)[0] << 7
        return first, self.take(length)

    def subscribe(self, topic_filter: str, qos: int) -> None:
        text = topic_filter.encode()
        self.send(_packet(0x82, b"\x00\x01" + len(text).to_bytes(2) + text + bytes((qos,))))
        if (answer := self.packet()) != (0x90, b"\x00\x01" + bytes((qos,))):
            raise RuntimeError(f"not subscribed: {answer}")


class MqttTelemetry:
    def __init__(self, hub: Hubkeep, number: int, burst: int = _BURST) -> None:
        self.burst = burst
        self._wire = Mqtt(hub, number)
        self._bytes = b"".join(_publish(self._wire.topic, _BODY, each + 1) for each in range(burst))

    def send(self) -> None:
        self._wire.send(self._bytes)

    def finish(self) -> None:
        for _ in range(self.burst):
            first, _body = self._wire.packet()
            assert first == 0x40


class TwinPatches:
    """A device patches its reported properties, one patch at a time."""

    burst = 1

    def __init__(self, hub: Hubkeep, number: int) -> None:
        self._wire = Mqtt(hub, number)
        self._wire.subscribe("$iothub/twin/res/#", 0)
        self._turn = 0

    def send(self) -> None:
        self._turn += 1
        topic = f"$iothub/twin/PATCH/properties/reported/?$rid={self._turn}"
        self._wire.send(_publish(topic, b'{"temperature": %d}' % self._turn, None))

    def finish(self) -> None:
        first, body = self._wire.packet()
        assert first & 0xF0 == 0x30
        assert body[2:].startswith(b"$iothub/twin/res/204/"), body


class MethodCalls:
    """A back end calls a method over HTTPS, the device answers over MQTT."""

    burst = 1

    def __init__(self, hub: Hubkeep, number: int) -> None:
        self._device = Mqtt(hub, number)
        self._device.subscribe("$iothub/methods/POST/#", 0)
        body = json.dumps({"methodName": "turn", "responseTimeoutInSeconds": 15, "payload": {"to": 1}}).encode()
        self._back_end = Wire(hub, hub.ports["https"])
        self._request = _post(f"/twins/{self._device.name}/methods?{API}", hub.owner_token(), body)

    def send(self) -> None:
        self._back_end.send(self._request)

    def finish(self) -> None:
        _first, call = self._device.packet()
        request_id = call.partition(b"$rid=")[2].partition(b"{")[0].decode()
        self._device.send(_publish(f"$iothub/methods/res/200/?$rid={request_id}", b"{}", None))
        _answered(self._back_end, b"200")


# -- AMQP -------------------------------------------------------------------------------------------------------------


class Amqp(Wire):
    """A connection with one link, on which this side sends."""

    def __init__(self, hub: Hubkeep, user: str, token: str, address: str) -> None:
        super().__init__(hub, hub.ports["amqp"])
        source = Described(ULong(0x28), ["here"])
        target = Described(ULong(0x29), [address])
        link = Attach("link", 0, False, 0, 0, source, target, None, None, 0)
        opening = (Open("load", HOST, 65536, 1), Begin(None, 0, 65535, 65535, 1), link)
        self.send(client_preamble(user, token, opening))
        self.take(8)
        self.next_id = 0
        while (answer := self.frame()) is None or type(answer) is not Flow or not answer.link_credit:
            continue

    def frame(self) -> Any:
        """The next performative; None for a frame of SASL and an empty one."""
        size = int.from_bytes(self.take(4))
        if size == int.from_bytes(b"AMQP"):  # the header behind SASL
            self.take(4)
            return None
        head, body = self.take(4), self.take(size - 8)
        if head[1] == 1 or not body:
            return None
        performative, _ = parse_performative(body, 0, len(body))
        if type(performative) not in {Open, Begin, Attach, Flow, Disposition}:
            raise RuntimeError(f"the hub answers {performative}")
        return performative

    def prepare(self, message: bytes, count: int) -> None:
        """Make the burst that ``send_burst`` sends: then only ids are written anew, so that the client is no limit."""
        wide = Transfer(0, _ID, _ID.to_bytes(4), 0, False, False)
        one = framed(0, encode_performative(wide) + message)
        self._burst = bytearray(one * count)
        first = one.index(_ID.to_bytes(4))
        self._places = range(first, first + len(self._burst), len(one))

    def send_burst(self) -> None:
        for place in self._places:
            _IDS.pack_into(self._burst, place, self.next_id, 0xA0, 4, self.next_id)
            self.next_id += 1
        self.send(self._burst)

    def settled(self) -> None:
        """Wait until the last transfer is."""
        while True:
            answer = self.frame()
            if type(answer) is Disposition:
                last = answer.first if answer.last is None else answer.last
                if last == self.next_id - 1:
                    return


class AmqpTelemetry:
    burst = _BURST

    def __init__(self, hub: Hubkeep, number: int) -> None:
        name, _user, token, _topic = hub.credentials(number)
        self._wire = Amqp(hub, f"{name}@sas.{HOST}", token, f"/devices/{name}/messages/events")
        self._wire.prepare(data_section_head(len(_BODY)) + _BODY, _BURST)

    def send(self) -> None:
        self._wire.send_burst()

    def finish(self) -> None:
        self._wire.settled()


class CloudToDevice:
    """A back end sends over AMQP, the device takes and acknowledges over MQTT."""

    def __init__(self, hub: Hubkeep, number: int, burst: int = _BURST) -> None:
        self.burst = burst
        self._device = Mqtt(hub, number)
        self._device.subscribe(f"devices/{self._device.name}/messages/devicebound/#", 1)
        self._wire = Amqp(hub, f"iothubowner@sas.root.{HOST}", hub.owner_token(), "/messages/devicebound")
        properties = encode(Described(ULong(0x73), [None, None, f"/devices/{self._device.name}/messages/devicebound"]))
        self._wire.prepare(properties + data_section_head(len(_BODY)) + _BODY, burst)

    def send(self) -> None:
        self._wire.send_burst()

    def finish(self) -> None:
        for _ in range(self.burst):
            _first, body = self._device.packet()
            start = 2 + int.from_bytes(body[:2])
            self._device.send(b"\x40\x02" + body[start : start + 2])
        self._wire.settled()


# -- HTTPS ------------------------------------------------------------------------------------------------------------


class HttpsTelemetry:
    burst = 1

    def __init__(self, hub: Hubkeep, number: int, port: int | None = None) -> None:
        """port: of a server that only answers."""
        name, _user, token, _topic = hub.credentials(number)
        self._wire = Wire(hub, port or hub.ports["https"])
        self._request = _post(f"/devices/{name}/messages/events?{API}", token, _BODY)

    def send(self) -> None:
        self._wire.send(self._request)

    def finish(self) -> None:
        _answered(self._wire, b"204")


def _post(path: str, token: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _answered(wire: Wire, status: bytes) -> None:
    first = wire.line()
    length = 0
    while line := wire.line():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    body = wire.take(length)
    if first.split()[1] != status:
        raise RuntimeError(f"{first!r}: {body!r}")


# -- the measurement --------------------------------------------------------------------------------------------------

_SURFACES: Final[tuple[tuple[str, Callable[[Hubkeep, int], Peer]], ...]] = (
    ("telemetry, MQTT", MqttTelemetry),
    ("telemetry, MQTT, one at a time", lambda hub, number: MqttTelemetry(hub, number, burst=1)),
    ("telemetry, AMQP", AmqpTelemetry),
    ("telemetry, HTTPS", HttpsTelemetry),
    ("direct method, HTTPS to MQTT and back", MethodCalls),
    ("reported properties, MQTT", TwinPatches),
    ("cloud to device, AMQP to MQTT", CloudToDevice),
)

# One at a time on one connection: from the first byte sent to the last answer. For a message to a device those are its
# arrival and the back end's disposition, both of which follow its commit.
_TIMED: Final[tuple[tuple[str, Callable[[Hubkeep, int], Peer]], ...]] = (
    ("direct method, HTTPS to MQTT and back", MethodCalls),
    ("reported properties, MQTT", TwinPatches),
    ("cloud to device, AMQP to MQTT", lambda hub, number: CloudToDevice(hub, number, burst=1)),
)


def measure(hub: Hubkeep, connections: int, rounds: int, seconds: float) -> Iterator[Row]:
    """Rows of rate and CPU time of each surface, in turn and again; a bare aiohttp handler stands beside HTTPS."""
    with contextlib.ExitStack() as up:
        bare = up.enter_context(Process([sys.executable, str(_BARE), ADDRESS, *map(str, hub.certificate)]))
        bare_port = int(bare.line())
        costs: dict[str, list[Cost]] = {}
        times: dict[str, list[float]] = {}
        for _ in range(rounds):
            for what, peer in _SURFACES:
                peers = [peer(hub, number) for number in range(connections)]
                costs.setdefault(what, []).append(measure_peers(hub.process, peers, seconds))
                del peers
            bare_peers = [HttpsTelemetry(hub, number, bare_port) for number in range(connections)]
            costs.setdefault("bare aiohttp handler", []).append(measure_peers(bare, bare_peers, seconds))
            del bare_peers
            for what, peer in _TIMED:
                times.setdefault(what, []).extend(_times(peer(hub, 0), seconds))
    for what, found in costs.items():
        yield Row(what, "operations/s", hub=statistics.median(each.rate for each in found))
        yield Row(f"{what}: server CPU", "us/operation", hub=statistics.median(each.cpu_us for each in found))
    for what, each in times.items():
        percentiles = statistics.quantiles(each, n=100)
        yield Row(f"{what}: one at a time, p50", "ms", hub=percentiles[49] * 1000)
        yield Row(f"{what}: one at a time, p99", "ms", hub=percentiles[98] * 1000)
    yield from _comparisons(costs)


def _times(peer: Peer, seconds: float) -> list[float]:
    """Seconds that each operation took."""
    peer.send()
    peer.finish()
    times: list[float] = []
    until = time.monotonic() + seconds
    while (started := time.monotonic()) < until or len(times) < 2:
        peer.send()
        peer.finish()
        times.append(time.monotonic() - started)
    return times


def _comparisons(costs: Mapping[str, Sequence[Cost]]) -> Iterator[Row]:
    """Medians of the rounds' own ratios: what else the machine does hits both sides of each."""
    mqtt, https, method = (
        costs[what]
        for what in ("telemetry, MQTT, one at a time", "telemetry, HTTPS", "direct method, HTTPS to MQTT and back")
    )
    bare = costs["bare aiohttp handler"]
    rates = [mine.rate / theirs.rate for mine, theirs in zip(https, bare, strict=True)]
    work = [theirs.cpu_us / mine.cpu_us for mine, theirs in zip(https, bare, strict=True)]
    yield Row("telemetry, HTTPS: share of the bare handler's rate", "", hub=statistics.median(rates))
    yield Row("telemetry, HTTPS: the same by CPU time", "", hub=statistics.median(work))
    # a call is a request and its answer over HTTPS, and two messages over MQTT: compared with an acknowledged message
    # over each
    calls = [
        call.cpu_us / (over_https.cpu_us + over_mqtt.cpu_us)
        for call, over_https, over_mqtt in zip(method, https, mqtt, strict=True)
    ]
    yield Row(
        "direct method: CPU of an acknowledged message over HTTPS and one over MQTT", "", hub=statistics.median(calls)
    )
    calls = [call.cpu_us / (2 * over_mqtt.cpu_us) for call, over_mqtt in zip(method, mqtt, strict=True)]
    yield Row("direct method: CPU of two acknowledged messages over MQTT", "", hub=statistics.median(calls))


def measure_peers(server: Process, peers: Sequence[Peer], seconds: float) -> Cost:
    for peer in peers:  # first of all, to be warm
        peer.send()
        peer.finish()
    cpu, started, done = server.cpu_seconds, time.monotonic(), 0
    while (now := time.monotonic()) - started < seconds:
        for peer in peers:
            peer.send()
        for peer in peers:
            peer.finish()
            done += peer.burst
    return Cost(done / (now - started), (server.cpu_seconds - cpu) / done * 1e6)


def _packet(first: int, body: bytes) -> bytes:
    size = len(body)
    length = bytes((size,)) if size < 0x80 else bytes((size & 0x7F | 0x80, size >> 7))
    return bytes((first,)) + length + body


def _publish(topic: str, body: bytes, packet_id: int | None) -> bytes:
    text = topic.encode()
    number = b"" if packet_id is None else struct.pack(">H", packet_id)
    return _packet(0x30 if packet_id is None else 0x32, len(text).to_bytes(2) + text + number + body)
