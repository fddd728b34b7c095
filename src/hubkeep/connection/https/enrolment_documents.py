"""Enrolments as JSON: what back ends send and read. Source: provisioning-and-pki 2.2."""

from base64 import b64encode
from typing import Any, Literal

import msgspec

from hubkeep.device.identities import status_from_text
from hubkeep.device.keys import key_from_text, key_to_text
from hubkeep.device.provisioning import x509
from hubkeep.device.provisioning.enrolments import WantedEnrolment
from hubkeep.errors import BadRequest
from hubkeep.model import (
    Admission,
    AllocationPolicy,
    Attestation,
    AttestationType,
    Enrolment,
    HubIdentity,
    Registration,
    ReprovisionPolicy,
    Webhook,
    time_stamp,
)

from ..registration_documents import certificate_document, registration_document
from ..timestamps import milliseconds
from .bodies import from_base64


class _Camel(msgspec.Struct, rename="camel"):
    """Members that nobody here knows are passed over."""


class _Keys(_Camel):
    primary_key: str | None = None
    secondary_key: str | None = None


class _Tpm(_Camel):
    endorsement_key: str | None = None
    storage_root_key: str | None = None


class _Certificate(_Camel):
    """info: of an answer that is sent back; the certificate is then the stored one."""

    certificate: str | None = None
    info: dict[str, Any] | None = None


class _Certificates(_Camel):
    primary: _Certificate | None = None
    secondary: _Certificate | None = None


class _References(_Camel):
    primary: str | None = None
    secondary: str | None = None


class _X509(_Camel):
    client_certificates: _Certificates | None = None
    signing_certificates: _Certificates | None = None
    ca_references: _References | None = None


class _Attestation(_Camel):
    type: AttestationType
    symmetric_key: _Keys | None = None
    x509: _X509 | None = None
    tpm: _Tpm | None = None


class _Reprovision(_Camel):
    update_hub_assignment: bool = True
    migrate_device_data: bool = True


class _Custom(_Camel):
    webhook_url: str
    api_version: str = "2019-03-31"


class _Issuance(_Camel):
    certificate_authority_name: str = ""


class _Capabilities(_Camel):
    iot_edge: bool = False


class _Hubkeep(_Camel):
    hub_identity: HubIdentity = "thumbprint"
    allowed_registration_ids: list[str] | None = None
    approval: Literal["auto"] = "auto"
    max_registrations: int = 0
    expires_at_utc: str | None = None
    owner: str = ""


class EnrolmentBody(_Camel):
    """What a request may say. Everything else that a client sends back is the service's own."""

    attestation: _Attestation
    registration_id: str | None = None
    enrollment_group_id: str | None = None
    device_id: str | None = None
    capabilities: _Capabilities | None = None
    iot_hub_host_name: str | None = None
    iot_hubs: list[str] | None = None
    allocation_policy: AllocationPolicy | None = None
    custom_allocation_definition: _Custom | None = None
    initial_twin: dict[str, Any] | None = None
    reprovision_policy: _Reprovision | None = None
    provisioning_status: str | None = None
    optional_device_information: dict[str, Any] | None = None
    credential_policy_name: str | None = None
    client_certificate_issuance_policy: _Issuance | None = None
    hubkeep: _Hubkeep | None = None
    etag: str | None = None


BulkMode = Literal["create", "update", "updateIfMatchETag", "delete"]


class BulkBody(_Camel):
    mode: BulkMode
    enrollments: list[EnrolmentBody] | None = None
    enrollment_groups: list[EnrolmentBody] | None = None


def enrolment_id(body: EnrolmentBody, *, is_group: bool) -> str:
    """What the body says. Raises BadRequest."""
    name = body.enrollment_group_id if is_group else body.registration_id
    if not name:
        raise BadRequest(f"{'enrollmentGroupId' if is_group else 'registrationId'} is missing.")
    return name


