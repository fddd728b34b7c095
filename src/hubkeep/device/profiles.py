"""What the hub's own certificates look like (provisioning-and-pki 4.3). Start at ``device_certificate``."""

import datetime as dt
import secrets
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from hubkeep.ports import PrivateKey

ROOT_DAYS: Final = 20 * 365
ISSUING_DAYS: Final = 2 * 365
RESPONDER_DAYS: Final = 30
BEFORE: Final = dt.timedelta(hours=1)  # clocks of devices run behind
_NAME_LENGTH: Final = 64  # X.520


def serial_number() -> int:
    """128 random bits, positive, never of a shorter form."""
    return int.from_bytes(secrets.token_bytes(16)) | 1 << 127


def root_certificate(key: PrivateKey, name: str, now: dt.datetime) -> x509.Certificate:
    subject = _named(name)
    builder = _builder(subject, subject, key.public_key(), now, ROOT_DAYS)
    return _of_authority(builder, path_length=None).sign(key, hashes.SHA256())


def issuing_request(key: PrivateKey, name: str) -> x509.CertificateSigningRequest:
    """What a root elsewhere signs."""
    return x509.CertificateSigningRequestBuilder().subject_name(_named(name)).sign(key, hashes.SHA256())


def issuing_certificate(
    public_key: Any,
    name: x509.Name | str,
    root: x509.Certificate,
    root_key: PrivateKey,
    now: dt.datetime,
    days: float = ISSUING_DAYS,
) -> x509.Certificate:
    """Nothing below it but leaves, and those for clients alone. Never outlives its root."""
    subject = _named(name) if isinstance(name, str) else name
    builder = _builder(subject, root.subject, public_key, now, days, root.not_valid_after_utc)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    builder = builder.add_extension(above(root), critical=False)
    return _of_authority(builder, path_length=0).sign(root_key, hashes.SHA256())


def device_builder(
    public_key: Any,
    name: str,
    generation: str,
    issuer: x509.Certificate,
    now: dt.datetime,
    days: float,
    *,
    serial: int,
    crl_urls: Sequence[str] = (),
    ocsp_urls: Sequence[str] = (),
) -> x509.CertificateBuilder:
    """Of an operational device. name: of the identity. generation: the URI of ``generation_uri``."""
    builder = (
        _builder(_named(name), issuer.subject, public_key, now, days, issuer.not_valid_after_utc, serial)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(generation)]), critical=False)
        .add_extension(above(issuer), critical=False)
    )
    if crl_urls:
        points = [x509.DistributionPoint([x509.UniformResourceIdentifier(each)], None, None, None) for each in crl_urls]
        builder = builder.add_extension(x509.CRLDistributionPoints(points), critical=False)
    if ocsp_urls:
        places = [
            x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(each))
            for each in ocsp_urls
        ]
        builder = builder.add_extension(x509.AuthorityInformationAccess(places), critical=False)
    return builder


def responder_certificate(
    public_key: Any, issuer: x509.Certificate, issuer_key: PrivateKey, now: dt.datetime
) -> x509.Certificate:
    """Of who signs OCSP answers in an authority's place."""
    common = issuer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    subject = _named(f"OCSP of {common!s}"[:_NAME_LENGTH])
    return (
        _builder(subject, issuer.subject, public_key, now, RESPONDER_DAYS, issuer.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
        .add_extension(x509.OCSPNoCheck(), critical=False)
        .add_extension(above(issuer), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def generation_uri(hub: str, name: str, generation: int) -> str:
    """What binds a certificate to a generation of the identity's credentials. hub: which hub counts them."""
    return f"urn:hubkeep:dev:{quote(hub, safe='')}:{quote(name, safe='')}:gen:{generation}"


def generation_of(certificate: x509.Certificate) -> str:
    """The URI that ``generation_uri`` made; empty: none, or several."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    found = [each for each in names.get_values_for_type(x509.UniformResourceIdentifier) if each[:12] == "urn:hubkeep:"]
    return found[0] if len(found) == 1 else ""


def key_usage(
    *, digital_signature: bool = False, key_encipherment: bool = False, key_cert_sign: bool = False
) -> x509.KeyUsage:
    """key_cert_sign: for certificates and revocation lists."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: Any,
    now: dt.datetime,
    days: float,
    at_most: dt.datetime | None = None,
    serial: int = 0,
) -> x509.CertificateBuilder:
    ends = now + dt.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial or serial_number())
        .not_valid_before(now - BEFORE)
        .not_valid_after(min(ends, at_most) if at_most else ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _of_authority(builder: x509.CertificateBuilder, path_length: int | None) -> x509.CertificateBuilder:
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    return builder.add_extension(constraints, critical=True).add_extension(key_usage(key_cert_sign=True), critical=True)


def above(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]  # checked
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
