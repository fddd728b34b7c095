"""Tokens that were accepted from more than one address: listed for the operator (L-I5)."""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from hubkeep.errors import HubError
from hubkeep.limits import Limits
from hubkeep.model import LinkInfo, Principal, Replay
from hubkeep.ports import Clock, ReplayStore

from .audit import safe

log = logging.getLogger("hubkeep.replays")

_ADDRESSES: Final = 8  # of one token that are told one by one; it is known by then
_WAITING: Final = 5000


class _Seen:
    """Where a token came from: its first address first."""

    __slots__ = ("addresses", "since")

    def __init__(self, address: str, since: float) -> None:
        self.addresses, self.since = [address], since


class Replays:
    """``accepted`` is called with every good credential. Of tokens, those used last are remembered.

    counts: accepted credentials by surface, since the start.
    """

    def __init__(self, store: ReplayStore, clock: Clock, limits: Limits) -> None:
        self._store, self._clock, self._limits = store, clock, limits
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()
        self._waiting: deque[Replay] = deque(maxlen=_WAITING)
        self._storing = asyncio.Lock()
        self.counts: dict[str, int] = {}

    def accepted(self, principal: Principal, token: str | None, link: LinkInfo) -> None:
        """A credential was good. Certificates prove the peer's own key: nobody else can show them."""
        self.counts[link.surface] = self.counts.get(link.surface, 0) + 1
        if not token:
            return
        digest = blake2b(token.encode(errors="surrogatepass"), digest_size=12).digest()
        address = link.peer.rpartition(":")[0]
        seen = self._seen.get(digest)
        if seen is None:
            self._seen[digest] = _Seen(address, self._clock.now())
            if len(self._seen) > self._limits.tokens_watched:
                self._seen.popitem(last=False)
            return
        self._seen.move_to_end(digest)
        if address in seen.addresses or len(seen.addresses) >= _ADDRESSES:
            return
        seen.addresses.append(address)
        replay = Replay(
            time=self._clock.now(),
            surface=link.surface,
            identity=principal.name,
            key=principal.key,
            address=address,
            first_address=seen.addresses[0],
            first_time=seen.since,
            client=safe(link.client),
            fingerprint=digest.hex(),
        )
        self._waiting.append(replay)
        log.info("a token of %s came from %s and before from %s", replay.identity, address, replay.first_address)

    async def flush(self) -> None:
        """Store what waits; what fails to be stored waits on."""
        async with self._storing:  # whoever asks waits for what is being stored
            if not self._waiting:
                return
            taken = tuple(self._waiting)
            self._waiting.clear()
            try:
                await self._store.add(taken, self._limits.replays_kept)
            except HubError as error:
                self._waiting.extendleft(reversed(taken))
                log.warning("replays could not be stored: %s", error.reason)

    async def find(self, identity: str, most: int) -> Sequence[Replay]:
        """The newest first, of all or of one identity. Raises StoreUnavailable."""
        await self.flush()
        return await self._store.find(identity, most)
