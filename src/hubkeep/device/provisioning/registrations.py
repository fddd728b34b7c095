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
    NoHub,
    NotAdmitted,
    PreconditionFailed,
    QuotaExceeded,
    RegistrationNotFound,
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
    ReprovisionPolicy,
    Substatus,
    Twin,
    TwinChange,
)
from hubkeep.ports import Clock, HeldRegistration, Kept, KeptRegistration, RecordRefusal, RegistrationStore, TwinEdit

from ..identities import Identities
from . import symmetric_key, x509
from .allocation import Allocation
from .enrolments import Enrolments, new_etag
from .rates import Rate

_ANY: Final = "*"
_STICKY_UNTIL: Final = "2018-04-01"  # API versions up to this one do not move a device unless a policy says so
_TELLS_MORE_SINCE: Final = "2019-04-15"  # older API versions know one substatus
_POLLS_PER: Final = 10.0  # seconds
# what ends a registration as failed, instead of being an answer to the request
_OUTCOMES: Final = (AllocationFailed, BadRequest, IdentityOfAnother, NoHub, NotAdmitted, QuotaExceeded)


class Assignment(NamedTuple):
    """Where a device goes. payload: for the device, from whoever allocated. initial_twin: of a new identity."""

    hub: str
    initial_twin: Json | None
    payload: Any = None


