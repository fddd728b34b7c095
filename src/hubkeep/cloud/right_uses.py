"""Which rights of which policy are used: the others can be taken away (provisioning-and-pki 6.6, PC36, PC37)."""

from typing import Final

from hubkeep.errors import HubError
from hubkeep.model import LinkInfo, Permission, Principal, RightUse
from hubkeep.ports import Clock, PostureStore

from .policies import permission_words

ADMINISTRATION: Final = "Administration"  # what only a policy with all four rights may do
OWN_CLIENT: Final = "hubkeep/"  # how the hub's own commands name themselves
_ALL: Final = int(
    Permission.REGISTRY_READ | Permission.REGISTRY_WRITE | Permission.SERVICE_CONNECT | Permission.DEVICE_CONNECT
)


class RightUses:
    """``note`` is on the path of every request of a back end: it writes nothing."""

    def __init__(self, store: PostureStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._seen: dict[tuple[str, int, bool], float] = {}

    def note(self, principal: Principal, right: int, link: LinkInfo) -> None:
        """A policy's principal was let through because it holds ``right`` (the number of a Permission)."""
        self._seen[principal.policy, right, link.client.startswith(OWN_CLIENT)] = self._clock.now()

    async def flush(self) -> None:
        """Every few seconds, and before anybody asks. Raises StoreUnavailable: what was to be written waits on."""
        seen, self._seen = self._seen, {}
        if not seen:
            return
        uses = [
            RightUse(policy, ADMINISTRATION if right == _ALL else permission_words(Permission(right)), at, is_own)
            for (policy, right, is_own), at in seen.items()
        ]
        try:
            await self._store.record_rights(uses)
        except HubError:
            self._seen = seen | self._seen
            raise
