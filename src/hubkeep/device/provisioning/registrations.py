"""Devices that register themselves, on whatever wire. Start at ``Registrations.register``.

Source: provisioning-and-pki 1.3, 2.4, 2.5. Whoever calls has proved the device's credential: the Principal holds which
enrolment decides. Identity, record and attempt are one transaction: no crash leaves a device that asks for ever.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

import msgspec

from hubkeep.errors import (
    AllocationFailed,
    BadRequest,
    Forbidden,
    HubError,
    HubNotAuthorized,
    IdentityOfAnother,
    KeyInUse,
    NoHub,
    NotAdmitted,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    RegistrationNotFound,
    StoreUnavailable,
    Throttled,
    Unauthorized,
    on_wire,
)
from hubkeep.limits import REGISTRATION_OPERATION_KEPT, Limits
from hubkeep.model import (
    Enrolment,
    Json,
    LinkInfo,
    Principal,
    RegisterRequest,
    Registration,
    RegistrationCredential,
    RegistrationOperation,
    TrustBundle,
)
from hubkeep.ports import (
    AllocationQuestion,
    Clock,
    HeldRegistration,
    KeptRegistration,
    RecordRefusal,
    RegistrationStore,
    TwinEdit,
)

from . import tpm
from .allocation import Allocation
from .elsewhere import Elsewhere
from .enrolments import Enrolments, new_etag
from .hub_identities import Attempt, HubIdentities, is_by_issued, is_of
from .rates import Rate
from .reprovisioning import Assignment, may_move, substatus
from .requested import RequestedCertificates
from .tpm_proofs import TpmProofs
from .under_way import UnderWay

_ANY: Final = "*"
_POLLS_PER: Final = 10.0  # seconds
# what ends a registration as failed, instead of being an answer to the request
_OUTCOMES: Final = (
    AllocationFailed,
    BadRequest,
    HubNotAuthorized,
    IdentityOfAnother,
    KeyInUse,
    NoHub,
    NotAdmitted,
    NotFound,
    QuotaExceeded,
)
_TRIES: Final = 4  # an identity may be replaced while its certificate is issued


class Registrations:
    """trust_bundle: for those who want it. access: why a device (its id, the certificate that vouched for it) may not
    register though its credential is good. initial_twin: see Enrolments. retry_after: seconds until it asks again.

    answers_at_once: the answer to a request to register is its outcome; otherwise the first poll tells it.
    """

    def __init__(
        self,
        store: RegistrationStore,
        enrolments: Enrolments,
        allocation: Allocation,
        hub_identities: HubIdentities,
        certificates: RequestedCertificates,
        proofs: TpmProofs,
        elsewhere: Elsewhere,
        initial_twin: Callable[[str, Json], TwinEdit],
        access: Callable[[str, bytes], HubError | None],
        trust_bundle: Callable[[], TrustBundle],
        clock: Clock,
        limits: Limits,
        refuse: RecordRefusal,
        *,
        answers_at_once: bool,
        retry_after: int,
    ) -> None:
        self._store, self._enrolments, self._allocation = store, enrolments, allocation
        self._hub, self._certificates, self._initial_twin = hub_identities, certificates, initial_twin
        self._proofs, self._elsewhere = proofs, elsewhere
        self._access, self._trust_bundle, self._clock, self._refuse = access, trust_bundle, clock, refuse
        self._answers_at_once, self._retry_after = answers_at_once, retry_after
        self.under_way = UnderWay(store, clock)
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
            raise Unauthorized(cause="enrolment-gone", reason=f"the enrolment {credential.enrolment} is gone")
        task = await self._proven(enrolment, credential, request, link)
        known = self.under_way.of(task)
        if known is not None and not self._answers_at_once:
            return known
        try:
            operation = await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise Throttled(cause="registered-meanwhile", reason="the device registered again meanwhile") from None
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
        self._proofs.sweep()
        await self._store.forget_operations(self._clock.now() - REGISTRATION_OPERATION_KEPT.value)

    # -- one attempt -------------------------------------------------------------------------------------------------

    async def _proven(
        self, enrolment: Enrolment, credential: RegistrationCredential, request: RegisterRequest, link: LinkInfo
    ) -> asyncio.Task[RegistrationOperation]:
        """A TPM's key for registering opens one attempt. Raises Unauthorized, BadRequest, DeviceBlocked."""
        if credential.attestation != "tpm":
            return await self._begun(enrolment, credential, request, link)
        key = enrolment.attestation.endorsement_key or b""
        if request.endorsement_key and request.endorsement_key != key:
            raise BadRequest("The endorsementKey is not the one that was proven.")
        self._proofs.use(credential.registration_id, key, credential.proof)
        try:
            return await self._begun(enrolment, credential, request, link)
        except BaseException:
            self._proofs.unuse(credential.registration_id, credential.proof)
            raise

    async def _begun(
        self, enrolment: Enrolment, credential: RegistrationCredential, request: RegisterRequest, link: LinkInfo
    ) -> asyncio.Task[RegistrationOperation]:
        """It runs to its end even if the device is gone: links of old credentials must be cut. Raises DeviceBlocked."""
        record = await self._store.get(credential.registration_id)
        device_id = _device_id(enrolment, credential, record)
        if (refusal := self._access(device_id, credential.issuer)) is not None:
            raise refusal
        operation = RegistrationOperation(
            operation_id=self._operation_id(enrolment),
            registration_id=credential.registration_id,
            begun=self._clock.now(),
            retry_after=self._retry_after,
        )
        attempt = Attempt(operation, enrolment, credential, request, device_id, NoHub())
        if credential.attestation == "tpm":
            root = credential.storage_root_key or request.storage_root_key
            attempt = attempt._replace(hub_key=tpm.hub_key(enrolment, root))
        takes_time = self._allocation.policy(enrolment) == "custom" or self._elsewhere.concerns(record)
        if enrolment.status == "disabled" or not takes_time:
            return asyncio.ensure_future(self._carried_out(attempt, record, link))
        # somebody is asked, and that may take its time
        name = credential.registration_id.lower()
        if (same := self.under_way.same(name, request)) is not None:
            return same
        operation = msgspec.structs.replace(operation, if_lost=self._fresh(enrolment, credential, record))
        return await self.under_way.begin(name, request, operation, self._carried_out(attempt, record, link))

    async def _carried_out(
        self, attempt: Attempt, record: Registration | None, link: LinkInfo
    ) -> RegistrationOperation:
        enrolment, credential, request = attempt.enrolment, attempt.credential, attempt.request
        csr, assignment = None, attempt.assignment
        try:
            csr = self._certificates.read(enrolment, request, credential.registration_id, attempt.device_id)
            if enrolment.status != "disabled":
                assignment = await self._allocated(attempt, record, link)
                assignment = await self._elsewhere.migrated(enrolment, assignment, record)
                if (hub := self._elsewhere.hub(assignment)) is not None:
                    fresh = self._fresh(enrolment, credential, record)
                    return await self._elsewhere.carried_out(attempt, assignment, hub, record, fresh, link)
        except _OUTCOMES as error:
            assignment = error
        done, failure = await self._settled(attempt._replace(assignment=assignment, csr=csr))
        if failure is not None:
            self._refuse(failure, link, identity=credential.registration_id, operation="registrations/register")
        self._hub.tell(done.before, done.identity)
        if (ended := done.operation.registration) is not None and ended.status == "assigned":
            await self._elsewhere.left(record, ended, link)
        return done.operation

    async def _settled(self, wanted: Attempt) -> tuple[KeptRegistration, HubError | None]:
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

    def _settle(self, wanted: Attempt, held: HeldRegistration) -> tuple[KeptRegistration, HubError | None]:
        enrolment, assignment, operation = wanted.enrolment, wanted.assignment, wanted.operation
        fresh = self._fresh(enrolment, wanted.credential, held.record)
        if enrolment.status == "disabled":
            return _ended(operation, msgspec.structs.replace(fresh, status="disabled")), None
        try:
            if isinstance(assignment, HubError):
                raise assignment
            kept = self._hub.wanted(wanted, assignment, held)
            told = substatus(enrolment, wanted.request, assignment, held.record)
        except _OUTCOMES as error:
            code, message = on_wire(error).number, str(error)
            return _ended(operation, msgspec.structs.replace(fresh, error_code=code, error_message=message)), error
        if wanted.csr is not None and not is_of(wanted.issued_to, kept.identity):
            return KeptRegistration(operation, before=held.held.identity, lacks=kept.identity), None
        is_by_certificate = bool(wanted.issued) or is_by_issued(held)
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
            is_by_issued=is_by_certificate,
            wants_trust_bundle=wanted.request.wants_trust_bundle,
            claimed="",
            authentication_key=b"" if wanted.hub_key is None or is_by_certificate else wanted.hub_key.blob,
        )
        return _ended(operation, assigned)._replace(identity=kept, before=held.held.identity), None

    async def _allocated(self, attempt: Attempt, record: Registration | None, link: LinkInfo) -> Assignment:
        """Raises NoHub, AllocationFailed."""
        enrolment, credential, request = attempt.enrolment, attempt.credential, attempt.request
        if record is not None and record.hub and not may_move(enrolment, request):
            return Assignment(record.hub, enrolment.initial_twin)
        if self._allocation.policy(enrolment) == "custom":
            question = AllocationQuestion(enrolment, credential, request, record, (), self._clock.now())
            answer = await self._allocation.ask(question)
            if answer.initial_twin is None:
                return Assignment(answer.hub, enrolment.initial_twin, answer.payload)
            self._check_twin(attempt.device_id, answer.initial_twin)
            return Assignment(answer.hub, answer.initial_twin, answer.payload)
        source = link.peer.rpartition(":")[0]
        hub = self._allocation.choose(enrolment, credential.registration_id, source)
        return Assignment(hub, enrolment.initial_twin)

    def _check_twin(self, device_id: str, wanted: Json) -> None:
        try:
            self._initial_twin(device_id, wanted).fresh()
        except HubError as error:
            raise AllocationFailed(reason=f"the initialTwin of the answer cannot be taken: {error.reason}") from None

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
            authentication_key=b"",
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
        raise Forbidden(
            cause="registration-of-another", reason=f"the credential is not of the registration {registration_id!r}"
        )
    return credential


def _device_id(enrolment: Enrolment, credential: RegistrationCredential, record: Registration | None) -> str:
    """As it stands in the enrolment; a group's device keeps the spelling of its first registration."""
    if not enrolment.is_group:
        return enrolment.device_id or enrolment.id
    if record is not None and record.device_id and record.enrolment == enrolment.key:
        return record.device_id
    return credential.registration_id


def _ended(operation: RegistrationOperation, registration: Registration) -> KeptRegistration:
    return KeptRegistration(msgspec.structs.replace(operation, registration=registration))
