"""Logins that arrive together take turns, so that whoever is connected already is served between them (L-O3)."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

_EACH: Final = 0.004  # seconds of the loop's, for which another one may begin
_AT_ONCE: Final = 4
# Handshakes whose clients have an answer to give: what may come in one turn of the loop, at most. A client that takes
# longer than this makes place for another, or a slow network would keep everybody out.
_UNDER_WAY: Final = 32
_PLACE_WITHIN: Final = 0.1


class Turns:
    """One costly step of a login begins in each turn of the event loop, in the order of asking: a handshake, the proof
    of a certificate. Its later parts then come spread as well, and one that stalls holds nobody up.

    Where a turn takes long for other reasons more begin in it, so that a busy hub still lets devices in.
    """

    __slots__ = ("_given", "_places", "_waiting")

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_UNDER_WAY)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._given = 0.0

    @contextlib.asynccontextmanager
    async def handshake(self) -> AsyncIterator[None]:
        """Enter it for a handshake, when it is this one's turn."""
        await self._places.acquire()
        place = contextlib.ExitStack()
        place.callback(self._places.release)
        lapse = asyncio.get_running_loop().call_later(_PLACE_WITHIN, place.close)
        try:
            await self.next()
            yield
        finally:
            lapse.cancel()
            place.close()  # once more it does nothing

    async def next(self) -> None:
        """Returns when it is this one's turn."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            self._given = loop.time()
            loop.call_soon(self._give, loop)
        await turn

    def _give(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        due = min(_AT_ONCE, max(1, int((now - self._given) / _EACH)))
        self._given = now
        while self._waiting and due:
            turn = self._waiting.popleft()
            if not turn.done():  # whoever asked may be gone
                turn.set_result(None)
                due -= 1
        if self._waiting:
            loop.call_soon(self._give, loop)
