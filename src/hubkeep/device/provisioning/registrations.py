"""Devices that register themselves, on whatever wire. Start at ``Registrations.register``.

Source: provisioning-and-pki 1.3, 2.4, 2.5. Whoever calls has proved the device's credential: the Principal holds which
enrolment decides. Identity, record and attempt are one transaction: no crash leaves a device that asks for ever.
"""

import asyncio
import fnmatch
import uuid
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec

from hubkeep.errors import (
    AllocationFailed,
    BadRequest,
    Forbidden,
    HubError,
    IdentityOfAnother,
    KeyInUse,
    NoHub,
    NotAdmitted,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    RegistrationNotFound,
    StoreUnavailable,
    Unauthorized,
    on_wire,
)
from hubkeep.limits import REGISTRATION_OPERATION_KEPT, Limits
from hubkeep.model import (
    Authority,
    Enrolment,
    Identity,
    Json,
    LinkInfo,
    Principal,
    RegisterRequest,
    Registration,
    RegistrationCredential,
    RegistrationOperation,
    TrustBundle,
)
from hubkeep.ports import Clock, HeldRegistration, Kept, KeptRegistration, RecordRefusal, RegistrationStore, TwinEdit

from ..identities import Identities
from ..requests import SigningRequest
from . import requested, symmetric_key, x509
from .allocation import Allocation
from .enrolments import Enrolments, new_etag
from .rates import Rate
from .reprovisioning import Assignment, is_reset, may_move, substatus, without_reported
from .requested import RequestedCertificates

_ANY: Final = "*"
_POLLS_PER: Final = 10.0  # seconds
# what ends a registration as failed, instead of being an answer to the request
_OUTCOMES: Final = (
    AllocationFailed,
    BadRequest,
    IdentityOfAnother,
    KeyInUse,
    NoHub,
    NotAdmitted,
    NotFound,
    QuotaExceeded,
)
_TRIES: Final = 4  # an identity may be replaced while its certificate is issued


class _Wanted(NamedTuple):
    """What one attempt is about. csr: a request that is to be answered; issued: to whom it was, and what (DER)."""

    operation: RegistrationOperation
    enrolment: Enrolment
    credential: RegistrationCredential
    request: RegisterRequest
    device_id: str
    assignment: Assignment | HubError
    csr: SigningRequest | None = None
    issued_to: Identity | None = None
    issued: tuple[bytes, ...] = ()


