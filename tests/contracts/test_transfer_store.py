"""What every adapter of ports.TransferStore does."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from hubkeep.cloud.secrets import open_seal
from hubkeep.errors import JobQuotaExceeded
from hubkeep.model import TransferJob
from hubkeep.ports import TransferStore
from hubkeep.store.registry import open_registry


@pytest.fixture(params=["sqlite"])
async def transfers(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TransferStore]:
    seal = open_seal(tmp_path / "keys" / "sealing.key", create=True)
    async with open_registry(tmp_path / "registry.db", seal) as registry:
        yield registry.transfers


def job(name: str, created: float = 1.0) -> TransferJob:
    return TransferJob(
        job_id=name,
        type="import",
        created=created,
        input_url="https://blobs.example/in?sig=secret",
        input_blob="devices.txt",
        output_url="https://blobs.example/out?sig=secret",
        with_configurations=True,
        etag='"1"',
        after="pump/camera",
        offset=1 << 40,
        blocks=2,
        records=7,
        refused=1,
    )


def ended(one: TransferJob, at: float) -> TransferJob:
    return msgspec.structs.replace(one, status="completed", ended=at)


async def test_one_at_a_time_is_kept_whole(transfers: TransferStore) -> None:
    assert await transfers.active() is None
    await transfers.add(job("one"))
    assert await transfers.get("one") == await transfers.active() == job("one")
    assert await transfers.get("two") is None
    with pytest.raises(JobQuotaExceeded):
        await transfers.add(job("two"))
    running = msgspec.structs.replace(job("one"), status="running", progress=50)
    assert await transfers.put(running)
    assert await transfers.active() == running
    with pytest.raises(JobQuotaExceeded):
        await transfers.add(job("two"))


async def test_one_that_has_ended_stays_as_it_ended_and_makes_room(transfers: TransferStore) -> None:
    await transfers.add(job("one"))
    assert await transfers.put(ended(job("one"), 5.0))
    assert not await transfers.put(job("one"))
    assert await transfers.active() is None
    await transfers.add(job("two", created=2.0))
    assert [each.job_id for each in await transfers.list(9)] == ["two", "one"]
    assert [each.job_id for each in await transfers.list(1)] == ["two"]


async def test_history_is_forgotten(transfers: TransferStore) -> None:
    for name, at in (("old", 10.0), ("new", 20.0)):
        await transfers.add(job(name))
        await transfers.put(ended(job(name), at))
    await transfers.add(job("running"))
    await transfers.forget(15.0)
    assert {each.job_id for each in await transfers.list(9)} == {"new", "running"}


async def test_urls_do_not_rest_in_the_clear(transfers: TransferStore, tmp_path: Path) -> None:
    await transfers.add(job("one"))
    assert not [path for path in tmp_path.glob("registry.db*") if b"sig=secret" in path.read_bytes()]
    assert "secret" not in repr(job("one"))
