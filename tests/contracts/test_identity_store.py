"""What every adapter of ports.IdentityStore does."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from hubkeep.cloud.secrets import open_seal
from hubkeep.errors import DeviceAlreadyExists, DeviceNotFound, ModuleAlreadyExists, PreconditionFailed
from hubkeep.model import Identity
from hubkeep.ports import Activity, Held, IdentityCount, IdentityEdit, IdentityStore, Kept
from hubkeep.store.memory import MemoryIdentities
from hubkeep.store.registry import open_registry

PUMP = Identity(
    device_id="pump",
    generation_id="1",
    etag="one",
    primary_key=b"primary of pump ",
    secondary_key=b"secondary of pump",
    status_reason="new",
)
CAMERA = Identity(device_id="pump", module_id="camera", generation_id="2", etag="two", primary_key=b"of the camera   ")


@pytest.fixture(params=["memory", "sqlite"])
async def identities(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IdentityStore]:
    if request.param == "memory":
        yield MemoryIdentities()
        return
    seal = open_seal(tmp_path / "keys" / "sealing.key", create=True)
    async with open_registry(tmp_path / "registry.db", seal) as registry:
        yield registry.identities


async def test_what_was_created_is_found_again(identities: IdentityStore) -> None:
    await identities.create(PUMP)
    await identities.create(CAMERA)
    assert await identities.get("pump") == PUMP
    assert await identities.get("pump", "camera") == CAMERA
    assert await identities.get("Pump") is None  # case counts
    assert await identities.get("pump", "other") is None


async def test_an_identity_is_created_once_and_a_module_needs_its_device(identities: IdentityStore) -> None:
    with pytest.raises(DeviceNotFound):
        await identities.create(CAMERA)
    await identities.create(PUMP)
    await identities.create(CAMERA)
    with pytest.raises(DeviceAlreadyExists):
        await identities.create(msgspec.structs.replace(PUMP, etag="other"))
    with pytest.raises(ModuleAlreadyExists):
        await identities.create(CAMERA)
    assert await identities.get("pump") == PUMP


async def test_it_is_replaced_where_the_etag_fits_and_keeps_what_is_not_writable(identities: IdentityStore) -> None:
    await identities.create(PUMP)
    await identities.record_activity([Activity("pump", "", connected=True, at=5.0)])
    changed = msgspec.structs.replace(PUMP, etag="three", generation_id="9", status="disabled", primary_key=b"new" * 8)
    assert not await identities.replace(changed, "stale")
    assert await identities.replace(changed, "one")
    found = await identities.get("pump")
    assert found is not None
    assert (found.etag, found.status, found.primary_key) == ("three", "disabled", b"new" * 8)
    assert (found.generation_id, found.connected, found.last_activity) == ("1", True, 5.0)
    assert await identities.replace(msgspec.structs.replace(PUMP, etag="four"), None)  # any etag
    assert not await identities.replace(msgspec.structs.replace(PUMP, device_id="absent"), None)


async def test_it_is_deleted_where_the_etag_fits_a_device_with_its_modules(identities: IdentityStore) -> None:
    await identities.create(PUMP)
    await identities.create(CAMERA)
    await identities.create(Identity(device_id="pump-2", etag="x"))
    assert not await identities.delete("pump", "", "stale")
    assert await identities.delete("pump", "", "one")
    assert await identities.get("pump", "camera") is None
    assert not await identities.delete("pump", "", None)
    assert await identities.get("pump-2") is not None
    await identities.create(PUMP)
    await identities.create(CAMERA)
    assert await identities.delete("pump", "camera", None)
    assert await identities.get("pump") == PUMP


async def test_edits_are_done_one_by_one_and_see_those_before_them(identities: IdentityStore) -> None:
    fan, lens = Identity(device_id="fan", etag="x"), Identity(device_id="fan", module_id="lens", etag="y")
    seen: list[Held] = []

    def put(identity: Identity, *modules: Identity) -> IdentityEdit:
        def edit(held: Held) -> Kept:
            seen.append(held)
            return Kept(identity, None, modules)

        return IdentityEdit(identity.device_id, identity.module_id, edit)

    def refused(_held: Held) -> Kept:
        raise PreconditionFailed

    def removed(held: Held) -> Kept:
        seen.append(held)
        return Kept(None)

    await identities.create(PUMP)
    await identities.create(CAMERA)
    off = msgspec.structs.replace(PUMP, status="disabled", etag="new")
    edits = [put(fan), put(lens), IdentityEdit("pump", "camera", refused), put(off), IdentityEdit("fan", "", removed)]
    outcomes = await identities.edit(edits)
    assert [isinstance(each, PreconditionFailed) for each in outcomes] == [False, False, True, False, False]
    assert [held.identity for held in seen] == [None, None, PUMP, fan]
    assert [(held.siblings, held.has_device, held.of_hub) for held in seen] == [
        (0, False, 2),
        (0, True, 3),
        (0, True, 4),
        (0, True, 4),
    ]
    assert await identities.get("fan", "lens") is None  # gone with its device
    assert await identities.get("pump") == off
    assert await identities.get("pump", "camera") == CAMERA
    assert await identities.count() == IdentityCount(1, 0, 1, 0, modules=1)
    await identities.edit([put(off, CAMERA, msgspec.structs.replace(CAMERA, module_id="other"))])
    assert await identities.get("pump", "camera") == CAMERA
    assert await identities.get("pump", "other") is not None
    assert (await identities.count()).modules == 2
    await identities.edit([IdentityEdit("pump", "", removed)])
    assert await identities.get("pump", "other") is None
    assert await identities.count() == IdentityCount(0, 0, 0, 0)


async def test_many_are_made_changed_and_deleted_by_one_request(identities: IdentityStore) -> None:
    many = [msgspec.structs.replace(PUMP, device_id=f"pump-{number}") for number in range(237)]  # no round number

    async def edit(kept: list[Identity | None]) -> list[object]:
        edits = [
            IdentityEdit(each.device_id, "", lambda _, now=now: Kept(now)) for each, now in zip(many, kept, strict=True)
        ]
        return list(await identities.edit(edits))

    await edit([*many])
    assert await identities.list(1000) == sorted(many, key=lambda each: each.device_id)
    changed = [msgspec.structs.replace(each, etag="other", status="disabled") for each in many]
    await edit([*changed])
    assert (await identities.count()).disabled == len(many)
    assert [await identities.get(each.device_id) for each in changed] == changed
    await edit([None if place else each for place, each in enumerate(changed)])
    assert await identities.list(1000) == changed[:1]
    assert (await identities.count()).total == 1


async def test_devices_are_listed_by_id_page_by_page_without_modules(identities: IdentityStore) -> None:
    for name in ("c", "A", "b", "a%"):
        await identities.create(Identity(device_id=name, etag=name))
    await identities.create(Identity(device_id="b", module_id="m", etag="m"))
    assert [each.device_id for each in await identities.list(10)] == ["A", "a%", "b", "c"]
    assert [each.device_id for each in await identities.list(2)] == ["A", "a%"]
    assert [each.device_id for each in await identities.list(2, after="a%")] == ["b", "c"]


async def test_devices_are_counted(identities: IdentityStore) -> None:
    assert await identities.count() == IdentityCount(0, 0, 0, 0)
    await identities.create(PUMP)
    await identities.create(CAMERA)
    await identities.create(Identity(device_id="off", etag="x", status="disabled"))
    await identities.record_activity([Activity("pump", "", connected=True, at=1.0)])
    assert await identities.count() == IdentityCount(2, 1, 1, 1, modules=1)
    await identities.replace(msgspec.structs.replace(PUMP, status="disabled"), None)
    await identities.delete("off", "", None)
    assert await identities.count() == IdentityCount(1, 0, 1, 1, modules=1)
    await identities.delete("pump", "", None)
    assert await identities.count() == IdentityCount(0, 0, 0, 0)


async def test_activity_is_recorded_and_never_goes_back(identities: IdentityStore) -> None:
    await identities.create(PUMP)
    await identities.create(CAMERA)
    await identities.record_activity(
        [
            Activity("pump", "", connected=True, at=10.0),
            Activity("pump", "camera", connected=None, at=11.0),
            Activity("unknown", "", connected=True, at=12.0),
            Activity("pump", "", connected=None, at=20.0),
        ]
    )
    await identities.record_activity([Activity("pump", "", connected=None, at=15.0)])
    pump, camera = await identities.get("pump"), await identities.get("pump", "camera")
    assert pump is not None
    assert camera is not None
    assert (pump.connected, pump.connection_updated, pump.last_activity) == (True, 10.0, 20.0)
    assert (camera.connected, camera.last_activity) == (False, 11.0)
    await identities.disconnect_all(30.0)
    pump = await identities.get("pump")
    assert pump is not None
    assert (pump.connected, pump.connection_updated, pump.last_activity) == (False, 30.0, 20.0)
    assert (await identities.count()).connected == 0
