"""Whether a token or a certificate proves a device to the provisioning service, and which enrolment then decides.

An individual enrolment alone decides about its registration id. A disabled one does so even over a device that only a
group knows: that is how one device of a group is stopped. Source: provisioning-and-pki 1.3, 1.9, 1.10, 2.6.
"""

import hmac
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.device.denials import marks_of
from hubkeep.device.keys import derived_key
from hubkeep.device.provisioning import tpm, tpm_blob
from hubkeep.device.provisioning.enrolments import Enrolments
from hubkeep.device.provisioning.tpm_proofs import TpmProofs
from hubkeep.errors import Unauthorized
from hubkeep.model import Enrolment, EnrolmentKey, Permission, Principal, RegistrationCredential, enrolment_key
from hubkeep.ports import Clock
from hubkeep.wire import sas

from . import client_certificates
from .certificate_paths import Denies, DevicePaths, check_denied, check_is_no_authority, check_usage

_DECOY: Final = os.urandom(32)
_DEVICE_KEY: Final = "registration"  # the one key name of devices
CheckRevocation = Callable[[x509.Certificate, Sequence[x509.Certificate]], Awaitable[None]]
_Slot = Literal["primary", "secondary", ""]  # none for a TPM's keys


class _Match(NamedTuple):
    """key_id, proof: see RegistrationCredential."""

    enrolment: Enrolment
    slot: _Slot
    key_id: str = ""
    proof: str = ""


class TpmChallenge(NamedTuple):
    """blob: for the device. refusal: why it is of no use to it; the device is not told."""

    blob: bytes
    refusal: Unauthorized | None


