"""Old events go, a wrong clock costs nothing, and sequence numbers go on (L-K1, L-K2)."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.event_logs import fill, opened, read_all, store
from hubkeep.background import RetentionJob
from hubkeep.errors import StoreUnavailable
from hubkeep.model import Retention
from hubkeep.testing import MovableClock

HOUR = 3600.0


def keeping(size: int) -> Callable[[], Retention]:
    return lambda: Retention(24, size)


async def test_old_events_go_and_numbers_go_on(tmp_path: Path) -> None:
    clock = MovableClock()
    async with opened(tmp_path, clock=clock) as log:
        job = RetentionJob(log, clock, keeping(1 << 40))
        await fill(log, 20)
        kept = [log.state(each).last_sequence for each in range(2)]
        clock.move(25 * HOUR)
        await job.run()
        for partition in range(2):
            state = log.state(partition)
            assert state.last_sequence == kept[partition]
            assert kept[partition] - 5 < state.first_sequence <= kept[partition]  # the newest batch stays
        await store(log, 0, b"after")
        assert log.state(0).last_sequence == kept[0] + 1
        events, damages = await read_all(log)
        assert not damages
        assert events[0][-1].tail == b"after"
        assert await log.scrub(rest=0) == 3
    async with opened(tmp_path, clock=clock) as log:
        assert log.state(0).last_sequence == kept[0] + 1
        assert not log.damaged


async def test_more_than_one_transaction_of_old_events_goes_in_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubkeep.store.event_file._FORGET_AT_ONCE", 7)
    clock = MovableClock()
    async with opened(tmp_path, clock=clock) as log:
        await fill(log, 40)
        await RetentionJob(log, clock, keeping(0)).run()
        assert await log.scrub(rest=0) == 2


async def test_a_clock_that_jumps_ahead_deletes_nothing_until_it_said_so_for_ten_minutes(tmp_path: Path) -> None:
    clock = MovableClock()
    async with opened(tmp_path, clock=clock) as log:
        job = RetentionJob(log, clock, keeping(1 << 40))
        await fill(log, 20)
        clock.jump(10 * 365 * 24 * HOUR)
        for _ in range(9):
            await job.run()
            clock.move(60)
        assert [log.state(each).first_sequence for each in range(2)] == [0, 0]
        clock.jump(-5 * 365 * 24 * HOUR)  # another jump: the ten minutes begin anew
        for _ in range(9):
            await job.run()
            clock.move(60)
        assert [log.state(each).first_sequence for each in range(2)] == [0, 0]
        clock.jump(-5 * 365 * 24 * HOUR)  # and back: nothing was lost, nothing is doubted any more
        await job.run()
        assert [log.state(each).first_sequence for each in range(2)] == [0, 0]
        clock.jump(10 * 365 * 24 * HOUR)
        for _ in range(12):
            await job.run()
            clock.move(60)
        assert all(log.state(each).first_sequence > 0 for each in range(2))


async def test_a_wrong_clock_at_the_start_deletes_nothing_at_first(tmp_path: Path) -> None:
    clock = MovableClock()
    async with opened(tmp_path, clock=clock) as log:
        await fill(log, 20)
    clock.jump(365 * 24 * HOUR)
    async with opened(tmp_path, clock=clock) as log:
        newest = max(log.state(each).last_enqueued for each in range(2)) / 1000
        job = RetentionJob(log, clock, keeping(1 << 40), last_enqueued=newest)
        await job.run()
        assert [log.state(each).first_sequence for each in range(2)] == [0, 0]


async def test_a_clock_that_jumps_back_never_takes_enqueued_times_with_it(tmp_path: Path) -> None:
    clock = MovableClock()
    async with opened(tmp_path, clock=clock) as log:
        await fill(log, 4)
        clock.jump(-10 * HOUR)
        await fill(log, 4, seed=2)
        events, _ = await read_all(log)
        for partition in range(2):
            times = [event.enqueued for event in events[partition]]
            assert times == sorted(times)
            assert times[-1] / 1000 > time.time() - HOUR


async def test_after_close_appends_and_retention_are_refused_and_what_came_before_is_stored(tmp_path: Path) -> None:
    import asyncio

    from faults.event_logs import make_log

    log = make_log(tmp_path)
    await log.open()
    answers: list[object] = []
    for number in range(500):
        log.append(number % 2, b"h", [b"%d" % number], answers.append)
    closing = asyncio.ensure_future(log.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        log.append(0, b"h", [b"late"], answers.append)
    with pytest.raises(StoreUnavailable):
        await log.retain(newer_than=0, at_most=0)
    await closing
    assert answers == [None] * 500
    async with opened(tmp_path) as log:
        assert sum(log.state(each).last_sequence + 1 for each in range(2)) == 500
