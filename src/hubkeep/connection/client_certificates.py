"""Whether the certificate of a handshake proves an identity. Start at ``prove``.

The handshake has proved possession of the leaf's key and nothing else; the pipeline of provisioning-and-pki 3.3 runs
here at every login, from cheap to dear, and the first failure ends it. Reasons begin with the word of the failed check.
"""

import datetime as dt
import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha1, sha256
from typing import Final, Literal, NamedTuple

from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from hubkeep.device.denials import marks_of
from hubkeep.device.key_strength import WANTED, is_weak_hash, weakness
from hubkeep.device.readable import UNREADABLE, whole
from hubkeep.errors import Unauthorized
from hubkeep.limits import CERTIFICATE_SKEW
from hubkeep.model import Identity

from .certificate_paths import (
    Denies,
    DevicePaths,
    check_denied,
    check_is_no_authority,
    check_usage,
    nothing_is_denied,
)

_PLAIN_TEXT: Final = (_ASN1Type.UTF8String, _ASN1Type.PrintableString)


class Proof(NamedTuple):
    """slot: which thumbprint matched. authority: the registered one that vouched for it. One of both is empty.

    expires: Unix seconds of its end, when its links must go. marks: what the deny-list knows its certificates by.
    leaf, above: parsed; the nearest first. is_late: its end has passed, and it may be renewed with alone.
    """

    slot: Literal["primary", "secondary", ""]
    expires: float
    authority: str = ""
    marks: tuple[str, ...] = ()
    leaf: x509.Certificate | None = None
    above: Sequence[x509.Certificate] = ()
    is_late: bool = False


def prove(
    identity: Identity,
    certificates: Sequence[bytes],
    now: float,
    paths: DevicePaths,
    *,
    denies: Denies = nothing_is_denied,
    grace: float = 0.0,
) -> Proof:
    """Whether ``certificates`` (DER, the leaf first) prove an X.509 identity at ``now`` (Unix seconds).

    denies: the deny-list. grace: seconds after its end that a certificate below an authority is still taken.
    Raises Unauthorized, its reason and remedy for the operator.
    """
    if not certificates:
        raise Unauthorized(
            cause="certificate-missing",
            reason=f"the identity authenticates by {identity.authentication}, and no client certificate was presented",
            remedy="give the client its certificate and key; nothing on the way may end TLS in the hub's place",
        )
    by_authority = identity.authentication != "selfSigned"
    leaf = checked_leaf(certificates, now, grace if by_authority else 0.0)
    is_late = now > leaf.not_valid_after_utc.timestamp()
    marks = marks_of(leaf, certificates[0])
    check_denied(marks, denies, "the certificate")
    if not by_authority:
        slot = _matching_slot(identity, certificates[0])
        return Proof(slot, leaf.not_valid_after_utc.timestamp(), marks=marks, leaf=leaf)
    if leaf.version is not x509.Version.v3:
        raise Unauthorized(
            cause="certificate-malformed", reason=f"malformed: a certificate of version {leaf.version.name}"
        )
    check_is_no_authority(leaf)
    _check_name(leaf, identity.name)
    path = paths.find(leaf, certificates[1:], leaf.not_valid_after_utc.timestamp() if is_late else now, denies)
    check_usage(leaf)
    return Proof("", path.expires, path.authority, (*marks, *path.marks), leaf, path.above, is_late)


def checked_leaf(certificates: Sequence[bytes], now: float, grace: float = 0.0) -> x509.Certificate:
    """The first of ``certificates`` (DER), good by itself: P-V1 to P-V4. Raises Unauthorized."""
    leaf = _read(certificates[0])
    _check_strength(leaf)
    _check_validity(leaf, now, grace)
    return leaf


def common_name(leaf: x509.Certificate) -> str | None:
    """The one common name of the subject in an encoding without tricks; None for none, and for several."""
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    is_plain = all(each._type in _PLAIN_TEXT for each in names)  # noqa: SLF001  # nothing else tells the encoding
    return str(names[0].value) if len(names) == 1 and is_plain else None


