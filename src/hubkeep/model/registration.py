"""What became of a device that registered itself (provisioning-and-pki 1.3, 1.4)."""

from typing import Any, Literal

import msgspec

from .enrolment import AttestationType, EnrolmentKey, enrolment_key

RegistrationStatus = Literal["unassigned", "assigning", "assigned", "failed", "disabled"]
Substatus = Literal[
    "", "initialAssignment", "deviceDataMigrated", "deviceDataReset", "reprovisionedToInitialAssignment"
]
# how a device wants to be given a certificate: all of the chain (csr), or PEM (clientCertificateCsr)
IssuedForm = Literal["", "chain", "pem"]


class RegistrationCredential(msgspec.Struct, frozen=True, kw_only=True):
    """What proved a device to the provisioning service.

    registration_id: as the device spells it, or its certificate does. enrolment: the entry that decides.
    key_id: the spelling that a group's key was derived for; empty where none was.
    certificate, issuer: DER of the leaf and of the enrolled certificate above it; empty without one.
    proof: which of a TPM's keys for registering signed. storage_root_key: TPM2B_PUBLIC, where the link told it.
    """

    registration_id: str
    enrolment: EnrolmentKey
    attestation: AttestationType
    key_id: str = ""
    certificate: bytes = b""
    issuer: bytes = b""
    proof: str = ""
    storage_root_key: bytes = b""


class RegisterRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a device asks for. payload: any JSON value, for whoever allocates. api_version: a date, perhaps empty.

    csr: a certificate request (PKCS#10) as it came, empty for none; issued_form: how its answer is told.
    endorsement_key, storage_root_key: of its TPM (TPM2B_PUBLIC), empty for none.
    """

    registration_id: str | None = None
    payload: Any = None
    api_version: str = ""
    csr: bytes = b""
    issued_form: IssuedForm = ""
    endorsement_key: bytes = b""
    storage_root_key: bytes = b""

    @property
    def wants_trust_bundle(self) -> bool:
        """Devices of one API version alone know what it is (1.12)."""
        return self.api_version.lower() == "2021-11-01-preview"


class TrustBundle(msgspec.Struct, frozen=True, kw_only=True):
    """The roots of the hub's server certificates (DER). Times are Unix seconds. etag: unquoted."""

    id: str
    etag: str
    created: float
    modified: float
    certificates: tuple[bytes, ...]


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """The record of one registration id. Times are Unix seconds.

    hub, device_id: the newest assignment, empty for none; it lasts while a later attempt fails. initial_hub: the first.
    error_code, error_message: why the newest attempt failed. payload: for the device, from whoever allocated.
    issued: the certificate that the newest attempt asked for and those above it (DER). is_by_issued: that or an earlier
    one opens the identity. trust_bundle: filled in for the answer to a device that wants it.
    authentication_key: the key that opens the identity, for the device's TPM alone. claimed: another hub at which an
    identity was begun.
    """

    registration_id: str
    is_group: bool
    enrolment_id: str
    attestation: AttestationType
    status: RegistrationStatus
    substatus: Substatus = ""
    hub: str = ""
    initial_hub: str = ""
    device_id: str = ""
    error_code: int = 0
    error_message: str = ""
    payload: Any = None
    certificate: bytes = b""
    issuer: bytes = b""
    issued: tuple[bytes, ...] = ()
    issued_form: IssuedForm = ""
    is_by_issued: bool = False
    wants_trust_bundle: bool = False
    trust_bundle: TrustBundle | None = None
    authentication_key: bytes = b""
    claimed: str = ""
    etag: str = ""
    created: float = 0.0
    updated: float = 0.0

    @property
    def enrolment(self) -> EnrolmentKey:
        return enrolment_key(self.is_group, self.enrolment_id)


class RegistrationOperation(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt. registration: how it ended; None while it is ``assigning``. begun: Unix seconds.

    retry_after: seconds until the device should ask again. if_lost: the registration, should it never end by itself.
    """

    operation_id: str
    registration_id: str
    begun: float
    registration: Registration | None = None
    retry_after: int = 3
    if_lost: Registration | None = None

    @property
    def status(self) -> RegistrationStatus:
        return "assigning" if self.registration is None else self.registration.status


class LinkedHub(msgspec.Struct, frozen=True, kw_only=True):
    """A hub that devices may be assigned to. applies: takes part in ``hashed`` and ``geoLatency``.

    name, connection: of another hub: how people call it, and the connection string of a policy there. Empty for this
    hub.
    """

    host_name: str
    weight: int = 1
    applies: bool = True
    name: str = ""
    connection: str = ""

    @property
    def is_own(self) -> bool:
        return not self.connection

    def __repr__(self) -> str:
        return f"LinkedHub({self.host_name!r}, {self.weight})"
