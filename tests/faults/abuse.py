"""Peers that take and do not give: each an endless misuse of one surface, by devices that are known and log in.

They come from an address of their own, so that what the hub refuses them by address hits nobody else. Runs on a thread:
``Abuse.stop`` ends them and tells how often each one got through with what it does.
"""

import asyncio
import contextlib
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from conversations.mqtt_peer import USER_NAME, connect, publish, subscribe, unsubscribe
from faults.amqp_stream import AmqpStream
from faults.served import Served
from hubkeep.wire.amqp import Described, ULong
from hubkeep.wire.amqp.performatives import Attach, Begin, Flow, encode_performative, frame

SOURCE = "127.0.0.66"
_GONE = (OSError, EOFError, TimeoutError, ssl.SSLError)
_VERSION = "api-version=2021-04-12"
_ENDLESS = 0xFFFFFFFF


class Abuse:
    """did: how often each kind of misuse was carried out."""

    def __init__(self, hub: Served) -> None:
        self.hub, self.context, self.did = hub.for_load, hub.context(), Counter[str]()
        self._service_token = hub.token()
        self._policy = "iothubowner@sas.root." + self.hub.address.partition(".")[0]
        self._open: dict[asyncio.Task[Any] | None, list[asyncio.StreamWriter]] = {}  # by whose they are
        self._is_over = False
        self._kinds: dict[str, tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = {
            "deaf": (1, self.deaf),
            "stuffing": (1, self.stuffing),
            "no credit": (2, self.no_credit),
            "endless credit": (2, self.endless_credit),
            "links": (1, self.links),
            "sessions": (1, self.sessions),
            "takeovers": (3, self.takeovers),
            "slow bodies": (20, self.slow_bodies),
            "half-open": (30, self.half_open),
            "twin requests": (1, self.twin_requests),
            "subscriptions": (1, self.subscriptions),
        }
        hub.register(["deaf", "idle", "hoarder", "restless", "slow", "asker", "fickle"])
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()

    @property
    def kinds(self) -> set[str]:
        return set(self._kinds)

    def stop(self) -> Counter[str]:
        self._is_over = True
        self._thread.join(30)
        return self.did

    # -- the misuses -------------------------------------------------------------------------------------------------

    async def deaf(self) -> None:
        """Subscribes to all that a device can be sent, and reads none of it."""
        desired = "$iothub/twin/PATCH/properties/desired/#"
        _, writer = await self._mqtt("deaf", "devices/deaf/messages/devicebound/#", desired)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        self.did["deaf"] += 1
        await asyncio.sleep(4)

    async def stuffing(self) -> None:
        """Fills the queue and the desired properties of the deaf one."""
        token = self._service_token
        for _ in range(20):
            await self._https("POST", "/devices/deaf/messages/devicebound", b"x" * 60_000, token)
            desired = json.dumps({"properties": {"desired": {"big": ["y" * 4000] * 7}}}).encode()
            await self._https("PATCH", "/twins/deaf", desired, token)
            self.did["stuffing"] += 1

    async def no_credit(self) -> None:
        """Attaches to its messages and to all events, and takes none."""
        stream = await self._amqp(self._policy, self._service_token)
        with contextlib.closing(stream):
            for handle in range(4):
                source = Described(ULong(0x28), [f"hubkeep-events/ConsumerGroups/$Default/Partitions/{handle}"])
                stream.send(Attach(f"events-{handle}", handle, True, 0, 0, source, None))
            await stream.next(Attach)
            self.did["no credit"] += 1
            await asyncio.sleep(3)

    async def endless_credit(self) -> None:
        """Gives all the credit there is, again and again, and reads nothing."""
        stream = await self._amqp(self._policy, self._service_token)
        with contextlib.closing(stream):
            source = Described(ULong(0x28), ["hubkeep-events/ConsumerGroups/$Default/Partitions/0"])
            stream.send(Attach("events", 0, True, 0, 0, source, None))
            await stream.next(Attach)
            stream.stop_reading()
            for _ in range(300):
                stream.send(Flow(0, _ENDLESS, 0, _ENDLESS, 0, 0, _ENDLESS))
                self.did["endless credit"] += 1
                await asyncio.sleep(0.01)

    async def links(self) -> None:
        stream = await self._device_amqp("hoarder")
        with contextlib.closing(stream):
            target = Described(ULong(0x29), ["/devices/hoarder/messages/events"])
            for handle in range(8000):
                attach = Attach(f"link-{handle}", handle, False, 0, 0, None, target, initial_delivery_count=0)
                await stream.write(frame(0, encode_performative(attach)))
                self.did["links"] += 1

    async def sessions(self) -> None:
        stream = await self._device_amqp("hoarder")
        with contextlib.closing(stream):
            for channel in range(1, 3000):
                await stream.write(frame(channel, encode_performative(Begin(None, 0, 2048, 2048))))
                self.did["sessions"] += 1

    async def takeovers(self) -> None:
        await self._mqtt("restless", "devices/restless/messages/devicebound/#")
        self.did["takeovers"] += 1
        await asyncio.sleep(0.3)

    async def slow_bodies(self) -> None:
        _, writer = await self._connection(443)
        head = f"POST /devices/slow/messages/events?{_VERSION} HTTP/1.1\r\nHost: h\r\n"
        writer.write(f"{head}Authorization: {self.hub.token('slow')}\r\nContent-Length: 200000\r\n\r\n".encode())
        self.did["slow bodies"] += 1
        for _ in range(20):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.5)

    async def half_open(self) -> None:
        """Begins a handshake and does not go on."""
        port = (443, 8883, 5671)[self.did["half-open"] % 3]
        _, writer = await self._connection(port, tls=False)
        writer.write(bytes.fromhex("16 03 01 02 00 01 00 01 fc 03 03"))
        self.did["half-open"] += 1
        await asyncio.sleep(3)

    async def twin_requests(self) -> None:
        """Asks for its twin as fast as the hub takes it, and does not read the answers."""
        _, writer = await self._mqtt("asker", "$iothub/twin/res/#")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        request = publish("$iothub/twin/GET/?$rid=1", b"", qos=0) * 100
        while not writer.is_closing():
            writer.write(request)
            self.did["twin requests"] += 100
            async with asyncio.timeout(3):
                await writer.drain()
            await asyncio.sleep(0.001)  # a socket that is closed while nobody reads it takes everything at once

    async def subscriptions(self) -> None:
        reader, writer = await self._mqtt("fickle")
        filters = [
            ("devices/fickle/messages/devicebound/#", 1),
            ("$iothub/twin/res/#", 0),
            ("$iothub/methods/POST/#", 0),
        ]
        turn = subscribe(filters) + unsubscribe([name for name, _ in filters])
        while not self._is_over:
            writer.write(turn * 5)
            await reader.readexactly(5 * (7 + 4))  # SUBACK with three codes, UNSUBACK
            self.did["subscriptions"] += 5

    # -- how they connect --------------------------------------------------------------------------------------------

    async def _connection(self, port: int, *, tls: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        options: dict[str, Any] = {"ssl": self.context, "server_hostname": self.hub.address} if tls else {}
        reader, writer = await asyncio.open_connection(self.hub.address, port, local_addr=(SOURCE, 0), **options)
        self._open.setdefault(asyncio.current_task(), []).append(writer)
        return reader, writer

    async def _mqtt(self, device: str, *filters: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self._connection(8883)
        user_name = USER_NAME.format(host=self.hub.address, client_id=device)
        writer.write(connect(device, user_name, self.hub.token(device), clean=True))
        if (await reader.readexactly(4))[3]:
            raise ConnectionError("refused")
        if filters:
            writer.write(subscribe([(each, 1) for each in filters]))
        return reader, writer

    async def _device_amqp(self, device: str) -> AmqpStream:
        return await self._amqp(f"{device}@sas." + self.hub.address.partition(".")[0], self.hub.token(device))

    async def _amqp(self, user: str, token: str) -> AmqpStream:
        return await AmqpStream.logged_in(self.hub, self.context, user, token, local_addr=(SOURCE, 0))

    async def _https(self, method: str, path: str, body: bytes, token: str) -> None:
        reader, writer = await self._connection(443)
        head = f"{method} {path}?{_VERSION} HTTP/1.1\r\nHost: h\r\nAuthorization: {token}\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await reader.read()

    # -- again and again ---------------------------------------------------------------------------------------------

    async def _main(self) -> None:
        tasks = [asyncio.ensure_future(self._keep(once)) for count, once in self._kinds.values() for _ in range(count)]
        while not self._is_over and not any(each.done() for each in tasks):
            await asyncio.sleep(0.05)
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writers in self._open.values():
            for writer in writers:
                writer.transport.abort()
        await asyncio.sleep(0.1)

    async def _keep(self, once: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while not self._is_over:
            with contextlib.suppress(*_GONE):
                async with asyncio.timeout(15):
                    await once()
            for writer in self._open.pop(asyncio.current_task(), []):
                writer.transport.abort()
            await asyncio.sleep(0.05)