def wanted_enrolment(body: EnrolmentBody, *, is_group: bool) -> WantedEnrolment:
    """Raises BadRequest."""
    attestation, kept = _attestation(body.attestation, is_group=is_group)
    hubs, allocation = tuple(body.iot_hubs or ()), body.allocation_policy
    if body.iot_hub_host_name and not hubs:
        hubs, allocation = (body.iot_hub_host_name,), allocation or "static"
    custom, reprovision = body.custom_allocation_definition, body.reprovision_policy
    issuance = body.client_certificate_issuance_policy or _Issuance()
    enrolment = Enrolment(
        id=enrolment_id(body, is_group=is_group),
        is_group=is_group,
        attestation=attestation,
        device_id="" if is_group else body.device_id or "",
        status=status_from_text(body.provisioning_status),
        iot_edge=(body.capabilities or _Capabilities()).iot_edge,
        hubs=hubs,
        allocation=allocation,
        webhook=None if custom is None else Webhook(url=custom.webhook_url, api_version=custom.api_version),
        initial_twin=body.initial_twin,
        reprovision=None if reprovision is None else ReprovisionPolicy(**msgspec.structs.asdict(reprovision)),
        device_information=None if is_group else body.optional_device_information,
        credential_policy=body.credential_policy_name or issuance.certificate_authority_name,
        admission=Admission() if body.hubkeep is None else _admission(body.hubkeep),
    )
    return WantedEnrolment(enrolment, kept, keeps_admission=body.hubkeep is None)


def enrolment_document(enrolment: Enrolment, record: Registration | None = None) -> dict[str, Any]:
    """As back ends read it: no keys, and of certificates what is told of them. record: what became of it."""
    told: dict[str, Any] = {
        ("enrollmentGroupId" if enrolment.is_group else "registrationId"): enrolment.id,
        "attestation": _hidden(enrolment),
        "capabilities": {"iotEdge": enrolment.iot_edge},
        "provisioningStatus": enrolment.status,
        "etag": enrolment.etag,
        "createdDateTimeUtc": time_stamp(enrolment.created),
        "lastUpdatedDateTimeUtc": time_stamp(enrolment.updated),
    }
    optional = {
        "deviceId": enrolment.device_id or None,
        "iotHubs": list(enrolment.hubs) or None,
        "iotHubHostName": enrolment.hubs[0] if enrolment.allocation == "static" else None,
        "allocationPolicy": enrolment.allocation,
        "initialTwin": enrolment.initial_twin,
        "optionalDeviceInformation": enrolment.device_information,
        "registrationState": None if record is None else registration_document(record),
    }
    if enrolment.credential_policy:  # by the names of both previews
        optional["credentialPolicyName"] = enrolment.credential_policy
        optional["clientCertificateIssuancePolicy"] = {"certificateAuthorityName": enrolment.credential_policy}
    if enrolment.webhook is not None:
        optional["customAllocationDefinition"] = {
            "webhookUrl": enrolment.webhook.url,
            "apiVersion": enrolment.webhook.api_version,
        }
    policy = enrolment.reprovision
    if policy is not None:
        optional["reprovisionPolicy"] = {
            "updateHubAssignment": policy.update_hub_assignment,
            "migrateDeviceData": policy.migrate_device_data,
        }
    if enrolment.admission != Admission():
        optional["hubkeep"] = _admission_document(enrolment.admission)
    return told | {name: value for name, value in optional.items() if value is not None}


def attestation_document(attestation: Attestation, *, is_group: bool) -> dict[str, Any]:
    """With the keys, for those who may read them."""
    if attestation.type != "symmetricKey":
        return _shown(attestation, is_group=is_group)
    keys = {
        "primaryKey": key_to_text(attestation.primary_key),
        "secondaryKey": key_to_text(attestation.secondary_key),
    }
    return {"type": "symmetricKey", "symmetricKey": keys}


# -- attestation ------------------------------------------------------------------------------------------------------


