"""Stores of the provisioning service."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from hubkeep.model import (
    Enrolment,
    EnrolmentKey,
    Identity,
    Json,
    LinkedHub,
    RegisterRequest,
    Registration,
    RegistrationCredential,
    RegistrationOperation,
    Status,
)

from .identities import Held, Kept


class EnrolmentCount(NamedTuple):
    individuals: int
    groups: int


class EnrolmentCondition(NamedTuple):
    """What a query asks for. None: any. id: in any case."""

    id: str | None = None
    status: Status | None = None


class EnrolmentStore(Protocol):
    """Enrolments. Keys arrive and leave unsealed; at rest they are sealed. Durable when the call returns."""

    async def fact(self, name: str, value: str) -> str:
        """What is stored under ``name``; ``value`` if nothing was."""

    async def get(self, key: EnrolmentKey) -> Enrolment | None: ...

    async def groups(self) -> Sequence[Enrolment]: ...

    async def change(
        self, key: EnrolmentKey, edit: Callable[[Enrolment | None, EnrolmentCount], Enrolment | None]
    ) -> Enrolment | None:
        """Read, ``edit`` and write as one step; None: there is none, or is none any more.

        Raises what ``edit`` raises; EnrolmentExists: what may belong to one enrolment alone is another's.
        """

    async def page(self, is_group: bool, condition: EnrolmentCondition, after: str, most: int) -> Sequence[Enrolment]:
        """By id in lower case, behind ``after``."""


class LinkedHubStore(Protocol):
    """Hubs beside this one. Connection strings arrive and leave unsealed; at rest they are sealed."""

    async def all(self) -> Sequence[LinkedHub]: ...

    async def put(self, hub: LinkedHub) -> None:
        """Make it, or replace the one of its name."""

    async def remove(self, name: str) -> None: ...


class OtherHubs(Protocol):
    """Identities and twins at linked hubs. Everything raises AllocationFailed, HubNotAuthorized."""

    async def identity(self, hub: LinkedHub, device_id: str) -> Json | None:
        """As that hub tells it."""

    async def create(self, hub: LinkedHub, device_id: str, credentials: dict[str, Any], *, iot_edge: bool) -> None:
        """credentials: fields of an Identity."""

    async def update(self, hub: LinkedHub, found: Json, credentials: dict[str, Any], *, iot_edge: bool) -> None:
        """found: as ``identity`` told it, which must still be so."""

    async def twin(self, hub: LinkedHub, device_id: str) -> Json | None:
        """Tags and desired properties, in the form of an initialTwin."""

    async def put_twin(self, hub: LinkedHub, device_id: str, twin: Json) -> None:
        """In place of tags and desired properties."""

    async def delete(self, hub: LinkedHub, device_id: str) -> None:
        """It may be gone already."""


class HeldRegistration(NamedTuple):
    """What is stored when a registration is settled. owner: the enrolment that made the identity, None for people.

    members: identities that the enrolment made, if it is a group.
    """

    held: Held
    record: Registration | None
    owner: EnrolmentKey | None
    members: int


class KeptRegistration(NamedTuple):
    """What is to be stored. identity: None leaves it as it is. before: the identity as it was.

    lacks: what the identity would be, were there a certificate for it: nothing is stored.
    """

    operation: RegistrationOperation
    identity: Kept | None = None
    before: Identity | None = None
    lacks: Identity | None = None


class AllocationQuestion(NamedTuple):
    """Which of ``hubs`` (host names) a device is to go to. record: how it is known already. at: Unix seconds."""

    enrolment: Enrolment
    credential: RegistrationCredential
    request: RegisterRequest
    record: Registration | None
    hubs: Sequence[str]
    at: float


class AllocationAnswer(NamedTuple):
    """As it came: nothing of it is checked. payload: for the device."""

    hub: str
    initial_twin: Json | None
    payload: Any


class AskAllocation(Protocol):
    async def __call__(self, question: AllocationQuestion) -> AllocationAnswer:
        """Bounded in time and size. Raises AllocationFailed."""


class RegistrationStore(Protocol):
    """Registration records (any case of their id), and attempts. Durable when the call returns."""

    async def put_operation(self, operation: RegistrationOperation) -> None:
        """The attempt alone."""

    async def open_operations(self, begun_before: float, most: int) -> Sequence[RegistrationOperation]:
        """Those that have not ended, the oldest first."""

    async def get(self, registration_id: str) -> Registration | None: ...

    async def owner(self, device_id: str) -> EnrolmentKey | None:
        """The enrolment that made the identity."""

    async def operation(self, operation_id: str) -> RegistrationOperation | None: ...

    async def settle(
        self,
        registration_id: str,
        device_id: str,
        enrolment: EnrolmentKey,
        settle: Callable[[HeldRegistration], KeptRegistration],
    ) -> KeptRegistration:
        """Identity, record and attempt in one transaction; an identity that is kept belongs to ``enrolment``.

        Raises what ``settle`` raises: then nothing was written.
        """

    async def put(self, record: Registration, operation: RegistrationOperation | None = None) -> None:
        """A record whose identity is not of this hub, and the attempt, in one transaction."""

    async def members(self, group: EnrolmentKey) -> int:
        """Devices with a record of this group."""

    async def remove(self, registration_id: str, etag: str | None) -> bool:
        """Where the etag is ``etag`` (None: any). False: absent or another etag."""

    async def page(self, group_id: str, after: str, most: int) -> Sequence[Registration]:
        """Of one group, by id in lower case, behind ``after``."""

    async def forget_operations(self, begun_before: float) -> None: ...
