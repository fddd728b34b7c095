"""Listening sockets on the fast transports where they are installed, on the loop's own elsewhere."""

import asyncio
import functools
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final

from hubkeep.limits import SHUTDOWN_WITHIN

from .accepting import Acceptor, Begin, bound
from .admission import Admission
from .doors import Door
from .turns import Turns

log = logging.getLogger(__name__)

# Of each connection, in bytes: what it can hold at most. With the defaults (264 KB each way) 5,000 busy ones could take
# 2.6 GB. One TLS record takes up to 16 KiB and its frame.
_RECORD: Final = 16 * 1024 + 64
_INCOMING: Final = 2 * _RECORD
_OUTGOING: Final = 4 * _RECORD


async def listen(
    factory: Callable[[], asyncio.BaseProtocol],
    address: str,
    port: int,
    *,
    context: ssl.SSLContext | None,
    door: Door,
    admission: Admission,
    turns: Turns,
    backlog: int,
    handshake_within: float,
) -> Acceptor:
    """context: None for plain sockets. Raises OSError."""
    begin = _beginning(factory, context, handshake_within)
    hello_within = None if context is None else handshake_within
    return Acceptor(await bound(address, port, backlog), door, admission, begin, turns, hello_within)


def _beginning(
    factory: Callable[[], asyncio.BaseProtocol], context: ssl.SSLContext | None, handshake_within: float
) -> Begin:
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {}
    if context is not None:
        options |= {"ssl": context, "ssl_handshake_timeout": handshake_within}
        options |= {"ssl_shutdown_timeout": float(SHUTDOWN_WITHIN.value)}
    try:
        import aiofastnet  # noqa: PLC0415  # optional
    except ImportError:
        return functools.partial(loop.connect_accepted_socket, factory, **options)
    # it logs a failed handshake with a traceback that CPython 3.11 cannot format
    logging.getLogger("aiofastnet").disabled = True
    if context is not None:
        options |= {"ssl_incoming_bio_size": _INCOMING, "ssl_outgoing_bio_size": _OUTGOING}
        _pass_on_alerts()
    return functools.partial(aiofastnet.connect_accepted_socket, loop, factory, **options)


@functools.cache
def _pass_on_alerts() -> None:
    """Let transports write what OpenSSL has left for the peer, its alert, before they close (L-T2, L-T3).

    aiofastnet 1.2 closes without that, and has no option or hook: the class that it makes transports of is replaced by
    one that does. The loops' own TLS closes without it as well.
    """
    from aiofastnet import api_utils  # noqa: PLC0415  # optional

    class Telling(api_utils.SSLTransport_Socket):  # type: ignore[name-defined,misc]  # compiled, without types
        __slots__ = ("_has_told",)

        def _force_close(self, exc: BaseException | None) -> None:
            if isinstance(exc, ssl.SSLError) and not hasattr(self, "_has_told"):
                self._has_told = True  # once: what is tried besides may fail again, and end here again
                self._write_ready()
            super()._force_close(exc)

    api_utils.SSLTransport_Socket = Telling  # type: ignore[attr-defined]


def keep_quiet_about_handshakes(loop: asyncio.AbstractEventLoop) -> None:
    """A peer that leaves within its TLS handshake is no error of the hub's: anybody could fill the log that way."""
    before = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if str(context.get("message", "")).startswith("SSL handshake"):
            log.debug("a TLS handshake failed: %s", context.get("exception"))
        elif before is not None:
            before(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
