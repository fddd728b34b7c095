"""The provisioning service, for devices and for back ends. Source: provisioning-and-pki 1.4, 1.7, 2.1, 2.2."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, UnsetType, field

from hubkeep.errors import (
    EnrolmentExists,
    EnrolmentNotFound,
    EnrolmentQuota,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    RegistrationNotFound,
    Throttled,
)
from hubkeep.limits import ENROLMENT_BODY, HTTP_SERVICE_BODY, REGISTER_BODY

from ...registration_documents import RegisterBody
from ..enrolment_documents import BulkBody, EnrolmentBody
from ..enrolment_queries import EnrolmentQueryBody
from ..linked_hubs import LinkedHubBody
from .rows import (
    CONTINUATION,
    ETAG,
    IF_MATCH,
    IF_MATCH_CREATES,
    JSON,
    NEXT_PAGE,
    PAGE_SIZE,
    Answer,
    Body,
    Count,
    Described,
    Etag,
    Parameter,
    Time,
    Told,
    empty,
    given,
)

RegistrationStatus = Literal["unassigned", "assigning", "assigned", "failed", "disabled"]


class CertificateInfo(Told):
    """What is told of a certificate in its place."""

    subject_name: str
    sha1_thumbprint: str = field(name="sha1Thumbprint")
    sha256_thumbprint: str = field(name="sha256Thumbprint")
    issuer_name: str
    not_before_utc: Time
    not_after_utc: Time
    serial_number: str
    version: int


class RegisteredByKey(Told):
    enrollment_group_id: str | UnsetType = UNSET


class RegisteredByCertificate(Told):
    enrollment_group_id: str | UnsetType = UNSET
    certificate_info: CertificateInfo | UnsetType = UNSET
    signing_certificate_info: CertificateInfo | UnsetType = UNSET


class RegisteredByTpm(Told):
    """authenticationKey: what opens the identity, for the device's TPM alone; told to the device alone."""

    authentication_key: str | UnsetType = UNSET


class TpmChallenge(Told):
    """A key in base64 that the TPM of these keys alone can open. It signs a token for registering, once."""

    message: str
    authentication_key: str
    key_name: str


class TrustedCertificate(Told):
    certificate: str
    metadata: CertificateInfo


class TrustBundle(Told):
    """The roots of the hub's server certificates."""

    id: str
    etag: Etag
    created_date_time: Time
    last_modified_date_time: Time
    certificates: list[TrustedCertificate]


class RegistrationState(Told, kw_only=True):
    """What became of a device. assignedHub and deviceId: of one that is assigned. payload: from whoever allocated.

    issuedCertificateChain (base64 of DER) or issuedClientCertificate (PEM), the leaf first: of one that asked for a
    certificate, by the name that it used. trustBundle: for devices of the API version 2021-11-01-preview.
    """

    registration_id: str
    created_date_time_utc: Time
    last_updated_date_time_utc: Time
    status: RegistrationStatus
    etag: Etag
    assigned_hub: str | UnsetType = UNSET
    device_id: str | UnsetType = UNSET
    substatus: str | UnsetType = UNSET
    payload: Any | UnsetType = UNSET
    issued_certificate_chain: list[str] | UnsetType = UNSET
    issued_client_certificate: str | UnsetType = UNSET
    trust_bundle: TrustBundle | UnsetType = UNSET
    error_code: int | UnsetType = UNSET
    error_message: str | UnsetType = UNSET
    symmetric_key: RegisteredByKey | UnsetType = UNSET
    x509: RegisteredByCertificate | UnsetType = UNSET
    tpm: RegisteredByTpm | UnsetType = UNSET


class RegistrationOperation(Told, kw_only=True):
    """One attempt to register; ask again while it is `assigning`."""

    operation_id: str
    status: RegistrationStatus
    registration_state: RegistrationState | UnsetType = UNSET


class EnrolmentKeys(Told):
    """Hidden but in the answers of `attestationmechanism`."""

    primary_key: str | None
    secondary_key: str | None


class EnrolmentTpm(Told):
    endorsement_key: str
    storage_root_key: str | None


class EnrolmentCertificate(Told):
    certificate: None
    info: CertificateInfo


class EnrolmentCertificates(Told):
    primary: EnrolmentCertificate
    secondary: EnrolmentCertificate | None


class CaReferences(Told):
    primary: str
    secondary: str | None


class EnrolmentX509(Told):
    client_certificates: EnrolmentCertificates | UnsetType = UNSET
    signing_certificates: EnrolmentCertificates | UnsetType = UNSET
    ca_references: CaReferences | UnsetType = UNSET


