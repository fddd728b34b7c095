"""What every adapter of ports.TwinStore does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from hubkeep.cloud.secrets import open_seal
from hubkeep.errors import PreconditionFailed
from hubkeep.model import Identity, Twin, TwinChange, TwinSection
from hubkeep.ports import TwinStore
from hubkeep.store.registry import Registry, open_registry


@pytest.fixture(params=["sqlite"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Registry]:
    seal = open_seal(tmp_path / "keys" / "sealing.key", create=True)
    async with open_registry(tmp_path / "registry.db", seal) as registry:
        await registry.identities.create(Identity(device_id="pump"))
        await registry.identities.create(Identity(device_id="pump", module_id="camera"))
        yield registry


@pytest.fixture
def twins(registry: Registry) -> TwinStore:
    return registry.twins


def changed(twin: Twin) -> TwinChange:
    return TwinChange(operation="updateTwin", twin=twin)


def tagged(twin: Twin) -> TwinChange:
    count = twin.tags.get("count", 0) + 1
    return changed(msgspec.structs.replace(twin, tags={"count": count}, version=twin.version + 1))


def untold(_change: TwinChange) -> None:
    """Nobody listens."""


async def test_a_twin_is_there_with_its_identity_and_gone_with_it(registry: Registry, twins: TwinStore) -> None:
    assert await twins.get("pump") == Twin(device_id="pump")
    assert await twins.get("pump", "camera") == Twin(device_id="pump", module_id="camera")
    assert await twins.get("Pump") is None
    assert await twins.change("nobody", "", tagged, untold) is None
    await registry.identities.delete("pump", "", None)
    assert await twins.get("pump", "camera") is None
    await registry.identities.create(Identity(device_id="pump"))
    assert await twins.get("pump") == Twin(device_id="pump")


async def test_a_change_is_kept_whole(twins: TwinStore) -> None:
    whole = Twin(
        device_id="pump",
        version=7,
        revision=3,
        model_id="dtmi:a:b;1",
        tags={"grün": [1, 2.5, "x", True], "deep": {"er": {}}},
        desired=TwinSection({"a": 1}, {"$lastUpdated": "now"}, 4),
        reported=TwinSection({"b": 2}, {"b": {"$lastUpdated": "then"}}, 5),
    )
    assert await twins.change("pump", "", lambda _before: changed(whole), untold) == whole
    assert await twins.get("pump") == whole
    assert await twins.get("pump", "camera") == Twin(device_id="pump", module_id="camera")


async def test_changes_from_many_sides_all_apply_and_are_told_in_their_order(twins: TwinStore) -> None:
    told: list[int] = []

    def tell(change: TwinChange) -> None:
        told.append(change.twin.version)

    results = await asyncio.gather(*(twins.change("pump", "", tagged, tell) for _ in range(50)))
    assert sorted(each.tags["count"] for each in results if each is not None) == list(range(1, 51))
    first = Twin(device_id="pump").version
    assert told == [first + each + 1 for each in range(50)]
    stored = await twins.get("pump")
    assert stored is not None
    assert stored.tags == {"count": 50}


async def test_a_refused_change_leaves_the_others_alone(twins: TwinStore) -> None:
    def refuse(_twin: Twin) -> TwinChange:
        raise PreconditionFailed

    outcomes = await asyncio.gather(
        twins.change("pump", "", tagged, untold),
        twins.change("pump", "", refuse, untold),
        twins.change("pump", "", tagged, untold),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], PreconditionFailed)
    stored = await twins.get("pump")
    assert stored is not None
    assert stored.tags == {"count": 2}


async def test_a_change_whose_caller_is_gone_is_told_all_the_same(twins: TwinStore) -> None:
    told: list[Twin] = []
    task = asyncio.create_task(twins.change("pump", "", tagged, lambda change: told.append(change.twin)))
    await asyncio.sleep(0)
    task.cancel()
    await twins.change("pump", "", tagged, untold)
    assert [each.tags for each in told] == [{"count": 1}]