class Registrations:
    """authorities: those that speak for devices now. initial_twin: see Enrolments.

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
        clock: Clock,
        limits: Limits,
        refuse: RecordRefusal,
        *,
        answers_at_once: bool,
    ) -> None:
        self._store, self._enrolments, self._allocation = store, enrolments, allocation
        self._identities, self._authorities, self._initial_twin = identities, authorities, initial_twin
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
        return operation if self._answers_at_once else msgspec.structs.replace(operation, registration=None)

    async def status(self, principal: Principal, registration_id: str, operation_id: str) -> RegistrationOperation:
        """How an attempt of this device ended. Raises RegistrationNotFound, Throttled, Forbidden."""
        _credential(principal, registration_id)
        self._polling.take(self._clock.monotonic(), registration_id.lower())
        found = await self._store.operation(operation_id)
        is_known = found is not None and self._clock.now() - found.begun <= REGISTRATION_OPERATION_KEPT.value
        if found is None or not is_known or found.registration_id.lower() != registration_id.lower():
            raise RegistrationNotFound(reason="there is no such operation of this device")
        return found

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
        assignment: Assignment | HubError
        try:
            assignment = await self._allocated(enrolment, credential, request, record, link)
        except _OUTCOMES as error:
            assignment = error
        device_id = _device_id(enrolment, credential, record)
        failure: HubError | None = None

        def settle(held: HeldRegistration) -> KeptRegistration:
            nonlocal failure
            fresh = self._fresh(enrolment, credential, held.record)
            if enrolment.status == "disabled":
                return _ended(operation, msgspec.structs.replace(fresh, status="disabled"))
            try:
                if isinstance(assignment, HubError):
                    raise assignment
                kept = self._identity(enrolment, credential, device_id, assignment, held)
                substatus = _substatus(enrolment, request, assignment, held.record)
            except _OUTCOMES as error:
                failure = error
                code, message = on_wire(error).number, str(error)
                return _ended(operation, msgspec.structs.replace(fresh, error_code=code, error_message=message))
            assigned = msgspec.structs.replace(
                fresh,
                status="assigned",
                substatus=substatus,
                hub=assignment.hub,
                initial_hub=fresh.initial_hub or assignment.hub,
                device_id=device_id,
                payload=assignment.payload,
            )
            return _ended(operation, assigned)._replace(identity=kept, before=held.held.identity)

        done = await self._store.settle(credential.registration_id, device_id, enrolment.key, settle)
        if failure is not None:
            self._refuse(failure, link, identity=credential.registration_id, operation="registrations/register")
        self._tell(done)
        return done.operation

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
        if record is not None and record.hub and not _may_move(enrolment, request):
            return Assignment(record.hub, enrolment.initial_twin)
        source = link.peer.rpartition(":")[0]
        hub = self._allocation.choose(enrolment, credential.registration_id, source)
        return Assignment(hub, enrolment.initial_twin)

    def _identity(
        self,
        enrolment: Enrolment,
        credential: RegistrationCredential,
        device_id: str,
        assignment: Assignment,
        held: HeldRegistration,
    ) -> Kept:
        """What the hub is to know of the device. Raises IdentityOfAnother, NotAdmitted, QuotaExceeded."""
        stored = held.held.identity
        if stored is not None and held.owner != enrolment.key:
            maker = held.owner or "a person or a program"
            raise IdentityOfAnother(
                reason=f"the identity {device_id} was made by {maker}, not by {enrolment.key}",
                remedy=f"hubkeep device delete {device_id}, if it is to be provisioned",
            )
        self._check_admission(enrolment, credential, held)
        if credential.attestation == "symmetricKey":
            credentials = symmetric_key.at_the_hub(enrolment, credential.key_id)
        else:
            credentials = x509.at_the_hub(enrolment, credential, device_id, self._authorities())
        edge = enrolment.iot_edge
        if stored is None:
            if held.held.siblings >= self._limits.identities:
                raise QuotaExceeded(remedy="delete some devices, or raise limits.identities")
            identity = self._identities.fresh(Identity(device_id=device_id, iot_edge=edge, **credentials))
            wanted_twin = assignment.initial_twin
            twin = None if wanted_twin is None else self._initial_twin(device_id, wanted_twin).fresh()
            return Kept(identity, twin, self._identities.system_modules(identity) if edge else ())
        wanted = msgspec.structs.replace(stored, iot_edge=edge, **credentials)  # a disabled one stays disabled
        change = None
        if _is_reset(enrolment, assignment, held.record):
            assert held.held.twin is not None, "every identity has one"
            change = _without_reported(self._initial_twin(device_id, assignment.initial_twin or {}), held.held.twin)
        if wanted == stored:
            return Kept(stored, change=change)
        identity = self._identities.updated(stored, wanted)
        return Kept(identity, None, self._identities.system_modules(identity) if edge else (), change)

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


def _may_move(enrolment: Enrolment, request: RegisterRequest) -> bool:
    """Whether a device that was assigned is allocated again (2.5)."""
    if enrolment.reprovision is None:
        return not request.api_version or request.api_version[:10] > _STICKY_UNTIL
    return enrolment.reprovision.update_hub_assignment


def _has_moved(assignment: Assignment, before: Registration | None) -> bool:
    return before is not None and bool(before.hub) and before.hub != assignment.hub


def _is_reset(enrolment: Enrolment, assignment: Assignment, before: Registration | None) -> bool:
    """Whether the device begins anew at another hub."""
    policy = enrolment.reprovision or ReprovisionPolicy()
    return _has_moved(assignment, before) and not policy.migrate_device_data


def _without_reported(edit: TwinEdit, before: Twin) -> TwinChange:
    """The twin begins anew; its versions go on rising, since the device may be connected."""
    change = edit.change(before)
    fresh = msgspec.structs.replace(Twin(device_id=before.device_id).reported, version=before.reported.version + 1)
    gone: Json = dict.fromkeys(before.reported.properties)
    return msgspec.structs.replace(
        change, twin=msgspec.structs.replace(change.twin, reported=fresh), reported=gone or None
    )


def _substatus(
    enrolment: Enrolment, request: RegisterRequest, assignment: Assignment, before: Registration | None
) -> Substatus:
    if before is None or not before.hub or request.api_version[:10] < _TELLS_MORE_SINCE:
        return "initialAssignment"
    if _has_moved(assignment, before):
        return "deviceDataReset" if _is_reset(enrolment, assignment, before) else "deviceDataMigrated"
    if not _may_move(enrolment, request):
        return "reprovisionedToInitialAssignment"
    return before.substatus or "initialAssignment"


def _ended(operation: RegistrationOperation, registration: Registration) -> KeptRegistration:
    return KeptRegistration(msgspec.structs.replace(operation, registration=registration))