def described(certificates: Sequence[bytes]) -> Mapping[str, str]:
    """What was presented, for the record of a refusal: public data of the leaf alone."""
    if not certificates:
        return {}
    told = {
        "certificate_sha1": sha1(certificates[0], usedforsecurity=False).hexdigest().upper(),
        "certificate_sha256": sha256(certificates[0]).hexdigest().upper(),
    }
    try:
        leaf = x509.load_der_x509_certificate(certificates[0])
        told["certificate_subject"] = leaf.subject.rfc4514_string()[:200]
        told["certificate_valid"] = f"{leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d}"
    except UNREADABLE:
        told["certificate_subject"] = "cannot be read"
    return told


def _read(der: bytes) -> x509.Certificate:
    try:
        leaf = whole(x509.load_der_x509_certificate(der))
        if leaf.serial_number <= 0:
            raise ValueError("its serial number is not positive")
        _ = leaf.signature_hash_algorithm
        if der[-len(leaf.signature) - 1]:  # who holds it could set this octet, and would have another fingerprint
            raise ValueError("its signature is not of whole octets")
    except UNREADABLE as error:
        raise Unauthorized(
            cause="certificate-malformed",
            reason=f"malformed: the certificate cannot be read: {type(error).__name__}: {error}",
            remedy="issue it anew; openssl x509 -in FILE -text -noout shows what is in it",
        ) from None
    return leaf


def _check_strength(leaf: x509.Certificate) -> None:
    """P-V2, P-V3: nobody else looks at a leaf's own key."""
    if found := weakness(leaf.public_key()):
        raise Unauthorized(cause="certificate-weak-key", reason=f"weak-key: {found}", remedy=WANTED)
    digest = leaf.signature_hash_algorithm
    if digest is not None and is_weak_hash(digest):
        raise Unauthorized(
            cause="certificate-weak-signature",
            reason=f"weak-signature: {digest.name}",
            remedy="issue it anew, signed with SHA-256",
        )


def _check_validity(leaf: x509.Certificate, now: float, grace: float) -> None:
    """P-V4."""
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now > ends.timestamp() + grace:
        raise Unauthorized(
            cause="certificate-expired",
            reason=f"expired: the certificate ended on {ends:%Y-%m-%d %H:%M} UTC",
            remedy="renew the certificate",
        )
    if now < begins.timestamp() - CERTIFICATE_SKEW.value:
        here = dt.datetime.fromtimestamp(now, dt.UTC)
        raise Unauthorized(
            cause="certificate-not-yet-valid",
            reason=f"not-yet-valid: it begins on {begins:%Y-%m-%d %H:%M} UTC, and here it is {here:%Y-%m-%d %H:%M}",
            remedy="check the clocks of the hub and of who issued it",
        )


def _check_name(leaf: x509.Certificate, expected: str) -> None:
    """P-V7b: one common name, byte for byte the identity's."""
    if common_name(leaf) == expected:
        return
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    told = ", ".join(repr(each.value)[:100] for each in names[:3]) or "none"
    raise Unauthorized(
        cause="certificate-name",
        reason=f"cn: the certificate is made out to {told}; this identity's must be made out to {expected!r} alone",
        remedy="issue it anew with the identity as its one common name (UTF8String or PrintableString)",
    )


def _matching_slot(identity: Identity, der: bytes) -> Literal["primary", "secondary"]:
    """P-V7a: nothing of the certificate's content counts, it is this very one or it is not."""
    prints = {40: sha1(der, usedforsecurity=False).hexdigest(), 64: sha256(der).hexdigest()}
    matches = [
        hmac.compare_digest(prints.get(len(stored), ""), stored.lower())
        for stored in (identity.primary_thumbprint or "-", identity.secondary_thumbprint or "-")
    ]
    if matches[0]:
        return "primary"
    if matches[1]:
        return "secondary"
    registered = ", ".join(filter(None, (identity.primary_thumbprint, identity.secondary_thumbprint)))
    raise Unauthorized(
        cause="certificate-thumbprint",
        reason=f"thumbprint: the certificate presented is none of the registered ones ({registered})",
        remedy=f"if it is the device's new one: hubkeep device update {identity.device_id} --thumbprint FILE",
    )
