"""Listening sockets on the fast transports where they are installed, on the loop's own elsewhere."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final

from hubkeep.limits import SHUTDOWN_WITHIN

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
    backlog: int,
    handshake_within: float,
) -> Any:
    """An asyncio server. context: None for plain sockets. Raises OSError."""
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {"backlog": backlog}
    if context is not None:
        options |= {"ssl": context, "ssl_handshake_timeout": handshake_within}
        options |= {"ssl_shutdown_timeout": float(SHUTDOWN_WITHIN.value)}
    try:
        import aiofastnet  # noqa: PLC0415  # optional
    except ImportError:
        return await loop.create_server(factory, address, port, **options)
    # it logs a failed handshake with a traceback that CPython 3.11 cannot format
    logging.getLogger("aiofastnet").disabled = True
    if context is not None:
        options |= {"ssl_incoming_bio_size": _INCOMING, "ssl_outgoing_bio_size": _OUTGOING}
    return await aiofastnet.create_server(loop, factory, address, port, **options)


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
