"""A small asynchronous AMQP 1.0 peer with one session and one link, or a pair of them."""

import asyncio
import contextlib
import ssl
import struct
from typing import Any, Self

from faults.load import Hub
from hubkeep.wire.amqp import ACCEPTED, RELEASED, Described, Symbol, ULong
from hubkeep.wire.amqp.performatives import (
    AMQP_HEADER,
    SASL_HEADER,
    Attach,
    Begin,
    Close,
    Detach,
    End,
    Flow,
    Open,
    Performative,
    SaslInitFrame,
    Transfer,
    encode_performative,
    frame,
    parse,
)

__all__ = ["ACCEPTED", "REJECTED", "RELEASED", "AmqpStream"]

REJECTED = Described(ULong(0x25), [])
_WITHIN = 60.0


class AmqpStream:
    """Raises ConnectionError, EOFError or TimeoutError once the hub is gone, or has ended anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._transfers = self._received = self._credit = self._receiving = 0

    @classmethod
    async def logged_in(cls, hub: Hub, context: ssl.SSLContext, user: str, token: str, **options: Any) -> Self:
        """SASL PLAIN, open, and a session. options: of the connection."""
        options |= {"ssl": context, "server_hostname": hub.address}
        reader, writer = await asyncio.open_connection(hub.address, 5671, **options)
        stream = cls(reader, writer)
        try:
            init = SaslInitFrame(Symbol("PLAIN"), f"\0{user}\0{token}".encode(), hub.address)
            writer.write(SASL_HEADER + frame(0, encode_performative(init), 1) + AMQP_HEADER)
            stream.send(Open(user, hub.address), Begin(None, 0, 2048, 2048))
            await stream.next(Begin)
        except BaseException:
            stream.close()
            raise
        return stream

    def send(self, *performatives: Performative, payload: bytes = b"") -> None:
        if self._writer.is_closing():
            raise EOFError
        self._writer.write(b"".join(frame(0, encode_performative(each) + payload) for each in performatives))

    async def attach(self, address: str, *, receiver: bool, credit: int = 0) -> None:
        """The stream's only link. receiver: this side is; the hub waits for its settlement."""
        here = Described(ULong(0x28 if receiver else 0x29), [address])
        if receiver:
            self.send(Attach("link", 0, True, 0, 1, here, None))
            await self.next(Attach)
            self.give_credit(credit)
            return
        self.send(Attach("link", 0, False, 0, 0, None, here, initial_delivery_count=0))
        await self.next(Attach)
        while (await self.next(Flow))[0].handle is None:
            pass

    async def attach_pair(self, address: str, credit: int) -> None:
        """A sender (handle 0) and a receiver (handle 1) that belong together: for requests and their answers."""
        here = Described(ULong(0x28), [address])
        properties = {Symbol("com.microsoft:channel-correlation-id"): "pair"}
        self.send(Attach("asks", 0, False, 0, 0, None, here, initial_delivery_count=0, properties=properties))
        await self.next(Attach)
        while (await self.next(Flow))[0].handle is None:
            pass
        self.send(Attach("hears", 1, True, 0, 0, here, None, properties=properties))
        await self.next(Attach)
        self._receiving = 1
        self.give_credit(credit)

    def give_credit(self, more: int) -> None:
        self._credit += more
        self.send(Flow(0, 2048, 0, 2048, self._receiving, self._received, self._credit))

    def transfer(self, payload: bytes) -> int:
        """Send one delivery; its id."""
        number, self._transfers = self._transfers, self._transfers + 1
        self.send(Transfer(0, number, struct.pack(">I", number), 0, False), payload=payload)
        return number

    async def next(self, kinds: Any) -> tuple[Any, bytes]:
        """The next performative of these kinds, with its payload; others are passed over."""
        while True:
            async with asyncio.timeout(_WITHIN):
                head = await self._reader.readexactly(8)
                if head[:4] == b"AMQP":
                    continue
                raw = head + await self._reader.readexactly(int.from_bytes(head[:4]) - 8)
            if len(raw) == 8 or raw[5] == 1:
                continue
            performative, at = parse(raw, 8, len(raw))
            if isinstance(performative, Transfer):
                self._received += 1
                self._credit -= 1
            if isinstance(performative, Detach | End | Close):
                raise ConnectionError(f"{performative}")
            if isinstance(performative, kinds):
                return performative, raw[at:]

    async def write(self, data: bytes) -> None:
        """Any bytes, as fast as the hub takes them. What it has to say meanwhile is thrown away."""
        if self._writer.is_closing() or self._reader.at_eof():
            raise EOFError
        self._writer.write(data)
        await self._writer.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await self._reader.read(65536)

    def stop_reading(self) -> None:
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    @property
    def is_closing(self) -> bool:
        return self._writer.is_closing()

    def close(self) -> None:
        self._writer.transport.abort()
