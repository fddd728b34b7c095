"""Stores of identities and their twins, and what their changes tell."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from hubkeep.errors import HubError
from hubkeep.model import (
    EventSource,
    HubEvent,
    Identity,
    Job,
    JobPart,
    Narrowing,
    Twin,
    TwinChange,
    TwinPart,
)


class IdentityCount(NamedTuple):
    """Devices, those that are enabled and so on. modules: of all of them."""

    total: int
    enabled: int
    disabled: int
    connected: int
    modules: int = 0


class Activity(NamedTuple):
    """One change of connection state or last activity; times in Unix seconds."""

    device_id: str
    module_id: str
    connected: bool | None  # None: unchanged
    at: float
    turned: bool = False  # it was the other way in between

    def after(self, before: "Activity | None") -> "Activity":
        """This change and the one before it as one, if that told of a connection state."""
        if before is None or before.connected is None:
            return self
        connected = before.connected if self.connected is None else self.connected
        turned = self.turned or before.turned or connected is not before.connected
        return self._replace(connected=connected, turned=turned)


class Held(NamedTuple):
    """What the registry holds of one identity. twin: only if the edit asked for it.

    siblings: modules of the device, if it is one; else 0. has_device: the device is registered, or the module's is.
    of_hub: devices and modules in all.
    """

    identity: Identity | None
    twin: Twin | None
    siblings: int
    has_device: bool
    of_hub: int


class Kept(NamedTuple):
    """What it is to hold. identity: None for none, a device's modules then go with it.

    twin: of one that is made; None: fresh. modules: made with it, where they are not there already. change: of the twin
    of one that was there; None: it stays.
    """

    identity: Identity | None
    twin: Twin | None = None
    modules: Sequence[Identity] = ()
    change: TwinChange | None = None


class IdentityEdit(NamedTuple):
    """One of many changes. edit: pure; what it raises leaves this identity as it was."""

    device_id: str
    module_id: str
    edit: Callable[[Held], Kept]
    wants_twin: bool = False


class TwinEdit(NamedTuple):
    """What a change of an identity does to its twin. fresh: the twin of one that is made.

    change: pure; raises HubError. told: called once the change is durable.
    """

    fresh: Callable[[], Twin]
    change: Callable[[Twin], TwinChange]
    told: Callable[[TwinChange], None]


class IdentityStore(Protocol):
    """Device and module identities. Keys arrive and leave unsealed; at rest they are sealed."""

    async def get(self, device_id: str, module_id: str = "") -> Identity | None: ...

    async def create(self, *identities: Identity) -> None:
        """All or none. Raises DeviceAlreadyExists, ModuleAlreadyExists; DeviceNotFound for a module without device."""

    async def modules(self, device_id: str) -> Sequence[Identity]:
        """The modules of a device by id; empty when there is none."""

    async def replace(self, identity: Identity, etag: str | None) -> bool:
        """Replace the writable fields where the stored etag is ``etag`` (None: any). False: absent or another etag."""

    async def delete(self, device_id: str, module_id: str, etag: str | None) -> bool:
        """Delete (a device with its modules) where the etag is ``etag`` (None: any). False: absent or another etag."""

    async def edit(self, edits: Sequence[IdentityEdit]) -> Sequence[tuple[Held, Kept] | HubError]:
        """Carry out each edit or its refusal, in their order, in one transaction; durable on return.

        No identity is named twice. An edit sees what those before it did. Raises StoreUnavailable: nothing was written.
        """

    async def list(self, top: int, after: str = "") -> Sequence[Identity]:
        """Devices (no modules) by id, at most ``top``, whose id sorts after ``after``."""

    async def page(self, most: int, after: tuple[str, str] = ("", "")) -> Sequence[tuple[Identity, Twin]]:
        """Devices, each before its modules, with their twins, by id and behind ``after`` (device, module)."""

    async def count(self) -> IdentityCount:
        """Devices by status, and how many are connected."""

    async def record_activity(self, changes: Iterable[Activity]) -> None:
        """Write connection state and last activity in one transaction. Unknown identities are passed over."""

    async def disconnect_all(self, at: float) -> None:
        """Every identity is disconnected: at the start of a hub that nobody can be connected to yet."""


class TwinStore(Protocol):
    """Twins live and die with their identities: a new identity has a fresh one."""

    async def get(self, device_id: str, module_id: str = "") -> Twin | None:
        """The newest durable state. None: no such identity."""

    async def change(
        self,
        device_id: str,
        module_id: str,
        change: Callable[[Twin], TwinChange],
        committed: Callable[[TwinChange], None],
    ) -> Twin | None:
        """Read, ``change`` and write as one step, durable on return; None: no such identity.

        committed: called in the order in which changes were made, even if the caller is gone. Raises what ``change``
        raises, and StoreUnavailable: then nothing was written.
        """


class ChangeEvents(Protocol):
    """What the hub tells of changes in the registry. Stores write it in the transaction of the change: none is lost.

    Everything here is pure, raises nothing, and answers with nothing where nobody wants to hear.
    """

    def wants(self, source: EventSource) -> bool: ...

    def created(self, twins: Iterable[Twin]) -> Sequence[HubEvent]:
        """Identities were made, with these twins."""

    def deleted(self, twins: Iterable[Twin], connected: Iterable[tuple[str, str]] = ()) -> Sequence[HubEvent]:
        """Identities are no more; so were their twins. connected: those of them that were (device id, module id)."""

    def twin_changed(self, before: Twin, change: TwinChange) -> Sequence[HubEvent]: ...

    def connections_turned(self, turns: Iterable[Activity]) -> Sequence[HubEvent]:
        """Connection states, as they are now."""

    def job_parts_changed(self, parts: Iterable[tuple[Job, JobPart]]) -> Sequence[HubEvent]:
        """Parts of jobs, as they are now."""


class EventOutbox(Protocol):
    """Events that are durable beside what they tell of, and wait to be passed on. wake: called when there are new ones.

    An event is kept until it is forgotten: whoever passes it on may do so twice, never not at all.
    """

    wake: Callable[[], None]

    async def waiting(self, after: int, most: int) -> Sequence[HubEvent]:
        """By number, behind ``after``."""

    async def forget(self, numbers: Sequence[int]) -> None: ...


class EventSourceStore(Protocol):
    """The sources that were switched on while the hub ran. What is stored is durable when the call returns."""

    async def all(self) -> Sequence[str]: ...

    async def put(self, source: EventSource, *, is_on: bool) -> None: ...


class FleetRow(NamedTuple):
    """identity: without its keys. twin: the parts that were asked for, the others empty."""

    identity: Identity
    twin: Twin


class FleetStore(Protocol):
    """All twins with their identities, for queries."""

    async def rows(
        self,
        narrowings: Sequence[Narrowing],
        *,
        modules: bool,
        parts: frozenset[TwinPart],
        after: tuple[str, str],
        most: int,
    ) -> Sequence[FleetRow]:
        """Devices, or modules, that meet all ``narrowings``, by id and behind ``after`` (device, module).

        A row that does not meet them may be among the rows, one that does is never missing: the caller judges.
        Fewer than ``most`` rows mean that there are no more. What was written before the call is seen.
        """

    async def count(self, *, modules: bool) -> int:
        """All devices, or all modules."""
