"""Which certificate authorities speak for devices: registered, and proved to be in their owner's hand.

A certificate is public. Whoever registers one that they merely saw on the wire must not claim every device below it, so
an authority counts only once its key has signed a certificate that names a code of ours.
Source: provisioning-and-pki 3.6.
"""

import asyncio
import contextlib
import hmac
import re
import secrets
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from hubkeep.errors import AuthorityExists, BadRequest, NotFound, PreconditionFailed, QuotaExceeded
from hubkeep.limits import AUTHORITIES, AUTHORITY_BYTES, AUTHORITY_CODE_VALID
from hubkeep.model import Authority
from hubkeep.ports import AuthorityStore, Bus, Clock

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_RSA_BITS: Final = range(2048, 8193)
_CODE_BYTES: Final = 24
_ANY: Final = "*"


class Authorities:
    """All authorities, in memory; the store is read once and written through. etag: a stored one, or ``*`` for any."""

    def __init__(self, store: AuthorityStore, bus: Bus, clock: Clock) -> None:
        self._store, self._bus, self._clock = store, bus, clock
        self._authorities: dict[str, Authority] = {}
        self._changing = asyncio.Lock()  # what is read must be what is replaced

    async def load(self) -> None:
        self._authorities = {each.name: each for each in await self._store.all()}

    def all(self) -> Sequence[Authority]:
        return sorted(self._authorities.values(), key=lambda each: each.name)

    def active(self) -> Sequence[Authority]:
        """Those whose word counts."""
        return [each for each in self.all() if each.state == "active"]

    def get(self, name: str) -> Authority:
        """Raises NotFound."""
        if (found := self._authorities.get(name)) is None:
            raise NotFound(reason=f"no authority of the name {name!r} is registered")
        return found

    async def create(self, name: str, certificate: bytes, *, verified: bool = False) -> Authority:
        """certificate: PEM or DER, of the authority alone. verified: the administrator vouches for who holds its key.

        Raises BadRequest, AuthorityExists (the name or the certificate), QuotaExceeded.
        """
        if not _NAME.fullmatch(name):
            raise BadRequest("A name has 1 to 64 letters, digits, dots, hyphens and underscores.")
        parsed, now = read_certificate(certificate), self._clock.now()
        check_authority(parsed, now)
        der = parsed.public_bytes(Encoding.DER)
        digest = sha256(der).hexdigest().upper()
        async with self._changing:
            for each in self._authorities.values():
                if each.name == name or each.sha256 == digest:
                    raise AuthorityExists(reason=f"{each.name!r} is registered already")
            if len(self._authorities) >= AUTHORITIES.value:
                raise QuotaExceeded(reason=f"{AUTHORITIES.value} authorities are registered")
            return await self._put(
                Authority(
                    name=name,
                    certificate=der,
                    sha256=digest,
                    state="active" if verified else "unverified",
                    etag="",
                    created=now,
                    updated=now,
                )
            )

    async def challenge(self, name: str, etag: str = _ANY) -> Authority:
        """With a new code; one that was asked for before is void. Raises NotFound, PreconditionFailed."""
        async with self._changing:
            found = self._matching(name, etag)
            code = secrets.token_hex(_CODE_BYTES).upper()
            until = self._clock.now() + AUTHORITY_CODE_VALID.value
            return await self._put(msgspec.structs.replace(found, code=code, code_expires=until))

    async def prove(self, name: str, proof: bytes, etag: str = _ANY) -> Authority:
        """proof: a certificate (PEM or DER) whose one common name is the code, signed with the authority's key.

        Raises NotFound, PreconditionFailed; BadRequest tells what is wrong with the proof.
        """
        async with self._changing:
            found = self._matching(name, etag)
            _check_proof(found, read_certificate(proof), self._clock.now())
            return await self._put(msgspec.structs.replace(found, state="active", code="", code_expires=0.0))

    async def delete(self, name: str, etag: str = _ANY) -> None:
        """Devices below it are cut off at once. Raises NotFound, PreconditionFailed."""
        async with self._changing:
            self._matching(name, etag)
            await self._store.remove(name)
            del self._authorities[name]
        self._bus.publish("authority.removed", name)

    def _matching(self, name: str, etag: str) -> Authority:
        found = self.get(name)
        if etag not in {_ANY, found.etag}:
            raise PreconditionFailed
        return found

    async def _put(self, authority: Authority) -> Authority:
        etag = b64encode(secrets.token_bytes(6)).decode()
        authority = msgspec.structs.replace(authority, etag=etag, updated=self._clock.now())
        await self._store.put(authority)
        self._authorities[authority.name] = authority
        return authority


def read_certificate(content: bytes) -> x509.Certificate:
    """One certificate, PEM or DER. Raises BadRequest."""
    if len(content) > AUTHORITY_BYTES.value:
        raise BadRequest(f"A certificate has at most {AUTHORITY_BYTES.value} bytes.")
    try:
        if content.count(b"-----BEGIN CERTIFICATE-----") > 1:
            raise BadRequest("Send one certificate, not a chain.")
        is_pem = b"-----BEGIN" in content
        parsed = x509.load_pem_x509_certificate(content) if is_pem else x509.load_der_x509_certificate(content)
        parsed.public_key()
        _ = parsed.extensions
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension):
        raise BadRequest("The certificate cannot be read.") from None
    return parsed


def common_names(certificate: x509.Certificate) -> list[str]:
    """Of the subject."""
    return [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def check_authority(certificate: x509.Certificate, now: float) -> None:
    """Raises BadRequest for a certificate that may not sign others, has a weak key, or has expired."""
    extensions = certificate.extensions
    try:
        is_authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    with contextlib.suppress(x509.ExtensionNotFound):
        is_authority = is_authority and extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    if not is_authority:
        raise BadRequest("This is no authority's certificate: it may not sign others.")
    key = certificate.public_key()
    is_strong = (isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS) or (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES)
    )
    if not is_strong:
        raise BadRequest("An authority's key is RSA of 2048 to 8192 bits, P-256, P-384 or P-521.")
    if datetime.fromtimestamp(now, UTC) > certificate.not_valid_after_utc:
        raise BadRequest("The certificate has expired.")


def _check_proof(authority: Authority, proof: x509.Certificate, now: float) -> None:
    if not authority.code or now > authority.code_expires:
        raise BadRequest("Ask for a code first: there is none, or its time is over.")
    names = common_names(proof)
    if len(names) != 1 or not hmac.compare_digest(names[0].upper().encode(), authority.code.encode()):
        raise BadRequest("The common name of the proof is not the code.")
    moment = datetime.fromtimestamp(now, UTC)
    if not proof.not_valid_before_utc <= moment <= proof.not_valid_after_utc:
        raise BadRequest("The proof is not valid at this time.")
    try:
        proof.verify_directly_issued_by(x509.load_der_x509_certificate(authority.certificate))
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise BadRequest("The proof is not signed with the key of this authority.") from None
