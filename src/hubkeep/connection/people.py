"""People on a connection: whom a web token proves, and what their roles let them do. Start at ``People``."""

from collections.abc import Mapping
from typing import Any

from hubkeep.cloud.roles import Reach, Roles
from hubkeep.errors import Forbidden, Unauthorized
from hubkeep.model import Permission, Principal

from .actions import ACTIONS, ASKED_PER_MESSAGE, KEEPS_TO_REACH
from .web_tokens import WebTokens


class People:
    """tokens: None where nobody signs in."""

    def __init__(self, tokens: WebTokens | None, roles: Roles) -> None:
        self._tokens, self.roles = tokens, roles

    # -- who ---------------------------------------------------------------------------------------------------------

    async def signed(self, token: str) -> Mapping[str, Any]:
        """The claims of a token that the provider signed, whatever they say. Raises Unauthorized."""
        if self._tokens is None:
            raise Unauthorized(
                cause="people-off", reason="a JSON web token; sign-in for people is not set up on this hub"
            )
        return await self._tokens.signed(token)

    def check_identity(self, claims: Mapping[str, Any], client: str, nonce: str) -> str:
        """See WebTokens.check_identity."""
        assert self._tokens is not None, "it has found the claims"
        return self._tokens.check_identity(claims, client, nonce)

    def name_in(self, claims: Mapping[str, Any]) -> str:
        """For the record of a refusal. claims: signed."""
        return f"person {self._tokens.name_in(claims)}" if self._tokens is not None else ""

    def principal(self, claims: Mapping[str, Any], proved: int) -> Principal:
        """claims: signed. proved: see Principal. Raises Unauthorized."""
        assert self._tokens is not None, "it has found the claims"
        person, ends = self._tokens.person(claims)
        return Principal(permissions=Permission(0), person=person, auth_type="jwt", expires=ends, proved=proved)

    # -- what they may -----------------------------------------------------------------------------------------------

    async def reach(self, principal: Principal, operation: str, device_id: str) -> Reach | None:
        """See Authentication.reach. Raises Forbidden."""
        reach = self._reach_of(principal, operation)
        if reach.is_whole:
            return None
        if not reach:
            raise self.no_role(principal, operation)
        if device_id:
            if device_id in await reach.among([device_id]):
                return None
            raise _out_of_reach(principal, operation, device_id)
        if operation in KEEPS_TO_REACH:
            return reach
        raise Forbidden(
            cause="role-for-some-devices",
            reason=f"{principal.name} may do this at some devices only, and {operation} is about the whole hub",
        )

    async def check_device(self, principal: Principal, operation: str, device_id: str) -> None:
        """Raises Forbidden."""
        if device_id not in await self._reach_of(principal, operation).among([device_id]):
            raise _out_of_reach(principal, operation, device_id)

    def may(self, principal: Principal, operation: str) -> bool:
        reach = self._reach_of(principal, operation)
        return reach.is_whole or (bool(reach) and operation in ASKED_PER_MESSAGE)

    def no_role(self, principal: Principal, operation: str) -> Forbidden:
        """What a person without a role for it is told."""
        assert principal.person is not None, "policies and devices have permissions"
        actions = ACTIONS.get(operation)
        if actions is None:
            return Forbidden(
                cause="closed-to-people",
                reason=f"{operation} is for devices and policies; no role of a person opens it",
            )
        held = ", ".join(sorted({each.role for each in self.roles.held(principal.person)})) or "no role"
        return Forbidden(
            cause="role-missing", reason=f"{operation} needs {' and '.join(actions)}; {principal.name} has {held}"
        )

    def _reach_of(self, principal: Principal, operation: str) -> Reach:
        assert principal.person is not None, "policies and devices have permissions"
        actions = ACTIONS.get(operation)
        return self.roles.nowhere if actions is None else self.roles.reach(principal.person, actions)


def _out_of_reach(principal: Principal, operation: str, device_id: str) -> Forbidden:
    """The same for a device that does not exist: who may not see it learns nothing of it."""
    return Forbidden(
        cause="role-for-other-devices",
        reason=f"{principal.name} may do {operation} at some devices only, and {device_id[:128]!r} is none of them",
    )
