"""MQTT and AMQP inside a WebSocket: the upgrade, and a transport for the link inside. Source: device-protocols 1.3."""

import asyncio
import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from hubkeep.errors import BadRequest
from hubkeep.limits import WEBSOCKET_EMPTY_FRAMES, WEBSOCKET_FRAME, WEBSOCKET_PINGS
from hubkeep.wire.websocket import Close, FrameReader, Ping, WebSocketError, close_frame, data_head, pong_frame

if TYPE_CHECKING:
    from .connection import HttpsConnection

LinkFactory = Callable[[], asyncio.Protocol]

PATHS: Final = frozenset({("$iothub", "websocket"), ("$servicebus", "websocket"), ()})
SUBPROTOCOLS: Final = {"mqtt": "mqtt", "mqttv3.1": "mqtt", "mqttv3.1.1": "mqtt", "amqpwsb10": "amqp", "amqp": "amqp"}
_ACCEPT_SUFFIX: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_POLICY_VIOLATION: Final = 1008
_GOING_AWAY: Final = 1001
_NORMAL: Final = 1000


def is_upgrade(request: web.BaseRequest) -> bool:
    return "upgrade" in request.headers or "sec-websocket-key" in request.headers


async def tunnelled(request: web.BaseRequest, links: Mapping[str, LinkFactory]) -> web.StreamResponse:
    """Upgrade, and carry the link until the connection is gone. links: a factory for mqtt, one for amqp.

    Raises BadRequest: wrong method, version or key, a body, no subprotocol that the hub speaks (L-W1).
    """
    subprotocol, kind = _chosen(request.headers.getall("Sec-WebSocket-Protocol", []))
    response = web.StreamResponse(
        status=101,
        headers={
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": _accept(request),
            "Sec-WebSocket-Protocol": subprotocol,
        },
    )
    response.force_close()
    await response.prepare(request)
    connection: HttpsConnection = request.protocol  # type: ignore[assignment]  # the listener makes no other
    if connection.transport is None:
        raise ConnectionResetError
    tunnel = Tunnel(connection.transport, links[kind]())
    connection.carry(tunnel)
    tunnel.open()
    await tunnel.closed
    return response


def _accept(request: web.BaseRequest) -> str:
    """Check what RFC 6455, 4.2.1 asks for, and answer the key."""
    headers = request.headers
    key = headers.get("Sec-WebSocket-Key", "")
    options = {each.strip().lower() for each in headers.get("Connection", "").split(",")}
    try:
        key_bytes = len(b64decode(key.strip(), validate=True))
    except (binascii.Error, ValueError):
        key_bytes = 0
    faults = {
        "the method is not GET": request.method != "GET",
        "Upgrade is not websocket": headers.get("Upgrade", "").strip().lower() != "websocket",
        "Connection does not say Upgrade": "upgrade" not in options,
        "the version is not 13": headers.get("Sec-WebSocket-Version", "").strip() != "13",
        "the key is not 16 bytes": key_bytes != 16,
        "there is a body": bool(request.content_length) or "Transfer-Encoding" in headers,
    }
    for fault, is_so in faults.items():
        if is_so:
            raise BadRequest("The WebSocket upgrade is not valid.", reason=fault).by("L-W1")
    return b64encode(sha1(key.strip().encode() + _ACCEPT_SUFFIX, usedforsecurity=False).digest()).decode()


def _chosen(offered: Iterable[str]) -> tuple[str, str]:
    """The first subprotocol that the hub speaks, in the client's own spelling, and what it carries."""
    for value in offered:
        for subprotocol in value.split(","):
            if (kind := SUBPROTOCOLS.get(subprotocol.strip().lower())) is not None:
                return subprotocol.strip(), kind
    raise BadRequest("No WebSocket subprotocol that this hub speaks.", reason="no known subprotocol").by("L-W1")


class Tunnel(asyncio.Transport):
    """The transport of a link inside a WebSocket. Frames have no meaning: both ways it is a stream of bytes (D-10)."""

    __slots__ = ("_closing", "_empties", "_pings", "_reader", "_second", "_transport", "closed", "link")

    def __init__(self, transport: asyncio.Transport, link: asyncio.Protocol) -> None:
        super().__init__()
        self._transport, self.link = transport, link
        self._reader = FrameReader(WEBSOCKET_FRAME.value)
        self._closing = False
        self._second = 0.0
        self._empties = self._pings = 0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def open(self) -> None:
        """Give the link its transport, then what came behind the upgrade."""
        self.link.connection_made(self)
        self.feed_data(b"")

    # -- bytes from the client ---------------------------------------------------------------------------------------

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Bytes of the connection. The result is what aiohttp asks of a parser: not at an end, nothing left over."""
        if self._closing:
            return False, b""
        payloads: list[bytes] = []
        try:
            for event in self._reader.receive_data(data):
                if isinstance(event, bytes):
                    if event:
                        payloads.append(event)
                    else:
                        self._count_empty()
                elif isinstance(event, Ping):
                    self._count_ping()
                    self._transport.write(pong_frame(event.payload))
                elif isinstance(event, Close):
                    self._deliver(payloads)
                    payloads = []
                    self._end(event.code if event.code is not None else _NORMAL)
                    break
            self._deliver(payloads)
        except WebSocketError as error:
            self._deliver(payloads)
            self._end(error.code)
        return False, b""

    def feed_eof(self) -> None:
        """aiohttp's word for a connection that is gone; ``connection_lost`` follows."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self.link.connection_lost(exc)
        if not self.closed.done():
            self.closed.set_result(None)

    def _deliver(self, payloads: list[bytes]) -> None:
        if payloads:
            self.link.data_received(payloads[0] if len(payloads) == 1 else b"".join(payloads))

    def _count_empty(self) -> None:
        self._turn_second()
        self._empties += 1
        if self._empties > WEBSOCKET_EMPTY_FRAMES.value:
            raise WebSocketError(_POLICY_VIOLATION, "empty frames")

    def _count_ping(self) -> None:
        self._turn_second()
        self._pings += 1
        if self._pings > WEBSOCKET_PINGS.value:
            raise WebSocketError(_POLICY_VIOLATION, "pings")

    def _turn_second(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._second >= 1:
            self._second, self._empties, self._pings = now, 0, 0

    def _end(self, code: int) -> None:
        if not self._closing:
            self._closing = True
            self._transport.write(close_frame(code))
            self._transport.close()

    # -- asyncio.Transport, for the link -----------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data:
            return
        self._transport.writelines((data_head(len(data)), data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """End the connection after what was written."""
        self._end(_NORMAL)

    def go_away(self) -> None:
        """The hub stops."""
        self._end(_GOING_AWAY)

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the connection's transport; ``websocket`` is True."""
        return True if name == "websocket" else self._transport.get_extra_info(name, default)

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def can_write_eof(self) -> bool:
        return False
