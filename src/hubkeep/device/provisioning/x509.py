"""Attestation by certificate: of one device, or of the authority above a group. Source: provisioning-and-pki 1.10."""

import binascii
from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.errors import BadRequest
from hubkeep.model import Attestation, Authority, Enrolment, RegistrationCredential

from ..authorities import check_authority, read_certificate

_PEM: Final = "-----BEGIN"


class Anchor(NamedTuple):
    """A certificate that devices of a group chain to. name: the group's id."""

    name: str
    certificate: bytes


def read_upload(text: str) -> bytes:
    """DER of PEM, of base64 of DER, or of base64 of PEM. Raises BadRequest."""
    content = text.encode()
    if _PEM not in text:
        try:
            content = b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest("A certificate is PEM, or base64 of DER or of PEM.") from None
    return read_certificate(content).public_bytes(Encoding.DER)


def checked(wanted: Attestation, *, is_group: bool, known: Sequence[str], now: float) -> Attestation:
    """known: names of registered authorities. Raises BadRequest."""
    if wanted.certificates and wanted.authorities:
        raise BadRequest("Give certificates or caReferences, not both.")
    if not wanted.primary_certificate and not wanted.primary_authority:
        raise BadRequest("An x509 attestation needs a primary certificate or caReference.")
    if wanted.authorities and not is_group:
        raise BadRequest("An individual enrollment takes clientCertificates.")
    for name in wanted.authorities:
        if name not in known:
            raise BadRequest(f"No certificate authority of the name {name[:64]!r} is registered.")
    if is_group:
        for der in wanted.certificates:
            check_authority(read_certificate(der), now)
    return wanted


def anchors(groups: Sequence[Enrolment], authorities: Sequence[Authority]) -> Sequence[Anchor]:
    """Of all groups. authorities: those whose word counts now."""
    by_name = {each.name: each.certificate for each in authorities}
    found = []
    for group in groups:
        found += [Anchor(group.id, each) for each in group.attestation.certificates]
        found += [Anchor(group.id, by_name[each]) for each in group.attestation.authorities if each in by_name]
    return found


def at_the_hub(
    enrolment: Enrolment, credential: RegistrationCredential, device_id: str, authorities: Sequence[Authority]
) -> dict[str, Any]:
    """The credentials of the identity: the leaf's thumbprint, or its authority if that speaks at the hub as well."""
    registered = {each.certificate for each in authorities}
    is_authority_known = credential.issuer in registered and credential.registration_id == device_id
    of_authority = enrolment.admission.hub_identity == "ca" and is_authority_known
    return {
        "authentication": "certificateAuthority" if of_authority else "selfSigned",
        "primary_key": None,
        "secondary_key": None,
        "primary_thumbprint": None if of_authority else sha256(credential.certificate).hexdigest().upper(),
        "secondary_thumbprint": None,
    }
