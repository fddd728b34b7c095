"""Shared access policies: the built-in ones and an operator's own, looked up by name.

Source: service-protocols 1.4, provisioning-and-pki 2.7.
"""

import hmac
import re
import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, Literal

import msgspec

from hubkeep.errors import BadRequest, PolicyNotFound, QuotaExceeded
from hubkeep.limits import POLICIES, POLICY_NAME, POLICY_NETWORKS
from hubkeep.model import KeySlot, Networks, Permission, Policy, PolicyKeysMade, parse_networks
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


_NAME: Final = re.compile(rf"[A-Za-z0-9!._-]{{1,{POLICY_NAME.value}}}")
_KEY_BYTES: Final = 32

KeyName = Literal["primary", "secondary"]


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

    def named(self, name: str) -> Policy:
        """Raises PolicyNotFound."""
        policy = self._policies.get(name)
        if policy is None:
            raise PolicyNotFound(reason=f"there is no policy {name!r}")
        return policy

    async def define(
        self,
        name: str,
        rights: str,
        primary_key: bytes | None = None,
        secondary_key: bytes | None = None,
        networks: Networks | None = None,
    ) -> Policy:
        """Create a policy, or change its rights. Keys that are not given stay, or are made; networks stay, or are none.

        rights: as ``permissions_from_words`` reads them. Raises BadRequest, QuotaExceeded, StoreUnavailable.
        """
        permissions = permissions_from_words(rights)
        before = self._policies.get(name)
        if before is None:
            if not _NAME.fullmatch(name):
                raise BadRequest(f"A policy's name is 1 to {POLICY_NAME.value} letters, digits and any of ! . _ -")
            if len(self._policies) >= POLICIES.value:
                raise QuotaExceeded(reason=f"{POLICIES.value} policies exist", remedy="delete one that is not used")
        elif name in BUILT_IN and permissions != before.permissions:
            raise BadRequest("The rights of a built-in policy are fixed: make one of your own.")
        policy = Policy(
            name=name,
            permissions=permissions,
            primary_key=primary_key or (before.primary_key if before else secrets.token_bytes(_KEY_BYTES)),
            secondary_key=secondary_key or (before.secondary_key if before else secrets.token_bytes(_KEY_BYTES)),
            networks=networks if networks is not None else before.networks if before else Networks(),
        )
        await self.put(policy)
        return policy

    async def regenerate(self, name: str, which: KeyName) -> Policy:
        """A new random key for one of the two; the other stays valid. Raises PolicyNotFound, StoreUnavailable."""
        policy = self.named(name)
        fresh = secrets.token_bytes(_KEY_BYTES)
        primary, secondary = (fresh, policy.secondary_key) if which == "primary" else (policy.primary_key, fresh)
        policy = msgspec.structs.replace(policy, primary_key=primary, secondary_key=secondary)
        await self.put(policy)
        return policy

    async def delete(self, name: str) -> None:
        """What was opened with it ends. Raises PolicyNotFound, BadRequest for a built-in one, StoreUnavailable."""
        self.named(name)
        if name in BUILT_IN:
            raise BadRequest("A built-in policy stays: regenerate its keys, and use policies of your own.")
        await self._store.delete(name)
        del self._policies[name]
        self._bus.publish("policy.keys", PolicyKeysMade(name, ("primary", "secondary")))
        self._bus.publish("policy.changed", name)

    async def put(self, policy: Policy) -> None:
        """Create or replace. Other keys, rights or networks end what was opened with the policy."""
        await self._store.put(policy)
        before = self._policies.get(policy.name)
        self._policies[policy.name] = policy
        if made := _made(before, policy):
            self._bus.publish("policy.keys", PolicyKeysMade(policy.name, made))
        if before is not None and before != policy:
            self._bus.publish("policy.changed", policy.name)


def checked_networks(allow: Sequence[str], deny: Sequence[str]) -> Networks:
    """Raises BadRequest: too many, or one that is none."""
    if max(len(allow), len(deny)) > POLICY_NETWORKS.value:
        raise BadRequest(f"A policy allows and denies at most {POLICY_NETWORKS.value} networks each.")
    try:
        return Networks(allow=parse_networks(tuple(allow)), deny=parse_networks(tuple(deny)))
    except ValueError as error:
        raise BadRequest(f"Networks are written as 10.0.0.0/8 or 2001:db8::/32: {error}.") from None


def from_anywhere(policy: Policy | None) -> Policy | None:
    """The policy without its networks: for an operator who shut himself out."""
    return msgspec.structs.replace(policy, networks=Networks()) if policy is not None else None


def _made(before: Policy | None, after: Policy) -> tuple[KeySlot, ...]:
    """Which keys are other ones now."""
    slots: tuple[tuple[KeySlot, str], ...] = (("primary", "primary_key"), ("secondary", "secondary_key"))
    return tuple(
        slot
        for slot, member in slots
        if before is None or not hmac.compare_digest(getattr(before, member), getattr(after, member))
    )


def _first_key(what: str, *, published: bool) -> bytes:
    return published_key(what) if published else secrets.token_bytes(_KEY_BYTES)
