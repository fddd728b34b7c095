"""Which authority let whom in, and which certificate was used: gathered at logins, stored together."""

from hubkeep.errors import HubError
from hubkeep.model import Authority
from hubkeep.ports import AuthorityStore, CertificateStore, CertificateUse, Clock


class CertificateUses:
    """What gathers waits for ``flush``. overlap: see CertificateStore."""

    def __init__(self, authorities: AuthorityStore, log: CertificateStore, clock: Clock, *, overlap: float) -> None:
        self._authorities, self._log, self._clock, self._overlap = authorities, log, clock, overlap
        self._waiting: dict[tuple[str, str, str, str], CertificateUse] = {}

    def note(self, authority: str, device_id: str, module_id: str, serial: str) -> None:
        """A login. serial: of the hub's own authorities alone."""
        use = CertificateUse(authority, device_id, module_id, serial, self._clock.now())
        self._waiting[use[:4]] = use

    async def was_seen(self, authority: Authority, device_id: str, module_id: str) -> bool:
        """Whether an identity was let in by this authority before."""
        if any(key[:3] == (authority.name, device_id, module_id) for key in self._waiting):
            return True
        return bool(await self._authorities.last_use(authority.name, device_id, module_id))

    async def flush(self) -> None:
        """Store what waits; what fails to be stored waits on."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        try:
            await self._log.record_uses(list(waiting.values()), self._overlap)
        except HubError:
            self._waiting = waiting | self._waiting
            raise
