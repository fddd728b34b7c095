"""Stores of what devices prove themselves by, and who may be here."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from hubkeep.model import (
    AccessRule,
    Authority,
    CertificateRequest,
    CredentialUse,
    Denial,
    Expiry,
    IssuedCertificate,
    Json,
    Replaced,
)


class AccessStore(Protocol):
    """Block and allow lists, and planned ends of identities. What is stored is durable when the call returns."""

    async def rules(self) -> Sequence[AccessRule]: ...

    async def put_rule(self, rule: AccessRule) -> None:
        """Create or replace."""

    async def remove_rule(self, name: str) -> None: ...

    async def expiries(self) -> Sequence[Expiry]: ...

    async def put_expiry(self, expiry: Expiry) -> None:
        """Create or replace; it goes with its device. Raises DeviceNotFound."""

    async def remove_expiry(self, device_id: str) -> None: ...


class GroupMembers(Protocol):
    """Devices that meet a condition which rarely changes of itself: their id, twin, and kind of credential."""

    def check(self, condition: str) -> None:
        """Raises QueryInvalid: it cannot be read, or names what changes without a word."""

    async def among(self, condition: str, device_ids: Sequence[str]) -> set[str]:
        """Those of these that meet it."""

    def members(self, condition: str) -> AsyncIterator[Sequence[str]]:
        """Their ids, some at a time."""


class SlotsUsed(NamedTuple):
    """When an identity last used each of its two keys or thumbprints, and when they were made; 0: not known."""

    device_id: str
    module_id: str
    primary_used: float
    secondary_used: float
    primary_made: float
    secondary_made: float

    @property
    def name(self) -> str:
        return f"{self.device_id}/{self.module_id}" if self.module_id else self.device_id


class CredentialUseStore(Protocol):
    """How credentials are used. An identity's rows go with it."""

    async def record(self, replaced: Sequence[Replaced], uses: Sequence[CredentialUse]) -> None:
        """In one transaction: what was known of the slots is forgotten, then the uses are added to those known.

        A use of an identity that does not exist is passed over. Raises StoreUnavailable: nothing was written.
        """

    async def of_identity(self, device_id: str, module_id: str) -> Sequence[CredentialUse]: ...

    async def of_policy(self, name: str) -> Sequence[CredentialUse]:
        """The newest first, at most a thousand."""

    async def with_old_tls(self) -> Sequence[CredentialUse]:
        """The newest first, at most a thousand."""

    async def slots_used(self, device_ids: Sequence[str]) -> Sequence[SlotsUsed]:
        """Of these devices and their modules, as far as they have two keys or thumbprints."""


class TrustProof(NamedTuple):
    """When a device last proved that it trusts a root (Unix seconds; 0: never), and from where."""

    device_id: str
    at: float
    peer: str


class TrustProofStore(Protocol):
    """root: the SHA-256 of its certificate. A device's proofs go with it."""

    async def record(self, root: str, proofs: Sequence[TrustProof]) -> None:
        """Raises StoreUnavailable: nothing was written."""

    async def of_fleet(self, root: str) -> Sequence[TrustProof]:
        """Of every enabled device, by id; at 0 where there is none."""

    async def reports(self) -> Mapping[str, Json]:
        """What devices report of the trust bundle that they hold, by their ids: ``hubkeep.trust`` of the twin."""


class AuthorityStore(Protocol):
    async def all(self) -> Sequence[Authority]: ...

    async def put(self, authority: Authority) -> None:
        """Create or replace."""

    async def remove(self, name: str) -> None: ...

    async def last_use(self, name: str, device_id: str, module_id: str) -> float:
        """When it last spoke for an identity (Unix seconds); 0: never."""

    async def used_since(self, name: str, since: float) -> int:
        """How many identities it spoke for since then."""


class CertificateUse(NamedTuple):
    """A login by certificate. serial: empty where the authority is not the hub's own."""

    authority: str
    device_id: str
    module_id: str
    serial: str
    at: float


class CertificateStore(Protocol):
    """The issuance log of the hub's own authorities. Serial numbers as in IssuedCertificate."""

    async def add(self, certificate: IssuedCertificate) -> None:
        """Before it is signed."""

    async def signed(self, authority: str, serial: str, der: bytes) -> None:
        """What was announced by ``add`` was signed."""

    async def get(self, authority: str, serial: str) -> IssuedCertificate | None:
        """On the path of every login."""

    async def of_key(self, key_sha256: str, ends_after: float) -> Sequence[IssuedCertificate]:
        """Those of a public key that had not ended by then."""

    async def find(
        self, *, device_id: str = "", module_id: str = "", serial: str = "", authority: str = "", most: int
    ) -> Sequence[IssuedCertificate]:
        """The newest first. An empty argument means any; module_id counts with device_id alone."""

    async def count(self, device_id: str, module_id: str, since: float) -> int:
        """How many were issued to an identity since then."""

    async def revoked(self, authority: str, ends_after: float) -> Sequence[IssuedCertificate]:
        """Revoked ones that had not ended by then."""

    async def revoke(self, authority: str, serial: str, at: float, reason: str) -> None: ...

    async def generation(self, device_id: str, module_id: str) -> int:
        """Of an identity's credentials; the first is 1. On the path of every login."""

    async def next_generation(self, device_id: str, module_id: str, at: float, reason: str) -> int:
        """Every certificate issued to the identity so far is void, and revoked; the new generation."""

    async def record_uses(self, uses: Sequence[CertificateUse], overlap: float) -> None:
        """Who logged in. The first login with a certificate ends the older ones of its identity, ``overlap`` seconds
        later."""


class DenialStore(Protocol):
    async def all(self) -> Sequence[Denial]: ...

    async def put(self, denials: Sequence[Denial]) -> None: ...

    async def remove(self, marks: Sequence[str]) -> None: ...


class CertificateRequestStore(Protocol):
    async def all(self) -> Sequence[CertificateRequest]: ...

    async def put(self, request: CertificateRequest) -> None: ...

    async def remove(self, ids: Sequence[str]) -> None: ...


class StoredList(NamedTuple):
    """A revocation list (DER), its CRLNumber, and its dates; Unix seconds. failure: of the last try to fetch it."""

    authority: str
    list: bytes
    number: int
    updated: float
    next_update: float
    fetched: float = 0.0
    failure: str = ""


class RevocationListStore(Protocol):
    async def all(self) -> Sequence[StoredList]: ...

    async def put(self, stored: StoredList) -> None: ...

    async def remove(self, authority: str) -> None: ...