class EnrolmentAttestation(Told):
    type: Literal["symmetricKey", "x509", "tpm"]
    symmetric_key: EnrolmentKeys | UnsetType = UNSET
    x509: EnrolmentX509 | UnsetType = UNSET
    tpm: EnrolmentTpm | UnsetType = UNSET


class EnrolmentCapabilities(Told):
    iot_edge: bool


class EnrolmentReprovisioning(Told):
    update_hub_assignment: bool
    migrate_device_data: bool


class CustomAllocation(Told):
    webhook_url: str
    api_version: str


class EnrolmentAdmission(Told):
    """Bounds that Azure does not know."""

    hub_identity: Literal["thumbprint", "ca"]
    approval: Literal["auto"]
    allowed_registration_ids: list[str] | UnsetType = UNSET
    max_registrations: Count | UnsetType = UNSET
    expires_at_utc: Time | UnsetType = UNSET
    owner: str | UnsetType = UNSET


class IssuancePolicy(Told):
    certificate_authority_name: str


class _Enrolment(Told, kw_only=True):
    attestation: EnrolmentAttestation
    capabilities: EnrolmentCapabilities
    provisioning_status: Literal["enabled", "disabled"]
    etag: Etag
    created_date_time_utc: Time
    last_updated_date_time_utc: Time
    iot_hubs: list[str] | UnsetType = UNSET
    iot_hub_host_name: str | UnsetType = UNSET
    allocation_policy: Literal["hashed", "geoLatency", "static", "custom"] | UnsetType = UNSET
    custom_allocation_definition: CustomAllocation | UnsetType = UNSET
    initial_twin: dict[str, Any] | UnsetType = UNSET
    reprovision_policy: EnrolmentReprovisioning | UnsetType = UNSET
    credential_policy_name: str | UnsetType = UNSET
    client_certificate_issuance_policy: IssuancePolicy | UnsetType = UNSET
    hubkeep: EnrolmentAdmission | UnsetType = UNSET


class IndividualEnrolment(_Enrolment, kw_only=True):
    """Of one device."""

    registration_id: str
    device_id: str | UnsetType = UNSET
    optional_device_information: dict[str, Any] | UnsetType = UNSET
    registration_state: RegistrationState | UnsetType = UNSET


class EnrolmentGroup(_Enrolment, kw_only=True):
    """Of all devices whose key derives from the group's, or whose certificate chains to one of the group's."""

    enrollment_group_id: str


class EnrolmentBulkError(Told, kw_only=True):
    """Why one record was not carried out."""

    registration_id: str | UnsetType = UNSET
    enrollment_group_id: str | UnsetType = UNSET
    error_code: int
    error_status: str


class EnrolmentBulkResult(Told):
    is_successful: bool
    errors: list[EnrolmentBulkError]


class DerivedKeys(Told):
    """What one device of a group is given."""

    registration_id: str
    primary_key: str
    secondary_key: str


class LinkedHubTold(Told):
    host_name: str
    allocation_weight: int
    apply_allocation_policy: bool


class ProvisioningService(Told):
    id_scope: str
    linked_hubs: list[LinkedHubTold]


class OtherHubTold(LinkedHubTold):
    """Without what opens it."""

    name: str


_PENDING_HEADERS: Final = (
    Parameter("Retry-After", Annotated[str, Meta(pattern="^[0-9]+$")], "Seconds until it is worth asking."),
    Parameter("Location", str, "Where to ask."),
)
_OPERATION: Final[Mapping[int, Answer]] = {
    200: Answer("How it ended.", RegistrationOperation),
    202: Answer("It is under way.", RegistrationOperation, headers=_PENDING_HEADERS),
}
_REGISTER: Final = Body({JSON: RegisterBody}, REGISTER_BODY.value, is_required=False)
_QUERY: Final = Body({JSON: EnrolmentQueryBody}, ENROLMENT_BODY.value, is_required=False)
_BULK: Final = Body({JSON: BulkBody}, HTTP_SERVICE_BODY.value)
_WRITING: Final = (EnrolmentExists, EnrolmentNotFound, EnrolmentQuota, PreconditionFailed)
_DELETING: Final = (EnrolmentNotFound, PreconditionFailed)


def _item(kind: str) -> Parameter:
    return Parameter("x-ms-item-type", Literal[kind], "What the rows are.")


def _page(shape: Any, kind: str) -> Mapping[int, Answer]:
    return given(list[shape], "One page.", _item(kind), NEXT_PAGE)


