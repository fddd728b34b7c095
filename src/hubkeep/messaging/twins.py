"""Device and module twins: read, reported by the device, written by back ends. Source: service-protocols 2.5.

Every change is one step in the store, so that changes from many sides all apply, each with a version of its own. Once
it is durable it is told on the bus, in the order of versions: the desired part to the device's own subject, the whole
as ``twin.changed`` to whoever routes it.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from hubkeep.errors import BadRequest, DeviceNotFound, HubError, ModuleNotFound, PreconditionFailed
from hubkeep.limits import Limits
from hubkeep.model import DesiredPatch, Json, Twin, TwinChange, fresh_section, time_stamp
from hubkeep.ports import Bus, Clock, TwinEdit, TwinStore, desired_subject

from .twin_sections import check_size, checked, difference, merged, patched, replaced, with_vanished

_ANY: Final = "*"


class Twins:
    """The rules of twins. ``module_id`` is empty for a device; ``etag`` is a stored one, or ``*`` for any."""

    def __init__(self, store: TwinStore, bus: Bus, clock: Clock, limits: Limits) -> None:
        self._store, self._bus, self._clock, self._limits = store, bus, clock, limits

    async def get(self, device_id: str, module_id: str = "") -> Twin:
        """Raises DeviceNotFound, ModuleNotFound."""
        twin = await self._store.get(device_id, module_id)
        if twin is None:
            raise await self._absent(device_id, module_id)
        return twin

    async def report(self, device_id: str, module_id: str, value: Any, version: int | None = None) -> Twin:
        """The device's patch of its reported properties; ``version``: only if that is the stored version.

        Raises BadRequest, PreconditionFailed, DeviceNotFound, ModuleNotFound, StoreUnavailable: nothing was written.
        """
        patch = checked("reported", value, self._limits)

        def change(twin: Twin) -> TwinChange:
            if version is not None and version != twin.reported.version:
                raise PreconditionFailed("The version is not the current one of the reported properties.").by("L-D3")
            reported = patched(twin.reported, patch, self._stamp(), versions=False)
            check_size("reported", reported.properties, self._limits.twin_properties)
            twin = msgspec.structs.replace(twin, reported=reported, version=twin.version + 1)
            return TwinChange(operation="updateTwin", twin=twin, reported=patch)

        return await self._change(device_id, module_id, change)

    async def update(
        self, device_id: str, module_id: str = "", *, tags: Any = None, desired: Any = None, etag: str = _ANY
    ) -> Twin:
        """A back end's patch of tags, desired properties, or both; None leaves a part alone.

        Raises BadRequest, PreconditionFailed, DeviceNotFound, ModuleNotFound, StoreUnavailable: nothing was written.
        """
        tags_patch = None if tags is None else checked("tags", tags, self._limits)
        desired_patch = None if desired is None else checked("desired", desired, self._limits)
        if tags_patch is None and desired_patch is None:
            twin = await self.get(device_id, module_id)
            _check_etag(twin, etag)
            return twin

        def change(twin: Twin) -> TwinChange:
            _check_etag(twin, etag)
            if tags_patch is not None:
                twin = msgspec.structs.replace(twin, tags=merged(twin.tags, tags_patch))
            if desired_patch is not None:
                section = patched(twin.desired, desired_patch, self._stamp(), versions=True)
                twin = msgspec.structs.replace(twin, desired=section)
            return TwinChange(operation="updateTwin", twin=self._written(twin), tags=tags_patch, desired=desired_patch)

        return await self._change(device_id, module_id, change)

    async def replace(
        self, device_id: str, module_id: str = "", *, tags: Any = None, desired: Any = None, etag: str = _ANY
    ) -> Twin:
        """Tags and desired properties in place of all that stood there; None means empty. Raises as ``update``."""
        new_tags = merged({}, checked("tags", {} if tags is None else tags, self._limits))
        new_desired = checked("desired", {} if desired is None else desired, self._limits)

        def change(before: Twin) -> TwinChange:
            _check_etag(before, etag)
            section = replaced(before.desired, new_desired, self._stamp())
            twin = self._written(msgspec.structs.replace(before, tags=new_tags, desired=section))
            return TwinChange(
                operation="replaceTwin",
                twin=twin,
                tags=with_vanished(before.tags, twin.tags),
                desired=with_vanished(before.desired.properties, twin.desired.properties),
            )

        return await self._change(device_id, module_id, change)

    async def rewrite_desired(
        self, device_id: str, module_id: str, rewrite: Callable[[Json], Json], *, etag: str = _ANY
    ) -> Twin:
        """Desired properties as ``rewrite`` makes them of those that are; nothing is written when it changes nothing.

        Raises what ``rewrite`` does, BadRequest, PreconditionFailed, DeviceNotFound, ModuleNotFound, StoreUnavailable:
        nothing was written.
        """

        def change(twin: Twin) -> TwinChange:
            _check_etag(twin, etag)
            before = twin.desired.properties
            patch = difference(before, rewrite(before))
            if not patch:
                return TwinChange(operation="updateTwin", twin=twin)
            section = patched(twin.desired, patch, self._stamp(), versions=True)
            twin = self._written(msgspec.structs.replace(twin, desired=section))
            return TwinChange(operation="updateTwin", twin=twin, desired=patch)

        return await self._change(device_id, module_id, change)

    async def note_model(self, device_id: str, module_id: str, model_id: str) -> None:
        """Keep the plug and play model that a connection named. Raises StoreUnavailable."""
        if len(model_id) > self._limits.model_id or not model_id.isprintable():
            raise BadRequest("The model id is not valid.")
        twin = await self._store.get(device_id, module_id)
        if twin is not None and twin.model_id != model_id:

            def change(twin: Twin) -> TwinChange:
                return TwinChange(operation="updateTwin", twin=msgspec.structs.replace(twin, model_id=model_id))

            await self._store.change(device_id, module_id, change, self._tell)

    def edit(
        self, device_id: str, module_id: str, *, tags: Any, desired: Any, reported: Any, etag: str, merge: bool
    ) -> TwinEdit:
        """The twin's part of a bulk record; None leaves a part alone. Raises BadRequest.

        merge: as ``update`` does; else what is given takes the place of the part. reported: of a new identity alone,
        else it is the device's own.
        """
        given = {"tags": tags, "desired": desired, "reported": reported}
        parts = {name: checked(name, value, self._limits) for name, value in given.items() if value is not None}

        def fresh() -> Twin:
            stamp, first = self._stamp(), fresh_section()
            desired, reported = (
                replaced(first, parts[name], stamp, versions=name == "desired") if parts.get(name) else first
                for name in ("desired", "reported")
            )
            if reported is not first:
                check_size("reported", reported.properties, self._limits.twin_properties)
            tags = merged({}, parts.get("tags", {}))
            twin = Twin(device_id=device_id, module_id=module_id, tags=tags, desired=desired, reported=reported)
            return self._sized(twin)

        def change(before: Twin) -> TwinChange:
            _check_etag(before, etag)
            twin, patches = before, {name: parts[name] for name in ("tags", "desired") if name in parts}
            if "tags" in parts:
                twin = msgspec.structs.replace(twin, tags=merged(twin.tags if merge else {}, parts["tags"]))
            if "desired" in parts and merge:
                section = patched(twin.desired, parts["desired"], self._stamp(), versions=True)
                twin = msgspec.structs.replace(twin, desired=section)
            elif "desired" in parts:
                section = replaced(twin.desired, parts["desired"], self._stamp())
                twin = msgspec.structs.replace(twin, desired=section)
            if patches:
                twin = self._written(twin)
            if not merge:
                whole = {
                    "tags": with_vanished(before.tags, twin.tags),
                    "desired": with_vanished(before.desired.properties, twin.desired.properties),
                }
                patches = {name: whole[name] for name in patches}
            return TwinChange(operation="updateTwin" if merge else "replaceTwin", twin=twin, **patches)

        return TwinEdit(fresh, change, self._tell)

    def _tell(self, change: TwinChange) -> None:
        if not change.touches:
            return
        twin = change.twin
        if change.desired is not None:
            patch = DesiredPatch(change.desired, twin.desired.version)
            self._bus.publish(desired_subject(twin.device_id, twin.module_id), patch)
        self._bus.publish("twin.changed", change)

    def _sized(self, twin: Twin) -> Twin:
        check_size("tags", twin.tags, self._limits.twin_tags)
        check_size("desired", twin.desired.properties, self._limits.twin_properties)
        return twin

    def _written(self, twin: Twin) -> Twin:
        return msgspec.structs.replace(self._sized(twin), version=twin.version + 1, revision=twin.revision + 1)

    async def _change(
        self,
        device_id: str,
        module_id: str,
        change: Callable[[Twin], TwinChange],
    ) -> Twin:
        twin = await self._store.change(device_id, module_id, change, self._tell)
        if twin is None:
            raise await self._absent(device_id, module_id)
        return twin

    async def _absent(self, device_id: str, module_id: str) -> HubError:
        if module_id and await self._store.get(device_id, "") is not None:
            return ModuleNotFound()
        return DeviceNotFound()

    def _stamp(self) -> str:
        return time_stamp(self._clock.now())


def _check_etag(twin: Twin, etag: str) -> None:
    if etag not in {_ANY, twin.etag}:
        raise PreconditionFailed().by("L-D3")
