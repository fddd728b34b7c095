"""Which devices have proved that they trust the incoming root: they logged in over its chain alone (4.6, level A)."""

from collections.abc import Sequence

from hubkeep.model import LinkInfo, Principal
from hubkeep.ports import Clock, TrustProof, TrustProofStore


class TrustProofs:
    """root: the incoming one, or the one that was switched to; empty while there is none. ``note`` writes nothing."""

    def __init__(self, store: TrustProofStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._seen: dict[str, TrustProof] = {}
        self.root = ""

    def note(self, principal: Principal, link: LinkInfo) -> None:
        """A credential was found good on a link."""
        if link.canary and principal.device_id and self.root:
            self._seen[principal.device_id] = TrustProof(principal.device_id, self._clock.now(), link.peer)

    async def flush(self) -> None:
        """Once a second, and before anybody asks. Raises StoreUnavailable: what was to be written waits on."""
        if seen := dict(self._seen):
            await self._store.record(self.root, tuple(seen.values()))
            for name, proof in seen.items():
                if self._seen.get(name) is proof:
                    del self._seen[name]

    async def of_fleet(self) -> Sequence[TrustProof]:
        """Of every enabled device, by id; at 0 where there is none."""
        await self.flush()
        return await self._store.of_fleet(self.root)
