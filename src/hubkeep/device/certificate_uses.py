"""Which authority let whom in, and which certificate was used: gathered at logins, stored together."""

from typing import Final

from hubkeep.errors import HubError
from hubkeep.model import Authority
from hubkeep.ports import AuthorityStore, CertificateStore, CertificateUse, Clock

_Key = tuple[str, str, str, str]  # authority, device, module, serial
_AGAIN_AFTER: Final = 3600.0
_REMEMBERED: Final = 100_000


class CertificateUses:
    """What gathers waits for ``flush``; the same use again counts after an hour. overlap: see CertificateStore."""

    def __init__(self, authorities: AuthorityStore, log: CertificateStore, clock: Clock, *, overlap: float) -> None:
        self._authorities, self._log, self._clock, self._overlap = authorities, log, clock, overlap
        self._waiting: dict[_Key, CertificateUse] = {}
        self._lately: dict[_Key, float] = {}

    def note(self, authority: str, device_id: str, module_id: str, serial: str) -> None:
        """A login. serial: of the hub's own authorities alone."""
        use = CertificateUse(authority, device_id, module_id, serial, self._clock.now())
        key = use[:4]
        if use.at < self._lately.get(key, 0.0) + _AGAIN_AFTER:
            return  # a device that sends by HTTPS logs in with every request
        if len(self._lately) >= _REMEMBERED:
            self._lately.clear()
        self._lately[key] = use.at
        self._waiting[key] = use

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
