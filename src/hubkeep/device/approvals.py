"""Certificate requests that wait for somebody's approval, where an authority asks for one (4.10; RFC 7030 4.2.3)."""

from collections.abc import Sequence
from typing import Final

import msgspec

from hubkeep.errors import NotFound, QuotaExceeded, RequestRefused
from hubkeep.limits import CERTIFICATE_REQUESTS
from hubkeep.model import Authority, CertificateRequest, Identity
from hubkeep.ports import CertificateRequestStore, Clock

from .requests import SigningRequest

_KEPT: Final = 7 * 86_400.0  # seconds that one is remembered
RETRY_AFTER: Final = 60  # seconds


class AwaitsApproval(Exception):
    """The request is known and waits: ask again with the same one."""


class Approvals:
    """A request is known by its key: who repeats it asks for the same."""

    def __init__(self, store: CertificateRequestStore, clock: Clock) -> None:
        self._store, self._clock = store, clock

    async def waiting(self) -> Sequence[CertificateRequest]:
        """All that are remembered, the newest first."""
        return sorted(await self._store.all(), key=lambda each: each.asked, reverse=True)

    async def check(self, identity: Identity, request: SigningRequest, issuer: Authority) -> None:
        """Returns for an approved request. Raises AwaitsApproval, RequestRefused, QuotaExceeded."""
        wanted = CertificateRequest(
            id=request.key_sha256,
            authority=issuer.name,
            device_id=identity.device_id,
            module_id=identity.module_id,
            identity_generation=identity.generation_id,
            asked=self._clock.now(),
        )
        known = {each.id: each for each in await self._store.all()}
        found = known.get(wanted.id)
        if found is not None and _is_same(found, wanted):
            if found.state == "approved":
                return
            if found.state == "refused":
                raise RequestRefused("The request was refused.", reason=f"{found.by} refused it")
            raise AwaitsApproval
        if len(known) >= CERTIFICATE_REQUESTS.value:
            raise QuotaExceeded(reason=f"{len(known)} certificate requests wait", remedy="hubkeep cert requests")
        await self._store.put(wanted)
        raise AwaitsApproval

    async def decide(self, request_id: str, *, approved: bool, by: str) -> CertificateRequest:
        """Raises NotFound."""
        for each in await self._store.all():
            if each.id == request_id.upper():
                state = "approved" if approved else "refused"
                decided = msgspec.structs.replace(each, state=state, decided=self._clock.now(), by=by)
                await self._store.put(decided)
                return decided
        raise NotFound(reason=f"no certificate request {request_id[:80]!r} waits")

    async def settled(self, request: SigningRequest) -> None:
        """Its certificate was issued."""
        await self._store.remove([request.key_sha256])

    async def tidy(self) -> None:
        since = self._clock.now() - _KEPT
        if old := [each.id for each in await self._store.all() if each.asked < since]:
            await self._store.remove(old)


def _is_same(found: CertificateRequest, wanted: CertificateRequest) -> bool:
    members = ("authority", "device_id", "module_id", "identity_generation")
    return all(getattr(found, each) == getattr(wanted, each) for each in members)