class RegistrationCredentials:
    """Everything here raises Unauthorized, its reason and remedy for the operator."""

    def __init__(
        self, enrolments: Enrolments, proofs: TpmProofs, denies: Denies, revocation: CheckRevocation, clock: Clock
    ) -> None:
        """denies: the deny-list. revocation: what authorities say of a verified path; raises Unauthorized."""
        self._enrolments, self._denies, self._clock = enrolments, denies, clock
        self._revocation, self._proofs = revocation, proofs
        self._paths = DevicePaths(enrolments.anchors)

    async def prove(
        self, id_scope: str, registration_id: str, token: sas.SasToken | None, certificates: Sequence[bytes]
    ) -> Principal:
        """token: None for none; whether it has expired is the caller's to check. certificates: DER, the leaf first."""
        individual = await self._enrolments.find(enrolment_key(False, registration_id))
        try:
            if token is not None:
                principal = self._by_token(registration_id, token, individual)
            else:
                principal = await self._by_certificate(registration_id, certificates, individual)
        except Unauthorized:
            if id_scope.lower() == self._enrolments.id_scope.lower():
                raise
            raise Unauthorized(
                cause="id-scope", reason=f"the id scope {id_scope[:64]!r} is not the one of this service"
            ) from None
        if id_scope.lower() != self._enrolments.id_scope.lower():  # after the same work as with the right one
            raise self._other_scope(id_scope)
        return principal

    def _other_scope(self, id_scope: str) -> Unauthorized:
        reason = f"the id scope {id_scope[:64]!r} is not the one of this service"
        return Unauthorized(cause="id-scope", reason=reason, remedy="hubkeep enroll scope")

    # -- symmetric keys ----------------------------------------------------------------------------------------------

    def _by_token(self, registration_id: str, token: sas.SasToken, individual: Enrolment | None) -> Principal:
        own, of_group = _by_own_key(token, individual), self._by_group_key(token, registration_id)
        own = own or self._by_tpm_key(token, individual)
        if token.skn not in {"", _DEVICE_KEY}:
            raise Unauthorized(
                cause="token-of-policy", reason=f"the token names the policy {token.skn!r}, and this is for devices"
            )
        wanted = f"{self._enrolments.id_scope}/registrations/{registration_id}"
        if (signed_for := sas.percent_decoded(token.sr)).lower() != wanted.lower():
            raise Unauthorized(
                cause="token-wrong-resource",
                reason=f"the token was signed for {signed_for[:200]!r}; this needs {wanted!r}",
            )
        match = own or (of_group if individual is None or individual.status == "disabled" else None)
        if match is None:
            raise _not_enrolled(registration_id, individual, "the token's signature matches no enrolled key")
        return self._principal(
            registration_id,
            individual or match.enrolment,
            slot=match.slot,
            expires=token.expiry,
            credential=RegistrationCredential(
                registration_id=registration_id,
                enrolment=(individual or match.enrolment).key,
                attestation="tpm" if match.proof else "symmetricKey",
                key_id=match.key_id,
                proof=match.proof,
            ),
        )

    def _by_group_key(self, token: sas.SasToken, registration_id: str) -> _Match | None:
        """Every group is tried, whichever matches: the time tells nothing."""
        found = None
        # look-up ignores case, derivation does not: devices differ in which spelling they were made with
        spellings = dict.fromkeys((registration_id, registration_id.lower()))
        for group in self._enrolments.groups():
            for slot, key in _keys(group):
                for key_id in spellings:
                    if sas.is_signed_by(token, derived_key(key, key_id)) and found is None:
                        found = _Match(group, slot, key_id)
        return found

    # -- TPMs --------------------------------------------------------------------------------------------------------

    async def challenge(
        self, id_scope: str, registration_id: str, keys: tpm.TpmKeys, *, is_blocked: bool
    ) -> TpmChallenge:
        """A key for registering that the TPM of these keys alone can use; of a TPM that is not enrolled, one that
        proves nothing. is_blocked: too many failed before. Raises BadRequest, Throttled.
        """
        endorsement = tpm.storage_key(keys.endorsement, "The endorsementKey")
        storage_root = tpm.storage_key(keys.storage_root, "The storageRootKey")
        self._proofs.take()
        individual = await self._enrolments.find(enrolment_key(False, registration_id))
        key = self._proofs.fresh(registration_id, keys.endorsement).key
        refusal = _why_unproven(registration_id, individual, keys)
        if id_scope.lower() != self._enrolments.id_scope.lower():
            refusal = self._other_scope(id_scope)
        elif is_blocked:
            refusal = Unauthorized(
                cause="pair-locked-out", reason="too many failed logins of this identity from this address"
            )
        if refusal is not None:
            key = os.urandom(len(key))
        return TpmChallenge(tpm_blob.wrapped(key, endorsement, storage_root), refusal)

    def _by_tpm_key(self, token: sas.SasToken, individual: Enrolment | None) -> _Match | None:
        """A key that was given to its TPM a moment ago. All are always tried."""
        endorsement_key = None if individual is None else individual.attestation.endorsement_key
        if individual is None or endorsement_key is None:
            return None
        found = None
        for proof in self._proofs.known(individual.id, endorsement_key):
            if sas.is_signed_by(token, proof.key) and found is None:
                found = _Match(individual, "", proof=proof.id)
        return found

    # -- certificates ------------------------------------------------------------------------------------------------

    async def _by_certificate(
        self, registration_id: str, certificates: Sequence[bytes], individual: Enrolment | None
    ) -> Principal:
        if not certificates:
            raise _not_enrolled(registration_id, individual, "neither a token nor a certificate was presented")
        leaf = client_certificates.checked_leaf(certificates, self._clock.now())
        marks = marks_of(leaf, certificates[0])
        check_denied(marks, self._denies, "the certificate")
        name = client_certificates.common_name(leaf)
        if name is None or name.lower() != registration_id.lower():
            raise Unauthorized(
                cause="certificate-name",
                reason=f"cn: the certificate is made out to {name!r}, not to {registration_id!r} alone",
                remedy="issue it anew with the registration id as its one common name",
            )
        check_usage(leaf)
        expires = leaf.not_valid_after_utc.timestamp()
        slot = _matching_certificate(individual, certificates[0])
        issuer, decides = b"", individual
        if slot is None:
            if individual is not None and individual.status != "disabled":
                raise _not_enrolled(registration_id, individual, "thumbprint: the certificate is not the enrolled one")
            check_is_no_authority(leaf)
            path = self._paths.find(leaf, certificates[1:], self._clock.now(), self._denies)
            await self._revocation(leaf, path.above)
            group, issuer = self._nearest_group([each.public_bytes(Encoding.DER) for each in path.above])
            slot = "secondary" if issuer == group.attestation.secondary_certificate else "primary"
            expires, decides, marks = path.expires, individual or group, (*marks, *path.marks)
        assert decides is not None, "an individual enrolment or a group was found"
        return self._principal(
            registration_id,
            decides,
            slot=slot,
            expires=expires,
            credential=RegistrationCredential(
                registration_id=name,
                enrolment=decides.key,
                attestation="x509",
                certificate=certificates[0],
                issuer=issuer,
            ),
            marks=marks,
        )

    def _nearest_group(self, above: Iterable[bytes]) -> tuple[Enrolment, bytes]:
        """The first certificate of a verified path that a group has decides, also if the group is disabled."""
        owners = {each.certificate: each.name for each in self._enrolments.anchors()}
        groups = {each.id: each for each in self._enrolments.groups()}
        for certificate in above:
            if certificate in owners:
                return groups[owners[certificate]], certificate
        raise Unauthorized(cause="enrolment-unproved", reason="chain: no group has a certificate of this path")

    # -- the result --------------------------------------------------------------------------------------------------

    def _principal(
        self,
        registration_id: str,
        enrolment: Enrolment,
        *,
        slot: _Slot,
        expires: float,
        credential: RegistrationCredential,
        marks: tuple[str, ...] = (),
    ) -> Principal:
        is_certificate = credential.attestation == "x509"
        return Principal(
            permissions=Permission.REGISTER,
            scope=(self._enrolments.id_scope, "registrations", registration_id),
            expires=expires,
            auth_scope="device",
            auth_type="x509" if is_certificate else "symkey" if enrolment.is_group else "sas",
            key=slot,
            registration=credential,
            marks=marks,
        )


