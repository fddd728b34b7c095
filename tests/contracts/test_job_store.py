"""What every adapter of ports.JobStore does."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from hubkeep.cloud.secrets import open_seal
from hubkeep.errors import JobAlreadyExists, TooManyJobs
from hubkeep.model import Job, JobCounts, JobPart, JobStatus
from hubkeep.ports import JobStore
from hubkeep.store.registry import open_registry


@pytest.fixture(params=["sqlite"])
async def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[JobStore]:
    seal = open_seal(tmp_path / "keys" / "sealing.key", create=True)
    async with open_registry(tmp_path / "registry.db", seal) as registry:
        yield registry.jobs


def job(name: str, created: float = 1.0, start: float = 0.0, status: JobStatus = "queued") -> Job:
    return Job(
        job_id=name,
        type="scheduleUpdateTwin",
        task={"tags": {"a": 1}},
        condition="*",
        created=created,
        start=start,
        max_seconds=60,
        status=status,
    )


def of(found: object) -> list[str]:
    return [each.job_id for each in found]  # type: ignore[attr-defined]


async def test_a_job_is_added_once_and_not_over_the_limit(jobs: JobStore) -> None:
    await jobs.add(job("one"), 2)
    assert await jobs.get("one") == job("one")
    assert await jobs.get("two") is None
    with pytest.raises(JobAlreadyExists):
        await jobs.add(job("one"), 2)
    await jobs.add(job("two"), 2)
    with pytest.raises(TooManyJobs):
        await jobs.add(job("three"), 2)
    await jobs.put(job("one", status="completed"))
    await jobs.add(job("three"), 2)


async def test_one_that_has_ended_stays_as_it_ended(jobs: JobStore) -> None:
    await jobs.add(job("one"), 9)
    assert await jobs.put(job("one", status="cancelled"))
    assert not await jobs.put(job("one", status="running"))
    found = await jobs.get("one")
    assert found is not None
    assert found.status == "cancelled"


async def test_what_runs_is_due_before_what_may_begin(jobs: JobStore) -> None:
    for name, start in (("late", 50.0), ("second", 20.0), ("first", 10.0), ("future", 99.0)):
        await jobs.add(job(name, start=start), 9)
    await jobs.put(job("late", start=50.0, status="running"))
    assert of(await jobs.due(30.0, 9)) == ["late", "first", "second"]
    assert of(await jobs.due(30.0, 2)) == ["late", "first"]


async def test_they_are_listed_the_newest_first_page_by_page(jobs: JobStore) -> None:
    for number in range(5):
        await jobs.add(job(f"j{number}", created=float(number // 2)), 9)
    await jobs.put(job("j3", created=1.0, status="completed"))
    first = await jobs.list(types=(), statuses=(), after=None, most=3)
    assert of(first) == ["j4", "j3", "j2"]
    assert of(await jobs.list(types=(), statuses=(), after=(first[-1].created, "j2"), most=3)) == ["j1", "j0"]
    assert of(await jobs.list(types=(), statuses=("completed",), after=None, most=9)) == ["j3"]
    assert of(await jobs.list(types=("scheduleDeviceMethod",), statuses=(), after=None, most=9)) == []


async def test_parts_are_spread_taken_recorded_and_counted(jobs: JobStore) -> None:
    await jobs.add(job("one"), 9)
    targets = [(f"d{number}", "") for number in range(4)] + [("d0", "m")]
    await jobs.spread("one", targets, 1.0)
    await jobs.spread("one", targets, 2.0)  # again after a restart: nothing is twice
    assert await jobs.counts(["one", "two"]) == {"one": JobCounts(pending=5)}
    taken = await jobs.take("one", 2, 3.0)
    assert [each.status for each in taken] == ["running"] * 2
    done = msgspec.structs.replace(taken[0], status="completed", answer={"status": 200}, ended=4.0)
    await jobs.record([done])
    await jobs.record([msgspec.structs.replace(done, status="failed")])  # it runs no more
    assert (await jobs.counts(["one"]))["one"] == JobCounts(pending=3, running=1, completed=1)
    ended = JobPart(job_id="", device_id="", status="canceled", ended=5.0, updated=5.0, error={"code": "x"})
    await jobs.settle("one", ("pending", "running"), ended)
    assert (await jobs.counts(["one"]))["one"] == JobCounts(completed=1, canceled=4)
    assert await jobs.take("one", 9, 6.0) == []
    found = await jobs.parts(job_ids=["one"], device_ids=(), after=("", "", ""), most=3)
    assert [(part.device_id, part.module_id) for _, part in found] == [("d0", ""), ("d0", "m"), ("d1", "")]
    of_device = await jobs.parts(job_ids=(), device_ids=["d0"], after=("one", "d0", ""), most=9)
    assert [(part.device_id, part.module_id) for _, part in of_device] == [("d0", "m")]
    assert {each.job_id for each, _ in found} == {"one"}


async def test_history_is_forgotten_with_its_parts(jobs: JobStore) -> None:
    await jobs.add(job("old"), 9)
    await jobs.add(job("new"), 9)
    await jobs.spread("old", [("d", "")], 1.0)
    await jobs.put(msgspec.structs.replace(job("old", status="completed"), ended=10.0))
    await jobs.put(msgspec.structs.replace(job("new", status="completed"), ended=20.0))
    await jobs.forget(15.0)
    assert await jobs.get("old") is None
    assert await jobs.get("new") is not None
    assert await jobs.counts(["old"]) == {}
