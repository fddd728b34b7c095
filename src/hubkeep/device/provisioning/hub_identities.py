"""What the hub is to know of a device that registers: made, or made over, but never taken from somebody else.

Source: provisioning-and-pki 1.3, step 8.
"""

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from hubkeep.errors import HubError, IdentityOfAnother, NotAdmitted
from hubkeep.limits import Limits
from hubkeep.model import (
    Authority,
    Enrolment,
    Identity,
    Json,
    RegisterRequest,
    RegistrationCredential,
    RegistrationOperation,
)
from hubkeep.ports import Clock, HeldRegistration, Kept, TwinEdit

from ..identities import Identities
from ..requests import SigningRequest
from . import requested, symmetric_key, tpm, x509
from .reprovisioning import Assignment, is_reset, without_reported


class Attempt(NamedTuple):
    """What one attempt is about. csr: a request that is to be answered; issued: to whom it was, and what (DER).

    hub_key: for a device with a TPM.
    """

    operation: RegistrationOperation
    enrolment: Enrolment
    credential: RegistrationCredential
    request: RegisterRequest
    device_id: str
    assignment: Assignment | HubError
    csr: SigningRequest | None = None
    issued_to: Identity | None = None
    issued: tuple[bytes, ...] = ()
    hub_key: tpm.HubKey | None = None


class HubIdentities:
    """authorities: those that speak for devices now. initial_twin: see Enrolments."""

    def __init__(
        self,
        identities: Identities,
        authorities: Callable[[], Sequence[Authority]],
        initial_twin: Callable[[str, Json], TwinEdit],
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._identities, self._authorities, self._initial_twin = identities, authorities, initial_twin
        self._clock, self._limits = clock, limits

    def wanted(self, attempt: Attempt, assignment: Assignment, held: HeldRegistration) -> Kept:
        """Raises IdentityOfAnother, NotAdmitted, QuotaExceeded."""
        enrolment, credential, device_id = attempt.enrolment, attempt.credential, attempt.device_id
        stored = held.held.identity
        if stored is not None and held.owner != enrolment.key:
            maker = held.owner or "a person or a program"
            raise IdentityOfAnother(
                reason=f"the identity {device_id} was made by {maker}, not by {enrolment.key}",
                remedy=f"hubkeep device delete {device_id}, if it is to be provisioned",
            )
        is_in = held.owner is not None
        check_admission(enrolment, credential, self._clock.now(), is_in=is_in, members=held.members)
        credentials = self._credentials(attempt, held)
        edge = enrolment.iot_edge
        if stored is None:
            identity = self._identities.fresh(Identity(device_id=device_id, iot_edge=edge, **credentials))
            self._identities.check_room(held.held.of_hub, identity)
            if attempt.issued_to is not None:  # the certificate was issued to this one
                identity = msgspec.structs.replace(identity, generation_id=attempt.issued_to.generation_id)
            wanted_twin = assignment.initial_twin
            twin = None if wanted_twin is None else self._initial_twin(device_id, wanted_twin).fresh()
            return Kept(identity, twin, self._identities.system_modules(identity) if edge else ())
        wanted = msgspec.structs.replace(stored, iot_edge=edge, **credentials)  # a disabled one stays disabled
        change = None
        if is_reset(enrolment, assignment, held.record):
            assert held.held.twin is not None, "every identity has one"
            change = without_reported(self._initial_twin(device_id, assignment.initial_twin or {}), held.held.twin)
        if wanted == stored:
            return Kept(stored, change=change)
        identity = self._identities.updated(stored, wanted)
        return Kept(identity, None, self._identities.system_modules(identity) if edge else (), change)

    def tell(self, before: Identity | None, kept: Kept | None) -> None:
        """What was stored is so."""
        if kept is None or kept.identity is None:
            return
        if before is None:
            self._identities.tell_created([kept.identity, *kept.modules])
        else:
            self._identities.tell(before, kept.identity)
        if kept.change is not None:
            self._initial_twin(kept.identity.device_id, {}).told(kept.change)

    def _credentials(self, attempt: Attempt, held: HeldRegistration) -> dict[str, Any]:
        """What opens the identity."""
        if attempt.csr is not None or is_by_issued(held):
            return requested.AT_THE_HUB
        if attempt.credential.attestation == "symmetricKey":
            return symmetric_key.at_the_hub(attempt.enrolment, attempt.credential.key_id)
        if attempt.hub_key is not None:
            return tpm.at_the_hub(attempt.hub_key.key)
        return x509.at_the_hub(attempt.enrolment, attempt.credential, attempt.device_id, self._authorities())


def check_admission(
    enrolment: Enrolment, credential: RegistrationCredential, now: float, *, is_in: bool, members: int
) -> None:
    """What a group admits. is_in: the device is of it already. members: how many are. Raises NotAdmitted."""
    admission, name = enrolment.admission, credential.registration_id.lower()
    if admission.allowed and not any(fnmatch.fnmatchcase(name, each.lower()) for each in admission.allowed):
        raise NotAdmitted(
            cause="enrolment-not-admitted",
            reason=f"{credential.registration_id} is none of the group's allowedRegistrationIds",
        )
    if is_in:
        return  # it is in already
    if admission.expires and now >= admission.expires:
        raise NotAdmitted(cause="enrolment-over", reason="the enrolment admits nobody any more (expiresAtUtc)")
    if admission.most and members >= admission.most:
        raise NotAdmitted(
            cause="enrolment-full", reason=f"the group has {admission.most} devices already (maxRegistrations)"
        )


def is_of(issued_to: Identity | None, identity: Identity | None) -> bool:
    """Whether what was issued is for this very identity."""
    return issued_to is not None and identity is not None and issued_to.generation_id == identity.generation_id


def is_by_issued(held: HeldRegistration) -> bool:
    """Whether a certificate that the device asked for opens its identity: what it registers with opens it no more."""
    stored, record = held.held.identity, held.record
    is_by_authority = stored is not None and stored.authentication == "certificateAuthority"
    return is_by_authority and record is not None and record.is_by_issued
