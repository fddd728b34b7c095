"""Shared access policies: the built-in ones, looked up by name.

Source: service-protocols 1.4, provisioning-and-pki 2.7.
"""

import hmac
import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from hubkeep.errors import BadRequest
from hubkeep.model import Permission, Policy
from hubkeep.ports import Bus, PolicyStore

_PROVISIONING = Permission.ENROLMENT_WRITE | Permission.REGISTRATION_WRITE | Permission.PROVISIONING_CONFIG
_REGISTRY = Permission.REGISTRY_READ | Permission.REGISTRY_WRITE
BUILT_IN: Final[dict[str, Permission]] = {
    "iothubowner": _REGISTRY | Permission.SERVICE_CONNECT | Permission.DEVICE_CONNECT,
    "service": Permission.SERVICE_CONNECT,
    "device": Permission.DEVICE_CONNECT,
    "registryRead": Permission.REGISTRY_READ,
    "registryReadWrite": _REGISTRY,
    "provisioningserviceowner": _PROVISIONING,
}
# Anybody can read this seed: what derives from it protects nothing. A hub that uses it binds loopback only.
PUBLISHED_SEED: Final = b"hubkeep dev hub: published keys, for loopback only"
_WORDS: Final = {
    Permission.REGISTRY_READ: "RegistryRead",
    Permission.REGISTRY_WRITE: "RegistryWrite",
    Permission.SERVICE_CONNECT: "ServiceConnect",
    Permission.DEVICE_CONNECT: "DeviceConnect",
    Permission.ENROLMENT_READ: "EnrollmentRead",
    Permission.ENROLMENT_WRITE: "EnrollmentWrite",
    Permission.REGISTRATION_READ: "RegistrationStatusRead",
    Permission.REGISTRATION_WRITE: "RegistrationStatusWrite",
    Permission.PROVISIONING_CONFIG: "ServiceConfig",
}
_BY_WORD: Final = {word: permission for permission, word in _WORDS.items()} | {
    "RegistryReadWrite": Permission.REGISTRY_WRITE
}


def published_key(what: str) -> bytes:
    """The dev hub's key for ``what`` (``policy/service/primary``, ``device/first-device/primary``): no secret."""
    return hmac.digest(PUBLISHED_SEED, what.encode(), sha256)


def permission_words(permissions: Permission) -> str:
    """As documentation and resource descriptions write them: ``RegistryWrite, ServiceConnect``."""
    words = [word for permission, word in _WORDS.items() if permissions & permission == permission]
    return ", ".join(word for word in words if "Read" not in word or word.replace("Read", "Write") not in words)


def permissions_from_words(words: str) -> Permission:
    """The permissions of ``RegistryRead, ServiceConnect``; *RegistryReadWrite* is RegistryWrite. Raises BadRequest."""
    permissions = Permission(0)
    for word in words.split(","):
        permission = _BY_WORD.get(word.strip())
        if permission is None:
            raise BadRequest(f"The permissions are: {', '.join(_WORDS.values())}.")
        permissions |= permission
    return permissions


class Policies:
    """All policies, in memory; the store is read once and written through."""

    def __init__(self, store: PolicyStore, bus: Bus) -> None:
        self._store, self._bus = store, bus
        self._policies: dict[str, Policy] = {}

    async def load(self, *, published: bool = False) -> None:
        """Read the policies; make the built-in ones at the first start.

        published: derive their keys from the published seed (a dev hub on loopback), else random ones.
        """
        self._policies = {policy.name: policy for policy in await self._store.all()}
        for name, permissions in BUILT_IN.items():
            if name not in self._policies:
                await self.put(
                    Policy(
                        name=name,
                        permissions=permissions,
                        primary_key=_first_key(f"policy/{name}/primary", published=published),
                        secondary_key=_first_key(f"policy/{name}/secondary", published=published),
                    )
                )

    def get(self, name: str) -> Policy | None:
        return self._policies.get(name)

    def all(self) -> Sequence[Policy]:
        return list(self._policies.values())

    async def put(self, policy: Policy) -> None:
        """Create or replace. Other keys, or other rights, end what was opened with the policy."""
        await self._store.put(policy)
        before = self._policies.get(policy.name)
        self._policies[policy.name] = policy
        if before is not None and before != policy:
            self._bus.publish("policy.changed", policy.name)


def _first_key(what: str, *, published: bool) -> bytes:
    return published_key(what) if published else secrets.token_bytes(32)
