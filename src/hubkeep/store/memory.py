"""The identity store in memory, for tests of the rules. It is held to the same contract as the one on disk."""

from collections.abc import Iterable, Sequence

import msgspec

from hubkeep.errors import DeviceAlreadyExists, DeviceNotFound, HubError, ModuleAlreadyExists
from hubkeep.model import Identity, Twin
from hubkeep.ports import Activity, Held, IdentityCount, IdentityEdit, Kept


class MemoryIdentities:
    """See ports.IdentityStore."""

    def __init__(self) -> None:
        self._identities: dict[tuple[str, str], Identity] = {}

    async def get(self, device_id: str, module_id: str = "") -> Identity | None:
        return self._identities.get((device_id, module_id))

    async def create(self, *identities: Identity) -> None:
        after = dict(self._identities)
        for identity in identities:
            key = (identity.device_id, identity.module_id)
            if identity.module_id and (identity.device_id, "") not in after:
                raise DeviceNotFound
            if key in after:
                raise ModuleAlreadyExists if identity.module_id else DeviceAlreadyExists
            after[key] = identity
        self._identities = after

    async def modules(self, device_id: str) -> Sequence[Identity]:
        return [self._identities[key] for key in sorted(self._identities) if key[0] == device_id and key[1]]

    async def replace(self, identity: Identity, etag: str | None) -> bool:
        key = (identity.device_id, identity.module_id)
        stored = self._identities.get(key)
        if stored is None or (etag is not None and stored.etag != etag):
            return False
        self._identities[key] = msgspec.structs.replace(
            identity,
            generation_id=stored.generation_id,
            connected=stored.connected,
            connection_updated=stored.connection_updated,
            last_activity=stored.last_activity,
        )
        return True

    async def delete(self, device_id: str, module_id: str, etag: str | None) -> bool:
        stored = self._identities.get((device_id, module_id))
        if stored is None or (etag is not None and stored.etag != etag):
            return False
        for key in [
            each for each in self._identities if each[0] == device_id and (not module_id or each[1] == module_id)
        ]:
            del self._identities[key]
        return True

    async def edit(self, edits: Sequence[IdentityEdit]) -> Sequence[tuple[Held, Kept] | HubError]:
        outcomes: list[tuple[Held, Kept] | HubError] = []
        for each in edits:
            held = self._held(each)
            try:
                kept = each.edit(held)
            except HubError as error:
                outcomes.append(error)
                continue
            if kept.identity is None:
                await self.delete(each.device_id, each.module_id, None)
            else:
                self._identities[each.device_id, each.module_id] = kept.identity
            for module in kept.modules:
                self._identities.setdefault((module.device_id, module.module_id), module)
            outcomes.append((held, kept))
        return outcomes

    def _held(self, edit: IdentityEdit) -> Held:
        """This store keeps no twins: those that it is asked for are fresh."""
        key = edit.device_id, edit.module_id
        stored = self._identities.get(key)
        has_twin = edit.wants_twin and stored is not None
        modules = sum(device == edit.device_id and bool(module) for device, module in self._identities)
        return Held(
            identity=stored,
            twin=Twin(device_id=edit.device_id, module_id=edit.module_id) if has_twin else None,
            siblings=modules if edit.module_id else 0,
            has_device=(edit.device_id, "") in self._identities,
            of_hub=len(self._identities),
        )

    async def list(self, top: int, after: str = "") -> Sequence[Identity]:
        devices = sorted(device for device, module in self._identities if not module and device > after)
        return [self._identities[device, ""] for device in devices[:top]]

    async def page(self, most: int, after: tuple[str, str] = ("", "")) -> Sequence[tuple[Identity, Twin]]:
        keys = sorted(key for key in self._identities if key > after)[:most]
        return [(self._identities[key], Twin(device_id=key[0], module_id=key[1])) for key in keys]

    async def count(self) -> IdentityCount:
        devices = [each for each in self._identities.values() if not each.module_id]
        enabled = sum(each.status == "enabled" for each in devices)
        connected, modules = sum(each.connected for each in devices), len(self._identities) - len(devices)
        return IdentityCount(len(devices), enabled, len(devices) - enabled, connected, modules)

    async def record_activity(self, changes: Iterable[Activity]) -> None:
        for change in changes:
            key = (change.device_id, change.module_id)
            if (stored := self._identities.get(key)) is not None:
                changed = msgspec.structs.replace(stored, last_activity=max(change.at, stored.last_activity))
                if change.connected is not None:
                    changed = msgspec.structs.replace(changed, connected=change.connected, connection_updated=change.at)
                self._identities[key] = changed

    async def disconnect_all(self, at: float) -> None:
        for key, stored in self._identities.items():
            if stored.connected:
                self._identities[key] = msgspec.structs.replace(stored, connected=False, connection_updated=at)
