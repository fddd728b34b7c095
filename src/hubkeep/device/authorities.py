"""Which certificate authorities speak for devices: registered and proved to be in their owner's hand, or our own.

A certificate is public. Whoever registers one that they merely saw on the wire must not claim every device below it, so
an authority counts only once its key has signed a certificate that names a code of ours.
Source: provisioning-and-pki 3.6.
"""

import asyncio
import contextlib
import fnmatch
import hmac
import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from hubkeep.errors import (
    AuthorityExists,
    AuthorityInUse,
    BadRequest,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
)
from hubkeep.limits import ALLOWED_IDS, AUTHORITIES, AUTHORITY_BYTES, AUTHORITY_CODE_VALID, AUTHORITY_IN_USE
from hubkeep.model import Authority, AuthorityState, RevocationMode
from hubkeep.ports import AuthorityStore, Bus, Clock

from .denials import DenyList, denial_of
from .key_strength import is_for_authorities
from .readable import UNREADABLE, whole

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_PATTERN: Final = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;$'/]{1,129}")
_URL: Final = re.compile(r"https?://[^\s/?#@]+(?:/\S*)?", re.IGNORECASE)
_CODE_BYTES: Final = 24
_ANY: Final = "*"
_TRUSTED: Final = frozenset({"active", "retiring"})
# What an operator may do; that a proof makes an authority active, and a certificate a waiting one, comes besides.
MOVES: Final = frozenset(
    {
        ("staged", "active"),
        ("staged", "revoked"),
        ("active", "staged"),
        ("active", "retiring"),
        ("active", "revoked"),
        ("retiring", "active"),
        ("retiring", "revoked"),
        ("unverified", "revoked"),
    }
)


