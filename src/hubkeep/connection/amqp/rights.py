"""What the credentials put on one connection allow: the union of those that live (service-protocols 4.2)."""

from hubkeep.errors import TooManyTokens, Unauthorized
from hubkeep.model import IdentityChange, Principal

from ..authentication import Authentication
from ..changes import concerns
from ..operations import BY_NAME, allows


class Rights:
    """The authorisations of one connection, at most ``most``: clients multiplex a thousand devices on one."""

    __slots__ = ("_authentication", "_identities", "_most", "_policies")

    def __init__(self, authentication: Authentication, most: int) -> None:
        self._authentication, self._most = authentication, most
        self._identities: dict[tuple[str, ...], Principal] = {}  # by the path that each is for
        self._policies: dict[tuple[str, tuple[str, ...]], Principal] = {}  # and people; by name and scope

    def __bool__(self) -> bool:
        return bool(self._identities or self._policies)

    @property
    def name(self) -> str:
        """Somebody who is authorised here, for the record of a refusal; empty for nobody."""
        return next((principal.name for each in (self._identities, self._policies) for principal in each.values()), "")

    @property
    def has_people(self) -> bool:
        return any(each.person is not None for each in self._policies.values())

    @property
    def registrant(self) -> Principal | None:
        """The device that registers on this connection; it may do nothing else here."""
        return next((each for each in self._policies.values() if each.registration is not None), None)

    def add(self, principal: Principal) -> None:
        """A proven credential; a newer one of the same scope replaces it. Raises TooManyTokens, and Unauthorized
        for a second identity that one certificate would prove (device-protocols 6)."""
        key = (principal.name, principal.scope)
        if self and (principal.registration is not None or self.registrant is not None):
            raise Unauthorized(
                cause="registering-only",
                reason=f"{self.name} is authorised here: a connection on which a device registers is for that alone",
                remedy="open a connection for each",
            )
        if principal.scope not in self._identities and key not in self._policies and self._is_full():
            raise TooManyTokens(reason=f"{self._most} authorisations live on this connection")
        if principal.auth_type == "x509" and any(
            each.auth_type == "x509" and each.scope != principal.scope for each in self._identities.values()
        ):
            raise Unauthorized(
                cause="certificate-of-one-identity",
                reason=f"the certificate has proved {self.name} on this connection already",
                remedy="open a connection for each identity",
            )
        if principal.device_id:
            self._identities[principal.scope] = principal
        else:
            self._policies[key] = principal

    def holder(self, operation: str, path: tuple[str, ...]) -> Principal | None:
        """Who allows ``operation`` on ``path`` now: an identity's own credential before a policy's."""
        row, expired = BY_NAME[operation], self._authentication.expired
        # an identity's is for exactly its path: not for a device's modules, nor for ids of another case
        principal = self._identities.get(path)
        if principal is not None and allows(principal.permissions, row) and not expired(principal):
            return principal
        for principal in self._policies.values():
            if self._authentication.may(principal, row, path) and not expired(principal):
                return principal
        return None

    def drop_lapsed(self) -> bool:
        """Forget what has expired, its grace over. True: there was some."""
        expired = self._authentication.expired
        identities = [path for path, principal in self._identities.items() if expired(principal)]
        policies = [key for key, principal in self._policies.items() if expired(principal)]
        for path in identities:
            del self._identities[path]
        for key in policies:
            del self._policies[key]
        return bool(identities or policies)

    def drop_changed(self, change: IdentityChange) -> None:
        """Credentials that the change leaves worth nothing go; a device takes its modules with it."""
        for path in [path for path, principal in self._identities.items() if concerns(change, principal)]:
            del self._identities[path]

    def drop_identity(self, device_id: str, module_id: str) -> None:
        """The credentials of one identity are worth nothing any more; a device takes its modules with it."""
        self.drop_changed(IdentityChange(device_id, module_id, "deleted"))

    def drop_policy(self, name: str) -> bool:
        """The keys of this policy are others now. True: there was some credential of it."""
        policies = [key for key, principal in self._policies.items() if principal.policy == name]
        for key in policies:
            del self._policies[key]
        return bool(policies)

    def _is_full(self) -> bool:
        if len(self._identities) + len(self._policies) >= self._most:
            self.drop_lapsed()
        return len(self._identities) + len(self._policies) >= self._most
