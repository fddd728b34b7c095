"""One HTTPS connection: aiohttp's, with a watch on its heads, a ticket, and room for a tunnel."""

import asyncio
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod

from hubkeep.errors import BadRequest, HeadTooLarge, HubError, MethodNotAllowed, RequestTimeout
from hubkeep.limits import HTTP_HEAD, HTTP_HEADERS, HTTP_KEEP_ALIVE, HTTP_LINGER, KIB, Limits
from hubkeep.model import LinkInfo
from hubkeep.ports import Clock

from ..admission import Admission, Ticket
from ..peers import is_out_of_measure, link_info
from .answers import refusal_answer, refusal_bytes, standard_headers
from .exchange import Place
from .proofs import LastProof

if TYPE_CHECKING:
    from .websocket import Tunnel

log = logging.getLogger(__name__)

_END_OF_HEAD: Final = b"\r\n\r\n"
_READ_BUFFER: Final = 64 * KIB
_REQUEST_LINE: Final = re.compile(rb"[A-Z]{1,32} /")


class Owner(Protocol):
    """Whose connections they are: a listener."""

    admission: Admission
    clock: Clock
    limits: Limits

    def refused(self, error: HubError, link: LinkInfo, *, identity: str, operation: str, **presented: str) -> str:
        """Record a refusal; its tracking id."""

    def connection_made(self, connection: "HttpsConnection") -> None:
        """It is open."""

    def connection_lost(self, connection: "HttpsConnection") -> None:
        """It is gone."""


class HttpsConnection(web.RequestHandler):
    """aiohttp bounds each line and the number of headers; the whole head, and its time, are watched here (L-L4, L-L18).

    The watch counts only while the connection waits for a request (``_waiter``): a body is counted by who reads it.
    """

    __slots__ = (
        "_client",
        "_head",
        "_head_bytes",
        "_head_timer",
        "_listener",
        "_named",
        "_socket",
        "link",
        "place",
        "proof",
        "ticket",
        "tunnel",
        "when_lost",
    )

    def __init__(self, listener: Owner, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=HTTP_KEEP_ALIVE.value,
            logger=log,
            access_log=None,  # type: ignore[arg-type]  # off
            max_line_size=HTTP_HEAD.value,
            max_field_size=HTTP_HEAD.value,
            max_headers=HTTP_HEADERS.value,
            lingering_time=HTTP_LINGER.value,
            read_bufsize=_READ_BUFFER,
            auto_decompress=False,
        )
        self._listener = listener
        self._head = b""  # enough of an unfinished head to find its end and to see its request line
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._socket: asyncio.WriteTransport | None = None  # aiohttp forgets its own before it is closed
        self.link = self._named = LinkInfo("https")
        self._client = ""  # the user agent that _named tells
        self.place: Place | None = None
        self.proof = LastProof()
        self.ticket: Ticket | None = None
        self.tunnel: Tunnel | None = None
        self.when_lost: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.link = self._named = link_info("https", transport)
        self.ticket = self._listener.admission.taken(self.link.peer, self.abort)
        self._socket = cast(asyncio.WriteTransport, transport)  # the fast transports have no common class with it
        super().connection_made(transport)
        self._listener.connection_made(self)
        if self.ticket is None or is_out_of_measure(self.link.certificates):
            self.abort()
            return
        self._watch()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._unwatch()
        self._socket = None
        if self.ticket is not None:
            self.ticket.gone()
        super().connection_lost(exc)
        self._listener.connection_lost(self)
        if self.tunnel is not None:
            self.tunnel.connection_lost(exc if isinstance(exc, Exception) else None)
        if self.when_lost is not None:
            self.when_lost()

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel.feed_data(data)
            return
        if data and self._waiter is not None and not self._waiter.done() and not self._head_goes_on(data):
            return
        super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.tunnel is not None:
            self.tunnel.link.pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.tunnel is not None:
            self.tunnel.link.resume_writing()

    def abort(self) -> None:
        """End the connection now."""
        if self._socket is not None:
            self._socket.abort()

    def begin(self, user_agent: str) -> LinkInfo:
        """A request is being handled: its head is complete. The link, with what the client calls itself."""
        self._unwatch()
        if user_agent != self._client:
            self._client = user_agent
            self._named = msgspec.structs.replace(self.link, client=user_agent[:256])
        return self._named

    def authenticated(self) -> None:
        """The request's credential is good: the connection counts no longer among strangers."""
        if self.ticket is not None:
            self.ticket.authenticated()

    def carry(self, tunnel: "Tunnel") -> None:
        """From here on, bytes are the tunnel's; also those that came behind the upgrade already."""
        if self.ticket is not None:
            self.ticket.gone()  # the tunnelled link takes one of its own
        self.keep_alive(False)
        self.set_parser(tunnel)  # type: ignore[arg-type]  # of a parser, feed_data and feed_eof are used
        self.tunnel = tunnel

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """aiohttp could not read the request (anything else is answered by the listener)."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        error: HubError
        if isinstance(exc, BadHttpMethod) and _REQUEST_LINE.match(self._head):
            error = MethodNotAllowed(reason="an unknown method").by("L-H5")
        else:
            error = BadRequest(reason=f"no HTTP request: {type(exc).__name__}").by("L-H1")
        self._refuse(error)
        answer = refusal_answer(error, error.tracking_id, self._listener.clock.now())
        response = web.Response(status=answer.status, headers=answer.headers, body=answer.body)
        response.headers.update(standard_headers())
        response.force_close()
        return response

    def _head_goes_on(self, data: bytes) -> bool:
        """Count bytes of a request head. False: it is too large, and the connection ends."""
        if not self._head_bytes:
            # a line end before the request line is legal and no head
            data = data.lstrip(b"\r\n")
            if not data:
                return True
            self._head = data[:64]
        overlap = self._head[-3:] if self._head_bytes else b""
        end = (overlap + data).find(_END_OF_HEAD)
        if end >= 0:
            self._head_bytes += end
            self._unwatch()
        else:
            self._watch()
            self._head_bytes += len(data)
            if len(data) >= 3 or not overlap:
                self._head = self._head[:61] + data[-3:]
            else:
                self._head = self._head[: -len(overlap)] + (overlap + data)
        if self.ticket is not None:
            self.ticket.holds(self._head_bytes)
        if self._head_bytes <= HTTP_HEAD.value:
            if end >= 0:
                self._head_bytes = 0
            return True
        error = HeadTooLarge(reason=f"more than {HTTP_HEAD.value} bytes of request head").by("L-H2")
        self._refuse(error)
        if self.transport is not None:
            self.transport.write(refusal_bytes(error, self._listener.clock.now()))
        self.force_close()
        return False

    def _watch(self) -> None:
        if self._head_timer is None:
            within = self._listener.limits.http_head_within
            self._head_timer = asyncio.get_running_loop().call_later(within, self._head_late)

    def _unwatch(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        if self.tunnel is None:
            self._refuse(RequestTimeout(reason="no whole request head in time").by("L-L4"))
            self.force_close()

    def _refuse(self, error: HubError, **presented: Any) -> None:
        self._listener.refused(error, self.link, identity="", operation="https", **presented)