class Registrations:
    """authorities: those that speak for devices now. initial_twin: see Enrolments. trust_bundle: for those who want it.

    answers_at_once: the answer to a request to register is its outcome; otherwise the first poll tells it.
    """

    def __init__(
        self,
        store: RegistrationStore,
        enrolments: Enrolments,
        allocation: Allocation,
        identities: Identities,
        authorities: Callable[[], Sequence[Authority]],
        initial_twin: Callable[[str, Json], TwinEdit],
        certificates: RequestedCertificates,
        trust_bundle: Callable[[], TrustBundle],
        clock: Clock,
        limits: Limits,
        refuse: RecordRefusal,
        *,
        answers_at_once: bool,
    ) -> None:
        self._store, self._enrolments, self._allocation = store, enrolments, allocation
        self._identities, self._authorities, self._initial_twin = identities, authorities, initial_twin
        self._certificates, self._trust_bundle = certificates, trust_bundle
        self._clock, self._limits, self._refuse = clock, limits, refuse
        self._answers_at_once = answers_at_once
        self._registering = Rate(limits.registrations_per_minute, 60.0)
        self._polling = Rate(limits.registration_polls, _POLLS_PER)

    # -- for devices -------------------------------------------------------------------------------------------------

    async def register(
        self, principal: Principal, registration_id: str, request: RegisterRequest, link: LinkInfo
    ) -> RegistrationOperation:
        """An attempt as the device is to be told of it; what is wrong with the outcome is in its registration.

        Raises BadRequest, Throttled, Unauthorized, Forbidden, StoreUnavailable: then nothing happened.
        """
        credential = _credential(principal, registration_id)
        if request.registration_id is not None and request.registration_id.lower() != registration_id.lower():
            raise BadRequest("The registrationId of the body is not the one of the connection.")
        self._registering.take(self._clock.monotonic())
        enrolment = await self._enrolments.find(credential.enrolment)
        if enrolment is None:
            raise Unauthorized(reason=f"the enrolment {credential.enrolment} is gone")
        # runs to its end even if the device is gone: links of old credentials must be cut
        work = self._attempt(enrolment, credential, request, link)
        operation = await asyncio.shield(asyncio.ensure_future(work))
        return self._told(operation) if self._answers_at_once else msgspec.structs.replace(operation, registration=None)

    async def status(self, principal: Principal, registration_id: str, operation_id: str) -> RegistrationOperation:
        """How an attempt of this device ended. Raises RegistrationNotFound, Throttled, Forbidden."""
        _credential(principal, registration_id)
        self._polling.take(self._clock.monotonic(), registration_id.lower())
        found = await self._store.operation(operation_id)
        is_known = found is not None and self._clock.now() - found.begun <= REGISTRATION_OPERATION_KEPT.value
        if found is None or not is_known or found.registration_id.lower() != registration_id.lower():
            raise RegistrationNotFound(reason="there is no such operation of this device")
        return self._told(found)

    def _told(self, operation: RegistrationOperation) -> RegistrationOperation:
        registration = operation.registration
        if registration is None or not registration.wants_trust_bundle or registration.status != "assigned":
            return operation
        told = msgspec.structs.replace(registration, trust_bundle=self._trust_bundle())
        return msgspec.structs.replace(operation, registration=told)

    async def own_record(self, principal: Principal, registration_id: str) -> Registration:
        """Raises RegistrationNotFound, Forbidden."""
        _credential(principal, registration_id)
        return await self.record(registration_id)

    # -- for back ends -----------------------------------------------------------------------------------------------

    async def record(self, registration_id: str) -> Registration:
        """Raises RegistrationNotFound."""
        if (found := await self._store.get(registration_id)) is None:
            raise RegistrationNotFound
        return found

    async def delete_record(self, registration_id: str, etag: str = _ANY) -> None:
        """Enrolment and identity stay. Raises RegistrationNotFound, PreconditionFailed."""
        if not await self._store.remove(registration_id, None if etag == _ANY else etag):
            await self.record(registration_id)
            raise PreconditionFailed

    async def page(self, group_id: str, after: str, most: int) -> Sequence[Registration]:
        """Records of a group by id in lower case, behind ``after``. Raises EnrolmentNotFound."""
        await self._enrolments.get(True, group_id)
        return await self._store.page(group_id, after, most)

    async def sweep(self) -> None:
        """Forget attempts that nobody may ask for any more."""
        await self._store.forget_operations(self._clock.now() - REGISTRATION_OPERATION_KEPT.value)

    # -- one attempt -------------------------------------------------------------------------------------------------

    async def _attempt(
        self, enrolment: Enrolment, credential: RegistrationCredential, request: RegisterRequest, link: LinkInfo
    ) -> RegistrationOperation:
        record = await self._store.get(credential.registration_id)
        operation = RegistrationOperation(
            operation_id=self._operation_id(enrolment),
            registration_id=credential.registration_id,
            begun=self._clock.now(),
        )
        device_id, csr = _device_id(enrolment, credential, record), None
        assignment: Assignment | HubError
        try:
            csr = self._certificates.read(enrolment, request, credential.registration_id, device_id)
            assignment = await self._allocated(enrolment, credential, request, record, link)
        except _OUTCOMES as error:
            assignment = error
        wanted = _Wanted(operation, enrolment, credential, request, device_id, assignment, csr)
        done, failure = await self._settled(wanted)
        if failure is not None:
            self._refuse(failure, link, identity=credential.registration_id, operation="registrations/register")
        self._tell(done)
        return done.operation

    async def _settled(self, wanted: _Wanted) -> tuple[KeptRegistration, HubError | None]:
        """What was stored, and why it failed. A certificate is issued before anything is stored. Raises Throttled,
        KeyUnavailable, StoreUnavailable.
        """
        for _ in range(_TRIES):
            failure: HubError | None = None

            def settle(held: HeldRegistration) -> KeptRegistration:
                nonlocal failure
                kept, failure = self._settle(wanted, held)  # noqa: B023  # called before the next turn
                return kept

            done = await self._store.settle(
                wanted.credential.registration_id, wanted.device_id, wanted.enrolment.key, settle
            )
            if done.lacks is None or wanted.csr is None:
                return done, failure
            try:
                issued_to, issued = await self._certificates.issue(
                    wanted.enrolment, done.lacks, wanted.csr, is_new=done.before is None
                )
                wanted = wanted._replace(issued_to=issued_to, issued=issued)
            except _OUTCOMES as error:
                wanted = wanted._replace(assignment=error)
        raise StoreUnavailable(reason=f"the identity {wanted.device_id} was replaced {_TRIES} times meanwhile")

    def _settle(self, wanted: _Wanted, held: HeldRegistration) -> tuple[KeptRegistration, HubError | None]:
        enrolment, assignment, operation = wanted.enrolment, wanted.assignment, wanted.operation
        fresh = self._fresh(enrolment, wanted.credential, held.record)
        if enrolment.status == "disabled":
            return _ended(operation, msgspec.structs.replace(fresh, status="disabled")), None
        try:
            if isinstance(assignment, HubError):
                raise assignment
            kept = self._identity(wanted, assignment, held)
            told = substatus(enrolment, wanted.request, assignment, held.record)
        except _OUTCOMES as error:
            code, message = on_wire(error).number, str(error)
            return _ended(operation, msgspec.structs.replace(fresh, error_code=code, error_message=message)), error
        if wanted.csr is not None and not _is_of(wanted.issued_to, kept.identity):
            return KeptRegistration(operation, before=held.held.identity, lacks=kept.identity), None
        assigned = msgspec.structs.replace(
            fresh,
            status="assigned",
            substatus=told,
            hub=assignment.hub,
            initial_hub=fresh.initial_hub or assignment.hub,
            device_id=wanted.device_id,
            payload=assignment.payload,
            issued=wanted.issued,
            issued_form=wanted.request.issued_form,
            is_by_issued=bool(wanted.issued) or _is_by_issued(held),
            wants_trust_bundle=wanted.request.wants_trust_bundle,
        )
        return _ended(operation, assigned)._replace(identity=kept, before=held.held.identity), None

    def _tell(self, done: KeptRegistration) -> None:
        if done.identity is None or done.identity.identity is None:
            return
        if done.before is None:
            self._identities.tell_created([done.identity.identity, *done.identity.modules])
        else:
            self._identities.tell(done.before, done.identity.identity)
        if done.identity.change is not None:
            self._initial_twin(done.identity.identity.device_id, {}).told(done.identity.change)

    async def _allocated(
        self,
        enrolment: Enrolment,
        credential: RegistrationCredential,
        request: RegisterRequest,
        record: Registration | None,
        link: LinkInfo,
    ) -> Assignment:
        """Raises NoHub, AllocationFailed."""
        if record is not None and record.hub and not may_move(enrolment, request):
            return Assignment(record.hub, enrolment.initial_twin)
        source = link.peer.rpartition(":")[0]
        hub = self._allocation.choose(enrolment, credential.registration_id, source)
        return Assignment(hub, enrolment.initial_twin)

    def _identity(self, attempt: _Wanted, assignment: Assignment, held: HeldRegistration) -> Kept:
        """What the hub is to know of the device. Raises IdentityOfAnother, NotAdmitted, QuotaExceeded."""
        enrolment, credential, device_id = attempt.enrolment, attempt.credential, attempt.device_id
        stored = held.held.identity
        if stored is not None and held.owner != enrolment.key:
            maker = held.owner or "a person or a program"
            raise IdentityOfAnother(
                reason=f"the identity {device_id} was made by {maker}, not by {enrolment.key}",
                remedy=f"hubkeep device delete {device_id}, if it is to be provisioned",
            )
        self._check_admission(enrolment, credential, held)
        credentials = self._credentials(attempt, held)
        edge = enrolment.iot_edge
        if stored is None:
            if held.held.siblings >= self._limits.identities:
                raise QuotaExceeded(remedy="delete some devices, or raise limits.identities")
            identity = self._identities.fresh(Identity(device_id=device_id, iot_edge=edge, **credentials))
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

    def _credentials(self, wanted: _Wanted, held: HeldRegistration) -> dict[str, Any]:
        """What opens the identity."""
        if wanted.csr is not None or _is_by_issued(held):
            return requested.AT_THE_HUB
        if wanted.credential.attestation == "symmetricKey":
            return symmetric_key.at_the_hub(wanted.enrolment, wanted.credential.key_id)
        return x509.at_the_hub(wanted.enrolment, wanted.credential, wanted.device_id, self._authorities())

    def _check_admission(
        self, enrolment: Enrolment, credential: RegistrationCredential, held: HeldRegistration
    ) -> None:
        """What a group admits. Raises NotAdmitted."""
        admission, name = enrolment.admission, credential.registration_id.lower()
        if admission.allowed and not any(fnmatch.fnmatchcase(name, each.lower()) for each in admission.allowed):
            raise NotAdmitted(reason=f"{credential.registration_id} is none of the group's allowedRegistrationIds")
        if held.owner is not None:
            return  # it is in already
        if admission.expires and self._clock.now() >= admission.expires:
            raise NotAdmitted(reason="the enrolment admits nobody any more (expiresAtUtc)")
        if admission.most and held.members >= admission.most:
            raise NotAdmitted(reason=f"the group has {admission.most} devices already (maxRegistrations)")

    def _fresh(
        self, enrolment: Enrolment, credential: RegistrationCredential, before: Registration | None
    ) -> Registration:
        """The record as a failure leaves it: an earlier assignment is remembered."""
        now = self._clock.now()
        base = before or Registration(
            registration_id=credential.registration_id,
            is_group=enrolment.is_group,
            enrolment_id=enrolment.id,
            attestation=credential.attestation,
            status="failed",
            created=now,
        )
        return msgspec.structs.replace(
            base,
            is_group=enrolment.is_group,
            enrolment_id=enrolment.id,
            attestation=credential.attestation,
            status="failed",
            error_code=0,
            error_message="",
            payload=None,
            issued=(),
            issued_form="",
            certificate=credential.certificate,
            issuer=credential.issuer,
            etag=new_etag(),
            updated=now,
        )

    def _operation_id(self, enrolment: Enrolment) -> str:
        """Opaque; survives in a path and in a query as it stands."""
        entry = sha256(f"{self._enrolments.id_scope}/{enrolment.key}".encode()).hexdigest()[:16]
        return f"5.{entry}.{uuid.uuid4()}"


