"""Blocking a device in one call: at the hub, in provisioning, and with its certificates (provisioning-and-pki 2.6)."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from cryptography import x509

from hubkeep.errors import BadRequest
from hubkeep.model import Attestation, Denial, Enrolment, Identity, enrolment_key
from hubkeep.ports import Clock, RegistrationStore

from .denials import DenyList, check_reason, denial_of, denial_of_value
from .identities import Identities
from .provisioning.enrolments import Enrolments, WantedEnrolment
from .revoking import Revoking

_ANY: Final = "*"
_SHA256_DIGITS: Final = 64


class Blocked(NamedTuple):
    """enrolment: the individual one that stops it, empty where its id can be none. denials: entries made for it."""

    identity: Identity
    enrolment: str
    denials: int


class Blocking:
    """What is one half alone lets the device come back: by its group, or with another credential."""

    def __init__(
        self,
        identities: Identities,
        enrolments: Enrolments,
        registrations: RegistrationStore,
        revoking: Revoking,
        denials: DenyList,
        clock: Clock,
    ) -> None:
        self._identities, self._enrolments, self._registrations = identities, enrolments, registrations
        self._revoking, self._denials, self._clock = revoking, denials, clock

    async def block(self, device_id: str, status_reason: str, reason: str, by: str) -> Blocked:
        """Its links end at once; it may be called again. reason: of RFC 5280, for the certificates.

        Raises DeviceNotFound, BadRequest, QuotaExceeded, EnrolmentQuota: what was done before stays done.
        """
        check_reason(reason)
        stored = await self._identities.get(device_id)
        wanted = msgspec.structs.replace(stored, status="disabled", status_reason=status_reason)
        identity = await self._identities.update(wanted, _ANY, keep_authentication=True)
        enrolment = await self._enrolment_of(device_id)
        certificates: Sequence[bytes] = [] if enrolment is None else enrolment.attestation.certificates
        denials = self._denials_of(stored, certificates, reason, by)
        if denials:
            await self._denials.add(*denials)
        await self._revoking.identity(device_id, "", reason)
        return Blocked(identity, enrolment.id if enrolment is not None else "", len(denials))

    async def _enrolment_of(self, device_id: str) -> Enrolment | None:
        """The individual enrolment that decides before any group, disabled; None: no registration can have the id."""
        owner = await self._registrations.owner(device_id)
        key = owner if owner is not None and not owner.is_group else enrolment_key(False, device_id)
        if (found := await self._enrolments.disable(key)) is not None:
            return found
        stop = Enrolment(id=device_id, is_group=False, attestation=Attestation(type="symmetricKey"), status="disabled")
        try:
            return await self._enrolments.put(WantedEnrolment(stop), _ANY)
        except BadRequest:
            return None

    def _denials_of(self, identity: Identity, enrolled: Sequence[bytes], reason: str, by: str) -> list[Denial]:
        at = self._clock.now()
        prints = [each for each in (identity.primary_thumbprint, identity.secondary_thumbprint) if each]
        of_prints = [
            denial_of_value("cert", each, None, reason=reason, at=at, by=by)
            for each in prints
            if len(each) == _SHA256_DIGITS
        ]
        of_enrolled = [
            # by its number: anybody can write an ECDSA signature in another way, and so another fingerprint
            denial_of(x509.load_der_x509_certificate(each), "serial", reason=reason, at=at, by=by)
            for each in enrolled
        ]
        return list({each.mark: each for each in (*of_prints, *of_enrolled)}.values())
