"""Accepts connections: judged by their source before any TLS is spent on them (limits-and-faults L-L1, L-L7, L-O5)."""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from .admission import Admission
from .doors import Door
from .turns import Turns

log = logging.getLogger(__name__)

# Accepted before others have their turn. A handshake and a login cost milliseconds: many at one go, and who is
# connected already waits behind all of them (L-O3).
_AT_ONCE: Final = 4
_PAUSE: Final = 0.5  # seconds without accepting where the machine or the hub is full
_FULL: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
Begin = Callable[[socket.socket], Awaitable[object]]


class Acceptor:
    """Listening sockets of one port. door: judges addresses first of all. begin: shakes hands on an accepted socket and
    makes its protocol. hello_within: seconds for the first bytes of a handshake; None: there is none. turns: in which
    handshakes begin."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        door: Door,
        admission: Admission,
        begin: Begin,
        turns: Turns,
        hello_within: float | None,
    ) -> None:
        self.sockets = tuple(sockets)
        self._door, self._admission, self._begin, self._hello_within = door, admission, begin, hello_within
        self._loop = asyncio.get_running_loop()
        self._turns = turns
        self._beginning: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._resume()

    def close(self) -> None:
        """Accept nobody any more; who is being accepted goes."""
        self._is_closed = True
        self._pause()
        if self._paused is not None:
            self._paused.cancel()
        for each in self.sockets:
            each.close()
        for task in self._beginning:
            task.cancel()

    def _resume(self) -> None:
        self._paused = None
        if self._admission.is_full:
            self._paused = self._loop.call_later(_PAUSE, self._resume)
            return
        for each in self.sockets:
            self._loop.add_reader(each.fileno(), self._accept, each)

    def _pause(self) -> None:
        for each in self.sockets:
            self._loop.remove_reader(each.fileno())

    def _wait(self, why: str) -> None:
        if self._paused is None and not self._is_closed:
            log.warning("no connections are accepted for now: %s", why)
            self._pause()
            self._paused = self._loop.call_later(_PAUSE, self._resume)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            if self._admission.is_full:
                self._wait("as many are open as may be")
                return
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._wait(f"{error.strerror}")
                return
            self._admit(accepted, address)

    def _admit(self, accepted: socket.socket, address: tuple[Any, ...]) -> None:
        if not self._door.admits(address[0], address[1]):
            accepted.close()
            return
        delay = self._admission.arrive(address[0], address[1])
        if delay is None:
            accepted.close()
            self._door.turned_away(address[0], address[1])
            return
        accepted.setblocking(False)
        task = self._loop.create_task(self._go_on(accepted, address, delay))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _go_on(self, accepted: socket.socket, address: tuple[Any, ...], delay: float) -> None:
        try:
            if delay:
                await asyncio.sleep(delay)
            if self._hello_within is not None:
                async with asyncio.timeout(self._hello_within):
                    await _readable(self._loop, accepted)
                async with self._turns.handshake():
                    await self._begin(accepted)
            else:
                await self._begin(accepted)
        except (OSError, ssl.SSLError, TimeoutError) as error:
            log.debug("a handshake failed: %s", error)
            accepted.close()
        except BaseException:
            accepted.close()
            raise
        finally:
            self._admission.left(address[0], address[1])


async def _readable(loop: asyncio.AbstractEventLoop, accepted: socket.socket) -> None:
    ready = loop.create_future()

    def tell() -> None:
        loop.remove_reader(accepted.fileno())
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(accepted.fileno(), tell)
    try:
        await ready
    finally:
        loop.remove_reader(accepted.fileno())


async def bound(address: str, port: int, backlog: int) -> Sequence[socket.socket]:
    """Listening sockets on every address that ``address`` stands for. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, where in dict.fromkeys(found):
            each = socket.socket(family, kind, protocol)
            sockets.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                with contextlib.suppress(OSError):  # its sibling listens for the other version
                    each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind(where)
            each.listen(backlog)
            each.setblocking(False)
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets
