"""Tokens that the hub makes for one device or module, for whoever may act for all of them.

A fleet with an identity scheme of its own proves its devices to its own service (token_service/), which has a policy
with DeviceConnect and asks here. The token is the policy's, limited to that identity: it never opens more than the
policy, and ends when the policy's key is replaced. Source: service-protocols 1.2, 1.4; provisioning-and-pki 5.6.
"""

from typing import NamedTuple

from hubkeep.cloud.policies import Policies, permission_words
from hubkeep.device.identities import Identities
from hubkeep.errors import BadRequest, DeviceDisabled, Forbidden
from hubkeep.limits import MINTED_TOKEN_MIN, Limits
from hubkeep.model import Permission, Policy, Principal
from hubkeep.ports import Clock
from hubkeep.wire import sas

from .authentication import Authentication

_ALL = Permission.REGISTRY_READ | Permission.REGISTRY_WRITE | Permission.SERVICE_CONNECT | Permission.DEVICE_CONNECT
_FOR_DEVICES = "device"  # the built-in policy that holds DeviceConnect alone


class DeviceToken(NamedTuple):
    """text: the secret. expires: Unix seconds. policy: whose key signed it."""

    text: str
    expires: int
    policy: str

    def __repr__(self) -> str:
        return f"DeviceToken(expires={self.expires}, policy={self.policy!r})"


class DeviceTokens:
    def __init__(
        self,
        authentication: Authentication,
        identities: Identities,
        policies: Policies,
        host_name: str,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._authentication, self._identities, self._policies = authentication, identities, policies
        self._host_name, self._clock, self._limits = host_name, clock, limits

    async def make(
        self, asker: Principal, device_id: str, module_id: str, seconds: int | None, policy_name: str
    ) -> DeviceToken:
        """A token for one identity that could connect now with a good one. It never outlives the asker's own.

        seconds: None for the usual life. policy_name: another policy's than the asker's, for an administrator alone.
        Raises DeviceNotFound, ModuleNotFound, BadRequest, Forbidden, PolicyNotFound.
        """
        seconds = self._limits.minted_token if seconds is None else seconds
        if not MINTED_TOKEN_MIN.value <= seconds <= self._limits.minted_token_max:
            raise BadRequest(
                f"expiresInSeconds is {MINTED_TOKEN_MIN.value} to {self._limits.minted_token_max}.",
                remedy="limits.minted_token_max raises the bound",
            )
        signer = self._signer(asker, policy_name)
        identity = await self._identities.get(device_id, module_id)
        if identity.authentication != "sas":
            raise BadRequest(
                "Tokens for this identity are refused: it authenticates otherwise.",
                reason=f"{identity.name} authenticates by {identity.authentication}: tokens for it are refused",
                remedy="let it connect with its certificate, or give it symmetric keys",
            )
        await self._check_allowed(asker, device_id, module_id)
        expires = int(self._clock.now()) + seconds
        if asker.expires:
            expires = min(expires, int(asker.expires))
        is_secondary = asker.policy == signer.name and asker.key == "secondary"
        path = f"devices/{device_id}/modules/{module_id}" if module_id else f"devices/{device_id}"
        key = signer.secondary_key if is_secondary else signer.primary_key
        return DeviceToken(sas.make(f"{self._host_name}/{path}", key, expires, signer.name), expires, signer.name)

    async def _check_allowed(self, asker: Principal, device_id: str, module_id: str) -> None:
        """Raises BadRequest for one that is disabled or blocked: 401 would be said of the asker."""
        try:
            await self._authentication.acting_as(asker, device_id, module_id)
        except DeviceDisabled as error:
            raise BadRequest("This identity may not connect now.", reason=error.reason, remedy=error.remedy) from None

    def _signer(self, asker: Principal, name: str) -> Policy:
        """A policy that opens nothing but device endpoints: what signs is then no way to the registry of a device."""
        is_administrator = asker.permissions & _ALL == _ALL
        policy = self._policies.named(name or (_FOR_DEVICES if is_administrator else asker.policy))
        if policy.name != asker.policy and not is_administrator:
            raise Forbidden(
                cause="token-of-another-policy", reason=f"{asker.name} asked for a token of policy {policy.name!r}"
            )
        if policy.permissions != Permission.DEVICE_CONNECT:
            held = permission_words(policy.permissions)
            raise BadRequest(
                "The policy that signs tokens for devices must hold DeviceConnect and nothing else.",
                reason=f"policy {policy.name!r} holds {held}; a device would hold it too",
                remedy="hubkeep policy create device-tokens --rights DeviceConnect, and ask with that one",
            )
        return policy
