"""Certificate requests (PKCS#10) as devices send them: parsed, bounded, and what of them counts (4.9).

Nothing that a request asks for is copied into the certificate: of it there count the public key, that its holder signed
the request, and the name, which must be the asker's own where it stands.
"""

import binascii
from base64 import b64decode
from hashlib import sha256
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from hubkeep.errors import RequestRefused
from hubkeep.limits import REQUEST_BYTES

from .key_strength import WANTED, is_weak_hash, weakness
from .readable import UNREADABLE


class SigningRequest(NamedTuple):
    """key_sha256: of the public key info, hexadecimal, upper case. names: common names, as they stand.

    alternative: the subjectAltName that it asks for, which nobody copies.
    """

    public_key: Any
    key_sha256: str
    names: tuple[str, ...]
    alternative: x509.SubjectAlternativeName | None = None


def read_request(content: bytes) -> SigningRequest:
    """A request in DER, PEM, or the base64 of its DER. Raises RequestRefused."""
    if len(content) > REQUEST_BYTES.value:
        raise RequestRefused(f"A certificate request has at most {REQUEST_BYTES.value} bytes.")
    try:
        request = _loaded(content)
        key, is_signed, digest = request.public_key(), request.is_signature_valid, request.signature_hash_algorithm
        alternative = _alternative(request.extensions)
        names = tuple(str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    except UNREADABLE:
        raise RequestRefused("The certificate request cannot be read.") from None
    if not is_signed:
        raise RequestRefused("The certificate request is not signed with the key that it is for.")
    if found := weakness(key):
        raise RequestRefused(f"The key of the request is too weak: {found}.", remedy=WANTED)
    if is_weak_hash(digest):
        raise RequestRefused("The request is signed with a weak hash: use SHA-256.")
    return SigningRequest(key, key_fingerprint(key), names, alternative)


def key_fingerprint(public_key: Any) -> str:
    """SHA-256 of the public key info."""
    return sha256(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest().upper()


def check_names(request: SigningRequest, name: str) -> None:
    """A request may leave the name out, but names nobody else. Raises RequestRefused."""
    if request.names not in {(), (name,)}:
        told = ", ".join(repr(each)[:100] for each in request.names[:3])
        raise RequestRefused(
            "The common name of the request is not the identity's.",
            reason=f"the request is made out to {told}, who asks is {name!r}",
        )


def _alternative(extensions: x509.Extensions) -> x509.SubjectAlternativeName | None:
    try:
        return extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _loaded(content: bytes) -> x509.CertificateSigningRequest:
    if b"-----BEGIN" in content:
        return x509.load_pem_x509_csr(content)
    if content[:1] != b"\x30":
        try:
            content = b64decode(bytes(each for each in content if each not in b" \t\r\n"), validate=True)
        except binascii.Error:
            raise RequestRefused("The certificate request is neither DER, PEM nor base64.") from None
    return x509.load_der_x509_csr(content)
