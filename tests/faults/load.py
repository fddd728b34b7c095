"""Many devices that send as fast as they are told, over raw MQTT, AMQP and HTTPS, and keep what was acknowledged.

Each device numbers its messages, sends some, waits for their acknowledgements, and never sends a number twice: what
was not acknowledged when a connection broke is left. Runs in a process of its own: ``start``, then ``stop``.
"""

import asyncio
import contextlib
import multiprocessing
import ssl
import struct
import time
from collections import deque
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from conversations.mqtt_peer import USER_NAME, connect, publish
from faults.ledger import Ledger, body_of
from hubkeep.wire import sas
from hubkeep.wire.amqp.messages import encode_data_section
from hubkeep.wire.amqp.performatives import (
    AMQP_HEADER,
    SASL_HEADER,
    Attach,
    Begin,
    Open,
    SaslInitFrame,
    Transfer,
    encode_performative,
    frame,
)
from hubkeep.wire.amqp.types import Described, Symbol, UInt, ULong, decode

_LOGIN_WITHIN = 10.0
_ACKNOWLEDGED_WITHIN = 15.0
_RETRY = 0.5


class Hub(NamedTuple):
    """Where a hub listens; key: of every device of the load."""

    address: str
    trust_bundle: str
    key: bytes

    def token(self, name: str) -> str:
        """name: of a device, or ``device/module``."""
        return sas.make(f"{self.address}/devices/{identity_path(name)}", self.key, int(time.time()) + 3600)


def identity_path(name: str) -> str:
    """``device``, or ``device/modules/module``: as paths, addresses and tokens have it."""
    return name.replace("/", "/modules/")


class Device(asyncio.Protocol):
    """One device. ``numbers``: sent and not acknowledged on this connection. Subclasses speak a protocol."""

    port = 0

    def __init__(self, hub: Hub, device: str) -> None:
        self.hub, self.device = hub, device
        self.attempted = self.connections = 0
        self.acknowledged: list[int] = []
        self.numbers: deque[int] = deque()
        self.transport: Any = None
        self.changed = asyncio.Event()
        self.is_ready = False
        self.inbox = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.is_ready = transport, False
        self.connections += 1
        self.inbox.clear()
        self.numbers.clear()
        self.log_in()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.changed.set()

    def data_received(self, data: bytes) -> None:
        self.inbox += data
        self.read()
        self.changed.set()

    def log_in(self) -> None:
        """Send what comes before the first message."""
        raise NotImplementedError

    def encode(self, number: int, body: bytes) -> bytes:
        raise NotImplementedError

    def read(self) -> None:
        """Take what is whole in ``inbox``: set ``is_ready``, call ``acknowledge``."""
        raise NotImplementedError

    def acknowledge(self, count: int = 1) -> None:
        for _ in range(count):
            self.acknowledged.append(self.numbers.popleft())

    async def run(self, rate: float, stop: asyncio.Event) -> None:
        """Send ``rate`` messages a second until ``stop``, connecting again whenever the connection is gone."""
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context(cafile=self.hub.trust_bundle)
        where = {"host": self.hub.address, "port": self.port, "ssl": context, "server_hostname": self.hub.address}
        while not stop.is_set():
            try:
                await loop.create_connection(lambda: self, **where)
                await self._wait(lambda: self.is_ready, _LOGIN_WITHIN)
                await self._send(rate, stop)
            except (OSError, TimeoutError):
                await asyncio.sleep(_RETRY)
            finally:
                if self.transport is not None:
                    self.transport.abort()

    async def _send(self, rate: float, stop: asyncio.Event) -> None:
        due = time.monotonic()
        while not stop.is_set() and self.transport is not None:
            at_once = max(1, round(rate * 0.2))
            numbers = range(self.attempted, self.attempted + at_once)
            self.attempted += at_once
            self.numbers.extend(numbers)
            self.transport.write(b"".join(self.encode(each, body_of(self.device, each)) for each in numbers))
            await self._wait(lambda: not self.numbers, _ACKNOWLEDGED_WITHIN)
            due = max(due + at_once / rate, time.monotonic() - 1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), max(due - time.monotonic(), 0.001))

    async def _wait(self, condition: Any, within: float) -> None:
        async with asyncio.timeout(within):
            while not condition():
                if self.transport is None:
                    raise ConnectionError
                self.changed.clear()
                await self.changed.wait()


class MqttDevice(Device):
    port = 8883

    def log_in(self) -> None:
        user_name = USER_NAME.format(host=self.hub.address, client_id=self.device)
        self.transport.write(connect(self.device, user_name, self.hub.token(self.device)))

    def encode(self, number: int, body: bytes) -> bytes:
        return publish(f"devices/{self.device}/messages/events/", body, packet_id=number % 65000 + 1)

    def read(self) -> None:
        while len(self.inbox) >= 4:  # CONNACK and PUBACK are four bytes each, and nothing else comes
            kind, _, first, second = self.inbox[:4]
            del self.inbox[:4]
            if kind == 0x20 and second == 0:
                self.is_ready = True
            elif kind == 0x40 and first << 8 | second == self.numbers[0] % 65000 + 1:
                self.acknowledge()
            else:
                self.transport.abort()