def _credential(principal: Principal, registration_id: str) -> RegistrationCredential:
    """Raises Forbidden: the credential is another device's, or none of the provisioning service."""
    credential = principal.registration
    if credential is None or credential.registration_id.lower() != registration_id.lower():
        raise Forbidden(reason=f"the credential is not of the registration {registration_id!r}")
    return credential


def _device_id(enrolment: Enrolment, credential: RegistrationCredential, record: Registration | None) -> str:
    """As it stands in the enrolment; a group's device keeps the spelling of its first registration."""
    if not enrolment.is_group:
        return enrolment.device_id or enrolment.id
    if record is not None and record.device_id and record.enrolment == enrolment.key:
        return record.device_id
    return credential.registration_id


def _is_of(issued_to: Identity | None, identity: Identity | None) -> bool:
    """Whether what was issued is for this very identity."""
    return issued_to is not None and identity is not None and issued_to.generation_id == identity.generation_id


def _is_by_issued(held: HeldRegistration) -> bool:
    """Whether a certificate that the device asked for opens its identity: what it registers with opens it no more."""
    stored, record = held.held.identity, held.record
    is_by_authority = stored is not None and stored.authentication == "certificateAuthority"
    return is_by_authority and record is not None and record.is_by_issued


def _ended(operation: RegistrationOperation, registration: Registration) -> KeptRegistration:
    return KeptRegistration(msgspec.structs.replace(operation, registration=registration))
