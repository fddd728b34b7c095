"""What every adapter of ports.ConfigurationStore does."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from hubkeep.cloud.secrets import open_seal
from hubkeep.errors import ConfigurationAlreadyExists, QuotaExceeded
from hubkeep.model import Configuration, ContentKind, Hold, Identity
from hubkeep.ports import ConfigurationStore
from hubkeep.store.registry import Registry, open_registry

MOST = 9


@pytest.fixture(params=["sqlite"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Registry]:
    seal = open_seal(tmp_path / "keys" / "sealing.key", create=True)
    async with open_registry(tmp_path / "registry.db", seal) as registry:
        for name in ("a", "b"):
            await registry.identities.create(Identity(device_id=name))
        yield registry


@pytest.fixture
def store(registry: Registry) -> ConfigurationStore:
    return registry.configurations


def configuration(name: str, kind: ContentKind = "deviceContent") -> Configuration:
    return Configuration(
        configuration_id=name,
        kind=kind,
        content={"properties.desired.a": {"b": [1, "x"]}},
        condition="tags.a = 1",
        priority=3,
        created=1.0,
        updated=2.0,
        labels={"team": "ops"},
        metrics={"m": "SELECT * FROM devices"},
    )


async def added(store: ConfigurationStore, name: str, kind: ContentKind = "deviceContent") -> Configuration:
    await store.add(configuration(name, kind), MOST)
    return next(each for each in await store.all() if each.configuration_id == name and not each.is_deleted)


async def test_it_is_added_whole_with_a_number_of_its_own(store: ConfigurationStore) -> None:
    second, first = await added(store, "second", "modulesContent"), await added(store, "first")
    assert first == msgspec.structs.replace(configuration("first"), number=first.number)
    assert first.number != second.number
    assert 0 not in {first.number, second.number}
    assert [each.configuration_id for each in await store.all()] == ["first", "second"]
    with pytest.raises(ConfigurationAlreadyExists):
        await store.add(configuration("first"), MOST)
    with pytest.raises(QuotaExceeded):
        await store.add(configuration("third"), 2)


async def test_it_is_replaced_where_the_revision_fits(store: ConfigurationStore) -> None:
    before = await added(store, "one")
    after = msgspec.structs.replace(before, priority=9, revision=2)
    assert not await store.replace(after, 7)
    assert await store.replace(after, 1)
    assert list(await store.all()) == [after]


async def test_a_deleted_one_is_kept_while_it_holds_a_twin_and_its_name_is_free(store: ConfigurationStore) -> None:
    one = await added(store, "one")
    hold = Hold(one.number, "a", "", "Applied", is_touched=True)
    await store.change_holds([hold], [])
    deleted = msgspec.structs.replace(one, is_deleted=True)
    assert await store.replace(deleted, 1)
    assert not await store.replace(one, 1)  # there is no way back
    await store.forget_deleted()
    assert list(await store.all()) == [deleted]
    again = await added(store, "one")
    assert again.number != one.number
    await store.change_holds([], [hold])
    await store.forget_deleted()
    assert list(await store.all()) == [again]


async def test_holds_are_kept_by_twin_and_counted_by_configuration(
    registry: Registry, store: ConfigurationStore
) -> None:
    one, two = await added(store, "one"), await added(store, "two")
    holds = [
        Hold(one.number, "a", "", "Applied", is_touched=True),
        Hold(one.number, "b", "", "Targeted"),
        Hold(two.number, "a", "", "Targeted"),
        Hold(two.number, "nobody", "", "Targeted"),  # it was deleted meanwhile: passed over
    ]
    await store.change_holds(holds, [])
    found = await store.holds([("a", ""), ("nobody", "")])
    assert {key: sorted(each, key=lambda hold: hold.number) for key, each in found.items()} == {
        ("a", ""): [holds[0], holds[2]]
    }
    assert await store.counts() == {one.number: (2, 1), two.number: (1, 0)}
    assert await store.statuses([("a", ""), ("b", "")]) == {
        ("a", ""): {"one": "Applied", "two": "Targeted"},
        ("b", ""): {"one": "Targeted"},
    }
    await store.change_holds([Hold(one.number, "b", "", "Applied", is_touched=True)], [holds[2]])
    assert await store.counts() == {one.number: (2, 2)}
    await registry.identities.delete("a", "", None)
    assert await store.counts() == {one.number: (1, 1)}
