"""Twins in the registry: made and gone with identities, also those that were there before; changes in one step each."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import create_engine

from hubkeep.bus.in_process import InProcessBus
from hubkeep.cloud.secrets import open_seal
from hubkeep.connection.clock import SystemClock
from hubkeep.errors import BadRequest, DeviceNotFound, PreconditionFailed
from hubkeep.limits import Limits
from hubkeep.messaging.twins import Twins
from hubkeep.model import DesiredPatch, Identity, Twin, TwinChange
from hubkeep.ports import desired_subject
from hubkeep.store.registry import Registry, open_registry


def pump(**members: object) -> Identity:
    return Identity(device_id="pump", generation_id="1", etag="e", primary_key=b"k" * 32, **members)  # type: ignore[arg-type]


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with open_registry(tmp_path / "registry.db", open_seal(tmp_path / "key", create=True)) as opened:
        await opened.identities.create(pump())
        yield opened


@pytest.fixture
def bus() -> InProcessBus:
    return InProcessBus()


@pytest.fixture
def twins(registry: Registry, bus: InProcessBus) -> Twins:
    return Twins(registry.twins, bus, SystemClock(), Limits())


async def test_a_twin_lives_and_dies_with_its_identity(registry: Registry) -> None:
    assert await registry.twins.get("pump") == Twin(device_id="pump")
    await registry.identities.create(pump(module_id="m"))
    assert await registry.twins.get("pump", "m") == Twin(device_id="pump", module_id="m")
    await registry.identities.delete("pump", "", None)
    assert await registry.twins.get("pump") is None
    assert await registry.twins.get("pump", "m") is None


async def test_a_refused_change_leaves_those_beside_it_alone(twins: Twins) -> None:
    outcomes = await asyncio.gather(
        *(twins.report("pump", "", {f"r{n}": n}) for n in range(10)),
        twins.report("pump", "", {"late": 1}, version=99),
        twins.report("pump", "", {"big": {f"k{n}": "x" * 4000 for n in range(9)}}),
        twins.report("nobody", "", {}),
        *(twins.update("pump", desired={"d": n}) for n in range(10)),
        return_exceptions=True,
    )
    assert [type(each) for each in outcomes[10:13]] == [PreconditionFailed, BadRequest, DeviceNotFound]
    versions = [each.version for each in (*outcomes[:10], *outcomes[13:])]
    assert versions == list(range(3, 23))
    twin = await twins.get("pump")
    assert (twin.version, twin.reported.version, twin.desired.version) == (22, 11, 11)
    assert twin.reported.properties == {f"r{n}": n for n in range(10)}


async def test_changes_are_told_in_order_even_if_nobody_waits_for_them(twins: Twins, bus: InProcessBus) -> None:
    told: list[object] = []
    patches: list[object] = []
    bus.subscribe("twin.changed", told.append)
    bus.subscribe(desired_subject("pump", ""), patches.append)
    tasks = [asyncio.create_task(twins.update("pump", desired={"n": n})) for n in range(20)]
    await asyncio.sleep(0)
    for each in tasks[::2]:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert patches == [DesiredPatch({"n": n}, n + 2) for n in range(20)]
    assert [each.twin.desired.version for each in told if isinstance(each, TwinChange)] == list(range(2, 22))


async def test_what_is_told_of_a_change(twins: Twins, bus: InProcessBus) -> None:
    told: list[TwinChange] = []
    bus.subscribe("twin.changed", told.append)  # type: ignore[arg-type]
    await twins.update("pump", tags={"a": 1, "b": 2}, desired={"x": {"y": 1}})
    await twins.report("pump", "", {"r": None})
    await twins.replace("pump", tags={"a": 1})
    first, second, third = told
    assert (first.operation, first.tags, first.desired, first.reported) == (
        "updateTwin",
        {"a": 1, "b": 2},
        {"x": {"y": 1}},
        None,
    )
    assert (second.operation, second.reported, second.desired) == ("updateTwin", {"r": None}, None)
    assert (third.operation, third.tags, third.desired) == ("replaceTwin", {"a": 1, "b": None}, {"x": None})
    assert [each.twin.version for each in told] == [3, 4, 5]


async def test_a_subscriber_that_fails_costs_no_change(twins: Twins, bus: InProcessBus) -> None:
    def fail(_: object) -> None:
        raise RuntimeError

    bus.subscribe("twin.changed", fail)
    assert (await twins.report("pump", "", {"a": 1})).reported.properties == {"a": 1}


async def test_a_model_is_kept_without_a_new_version(twins: Twins) -> None:
    await twins.note_model("pump", "", "dtmi:com:example:Thermo;1")
    assert await twins.get("pump") == Twin(device_id="pump", model_id="dtmi:com:example:Thermo;1")
    for wrong in ("x" * 257, "a\nb"):
        with pytest.raises(BadRequest):
            await twins.note_model("pump", "", wrong)


async def test_identities_from_before_twins_get_theirs(tmp_path: Path) -> None:
    from alembic import command
    from alembic.config import Config

    import hubkeep.store.migrations

    path = tmp_path / "registry.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", os.fspath(Path(hubkeep.store.migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        row = msgspec.structs.asdict(Identity(device_id="old")) | {"parent_scopes": "[]"}
        names = ", ".join(row)
        connection.exec_driver_sql(
            f"INSERT INTO identity ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
        )
    engine.dispose()
    async with open_registry(path, open_seal(tmp_path / "key", create=True)) as registry:
        assert await registry.twins.get("old") == Twin(device_id="old")
        changed = await Twins(registry.twins, InProcessBus(), SystemClock(), Limits()).update("old", tags={"a": 1})
        assert changed.tags == {"a": 1}
