"""Many identities in one request: import modes, partial success, key rotation. Source: service-protocols 2.6, 2.15."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from hubkeep.errors import (
    BadRequest,
    DefinedMultipleTimes,
    DeviceAlreadyExists,
    DeviceNotFound,
    HubError,
    ModuleAlreadyExists,
    ModuleNotFound,
    PreconditionFailed,
    TooManyModules,
)
from hubkeep.limits import Limits
from hubkeep.model import Identity, IdentityChange, Twin
from hubkeep.ports import Bus, Held, IdentityEdit, IdentityStore, Kept, TwinEdit

from .identities import SCOPE, Identities, check_ids, checked
from .keys import new_key

Outcome = Identity | None | HubError  # as it is now; None: deleted


class ImportMode(NamedTuple):
    """creates, changes: an identity that is not there, that is there. matches: only under the etag that is given."""

    name: str
    creates: bool = False
    changes: bool = False
    deletes: bool = False
    is_of_twin: bool = False
    matches: bool = False


_MODES: Final[Mapping[str, ImportMode]] = {
    mode.name.lower(): mode
    for mode in (
        ImportMode("create", creates=True),
        ImportMode("createOrUpdate", creates=True, changes=True),
        ImportMode("createOrUpdateIfMatchETag", creates=True, changes=True, matches=True),
        ImportMode("update", changes=True),
        ImportMode("updateIfMatchETag", changes=True, matches=True),
        ImportMode("delete", deletes=True),
        ImportMode("deleteIfMatchETag", deletes=True, matches=True),
        ImportMode("updateTwin", is_of_twin=True),
        ImportMode("updateTwinIfMatchETag", is_of_twin=True, matches=True),
    )
}


IMPORT_MODES: Final = tuple(mode.name for mode in _MODES.values())


def import_mode(text: str | None) -> ImportMode:
    """The mode of this name in any case; none given means ``createOrUpdate``. Raises BadRequest."""
    mode = _MODES.get((text or "createOrUpdate").lower())
    if mode is None:
        raise BadRequest(f"The import modes are: {', '.join(IMPORT_MODES)}.")
    return mode


class BulkRecord(NamedTuple):
    """wanted: what is to be there; its ids alone count where the mode deletes or is of the twin.

    etag: a stored one, ``*`` for any; looked at only if the mode matches. keep_authentication: the record says nothing
    of it. twin: None: the record says nothing of it.
    """

    wanted: Identity
    mode: ImportMode
    etag: str = ""
    keep_authentication: bool = False
    twin: TwinEdit | None = None


class BulkItem(NamedTuple):
    """One record as it came, as far as it can be read. asked: what it asks for, or why it is refused."""

    device_id: str
    module_id: str
    mode: str
    asked: BulkRecord | HubError


class BulkIdentities:
    """Records are carried out one by one, each whole or not at all, in one transaction."""

    def __init__(self, identities: Identities, store: IdentityStore, bus: Bus, limits: Limits) -> None:
        self._identities, self._store, self._bus, self._limits = identities, store, bus, limits

    async def apply(self, records: Sequence[BulkRecord]) -> Sequence[Outcome]:
        """What became of each record. A record whose identity is named twice is refused, and so is its other.

        Raises StoreUnavailable: then nothing was written.
        """
        return await self._edit([(record.wanted, self._prepared(record), record.twin) for record in records])

    async def carry_out(self, items: Sequence[BulkItem]) -> Sequence[Outcome]:
        """``apply`` for what can be read; the others' outcome is their refusal."""
        outcomes: list[Outcome] = [item.asked if isinstance(item.asked, HubError) else None for item in items]
        asked = [(place, item.asked) for place, item in enumerate(items) if isinstance(item.asked, BulkRecord)]
        for (place, _), outcome in zip(asked, await self.apply([each for _, each in asked]), strict=True):
            outcomes[place] = outcome
        return outcomes

    async def regenerate(self, names: Sequence[tuple[str, str]], which: "KeyChoice") -> Sequence[Outcome]:
        """New keys for these devices and modules (id, module id). Raises StoreUnavailable: then no key has changed."""

        def edit(held: Held) -> Kept:
            if held.identity is None:
                raise ModuleNotFound if held.has_device else DeviceNotFound
            stored = held.identity
            if stored.authentication != "sas":
                raise BadRequest("This identity does not authenticate by symmetric keys.")
            return Kept(self._identities.updated(stored, _rotated(stored, which)))

        wanted = [Identity(device_id=device, module_id=module) for device, module in names]
        return await self._edit([(each, _checked(each, edit), None) for each in wanted])

    async def page(self, after: str, most: int) -> Sequence[tuple[Identity, Twin]]:
        """All devices and modules with their twins, by id. after: the name of the last one that is known already."""
        device_id, _, module_id = after.partition("/")
        return await self._store.page(most, (device_id, module_id))

    def _prepared(self, record: BulkRecord) -> "_Edit | HubError":
        """What may be refused without a look at what is stored is refused here, outside the transaction."""
        wanted, mode = record.wanted, record.mode
        try:
            changed = wanted
            if mode.deletes or mode.is_of_twin or record.keep_authentication:
                check_ids(wanted)
            else:
                changed = checked(wanted)  # once: what is created and what replaces are the same
        except HubError as error:
            return error

        def edit(held: Held) -> Kept:
            if held.identity is None:
                return self._created(record, changed, held)
            stored = held.identity
            if not (mode.changes or mode.deletes or mode.is_of_twin):
                raise ModuleAlreadyExists if stored.module_id else DeviceAlreadyExists
            if mode.matches and not mode.is_of_twin and record.etag not in {"*", stored.etag}:
                raise PreconditionFailed
            if mode.deletes:
                return Kept(None)
            change = None
            if record.twin is not None:
                assert held.twin is not None, "it was asked for"
                change = record.twin.change(held.twin)
            if mode.is_of_twin:
                return Kept(stored, change=change)
            identity = self._identities.updated(stored, changed, keep_authentication=record.keep_authentication)
            return Kept(identity, None, self._system_modules(identity), change)

        return edit

    def _created(self, record: BulkRecord, changed: Identity, held: Held) -> Kept:
        is_module = bool(changed.module_id)
        if is_module and not held.has_device:
            raise DeviceNotFound
        if not record.mode.creates:
            raise ModuleNotFound if is_module else DeviceNotFound
        if is_module and held.siblings >= self._limits.modules_per_device:
            raise TooManyModules(remedy="delete some, or raise limits.modules_per_device")
        self._identities.check_room(held.of_hub, changed)
        make = self._identities.fresh if record.keep_authentication else self._identities.made
        identity = _moved(make(changed), changed.device_scope)
        return Kept(identity, record.twin and record.twin.fresh(), self._system_modules(identity))

    def _system_modules(self, identity: Identity) -> Sequence[Identity]:
        return self._identities.system_modules(identity) if identity.iot_edge else ()

    async def _edit(self, asked: "Sequence[tuple[Identity, _Edit | HubError, TwinEdit | None]]") -> Sequence[Outcome]:
        """Runs to its end even if its caller is gone: links of what was disabled or deleted must be cut."""
        return await asyncio.shield(asyncio.ensure_future(self._carried_out(asked)))

    async def _carried_out(
        self, asked: "Sequence[tuple[Identity, _Edit | HubError, TwinEdit | None]]"
    ) -> Sequence[Outcome]:
        times = Counter((wanted.device_id, wanted.module_id) for wanted, _, _ in asked)
        outcomes: list[Outcome] = []
        edits: list[IdentityEdit] = []
        places: list[tuple[int, TwinEdit | None]] = []
        for place, (wanted, edit, twin) in enumerate(asked):
            if times[wanted.device_id, wanted.module_id] > 1:
                edit = DefinedMultipleTimes()  # noqa: PLW2901  # whatever else is wrong with it
            outcomes.append(edit if isinstance(edit, HubError) else None)
            if not isinstance(edit, HubError):
                edits.append(IdentityEdit(wanted.device_id, wanted.module_id, edit, twin is not None))
                places.append((place, twin))
        if not edits:
            return outcomes
        async with self._identities.creating:
            results = await self._store.edit(edits)
        created: list[Identity] = []
        for (place, twin), result in zip(places, results, strict=True):
            if isinstance(result, HubError):
                outcomes[place] = result
                continue
            held, kept = result
            outcomes[place] = kept.identity
            self._tell(held, kept, twin)
            if held.identity is None and kept.identity is not None:
                created += (kept.identity, *kept.modules)
        if created:
            self._identities.tell_created(created)
        return outcomes

    def _tell(self, held: Held, kept: Kept, twin: TwinEdit | None) -> None:
        before = held.identity
        if before is None:
            return
        if kept.identity is None:
            self._bus.publish("identity.changed", IdentityChange(before.device_id, before.module_id, "deleted"))
            return
        self._identities.tell(before, kept.identity)
        if twin is not None and kept.change is not None:
            twin.told(kept.change)


KeyChoice = Literal["primaryKey", "secondaryKey", "both", "swap"]
_Edit = Callable[[Held], Kept]


def _moved(identity: Identity, scope: str) -> Identity:
    """An edge device that comes with its scope from elsewhere keeps it: the devices below it name it.

    The generation id is a part of the scope, so that is kept as well.
    """
    generation_id = scope.removeprefix(f"{SCOPE}{identity.device_id}-")
    if not identity.iot_edge or not (generation_id.isdigit() and generation_id.isascii() and len(generation_id) <= 20):
        return identity
    return msgspec.structs.replace(identity, device_scope=scope, generation_id=generation_id)


def _checked(wanted: Identity, edit: _Edit) -> "_Edit | HubError":
    try:
        check_ids(wanted)
    except HubError as error:
        return error
    return edit


def _rotated(stored: Identity, which: KeyChoice) -> Identity:
    primary, secondary = stored.primary_key, stored.secondary_key
    if which == "swap":
        primary, secondary = secondary, primary
    if which in {"primaryKey", "both"}:
        primary = new_key()
    if which in {"secondaryKey", "both"}:
        secondary = new_key()
    return msgspec.structs.replace(stored, primary_key=primary, secondary_key=secondary)
