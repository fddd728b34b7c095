"""What the hub's own authorities tell others of revocation: lists (CRL) and answers (OCSP). The hub needs neither.

Source: provisioning-and-pki 3.7; RFC 5280 section 5, RFC 6960, RFC 9654.
"""

import asyncio
import datetime as dt
from collections.abc import Iterator
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from hubkeep.errors import KeyUnavailable, NotFound
from hubkeep.model import Authority
from hubkeep.ports import Bus, CertificateStore, Clock, RevocationListStore, StoredList

from . import profiles
from .authorities import Authorities
from .own_authorities import OwnAuthorities, signing

_EVERY: Final = 86_400.0  # seconds between lists that nothing new stands on
_GOOD_FOR: Final = 3 * 86_400.0  # seconds from a list to its nextUpdate
_ANSWER_GOOD_FOR: Final = dt.timedelta(hours=12)
_RENEW_RESPONDER: Final = dt.timedelta(days=10)
_NONCE_BYTES: Final = 128
_HASHES: Final = (hashes.SHA1, hashes.SHA256)
_EXPIRED_STAYS: Final = 86_400.0  # seconds: an ended certificate stands on one list more


class _Entry(NamedTuple):
    serial: int
    at: float
    reason: str


class _Responder(NamedTuple):
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