def _attestation(given: _Attestation, *, is_group: bool) -> tuple[Attestation, frozenset[str]]:
    """And the fields that it shows without telling them."""
    if given.type == "symmetricKey":
        keys = given.symmetric_key or _Keys()
        values = {"primary_key": keys.primary_key, "secondary_key": keys.secondary_key}
        told = {name: key_from_text(text, "A symmetric key") for name, text in values.items() if text}
        return msgspec.structs.replace(Attestation(type="symmetricKey"), **told), frozenset(values.keys() - told.keys())
    if given.type == "tpm":
        tpm = given.tpm or _Tpm()
        values = {"endorsement_key": tpm.endorsement_key, "storage_root_key": tpm.storage_root_key}
        told = {name: from_base64(text, "A TPM key") for name, text in values.items() if text}
        return msgspec.structs.replace(Attestation(type="tpm"), **told), frozenset()
    certificates = given.x509 or _X509()
    if (references := certificates.ca_references) is not None and (references.primary or references.secondary):
        names = Attestation(
            type="x509",
            primary_authority=references.primary or None,
            secondary_authority=references.secondary or None,
        )
        return names, frozenset()
    wrong, right = certificates.client_certificates, certificates.signing_certificates
    if not is_group:
        wrong, right = right, wrong
    if wrong is not None and (wrong.primary or wrong.secondary):
        raise BadRequest("A group takes signingCertificates or caReferences, a single device clientCertificates.")
    return _certificates(right or _Certificates())


def _certificates(given: _Certificates) -> tuple[Attestation, frozenset[str]]:
    told, kept = {}, set()
    for name, each in (("primary_certificate", given.primary), ("secondary_certificate", given.secondary)):
        if each is not None and each.certificate:
            told[name] = x509.read_upload(each.certificate)
        elif each is not None and each.info:
            kept.add(name)
    return msgspec.structs.replace(Attestation(type="x509"), **told), frozenset(kept)


def _hidden(enrolment: Enrolment) -> dict[str, Any]:
    attestation = enrolment.attestation
    if attestation.type == "symmetricKey":
        return {"type": "symmetricKey", "symmetricKey": {"primaryKey": None, "secondaryKey": None}}
    return _shown(attestation, is_group=enrolment.is_group)


def _shown(attestation: Attestation, *, is_group: bool) -> dict[str, Any]:
    if attestation.type == "tpm":
        keys = {
            "endorsementKey": _text(attestation.endorsement_key),
            "storageRootKey": _text(attestation.storage_root_key),
        }
        return {"type": "tpm", "tpm": keys}
    if attestation.authorities:
        names = {"primary": attestation.primary_authority, "secondary": attestation.secondary_authority}
        return {"type": "x509", "x509": {"caReferences": names}}
    certificates = {
        "primary": _certificate(attestation.primary_certificate),
        "secondary": _certificate(attestation.secondary_certificate),
    }
    member = "signingCertificates" if is_group else "clientCertificates"
    return {"type": "x509", "x509": {member: certificates}}


def _certificate(der: bytes | None) -> dict[str, Any] | None:
    return None if der is None else {"certificate": None, "info": certificate_document(der)}


def _text(content: bytes | None) -> str | None:
    return None if content is None else b64encode(content).decode()


# -- the hub's own additions ------------------------------------------------------------------------------------------


def _admission(given: _Hubkeep) -> Admission:
    if given.max_registrations < 0:
        raise BadRequest("maxRegistrations is a count.")
    return Admission(
        hub_identity=given.hub_identity,
        allowed=tuple(given.allowed_registration_ids or ()),
        most=given.max_registrations,
        expires=milliseconds(given.expires_at_utc) / 1000 if given.expires_at_utc else 0.0,
        owner=given.owner[:128],
    )


def _admission_document(admission: Admission) -> dict[str, Any]:
    told: dict[str, Any] = {"hubIdentity": admission.hub_identity, "approval": "auto"}
    if admission.allowed:
        told["allowedRegistrationIds"] = list(admission.allowed)
    if admission.most:
        told["maxRegistrations"] = admission.most
    if admission.expires:
        told["expiresAtUtc"] = time_stamp(admission.expires)
    if admission.owner:
        told["owner"] = admission.owner
    return told
