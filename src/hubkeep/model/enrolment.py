"""Enrolments: who may become a device of which hub, and how it must prove itself (provisioning-and-pki 1.1, 2.2)."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Literal, NamedTuple

import msgspec

from .identity import Status
from .twin import Json

AttestationType = Literal["symmetricKey", "x509", "tpm"]
AllocationPolicy = Literal["hashed", "geoLatency", "static", "custom"]
HubIdentity = Literal["thumbprint", "ca"]


class Attestation(msgspec.Struct, frozen=True, kw_only=True):
    """How a device proves itself; what its type does not use is None.

    Keys: decoded bytes, a group's own ones. Certificates: DER; of the device, for a group of the authority above its
    devices. authorities: names of registered ones, instead of a group's certificates. endorsement_key,
    storage_root_key: TPM2B_PUBLIC.
    """

    type: AttestationType
    primary_key: bytes | None = None
    secondary_key: bytes | None = None
    primary_certificate: bytes | None = None
    secondary_certificate: bytes | None = None
    primary_authority: str | None = None
    secondary_authority: str | None = None
    endorsement_key: bytes | None = None
    storage_root_key: bytes | None = None

    @property
    def keys(self) -> Sequence[bytes]:
        return [each for each in (self.primary_key, self.secondary_key) if each]

    @property
    def certificates(self) -> Sequence[bytes]:
        return [each for each in (self.primary_certificate, self.secondary_certificate) if each]

    @property
    def authorities(self) -> Sequence[str]:
        return [each for each in (self.primary_authority, self.secondary_authority) if each]

    @property
    def exclusive(self) -> Sequence[str]:
        """Names of what may belong to one enrolment alone: certificates, authorities, endorsement keys."""
        return [
            *(f"certificate/{sha256(each).hexdigest()}" for each in self.certificates),
            *(f"authority/{each}" for each in self.authorities),
            *([f"tpm/{sha256(self.endorsement_key).hexdigest()}"] if self.endorsement_key else []),
        ]

    def __repr__(self) -> str:
        return f"Attestation({self.type!r})"


class ReprovisionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What may happen when a device registers again (2.5)."""

    update_hub_assignment: bool = True
    migrate_device_data: bool = True


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """Who is asked where the policy is ``custom``."""

    url: str
    api_version: str


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds that Azure does not know. hub_identity: how an X.509 device is known at the hub.

    allowed: registration ids that a group takes, empty for any. most: devices of a group, 0 for any number.
    expires: Unix seconds at which it takes no more, 0 for never.
    """

    hub_identity: HubIdentity = "thumbprint"
    allowed: tuple[str, ...] = ()
    most: int = 0
    expires: float = 0.0
    owner: str = ""


class EnrolmentKey(NamedTuple):
    """Which enrolment, whatever the case of its id."""

    is_group: bool
    id: str

    def __str__(self) -> str:
        return f"{'group' if self.is_group else 'individual'}/{self.id}"


def enrolment_key(is_group: bool, enrolment_id: str) -> EnrolmentKey:
    return EnrolmentKey(is_group, enrolment_id.lower())


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """Of one device (its id is the registration id), or of a group. Times are Unix seconds.

    device_id: the name at the hub, empty for the registration id. hubs: host names to choose from, empty for all.
    allocation: None for the service's default. credential_policy: the authority that issues what devices ask for when
    they register, empty for the service's default. initial_twin, device_information: JSON objects as they were given.
    """

    id: str
    is_group: bool
    attestation: Attestation
    device_id: str = ""
    status: Status = "enabled"
    iot_edge: bool = False
    hubs: tuple[str, ...] = ()
    allocation: AllocationPolicy | None = None
    webhook: Webhook | None = None
    initial_twin: Json | None = None
    reprovision: ReprovisionPolicy | None = None
    device_information: Json | None = None
    credential_policy: str = ""
    admission: Admission = Admission()
    etag: str = ""
    created: float = 0.0
    updated: float = 0.0

    @property
    def key(self) -> EnrolmentKey:
        return enrolment_key(self.is_group, self.id)

    def __repr__(self) -> str:
        return f"Enrolment({str(self.key)!r}, {self.status}, {self.attestation.type})"
