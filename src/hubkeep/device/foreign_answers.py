"""Revocation by others, asked at login: OCSP of registered authorities (provisioning-and-pki 3.7; RFC 6960).

An answer counts until its nextUpdate, an hour at most; while a responder fails nobody waits for it again and again.
A device cannot bring an answer along: OpenSSL hands no stapled answer of a client to a server.
"""

import asyncio
import datetime as dt
import hmac
import logging
import os
from collections import OrderedDict
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from hubkeep.errors import HubError, Unauthorized
from hubkeep.limits import CERTIFICATE_SKEW, OCSP_ANSWER
from hubkeep.model import Authority
from hubkeep.ports import Clock, Fetch, FetchFailed

log = logging.getLogger(__name__)

_WITHIN: Final = 3.0  # seconds: a device waits
_AT_ONCE: Final = 16
_KEPT: Final = 10_000
_GOOD_FOR: Final = 3600.0
_SILENT_AFTER_FAILURE: Final = 30.0
_KIND: Final = "application/ocsp-request"


class _Answer(NamedTuple):
    revoked: str  # when and why; empty: good
    until: float


class _Unusable(Exception):
    """An answer that says nothing."""


class ForeignAnswers:
    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch, self._clock = fetch, clock
        self._answers: OrderedDict[tuple[str, int], _Answer] = OrderedDict()
        self._failed: dict[str, tuple[float, str]] = {}  # authority to until when nobody asks, and why
        self._asking = asyncio.Semaphore(_AT_ONCE)

    async def check(self, authority: Authority, leaf: x509.Certificate, issuer: x509.Certificate) -> None:
        """Raises Unauthorized for a revoked one; and where no answer is to be had, if the authority wants one."""
        if authority.revocation == "off" or authority.is_own or not authority.ocsp_url:
            return
        try:
            answer = await self._answer(authority, leaf, issuer)
        except _Unusable as error:
            told = f"ocsp-unavailable: the responder of {authority.name!r} gave no answer: {error}"
            if authority.revocation == "hard":
                raise Unauthorized(
                    cause="certificate-ocsp-unavailable", reason=told, remedy="mend the responder or its address"
                ) from None
            log.warning("%s; the device is let in all the same (soft)", told)
            return
        if answer.revoked:
            raise Unauthorized(
                cause="certificate-ocsp-revoked",
                reason=f"ocsp-revoked: the responder of {authority.name!r} says revoked {answer.revoked}",
                remedy="issue it anew; whoever runs the authority knows why",
            )

    async def _answer(self, authority: Authority, leaf: x509.Certificate, issuer: x509.Certificate) -> _Answer:
        key = (authority.name, leaf.serial_number)
        known = self._answers.get(key)
        if known is not None and self._clock.now() < known.until:
            return known
        until, why = self._failed.get(authority.name, (0.0, ""))
        if self._clock.monotonic() < until:
            raise _Unusable(why)
        try:
            async with self._asking:
                answer = await self._asked(authority, leaf, issuer)
        except (_Unusable, FetchFailed, HubError) as error:
            why = error.reason if isinstance(error, HubError) else str(error)
            self._failed[authority.name] = (self._clock.monotonic() + _SILENT_AFTER_FAILURE, why)
            raise _Unusable(why) from None
        self._answers[key] = answer
        self._answers.move_to_end(key)
        while len(self._answers) > _KEPT:
            self._answers.popitem(last=False)
        return answer

    async def _asked(self, authority: Authority, leaf: x509.Certificate, issuer: x509.Certificate) -> _Answer:
        nonce = os.urandom(16)
        builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1())  # noqa: S303  # of names: all responders know it
        request = builder.add_extension(x509.OCSPNonce(nonce), critical=False).build()
        body = request.public_bytes(Encoding.DER)
        content = await self._fetch(
            authority.ocsp_url, at_most=OCSP_ANSWER.value, within=_WITHIN, body=body, kind=_KIND
        )
        return _read(content, request, nonce, issuer, self._clock.now())


def _read(content: bytes, request: ocsp.OCSPRequest, nonce: bytes, issuer: x509.Certificate, now: float) -> _Answer:
    """Raises _Unusable."""
    try:
        response = ocsp.load_der_ocsp_response(content)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise _Unusable(f"it answered {response.response_status.name}")
        _check_signature(response, issuer, now)
        single = next((each for each in response.responses if _is_asked(each, request)), None)
        if single is None:
            raise _Unusable("it answered about another certificate")
        _check_nonce(response, nonce)
        updated, next_update = single.this_update_utc.timestamp(), single.next_update_utc
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _Unusable("what it answered cannot be read") from None
    until = min(next_update.timestamp() if next_update else now + _GOOD_FOR, now + _GOOD_FOR)
    if updated > now + CERTIFICATE_SKEW.value or until < now:
        raise _Unusable("its answer is not of this time")
    if single.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
        raise _Unusable("it does not know the certificate")
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        at, reason = single.revocation_time_utc, single.revocation_reason
        return _Answer(f"{at:%Y-%m-%d} ({reason.value if reason else 'unspecified'})", until)
    return _Answer("", until)


def _is_asked(single: ocsp.OCSPSingleResponse, request: ocsp.OCSPRequest) -> bool:
    return (
        single.serial_number == request.serial_number
        and single.issuer_key_hash == request.issuer_key_hash
        and single.issuer_name_hash == request.issuer_name_hash
    )


def _check_nonce(response: ocsp.OCSPResponse, nonce: bytes) -> None:
    """Responders may leave it out; another one is an answer to somebody else's question."""
    try:
        told = response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    except x509.ExtensionNotFound:
        return
    if not hmac.compare_digest(told, nonce):
        raise _Unusable("its nonce is another one")


def _check_signature(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: float) -> None:
    """By the issuer itself, or by whom it delegated to (RFC 6960 4.2.2.2)."""
    at = dt.datetime.fromtimestamp(now, dt.UTC)
    for signer in (issuer, *(each for each in response.certificates if _is_delegate(each, issuer, at))):
        if _has_signed(signer, response):
            return
    raise _Unusable("its answer is signed by somebody else")


def _is_delegate(certificate: x509.Certificate, issuer: x509.Certificate, at: dt.datetime) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
        return False
    in_time = certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc
    return in_time and ExtendedKeyUsageOID.OCSP_SIGNING in usage


def _has_signed(signer: x509.Certificate, response: ocsp.OCSPResponse) -> bool:
    key, digest = signer.public_key(), response.signature_hash_algorithm
    if digest is None or isinstance(digest, hashes.SHA1 | hashes.MD5):
        return False
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(response.signature, response.tbs_response_bytes, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(digest))
        else:
            return False
    except InvalidSignature:
        return False
    return True