class Authorities:
    """All authorities, in memory; the store is read once and written through. etag: a stored one, or ``*`` for any.

    public_roots: certificates (DER) of the public web: anybody may have one issued by those.
    Published: ``authority.removed`` (a name) when links below it must go, ``authority.changed`` after any other change.
    """

    def __init__(
        self,
        store: AuthorityStore,
        denials: DenyList,
        bus: Bus,
        clock: Clock,
        public_roots: Callable[[], Collection[bytes]] = tuple,
    ) -> None:
        self._store, self._denials, self._bus, self._clock = store, denials, bus, clock
        self._public_roots = public_roots
        self._authorities: dict[str, Authority] = {}
        self._trusted: Sequence[Authority] = ()
        self.changing = asyncio.Lock()  # what is read must be what is replaced

    async def load(self) -> None:
        self._authorities = {each.name: each for each in await self._store.all()}
        self._settle()

    def all(self) -> Sequence[Authority]:
        return sorted(self._authorities.values(), key=lambda each: each.name)

    def trusted(self) -> Sequence[Authority]:
        """Those whose word counts for devices; of a retiring one for those alone that were seen under it.

        The same object until something changes.
        """
        return self._trusted

    def active(self) -> Sequence[Authority]:
        """Those whose word counts for devices that nobody has seen yet."""
        return [each for each in self._trusted if each.state == "active"]

    def own(self) -> Sequence[Authority]:
        """Those of the hub's own that sign for devices now."""
        return [each for each in self.all() if each.kind == "issuing" and each.state == "active" and each.key]

    def get(self, name: str) -> Authority:
        """Raises NotFound."""
        if (found := self._authorities.get(name)) is None:
            raise NotFound(reason=f"no authority of the name {name!r} is registered")
        return found

    async def create(self, name: str, certificate: bytes, *, verified: bool = False) -> Authority:
        """certificate: PEM or DER, of the authority alone. verified: the administrator vouches for who holds its key.

        Raises BadRequest, AuthorityExists (the name or the certificate), QuotaExceeded.
        """
        parsed, now = read_certificate(certificate), self._clock.now()
        check_authority(parsed, now)
        self._check_private(parsed)
        der = parsed.public_bytes(Encoding.DER)
        async with self.changing:
            self.check_free(name, der)
            return await self.put(
                Authority(
                    name=name,
                    certificate=der,
                    sha256=fingerprint(der),
                    state="active" if verified else "unverified",
                    etag="",
                    created=now,
                    updated=now,
                    vouched=verified,
                )
            )

    def check_free(self, name: str, der: bytes = b"") -> None:
        """Raises BadRequest, AuthorityExists, QuotaExceeded."""
        if not _NAME.fullmatch(name):
            raise BadRequest("A name has 1 to 64 letters, digits, dots, hyphens and underscores.")
        for each in self._authorities.values():
            if each.name == name or (der and each.certificate == der):
                raise AuthorityExists(reason=f"{each.name!r} is registered already")
        if len(self._authorities) >= AUTHORITIES.value:
            raise QuotaExceeded(reason=f"{AUTHORITIES.value} authorities are registered")

    async def challenge(self, name: str, etag: str = _ANY) -> Authority:
        """With a new code; one that was asked for before is void. Raises NotFound, PreconditionFailed."""
        async with self.changing:
            found = self._matching(name, etag)
            code = secrets.token_hex(_CODE_BYTES).upper()
            until = self._clock.now() + AUTHORITY_CODE_VALID.value
            return await self.put(msgspec.structs.replace(found, code=code, code_expires=until))

    async def prove(self, name: str, proof: bytes, etag: str = _ANY) -> Authority:
        """proof: a certificate (PEM or DER) whose one common name is the code, signed with the authority's key.

        Raises NotFound, PreconditionFailed; BadRequest tells what is wrong with the proof.
        """
        async with self.changing:
            found = self._matching(name, etag)
            certificate = read_certificate(proof)
            _check_proof(found, certificate, self._clock.now())
            # public from now on, and below a trusted authority: no device may be of its name
            void = denial_of(certificate, "cert", reason="unspecified", at=self._clock.now(), by=f"proof of {name}")
            await self._denials.add(void)
            return await self.put(
                msgspec.structs.replace(found, state="active", code="", code_expires=0.0, vouched=False)
            )

    async def move(self, name: str, state: AuthorityState, etag: str = _ANY) -> Authority:
        """Along ``MOVES``; links below an authority that is trusted no more are cut at once. A root takes those below
        it along. Raises NotFound, PreconditionFailed, BadRequest.
        """
        async with self.changing:
            found = self._matching(name, etag)
            if (found.state, state) not in MOVES or (found.kind == "root" and state != "revoked"):
                raise BadRequest(f"An authority that is {found.state} cannot become {state}.")
            moved = await self.put(msgspec.structs.replace(found, state=state))
            lost = [found]
            if found.kind == "root":
                below = [each for each in self._authorities.values() if found.certificate in each.chain]
                lost = [each for each in below if (each.state, state) in MOVES]
                for each in lost:
                    await self.put(msgspec.structs.replace(each, state=state))
        if state not in _TRUSTED:
            for each in lost:
                self._bus.publish("authority.removed", each.name)
        return moved

    async def change(
        self,
        name: str,
        *,
        allowed_ids: Sequence[str] | None = None,
        days: float | None = None,
        revocation: RevocationMode | None = None,
        crl_url: str | None = None,
        ocsp_url: str | None = None,
        manual_approval: bool | None = None,
        etag: str = _ANY,
    ) -> Authority:
        """What is given. Links that ``allowed_ids`` leaves out are cut with all others below the authority: those who
        may come again do. Raises NotFound, PreconditionFailed, BadRequest.
        """
        async with self.changing:
            found = self._matching(name, etag)
            for url in (crl_url, ocsp_url):
                if url and (len(url) > 1000 or not _URL.fullmatch(url)):
                    raise BadRequest("The address is not an http or https URL.")
            if (crl_url or ocsp_url) and revocation is None and found.revocation == "off":
                revocation = "soft"  # who names an address wants it asked
            if allowed_ids is not None:
                check_patterns(allowed_ids)
            given = {
                "allowed_ids": None if allowed_ids is None else tuple(allowed_ids),
                "days": days,
                "revocation": revocation,
                "crl_url": crl_url,
                "ocsp_url": ocsp_url,
                "manual_approval": manual_approval,
            }
            changes = {member: value for member, value in given.items() if value is not None}
            changed = await self.put(msgspec.structs.replace(found, **changes))
        narrowed = allowed_ids and tuple(allowed_ids) != found.allowed_ids
        self._bus.publish("authority.removed" if narrowed else "authority.changed", name)
        return changed

    async def delete(self, name: str, etag: str = _ANY, *, force: bool = False) -> Authority:
        """Devices below it are cut off at once. force: even if some were let in by it lately.

        Raises NotFound, PreconditionFailed, AuthorityInUse.
        """
        async with self.changing:
            found = self._matching(name, etag)
            used = await self._store.used_since(name, self._clock.now() - AUTHORITY_IN_USE.value)
            if used and not force:
                raise AuthorityInUse(
                    f"{used} identities were let in by this authority within 30 days.",
                    remedy="delete it with --force, or let it retire first",
                )
            await self._store.remove(name)
            del self._authorities[name]
            self._settle()
        self._bus.publish("authority.removed", name)
        return found

    def _matching(self, name: str, etag: str) -> Authority:
        found = self.get(name)
        if etag not in {_ANY, found.etag}:
            raise PreconditionFailed
        return found

    def _check_private(self, certificate: x509.Certificate) -> None:
        """P-44: under an authority of the public web anybody gets a certificate of any name."""
        roots = self._public_roots()
        if certificate.public_bytes(Encoding.DER) in roots:
            raise BadRequest("This is an authority of the public web: anybody may have certificates issued by it.")
        issuer = certificate.issuer.public_bytes()
        for each in roots:
            # one that does not hold the name is not worth the parsing
            if issuer in each and _is_issued_by(certificate, x509.load_der_x509_certificate(each)):
                raise BadRequest("This authority is one of the public web: anybody may have certificates issued by it.")

    async def put(self, authority: Authority) -> Authority:
        """Store, within ``changing``."""
        etag = b64encode(secrets.token_bytes(6)).decode()
        authority = msgspec.structs.replace(authority, etag=etag, updated=self._clock.now())
        await self._store.put(authority)
        self._authorities[authority.name] = authority
        self._settle()
        return authority

    def _settle(self) -> None:
        self._trusted = tuple(each for each in self.all() if each.state in _TRUSTED and each.kind != "root")