def _by_own_key(token: sas.SasToken, individual: Enrolment | None) -> _Match | None:
    """Both keys are always tried, or decoys."""
    keys = _keys(individual) if individual is not None else ()
    found = None
    for slot, key in keys or (("primary", _DECOY), ("secondary", _DECOY)):
        if sas.is_signed_by(token, key) and individual is not None and keys and found is None:
            found = _Match(individual, slot)
    return found


def _keys(enrolment: Enrolment) -> Sequence[tuple[_Slot, bytes]]:
    attestation = enrolment.attestation
    if attestation.primary_key is None or attestation.secondary_key is None:
        return ()
    return (("primary", attestation.primary_key), ("secondary", attestation.secondary_key))


def _matching_certificate(individual: Enrolment | None, leaf: bytes) -> _Slot | None:
    if individual is None:
        return None
    shown = sha256(leaf).digest()
    slots: tuple[tuple[_Slot, bytes | None], ...] = (
        ("primary", individual.attestation.primary_certificate),
        ("secondary", individual.attestation.secondary_certificate),
    )
    for slot, enrolled in slots:
        if enrolled is not None and hmac.compare_digest(shown, sha256(enrolled).digest()):
            return slot
    return None


def _why_unproven(registration_id: str, individual: Enrolment | None, keys: tpm.TpmKeys) -> Unauthorized | None:
    """Why these are not the enrolled keys."""
    if individual is None or individual.attestation.type != "tpm":
        return _not_enrolled(registration_id, individual, "a TPM asked to register")
    if individual.attestation.endorsement_key != keys.endorsement:
        return _not_enrolled(registration_id, individual, "the TPM's endorsement key is not the enrolled one")
    if not tpm.is_registered(individual.attestation, keys):
        return _not_enrolled(registration_id, individual, "the TPM's storage root key is not the enrolled one")
    return None


def _not_enrolled(registration_id: str, individual: Enrolment | None, what: str) -> Unauthorized:
    key = EnrolmentKey(False, registration_id.lower())
    known = f"{key} attests by {individual.attestation.type}" if individual else f"there is no {key}"
    return Unauthorized(
        cause="enrolment-unproved", reason=f"{what}; {known}", remedy=f"hubkeep enroll show {registration_id}"
    )
