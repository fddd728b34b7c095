"""Devices that are assigned to another hub: their identity is made there, over that hub's own API.

No transaction spans two hubs. What is begun at another hub is claimed in the record before, so that an attempt which
was cut short is carried on by the next one, and nothing that somebody else made there is taken over. What a device
leaves behind is deleted once it is assigned. Source: provisioning-and-pki 1.3 (step 8), 2.5.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from hubkeep.errors import DeviceNotFound, HubError, IdentityOfAnother
from hubkeep.model import Enrolment, Json, LinkedHub, LinkInfo, Registration, RegistrationOperation, ReprovisionPolicy
from hubkeep.ports import Clock, OtherHubs, RecordRefusal, RegistrationStore

from ..identities import Identities
from . import symmetric_key, tpm, x509
from .hub_identities import Attempt, check_admission
from .linked_hubs import LinkedHubs
from .reprovisioning import Assignment, substatus

_OPERATION = "registrations/register"


class Elsewhere:
    """own_twin: tags and desired properties of a device of this hub, in the form of an initialTwin; None: no device."""

    def __init__(
        self,
        linked: LinkedHubs,
        others: OtherHubs,
        store: RegistrationStore,
        identities: Identities,
        own_twin: Callable[[str], Awaitable[Json | None]],
        clock: Clock,
        refuse: RecordRefusal,
    ) -> None:
        self._linked, self._others, self._store, self._identities = linked, others, store, identities
        self._own_twin, self._clock, self._refuse = own_twin, clock, refuse

    def concerns(self, record: Registration | None) -> bool:
        """Whether a registration may have to do with another hub, which takes its time."""
        return bool(self._linked.all()) or (record is not None and bool(record.claimed))

    def hub(self, assignment: Assignment | HubError) -> LinkedHub | None:
        """The other hub that a device is assigned to; None for this one."""
        return self._linked.other(assignment.hub) if isinstance(assignment, Assignment) else None

    async def migrated(self, enrolment: Enrolment, assignment: Assignment, record: Registration | None) -> Assignment:
        """With the twin that the device had, if it moves between hubs and may keep it. Raises AllocationFailed."""
        policy = enrolment.reprovision or ReprovisionPolicy()
        if record is None or not record.hub or not policy.migrate_device_data or record.enrolment != enrolment.key:
            return assignment
        is_move = assignment.hub.lower() != record.hub.lower()
        before, after = self._linked.other(record.hub), self._linked.other(assignment.hub)
        if not is_move or (before is None and after is None):
            return assignment
        if before is not None:
            twin = await self._others.twin(before, record.device_id)
        else:
            twin = await self._own_twin(record.device_id)
        if twin is None and record.claimed.lower() == assignment.hub.lower():
            return assignment._replace(initial_twin=None)  # it came there with an attempt that was cut short
        return assignment if twin is None else assignment._replace(initial_twin=twin)

    async def carried_out(
        self,
        attempt: Attempt,
        assignment: Assignment,
        hub: LinkedHub,
        record: Registration | None,
        fresh: Registration,
        link: LinkInfo,
    ) -> RegistrationOperation:
        """The attempt as it ended, stored. fresh: the record as a failure leaves it.

        Raises IdentityOfAnother, NotAdmitted, AllocationFailed, HubNotAuthorized: then the record is not changed but
        for what it claims. Raises StoreUnavailable.
        """
        device_id, enrolment = attempt.device_id, attempt.enrolment
        is_known = record is not None and bool(record.hub) and record.enrolment == enrolment.key
        members = await self._store.members(enrolment.key) if enrolment.is_group else 0
        check_admission(enrolment, attempt.credential, self._clock.now(), is_in=is_known, members=members)
        told = substatus(enrolment, attempt.request, assignment, record)
        await self._place(attempt, assignment, hub, record, fresh)
        blob = b"" if attempt.hub_key is None else attempt.hub_key.blob
        assigned = msgspec.structs.replace(
            fresh,
            status="assigned",
            substatus=told,
            hub=assignment.hub,
            initial_hub=fresh.initial_hub or assignment.hub,
            device_id=device_id,
            payload=assignment.payload,
            authentication_key=blob,
            is_by_issued=False,
            wants_trust_bundle=attempt.request.wants_trust_bundle,
            claimed="",
        )
        operation = msgspec.structs.replace(attempt.operation, registration=assigned, if_lost=None)
        await self._store.put(assigned, operation)
        await self.left(record, assigned, link)
        return operation

    async def left(self, record: Registration | None, now: Registration, link: LinkInfo) -> None:
        """Delete what the device had at the hubs that it comes from. What cannot be is recorded for the operator."""
        if record is None or record.enrolment != now.enrolment:
            return
        hub, device_id = now.hub, now.device_id
        for host in {record.hub.lower(), record.claimed.lower()} - {hub.lower(), ""}:
            before = self._linked.other(host)
            try:
                if before is not None:
                    await self._others.delete(before, record.device_id or device_id)
                elif self._linked.is_own(host) and not self._linked.is_own(hub):
                    await self._remove_own(record)
            except DeviceNotFound:
                continue
            except HubError as error:
                name = record.device_id or device_id
                left = f"{name} is at {hub} now, and could not be deleted at {host}: {error.reason}"
                told = type(error)(reason=left, remedy=f"delete the identity at {host}")
                self._refuse(told, link, identity=record.registration_id, operation=_OPERATION)

    async def _remove_own(self, record: Registration) -> None:
        if await self._store.owner(record.device_id) == record.enrolment:
            await self._identities.delete(record.device_id)

    async def _place(
        self, attempt: Attempt, assignment: Assignment, hub: LinkedHub, record: Registration | None, fresh: Registration
    ) -> None:
        """Make the identity, or make it over."""
        device_id, credentials = attempt.device_id, _credentials(attempt)
        edge, twin = attempt.enrolment.iot_edge, assignment.initial_twin
        found = await self._others.identity(hub, device_id)
        if found is None:
            await self._store.put(msgspec.structs.replace(fresh, claimed=hub.host_name))
            await self._others.create(hub, device_id, credentials, iot_edge=edge)
        else:
            places = {record.hub.lower(), record.claimed.lower()} if record is not None else set()
            is_ours = record is not None and record.enrolment == attempt.enrolment.key
            if not is_ours or hub.host_name.lower() not in places:
                raise IdentityOfAnother(
                    reason=f"the identity {device_id} at {hub.host_name} was not made by {attempt.enrolment.key}",
                    remedy=f"delete {device_id} at {hub.host_name}, if it is to be provisioned",
                )
            await self._others.update(hub, found, credentials, iot_edge=edge)
            if record is not None and record.hub.lower() == hub.host_name.lower():
                return  # it stays, and its twin with it
        if twin is not None:
            await self._others.put_twin(hub, device_id, twin)


def _credentials(attempt: Attempt) -> dict[str, Any]:
    """What opens the identity. This hub's authorities are none of another's: a certificate goes by its thumbprint."""
    if attempt.credential.attestation == "symmetricKey":
        return symmetric_key.at_the_hub(attempt.enrolment, attempt.credential.key_id)
    if attempt.hub_key is not None:
        return tpm.at_the_hub(attempt.hub_key.key)
    return x509.at_the_hub(attempt.enrolment, attempt.credential, attempt.device_id, ())