def may_speak_for(authority: Authority, name: str) -> bool:
    """P-V11b. name: of an identity; a pattern for a device's id stands for its modules as well."""
    return not authority.allowed_ids or any(
        fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}/*")
        for pattern in authority.allowed_ids
    )


def check_patterns(patterns: Sequence[str]) -> None:
    """Raises BadRequest."""
    if len(patterns) > ALLOWED_IDS.value or not all(_PATTERN.fullmatch(each) for each in patterns):
        raise BadRequest(f"allowedIds are at most {ALLOWED_IDS.value} patterns such as press-* of letters as in ids.")


def fingerprint(der: bytes) -> str:
    return sha256(der).hexdigest().upper()


def read_certificate(content: bytes) -> x509.Certificate:
    """One certificate, PEM or DER. Raises BadRequest."""
    if len(content) > AUTHORITY_BYTES.value:
        raise BadRequest(f"A certificate has at most {AUTHORITY_BYTES.value} bytes.")
    try:
        if content.count(b"-----BEGIN CERTIFICATE-----") > 1:
            raise BadRequest("Send one certificate, not a chain.")
        is_pem = b"-----BEGIN" in content
        return whole(x509.load_pem_x509_certificate(content) if is_pem else x509.load_der_x509_certificate(content))
    except UNREADABLE:
        raise BadRequest("The certificate cannot be read.") from None


def common_names(certificate: x509.Certificate) -> list[str]:
    """Of the subject."""
    return [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def check_authority(certificate: x509.Certificate, now: float) -> None:
    """That it may be one: CA flag, usage, strength, dates. Raises BadRequest."""
    extensions = certificate.extensions
    try:
        is_authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    with contextlib.suppress(x509.ExtensionNotFound):
        is_authority = is_authority and extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    if not is_authority:
        raise BadRequest("This is no authority's certificate: it may not sign others.")
    if not is_for_authorities(certificate.public_key()):
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
    if not _is_issued_by(proof, x509.load_der_x509_certificate(authority.certificate)):
        raise BadRequest("The proof is not signed with the key of this authority.")


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
