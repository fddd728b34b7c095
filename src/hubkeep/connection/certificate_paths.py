"""From a device's certificate to a registered authority, over the intermediates that the client presented.

The path library checks signatures, dates, the CA flag and path lengths; with a policy that lets leaves without a
subjectAltName pass it does not look at what a key may be used for, which is checked here. Nothing in a client's
certificate is ever fetched from. Source: provisioning-and-pki 3.3, 3.5.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from hubkeep.device.denials import marks_of_authority
from hubkeep.device.readable import UNREADABLE, whole
from hubkeep.errors import Unauthorized
from hubkeep.limits import CERTIFICATE_PATH
from hubkeep.model import Denial

_CLIENTS: Final = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
_T = TypeVar("_T", bound=x509.ExtensionType)
_WEAK: Final = (hashes.SHA1, hashes.MD5, hashes.SHA224)


# What the deny-list has on one of a certificate's marks.
Denies = Callable[[Iterable[str]], Denial | None]


class Path(NamedTuple):
    """authority: the name of the registered one that it ends at. expires: when the first certificate of it ends.

    above: the certificates above the leaf, the nearest first. marks: what the deny-list knows those by.
    """

    authority: str
    expires: float
    above: Sequence[x509.Certificate] = ()
    marks: tuple[str, ...] = ()


class Anchor(Protocol):
    """A certificate (DER) whose word counts."""

    @property
    def name(self) -> str: ...

    @property
    def certificate(self) -> bytes: ...


def nothing_is_denied(_marks: Iterable[str]) -> Denial | None:
    return None


class DevicePaths:
    """authorities: those whose word counts, now."""

    def __init__(self, authorities: Callable[[], Sequence[Anchor]]) -> None:
        self._authorities = authorities
        self._of: Sequence[Anchor] = ()
        self._store: Store | None = None
        self._names: dict[bytes, str] = {}

    def find(
        self, leaf: x509.Certificate, others: Sequence[bytes], now: float, denies: Denies = nothing_is_denied
    ) -> Path:
        """A path from ``leaf`` over ``others`` (DER) to an authority, around what is denied. Raises Unauthorized."""
        store = self._current()
        if store is None:
            raise Unauthorized(
                cause="certificate-chain",
                reason="chain: no certificate authority is registered and verified",
                remedy="hubkeep cert ca add NAME FILE, then hubkeep cert ca verify NAME",
            )
        between, denied = _allowed(_parsed(others), denies)
        # whether it begins a little later was judged before (P-V4)
        at = max(dt.datetime.fromtimestamp(now, dt.UTC), leaf.not_valid_before_utc)
        builder = PolicyBuilder().store(store).time(at).max_chain_depth(CERTIFICATE_PATH.value)
        builder = builder.extension_policies(ca_policy=_OF_AUTHORITIES, ee_policy=ExtensionPolicy.permit_all())
        try:
            chain = builder.build_client_verifier().verify(leaf, between).chain
        except VerificationError as error:
            raise denied or self._why(leaf, between, at, error) from None
        for number, each in enumerate(chain[1:], 1):
            _check_authority(each, is_anchor=number == len(chain) - 1)
        above = [each.public_bytes(Encoding.DER) for each in chain[1:]]
        name = self._names[above[-1]]
        marks = tuple(mark for each in above for mark in marks_of_authority(each))
        check_denied(marks, denies, f"the authority {name!r}")
        return Path(name, min(each.not_valid_after_utc for each in chain).timestamp(), chain[1:], marks)

    def _current(self) -> Store | None:
        authorities = self._authorities()
        if authorities is not self._of and authorities != self._of:
            anchors = [x509.load_der_x509_certificate(each.certificate) for each in authorities]
            self._names = {each.certificate: each.name for each in authorities}
            self._store = Store(anchors) if anchors else None
            self._of = authorities
        return self._store

    def _why(
        self, leaf: x509.Certificate, between: Sequence[x509.Certificate], at: dt.datetime, error: Exception
    ) -> Unauthorized:
        """The nearest cause, followed by name from the leaf upwards; the library tells of the last path it tried."""
        anchors = [x509.load_der_x509_certificate(each.certificate) for each in self._of]
        current, above = leaf, [*anchors, *between]
        for depth in range(len(above)):
            issuer = next((each for each in above if each.subject == current.issuer), None)
            if issuer is None:
                return Unauthorized(
                    cause="certificate-chain",
                    reason=f"chain: its issuer {_named(current.issuer)} is neither registered nor presented",
                    remedy="let the client present its intermediates; register the CA: hubkeep cert ca add NAME FILE",
                )
            name = _named(issuer.subject)
            if not issuer.not_valid_before_utc <= at <= issuer.not_valid_after_utc:
                until = f"{issuer.not_valid_before_utc:%Y-%m-%d} to {issuer.not_valid_after_utc:%Y-%m-%d}"
                return Unauthorized(
                    cause="certificate-chain",
                    reason=f"chain: {name} is valid from {until}",
                    remedy="renew the authority",
                )
            constraints = _extension(issuer, x509.BasicConstraints)
            if constraints is None or not constraints.ca:
                return Unauthorized(
                    cause="certificate-ca-constraint", reason=f"ca-constraint: {name} is not marked as an authority"
                )
            if constraints.path_length is not None and constraints.path_length < depth:
                return Unauthorized(
                    cause="certificate-ca-constraint",
                    reason=f"ca-constraint: {name} allows {constraints.path_length} below it",
                )
            if issuer in anchors or issuer.subject == issuer.issuer:
                break
            current = issuer
        return Unauthorized(
            cause="certificate-chain", reason=f"chain: no path to a registered authority: {error}"[:500]
        )


def check_usage(leaf: x509.Certificate) -> None:
    """P-V10b. Raises Unauthorized."""
    extended, usage = _extension(leaf, x509.ExtendedKeyUsage), _extension(leaf, x509.KeyUsage)
    if extended is not None and not _CLIENTS.intersection(extended):
        raise Unauthorized(
            cause="certificate-usage",
            reason="usage: its extended key usage leaves out clientAuth",
            remedy="issue it for clients",
        )
    if usage is not None and not usage.digital_signature:
        raise Unauthorized(
            cause="certificate-usage",
            reason="usage: its key usage leaves out digitalSignature",
            remedy="issue it for clients",
        )


def check_is_no_authority(leaf: x509.Certificate) -> None:
    """P-V8a. Raises Unauthorized."""
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise Unauthorized(
            cause="certificate-is-ca", reason="is-ca: a certificate authority's certificate is no device's"
        )


def _check_authority(certificate: x509.Certificate, *, is_anchor: bool) -> None:
    """P-V9b, as far as the library does not."""
    name = _named(certificate.subject)
    usage, extended = _extension(certificate, x509.KeyUsage), _extension(certificate, x509.ExtendedKeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise Unauthorized(
            cause="certificate-ca-constraint", reason=f"ca-constraint: the key usage of {name} leaves out keyCertSign"
        )
    if extended is not None and not _CLIENTS.intersection(extended):
        raise Unauthorized(cause="certificate-ca-constraint", reason=f"ca-constraint: {name} may not issue for clients")
    constraints = _extension(certificate, x509.NameConstraints)
    if constraints is not None and any(isinstance(each, x509.DirectoryName) for each in _trees(constraints)):
        # the library passes over them where they are not critical, and a device's name is its subject
        raise Unauthorized(
            cause="certificate-ca-constraint",
            reason=f"ca-constraint: {name} constrains names of subjects, which is not supported",
        )
    if not is_anchor and isinstance(certificate.signature_hash_algorithm, _WEAK):
        raise Unauthorized(
            cause="certificate-ca-constraint", reason=f"ca-constraint: {name} is signed with a weak hash"
        )


def _trees(constraints: x509.NameConstraints) -> Iterable[x509.GeneralName]:
    return (*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ()))


def check_denied(marks: Iterable[str], denies: Denies, what: str) -> None:
    """P-V5. Raises Unauthorized."""
    if (found := denies(marks)) is not None:
        raise _denied(found, what)


def _denied(found: Denial, what: str) -> Unauthorized:
    by = {"cert": "itself", "spki": "its key", "serial": "its serial number"}[found.kind]
    return Unauthorized(
        cause="certificate-denied",
        reason=f"denied: {what} is on the deny-list by {by} ({found.reason}{f', {found.by}' if found.by else ''})",
        remedy=f"hubkeep cert allow {found.mark}, if that was wrong",
    )


def _allowed(between: Sequence[x509.Certificate], denies: Denies) -> tuple[list[x509.Certificate], Unauthorized | None]:
    """Those that are not denied, and what is to be said if there is no path without the others."""
    allowed, refusal = [], None
    for each in between:
        found = denies(marks_of_authority(each.public_bytes(Encoding.DER)))
        if found is None:
            allowed.append(each)
        else:
            refusal = _denied(found, f"the intermediate {_named(each.subject)}")
    return allowed, refusal


def _parsed(others: Sequence[bytes]) -> list[x509.Certificate]:
    try:
        return [whole(x509.load_der_x509_certificate(each)) for each in others]
    except UNREADABLE as error:
        raise Unauthorized(
            cause="certificate-malformed", reason=f"malformed: an intermediate cannot be read: {error}"
        ) from None


def _extension(certificate: x509.Certificate, kind: type[_T]) -> _T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _named(name: x509.Name) -> str:
    return repr(name.rfc4514_string()[:200])


def _must_be_authority(_policy: Policy, _certificate: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("not marked as an authority")


_OF_AUTHORITIES: Final = ExtensionPolicy.permit_all().require_present(
    x509.BasicConstraints, Criticality.AGNOSTIC, _must_be_authority
)
