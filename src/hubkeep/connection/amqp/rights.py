"""What the credentials put on one connection allow: the union of those that live (service-protocols 4.2)."""

from hubkeep.errors import TooManyTokens
from hubkeep.model import Principal
from hubkeep.wire import sas

from ..authentication import Authentication
from ..operations import BY_NAME, allows


class Rights:
    """The authorisations of one connection, at most ``most``: clients multiplex a thousand devices on one."""

    __slots__ = ("_authentication", "_most", "_principals")

    def __init__(self, authentication: Authentication, most: int) -> None:
        self._authentication, self._most = authentication, most
        self._principals: dict[tuple[str, tuple[str, ...]], Principal] = {}

    def __bool__(self) -> bool:
        return bool(self._principals)

    @property
    def name(self) -> str:
        """Somebody who is authorised here, for the record of a refusal; empty for nobody."""
        return next((principal.name for principal in self._principals.values()), "")

    def add(self, principal: Principal) -> None:
        """A proven credential; a newer one of the same scope replaces it. Raises TooManyTokens."""
        key = (principal.name, principal.scope)
        if key not in self._principals and len(self._principals) >= self._most:
            self.drop_lapsed()
            if len(self._principals) >= self._most:
                raise TooManyTokens(reason=f"{self._most} authorisations live on this connection")
        self._principals[key] = principal

    def holder(self, operation: str, path: tuple[str, ...]) -> Principal | None:
        """Who allows ``operation`` on ``path`` now: a device's own credential before a policy's."""
        row = BY_NAME[operation]
        found = None
        for principal in self._principals.values():
            if not allows(principal.permissions, row) or self._authentication.expired(principal):
                continue
            if principal.device_id:
                # a device's credential is for exactly this identity: not for its modules, nor for ids of another case
                if principal.scope == path:
                    return principal
            elif sas.covers(principal.scope, path):
                found = found or principal
        return found

    def drop_lapsed(self) -> bool:
        """Forget what has expired, its grace over. True: there was some."""
        lapsed = [key for key, each in self._principals.items() if self._authentication.expired(each)]
        for key in lapsed:
            del self._principals[key]
        return bool(lapsed)

    def drop_identity(self, device_id: str, module_id: str) -> None:
        """The credentials of one identity are worth nothing any more."""
        gone = (device_id, module_id)
        for key in [key for key, each in self._principals.items() if (each.device_id, each.module_id) == gone]:
            del self._principals[key]
