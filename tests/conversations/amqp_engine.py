"""The AMQP engine behind a plain asyncio socket: what other AMQP implementations talk to in these tests.

It takes every link; a receiver named ``big`` is sent large messages; what a sender delivers is kept and settled.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from hubkeep.wire.amqp import (
    ACCEPTED,
    AmqpError,
    Bounds,
    Credited,
    Delivered,
    HubConnection,
    LinkAttached,
    ReceivingLink,
    SaslInit,
    SendingLink,
    Settled,
    message,
)


class Peer(asyncio.Protocol):
    """One connection. server: what all connections share."""

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.loop = asyncio.get_running_loop()
        mechanisms = ["MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL"]
        bounds = Bounds(idle_time_out=server.idle_time_out)
        self.engine = HubConnection(self.loop.time(), container_id="hub", mechanisms=mechanisms, bounds=bounds)
        self.sent: dict[SendingLink, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.timer = self.loop.call_later(0.1, self.tick)

    def connection_lost(self, exc: Exception | None) -> None:
        self.timer.cancel()

    def tick(self) -> None:
        now = self.loop.time()
        if now >= self.engine.deadline and not self.engine.handle_timer(now):
            self.server.timed_out += 1
            self.transport.write(self.engine.data_to_send())
            self.transport.close()
            return
        if out := self.engine.data_to_send():
            self.transport.write(out)
        self.timer = self.loop.call_later(0.1, self.tick)

    def data_received(self, data: bytes) -> None:
        self.engine.receive_data(data, self.loop.time())
        try:
            while (event := self.engine.next_event()) is not None:
                self.handle(event)
        except AmqpError as error:
            self.server.errors.append(error)
            self.transport.write(self.engine.data_to_send())
            self.transport.close()
            return
        if out := self.engine.data_to_send():
            self.transport.write(out)

    def handle(self, event: Any) -> None:
        if isinstance(event, SaslInit):
            self.server.sasl.append((str(event.mechanism), event.response))
            self.engine.sasl_outcome(ok=event.response != b"\0user\0wrong")
        elif isinstance(event, LinkAttached):
            link = event.link
            self.server.links += 1
            if "refused" in (link.source.address, link.target.address):
                link.refuse("amqp:not-found", "nothing here")
                return
            link.accept()
            if isinstance(link, ReceivingLink):
                link.grant(100)
        elif isinstance(event, Delivered):
            self.server.deliveries.append(event.delivery)
            if not event.delivery.settled:
                event.link.settle(event.delivery.delivery_id, event.delivery.delivery_id, ACCEPTED)
            if event.link.credit < 50:
                event.link.grant(100)
        elif isinstance(event, Credited):
            self.feed(event.link)
        elif isinstance(event, Settled):
            self.server.settled.append(event)
            if not event.settled:
                event.link.settle(event.delivery_ids, event.state)

    def feed(self, link: SendingLink) -> None:
        most, size = self.server.plans.get(link.source.address, (0, 0))
        while link.sendable and self.sent.get(link, 0) < most:
            number = self.sent[link] = self.sent.get(link, 0) + 1
            link.send(message(data=b"%08d" % number + b"x" * size), tag=b"%d" % number)
        if link.drain:
            link.drained()


class Server:
    """plans: source address to how many messages of what size."""

    def __init__(self) -> None:
        self.deliveries: list[Any] = []
        self.settled: list[Settled] = []
        self.errors: list[AmqpError] = []
        self.plans: dict[str, tuple[int, int]] = {}
        self.sasl: list[tuple[str, bytes]] = []
        self.links = self.timed_out = 0
        self.idle_time_out = 240.0  # seconds; of connections from now on
        self.port = 0


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server on a thread of its own, so that blocking clients can be used in the test's."""
    server = Server()
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def run() -> None:
        listener = await loop.create_server(lambda: Peer(server), "127.0.0.1", 0)
        server.port = listener.sockets[0].getsockname()[1]
        ready.set()
        async with listener:
            with contextlib.suppress(asyncio.CancelledError):
                await listener.serve_forever()

    task = loop.create_task(run())
    thread = threading.Thread(target=lambda: loop.run_until_complete(task))
    thread.start()
    assert ready.wait(5)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(5)
        loop.close()
