"""Which devices trust the incoming root: by logging in over its chain alone, or by their own word (4.6, A, C and F)."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from hubkeep.model import Json, LinkInfo, Principal
from hubkeep.ports import Clock, TrustProof, TrustProofStore

_SHORTEST: Final = 8  # hexadecimal digits that name a root
_WORD: Final = 40  # characters of a failure that are told


class Standing(NamedTuple):
    """A device, how it stands to the incoming root. at: of its proof, Unix seconds; 0: none. peer: from where.

    version: of the bundle that it says it holds; 0: it says nothing. holds: whether it says that it holds the root.
    failure: what it says went wrong; empty for nothing.
    """

    device_id: str
    at: float
    peer: str
    version: int = 0
    holds: bool = False
    failure: str = ""

    def is_ready(self, *, by_report: bool) -> bool:
        """Whether it may be cut over. by_report: its word is enough. What says that it failed is not ready."""
        return not self.failure and (bool(self.at) or (by_report and self.holds))


def probe_of(root: str) -> str:
    """What twins call the try of a root."""
    return f"p-{root[:_SHORTEST]}"


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

    async def of_fleet(self, since: int) -> Sequence[Standing]:
        """Of every enabled device, by id. since: the first version of the trust bundle that has the root."""
        await self.flush()
        proofs, reports = await self._store.of_fleet(self.root), await self._store.reports()
        return [Standing(*each, *_said(reports.get(each.device_id), self.root, since)) for each in proofs]


def _said(report: Json | None, root: str, since: int) -> tuple[int, bool, str]:
    """version, holds, failure. A device may report anything."""
    if report is None or not isinstance(version := report.get("version"), int):
        return 0, False, ""
    anchors, probe, error = report.get("anchors"), report.get("probe"), report.get("error")
    if isinstance(anchors, list):
        holds = any(isinstance(each, str) and _names(each.lower(), root) for each in anchors)
    else:
        holds = version >= since
    if isinstance(probe, dict) and probe.get("ok") is False and probe.get("id") == probe_of(root):
        error = error or "probe"
    return version, holds, str(error)[:_WORD] if error else ""


def _names(anchor: str, root: str) -> bool:
    return len(anchor) >= _SHORTEST and root.startswith(anchor)
