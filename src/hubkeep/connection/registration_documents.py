"""What devices and the provisioning service tell each other, as JSON on every wire.

Source: provisioning-and-pki 1.4, 1.5.
"""

import binascii
from base64 import b64decode, b64encode
from hashlib import sha1, sha256
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.errors import BadRequest, Unauthorized, on_wire
from hubkeep.limits import Limits
from hubkeep.model import RegisterRequest, Registration, RegistrationOperation, time_stamp

from .refusal_bodies import refusal_text
from .strict_json import json_as

_CREDENTIAL_REFUSED: Final = 401002  # one number for all, as devices know it from provisioning


class TpmBody(msgspec.Struct, rename="camel"):
    """Base64 of TPM2B_PUBLIC."""

    endorsement_key: str | None = None
    storage_root_key: str | None = None


class RegisterBody(msgspec.Struct, rename="camel"):
    """csr, client_certificate_csr: a certificate request, as two previews of the device clients name it."""

    registration_id: str | None = None
    payload: Any = None
    tpm: TpmBody | None = None
    csr: str | None = None
    client_certificate_csr: str | None = None


def register_request(body: bytes, api_version: str, limits: Limits) -> RegisterRequest:
    """A body of no bytes asks for nothing in particular. Raises FormatError, BadRequest."""
    wanted = json_as(RegisterBody, body) if body.strip() else RegisterBody()
    if wanted.payload is not None and len(msgspec.json.encode(wanted.payload)) > limits.register_payload:
        raise BadRequest(f"The payload has at most {limits.register_payload} bytes.")
    tpm = wanted.tpm or TpmBody()
    return RegisterRequest(
        registration_id=wanted.registration_id,
        payload=wanted.payload,
        api_version=api_version,
        csr=(wanted.csr or wanted.client_certificate_csr or "").encode(),
        issued_form="chain" if wanted.csr else "pem" if wanted.client_certificate_csr else "",
        endorsement_key=_tpm_key(tpm.endorsement_key),
        storage_root_key=_tpm_key(tpm.storage_root_key),
    )


def _tpm_key(text: str | None) -> bytes:
    """Raises BadRequest."""
    try:
        return b64decode(text or "", validate=True)
    except (ValueError, binascii.Error):
        raise BadRequest("A TPM key is base64 of a TPM2B_PUBLIC.") from None


def operation_document(operation: RegistrationOperation) -> dict[str, Any]:
    """The answer to a request to register, and to a poll."""
    told: dict[str, Any] = {"operationId": operation.operation_id, "status": operation.status}
    if operation.registration is not None:
        state = registration_document(operation.registration)
        if operation.registration.authentication_key:
            state["tpm"] = {"authenticationKey": b64encode(operation.registration.authentication_key).decode()}
        told["registrationState"] = state
    return told


def registration_document(record: Registration) -> dict[str, Any]:
    """The record, as devices and back ends read it."""
    told: dict[str, Any] = {
        "registrationId": record.registration_id,
        "createdDateTimeUtc": time_stamp(record.created),
        "lastUpdatedDateTimeUtc": time_stamp(record.updated),
        "status": record.status,
        "etag": record.etag,
    }
    if record.status == "assigned":
        told |= {"assignedHub": record.hub, "deviceId": record.device_id, "substatus": record.substatus}
        if record.payload is not None:
            told["payload"] = record.payload
        told |= _issued(record)
    elif record.status == "failed":
        told |= {"errorCode": record.error_code, "errorMessage": record.error_message}
    group = {"enrollmentGroupId": record.enrolment_id} if record.is_group else {}
    if record.attestation == "symmetricKey":
        told["symmetricKey"] = group
    elif record.attestation == "x509":
        told["x509"] = group
        if record.certificate:
            told["x509"] = {**group, "certificateInfo": certificate_document(record.certificate)}
        if record.issuer:
            told["x509"]["signingCertificateInfo"] = certificate_document(record.issuer)
    else:
        told["tpm"] = {}
    return told


def _issued(record: Registration) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if record.issued and record.issued_form == "pem":
        told["issuedClientCertificate"] = "".join(pem(each) for each in record.issued)
    elif record.issued:
        told["issuedCertificateChain"] = [b64encode(each).decode() for each in record.issued]
    if (bundle := record.trust_bundle) is not None:
        told["trustBundle"] = {
            "id": bundle.id,
            "etag": f'"{bundle.etag}"',
            "createdDateTime": time_stamp(bundle.created),
            "lastModifiedDateTime": time_stamp(bundle.modified),
            "certificates": [
                {"certificate": pem(each), "metadata": certificate_document(each)} for each in bundle.certificates
            ],
        }
    return told


def pem(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def certificate_document(der: bytes) -> dict[str, Any]:
    """What is told of a certificate in place of the certificate."""
    certificate = x509.load_der_x509_certificate(der)
    return {
        "subjectName": certificate.subject.rfc4514_string(),
        "sha1Thumbprint": sha1(der, usedforsecurity=False).hexdigest().upper(),
        "sha256Thumbprint": sha256(der).hexdigest().upper(),
        "issuerName": certificate.issuer.rfc4514_string(),
        "notBeforeUtc": time_stamp(certificate.not_valid_before_utc.timestamp()),
        "notAfterUtc": time_stamp(certificate.not_valid_after_utc.timestamp()),
        "serialNumber": f"{certificate.serial_number:X}",
        "version": certificate.version.value + 1,
    }


def provisioning_refusal(error: BaseException, tracking_id: str, now: float) -> dict[str, Any]:
    """What was wrong with the request; of a credential nothing but that it was refused. now: Unix seconds."""
    is_credential = isinstance(error, Unauthorized)
    return {
        "errorCode": refused_number(error),
        "trackingId": tracking_id,
        "message": "Unauthorized" if is_credential else refusal_text(error),
        "timestampUtc": time_stamp(now),
        "info": {},
    }


def refused_number(error: BaseException) -> int:
    """The six digits, as the provisioning service tells them."""
    return _CREDENTIAL_REFUSED if isinstance(error, Unauthorized) else on_wire(error).number