class AmqpDevice(Device):
    port = 5671

    def log_in(self) -> None:
        hub = self.hub.address.split(".", maxsplit=1)[0]
        plain = f"\0{self.device}@sas.{hub}\0{self.hub.token(self.device)}".encode()
        init = encode_performative(SaslInitFrame(Symbol("PLAIN"), plain, self.hub.address))
        target = Described(ULong(0x29), [f"/devices/{self.device}/messages/events"])
        self.transport.write(SASL_HEADER + frame(0, init, 1))
        self._then = AMQP_HEADER + b"".join(
            frame(0, encode_performative(each))
            for each in (
                Open(self.device, self.hub.address),
                Begin(None, UInt(0), UInt(2048), UInt(2048)),
                Attach("events", UInt(0), role=False, source=Described(ULong(0x28), []), target=target,
                       initial_delivery_count=UInt(0)),
            )
        )  # fmt: skip
        self._delivery = 0

    def encode(self, number: int, body: bytes) -> bytes:
        transfer = Transfer(UInt(0), UInt(self._delivery), struct.pack(">I", self._delivery), UInt(0), settled=False)
        self._delivery += 1
        return frame(0, encode_performative(transfer) + encode_data_section(body))

    def read(self) -> None:
        while len(self.inbox) >= 8:
            if self.inbox[:4] == b"AMQP":
                del self.inbox[:8]
                continue
            size = int.from_bytes(self.inbox[:4])
            if len(self.inbox) < size:
                return
            body = bytes(self.inbox[8:size])
            del self.inbox[:size]
            if body:
                self._take(decode(body, 0, len(body))[0])

    def _take(self, performative: Described) -> None:
        code, fields = int(performative.descriptor), performative.value
        if code == 0x44:  # outcome
            self.transport.write(self._then)
        elif code == 0x13 and len(fields) > 4 and fields[4] is not None:  # flow of the link: credit
            self.is_ready = True
        elif code == 0x15:  # disposition
            first, last, state = fields[1], fields[1] if fields[2] is None else fields[2], fields[4]
            if int(state.descriptor) == 0x24:
                self.acknowledge(last - first + 1)
            else:
                self.transport.abort()
        elif code in {0x16, 0x17, 0x18}:
            self.transport.abort()


class HttpsDevice(Device):
    port = 443

    def log_in(self) -> None:
        self._token = self.hub.token(self.device)
        self.is_ready = True

    def encode(self, number: int, body: bytes) -> bytes:
        head = (
            f"POST /devices/{self.device}/messages/events?api-version=2021-04-12 HTTP/1.1\r\n"
            f"Host: {self.hub.address}\r\nAuthorization: {self._token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def read(self) -> None:
        while (end := self.inbox.find(b"\r\n\r\n")) >= 0:
            if not self.inbox.startswith(b"HTTP/1.1 204 "):
                self.transport.abort()
                return
            del self.inbox[: end + 4]
            self.acknowledge()


KINDS: dict[str, type[Device]] = {"mqtt": MqttDevice, "amqp": AmqpDevice, "https": HttpsDevice}


class Load:
    """A load in processes of its own. devices: id to kind."""

    def __init__(self, hub: Hub, devices: dict[str, str], rate: float, processes: int = 2) -> None:
        context = multiprocessing.get_context("spawn")
        self._workers = []
        self.connections: dict[str, int] = {}  # how many each device needed; known once it was stopped
        names = sorted(devices)
        for number in range(processes):
            share = {name: devices[name] for name in names[number::processes]}
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(hub, share, rate / len(devices), theirs), daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, ours))

    def acknowledged(self) -> int:
        """How many messages so far."""
        return sum(ask(pipe, "count") for _, pipe in self._workers)

    def stop(self) -> Ledger:
        """End all devices; what they sent and what was acknowledged."""
        for _, pipe in self._workers:
            pipe.send("stop")
        ledger = Ledger()
        for process, pipe in self._workers:
            for device, attempted, acknowledged, connections in pipe.recv():
                ledger.add(device, attempted, acknowledged)
                self.connections[device] = connections
            process.join(10)
        return ledger


def ask(pipe: Connection, question: str) -> Any:
    pipe.send(question)
    return pipe.recv()


def _work(hub: Hub, devices: dict[str, str], rate: float, pipe: Connection) -> None:
    asyncio.run(_run(hub, devices, rate, pipe))


async def _run(hub: Hub, devices: dict[str, str], rate: float, pipe: Connection) -> None:
    stop = asyncio.Event()
    running = [KINDS[kind](hub, device) for device, kind in devices.items()]
    tasks = [asyncio.ensure_future(each.run(rate, stop)) for each in running]

    loop = asyncio.get_running_loop()

    def asked() -> None:
        try:
            question = pipe.recv()
        except EOFError:  # whoever asked is gone
            question = "stop"
            loop.remove_reader(pipe.fileno())
        if question == "count":
            pipe.send(sum(len(each.acknowledged) for each in running))
        else:
            stop.set()

    loop.add_reader(pipe.fileno(), asked)
    await stop.wait()
    loop.remove_reader(pipe.fileno())
    await asyncio.wait(tasks, timeout=2 * _ACKNOWLEDGED_WITHIN)
    with contextlib.suppress(BrokenPipeError):
        pipe.send([(each.device, each.attempted, each.acknowledged, each.connections) for each in running])