class PublishedLists:
    """Start at ``list_of`` and ``answer``."""

    def __init__(
        self,
        authorities: Authorities,
        own: OwnAuthorities,
        log: CertificateStore,
        store: RevocationListStore,
        bus: Bus,
        clock: Clock,
    ) -> None:
        self._authorities, self._own, self._log, self._store, self._clock = authorities, own, log, store, clock
        self._lists: dict[str, StoredList] = {}
        self._changed: set[str] = set()
        self._responders: dict[str, _Responder] = {}
        self._making = asyncio.Lock()
        bus.subscribe("certificate.revoked", self._revoked)
        bus.subscribe("authority.removed", self._authority_removed)

    async def load(self) -> None:
        """What was signed before, for its number: that never falls."""
        self._lists = {each.authority: each for each in await self._store.all()}
        self._changed = set(self._lists)

    async def list_of(self, name: str) -> bytes:
        """The revocation list (DER) of an own authority, made anew if something was revoked, and daily.

        Raises NotFound, KeyUnavailable when it cannot be signed and the last one is too old.
        """
        authority = self._own_authority(name)
        async with self._making:
            known, now = self._lists.get(name), self._clock.now()
            if known is not None and name not in self._changed and now < known.updated + _EVERY:
                return known.list
            self._changed.discard(name)
            try:
                made = await self._made(authority, known.number + 1 if known is not None else 1, now)
            except KeyUnavailable:
                self._changed.add(name)
                if known is not None and now < known.next_update:
                    return known.list
                raise
            await self._store.put(made)
            self._lists[name] = made
            return made.list

    async def answer(self, name: str, request: bytes) -> bytes:
        """An OCSP response (DER) to a request (DER). Raises NotFound, KeyUnavailable."""
        authority = self._own_authority(name)
        try:
            asked = ocsp.load_der_ocsp_request(request)
            digest = asked.hash_algorithm
        except (ValueError, TypeError, UnsupportedAlgorithm, NotImplementedError):
            return _unsuccessful(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
        issuer = x509.load_der_x509_certificate(authority.certificate)
        if not isinstance(digest, _HASHES) or not _is_about(asked, issuer, digest):
            return _unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)
        now = dt.datetime.fromtimestamp(int(self._clock.now()), dt.UTC)
        status, revoked = await self._status(authority, asked.serial_number)
        responder = await self._responder(authority, issuer, now)
        builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
            issuer_name_hash=asked.issuer_name_hash,
            issuer_key_hash=asked.issuer_key_hash,
            serial_number=asked.serial_number,
            algorithm=digest,
            cert_status=status,
            this_update=now,
            next_update=now + _ANSWER_GOOD_FOR,
            revocation_time=dt.datetime.fromtimestamp(int(revoked.at), dt.UTC) if revoked else None,
            revocation_reason=_flag(revoked.reason) if revoked else None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate)
        builder = builder.certificates([responder.certificate])
        if (nonce := _nonce(asked)) is not None:
            builder = builder.add_extension(nonce, critical=False)
        return builder.sign(responder.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _own_authority(self, name: str) -> Authority:
        found = self._authorities.get(name)
        if not found.is_own or not found.certificate or not found.key:
            raise NotFound(reason=f"{name!r} is not of the hub's own, or its key is elsewhere")
        return found

    async def _made(self, authority: Authority, number: int, now: float) -> StoredList:
        issuer, key = x509.load_der_x509_certificate(authority.certificate), await self._own.key_of(authority)
        at = dt.datetime.fromtimestamp(int(now), dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(at)
            .next_update(at + dt.timedelta(seconds=_GOOD_FOR))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(profiles.above(issuer), critical=False)
        )
        for entry in await self._entries(authority, now):
            revoked = x509.RevokedCertificateBuilder().serial_number(entry.serial)
            revoked = revoked.revocation_date(dt.datetime.fromtimestamp(int(entry.at), dt.UTC))
            if (flag := _flag(entry.reason)) is not None:
                revoked = revoked.add_extension(x509.CRLReason(flag), critical=False)
            builder = builder.add_revoked_certificate(revoked.build())
        signed = await signing(authority, lambda: builder.sign(key, hashes.SHA256()))
        der = signed.public_bytes(Encoding.DER)
        return StoredList(authority.name, der, number, now, now + _GOOD_FOR)

    async def _entries(self, authority: Authority, now: float) -> list[_Entry]:
        if authority.kind == "root":
            return [each for each in self._below(authority) if each.at]
        revoked = await self._log.revoked(authority.name, now - _EXPIRED_STAYS)
        return [_Entry(int(each.serial, 16), each.revoked, each.reason) for each in revoked]

    async def _status(self, authority: Authority, serial: int) -> tuple[ocsp.OCSPCertStatus, _Entry | None]:
        if authority.kind == "root":
            entry = next((each for each in self._below(authority) if each.serial == serial), None)
        else:
            record = await self._log.get(authority.name, f"{serial:X}")
            entry = None if record is None else _Entry(serial, record.revoked, record.reason)
            if entry is not None and authority.state == "revoked" and not entry.at:
                entry = _Entry(serial, authority.updated, "cACompromise")
        if entry is None:
            return ocsp.OCSPCertStatus.UNKNOWN, None
        if entry.at:
            return ocsp.OCSPCertStatus.REVOKED, entry
        return ocsp.OCSPCertStatus.GOOD, None

    def _below(self, root: Authority) -> Iterator[_Entry]:
        """Issuing authorities of a root. at: 0 for those that are not revoked."""
        for each in self._authorities.all():
            if each.certificate and root.certificate in each.chain:
                serial = x509.load_der_x509_certificate(each.certificate).serial_number
                yield _Entry(serial, each.updated if each.state == "revoked" else 0.0, "cessationOfOperation")

    async def _responder(self, authority: Authority, issuer: x509.Certificate, now: dt.datetime) -> _Responder:
        """Who signs in the authority's place; its key lives as long as the process."""
        known = self._responders.get(authority.name)
        if known is not None and known.certificate.not_valid_after_utc > now + _RENEW_RESPONDER:
            return known
        key, signing_key = ec.generate_private_key(ec.SECP256R1()), await self._own.key_of(authority)
        public_key = key.public_key()
        certificate = await signing(
            authority, lambda: profiles.responder_certificate(public_key, issuer, signing_key, now)
        )
        self._responders[authority.name] = _Responder(key, certificate)
        return self._responders[authority.name]

    def _revoked(self, name: object) -> None:
        self._changed.add(str(name))

    def _authority_removed(self, name: object) -> None:
        """What a root vouched for may be on its list now."""
        self._changed |= {each.name for each in self._authorities.all() if each.kind == "root"}
        self._responders.pop(str(name), None)


def _is_about(asked: ocsp.OCSPRequest, issuer: x509.Certificate, digest: hashes.HashAlgorithm) -> bool:
    """Whether the issuer that is asked about is this one: its name, and its key without the info around it."""
    info = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = _hashed(_bit_string(info), digest)
    return asked.issuer_name_hash == _hashed(issuer.subject.public_bytes(), digest) and asked.issuer_key_hash == key


def _bit_string(info: bytes) -> bytes:
    """The subjectPublicKey of a SubjectPublicKeyInfo: its last element, without the count of unused bits."""
    at = _content(info, 0)[0]  # into the outer sequence
    start, length = _content(info, at)  # over the algorithm
    start, length = _content(info, start + length)
    return info[start + 1 : start + length]


def _content(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element at ``at`` starts, and its length. Only for DER that was just made."""
    length = der[at + 1]
    if length < 0x80:
        return at + 2, length
    size = length & 0x7F
    return at + 2 + size, int.from_bytes(der[at + 2 : at + 2 + size])


def _hashed(content: bytes, digest: hashes.HashAlgorithm) -> bytes:
    hashing = hashes.Hash(digest)
    hashing.update(content)
    return hashing.finalize()


def _nonce(asked: ocsp.OCSPRequest) -> x509.OCSPNonce | None:
    try:
        nonce = asked.extensions.get_extension_for_class(x509.OCSPNonce).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    return nonce if len(nonce.nonce) <= _NONCE_BYTES else None


def _flag(reason: str) -> x509.ReasonFlags | None:
    """``unspecified`` is told by leaving the reason out (RFC 5280 5.3.1)."""
    return None if reason in {"", "unspecified"} else x509.ReasonFlags(reason)


def _unsuccessful(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)