def _of(what: str, name: str, shape: Any, kind: str) -> Mapping[str, Described]:
    """The rows of enrolments and of groups are alike."""
    body = Body({JSON: EnrolmentBody}, ENROLMENT_BODY.value)
    return {
        f"{name}/put": Described(
            f"Create or replace {what}",
            given(shape, "As it is now.", ETAG),
            text="Keys that are not given are made, or stay. The kind of attestation cannot be changed.",
            body=body,
            headers=(IF_MATCH_CREATES,),
            refusals=_WRITING,
            is_of_provisioning=True,
        ),
        f"{name}/get": Described(
            f"Get {what}",
            given(shape, "Without keys and certificates.", ETAG),
            refusals=(EnrolmentNotFound,),
            is_of_provisioning=True,
        ),
        f"{name}/delete": Described(
            f"Delete {what}",
            empty("It is gone; identities that it made stay."),
            headers=(IF_MATCH,),
            refusals=_DELETING,
            is_of_provisioning=True,
        ),
        f"{name}/attestation": Described(
            f"Get the keys of {what}",
            given(EnrolmentAttestation, "With the keys.", ETAG),
            refusals=(EnrolmentNotFound,),
            is_of_provisioning=True,
        ),
        f"{name}/bulk": Described(
            f"Write many, as {what} each",
            given(EnrolmentBulkResult, "Each succeeds or fails alone."),
            body=_BULK,
            is_of_provisioning=True,
        ),
        f"{name}/query": Described(
            "Page through all",
            _page(shape, kind),
            text="`SELECT *`, with `WHERE registrationId = '...'`, `provisioningStatus = '...'` and `AND`.",
            body=_QUERY,
            headers=(PAGE_SIZE, CONTINUATION),
            is_of_provisioning=True,
        ),
    }


ROWS: Final[Mapping[str, Described]] = {
    "registrations/register": Described(
        "Register oneself",
        {**_OPERATION, 401: Answer("A device with a TPM is to prove itself.", TpmChallenge)},
        text="With a token of an enrolled key, or the certificate of the connection. A device with a TPM shows "
        "neither, tells its TPM's keys, opens the challenge that it is answered with, and asks again with a token.",
        body=_REGISTER,
        refusals=(Throttled,),
        is_of_provisioning=True,
    ),
    "registrations/poll": Described(
        "Ask how it ended", _OPERATION, refusals=(RegistrationNotFound, Throttled), is_of_provisioning=True
    ),
    "registrations/own": Described(
        "Read one's own record",
        given(RegistrationState, "The record."),
        body=_REGISTER,
        refusals=(RegistrationNotFound,),
        is_of_provisioning=True,
    ),
    **_of("an enrollment", "enrolments", IndividualEnrolment, "Enrollment"),
    **_of("a group", "groups", EnrolmentGroup, "EnrollmentGroup"),
    "registrations/get": Described(
        "Get a registration record",
        given(RegistrationState, "The record.", ETAG),
        refusals=(RegistrationNotFound,),
        is_of_provisioning=True,
    ),
    "registrations/delete": Described(
        "Delete a registration record",
        empty("It is gone; enrollment and identity stay."),
        headers=(IF_MATCH,),
        refusals=(RegistrationNotFound, PreconditionFailed),
        is_of_provisioning=True,
    ),
    "registrations/query": Described(
        "Page through the records of a group",
        _page(RegistrationState, "DeviceRegistration"),
        body=_QUERY,
        headers=(PAGE_SIZE, CONTINUATION),
        refusals=(EnrolmentNotFound,),
        is_of_provisioning=True,
    ),
    "groups/key": Described(
        "Derive the keys of one device of a group", given(DerivedKeys, "Its keys."), refusals=(EnrolmentNotFound,)
    ),
    "admin/provisioning": Described(
        "Show the provisioning service", given(ProvisioningService, "Its id scope, its hubs.")
    ),
    "admin/provisioning/hubs": Described("List the other hubs that are linked", given(list[OtherHubTold], "By name.")),
    "admin/provisioning/hubs/put": Described(
        "Link another hub, or change how it is linked",
        given(OtherHubTold, "As it is linked."),
        text="Devices are assigned to it from then on.",
        body=Body({JSON: LinkedHubBody}, HTTP_SERVICE_BODY.value),
        refusals=(QuotaExceeded,),
    ),
    "admin/provisioning/hubs/delete": Described(
        "Unlink another hub", empty("No device goes there any more; those that are there stay."), refusals=(NotFound,)
    ),
}
