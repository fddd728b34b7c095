"""Whatever byte of the event log is hit: no event is altered, none is skipped in silence (L-S5, L-S6)."""

import contextlib
import random
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.event_logs import (
    PARTITIONS,
    Events,
    copy_log,
    fill,
    flip,
    opened,
    read_all,
    store,
    zero,
)
from hubkeep.errors import EventLogDamaged, StoreUnavailable
from hubkeep.store.event_file import PAGE_SIZE
from hubkeep.store.start_failures import NotPermitted, SchemaTooNew

FRAME = 24 + PAGE_SIZE


class Sample:
    """closed: a log after a clean end, all in its main file. killed: one as a kill leaves it, the newest in its WAL."""

    def __init__(self, closed: Path, killed: Path, in_closed: Events, in_killed: Events) -> None:
        self.closed, self.killed, self.in_closed, self.in_killed = closed, killed, in_closed, in_killed


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    import asyncio

    folder = tmp_path_factory.mktemp("log")

    async def make() -> Sample:
        origin = folder / "origin"
        origin.mkdir()
        async with opened(origin) as log:
            await fill(log, 60)
            in_closed, _ = await read_all(log)
        closed = copy_log(origin, folder / "closed")
        async with opened(origin) as log:
            await fill(log, 40, seed=2)
            in_killed, _ = await read_all(log)
            killed = copy_log(origin, folder / "killed")
        return Sample(closed, killed, in_closed, in_killed)

    yield asyncio.run(make())
    shutil.rmtree(folder)


@contextlib.contextmanager
def named(reason: str) -> Iterator[pytest.ExceptionInfo[EventLogDamaged]]:
    """The damage is told to the operator with this reason (a pattern)."""
    with pytest.raises(EventLogDamaged) as damage:
        yield damage
    assert re.search(reason, damage.value.reason), damage.value.reason


async def outcome(folder: Path, whole: Events) -> str:
    """``whole``, ``refused`` or ``named``. Fails where events are altered, or lost without a word."""
    try:
        async with opened(folder) as log:
            await log.scrub(rest=0)
            found, damages = await read_all(log)
            named = {*log.damaged}
            for damage in damages:
                assert "partition" in damage.reason
            for partition in range(PARTITIONS):
                expected = whole[partition][: len(found[partition])]
                assert found[partition] == expected, "altered"
                if len(found[partition]) < len(whole[partition]):
                    assert partition in named, "lost in silence"
                if partition in named:
                    with pytest.raises(EventLogDamaged):
                        await store(log, partition, b"more")
            return "named" if named else "whole"
    except (EventLogDamaged, StoreUnavailable):
        return "refused"
    except (SchemaTooNew, NotPermitted):  # the bytes of the file's head that say so
        return "refused"


def positions(size: int, count: int, seed: int) -> list[int]:
    """Random ones, and the heads of all pages, where the tree and the free space are described."""
    source = random.Random(seed)
    heads = [page + offset for page in range(0, size, PAGE_SIZE) for offset in (0, 2, 4, 6, 8, 9, 13)]
    return sorted({*(source.randrange(size) for _ in range(count)), *heads})


@pytest.mark.spec("L-S6")
async def test_a_flipped_bit_in_the_file_is_named_or_harmless(sample: Sample, tmp_path: Path) -> None:
    size = (sample.closed / "events.db").stat().st_size
    seen: dict[str, int] = {}
    for number, position in enumerate((*range(0, 100, 3), *positions(size, 100, seed=3))):
        folder = copy_log(sample.closed, tmp_path / str(number))
        flip(folder / "events.db", position, number % 8)
        try:
            what = await outcome(folder, sample.in_closed)
        except AssertionError as error:
            raise AssertionError(f"bit {number % 8} of byte {position}: {error}") from error
        seen[what] = seen.get(what, 0) + 1
        shutil.rmtree(folder)
    assert seen["named"] > 30, seen
    assert seen["refused"] > 5, seen


@pytest.mark.spec("L-S6")
async def test_a_zeroed_page_is_named_or_refused(sample: Sample, tmp_path: Path) -> None:
    size = (sample.closed / "events.db").stat().st_size
    for page in range(size // PAGE_SIZE):
        folder = copy_log(sample.closed, tmp_path / str(page))
        zero(folder / "events.db", page * PAGE_SIZE, PAGE_SIZE)
        what = await outcome(folder, sample.in_closed)
        assert what in {"named", "refused"}, f"page {page + 1}"


@pytest.mark.spec("L-S6")
async def test_a_file_cut_short_is_named_or_refused(sample: Sample, tmp_path: Path) -> None:
    size = (sample.closed / "events.db").stat().st_size
    for number, cut in enumerate((0, 1, 100, 4096, PAGE_SIZE, size // 2, size - PAGE_SIZE, size - 1)):
        folder = copy_log(sample.closed, tmp_path / str(number))
        with (folder / "events.db").open("r+b") as file:
            file.truncate(cut)
        assert await outcome(folder, sample.in_closed) in {"named", "refused"}, cut


@pytest.mark.spec("L-S6")
async def test_a_flipped_bit_in_the_wal_is_refused_with_the_missing_range(sample: Sample, tmp_path: Path) -> None:
    wal = (sample.killed / "events.db-wal").read_bytes()
    source = random.Random(5)
    salts = wal[16:24]
    live = [at for at in range(32, len(wal) - FRAME + 1, FRAME) if wal[at + 8 : at + 16] == salts]
    assert len(live) > 20
    hits = [at + source.choice((0, 3, 5, 9, 14, 17, 22, 24, *range(25, FRAME))) for at in live]
    for number, position in enumerate((0, 3, 9, 17, 21, 27, 31, *hits)):
        folder = copy_log(sample.killed, tmp_path / str(number))
        flip(folder / "events.db-wal", position, number % 8)
        before = {each.name: each.read_bytes() for each in folder.iterdir()}
        with pytest.raises(EventLogDamaged) as damage:
            async with opened(folder):
                pass
        assert re.search(r"partition [01]: sequence numbers \d+ to \d+|behind a damaged frame", damage.value.reason)
        after = {name: (folder / name).read_bytes() for name in before}
        assert after == before, "evidence was changed"
        shutil.rmtree(folder)


@pytest.mark.spec("L-S6")
@pytest.mark.parametrize("lost", ["events.db", "events.db-wal"])
async def test_a_file_that_is_gone_is_missed(sample: Sample, tmp_path: Path, lost: str) -> None:
    folder = copy_log(sample.killed, tmp_path / "log")
    (folder / lost).unlink()
    with named(r"partition 0: sequence numbers"):
        async with opened(folder):
            pass


async def test_a_log_that_must_be_there_is_missed_even_without_its_marker(tmp_path: Path) -> None:
    from faults.event_logs import make_log

    log = make_log(tmp_path)
    with named(r"events\.db is gone"):
        await log.open(is_expected=True)


@pytest.mark.spec("L-S6")
@pytest.mark.parametrize("older", [("events.db",), ("events.db-wal",), ("events.db", "events.db-wal")])
async def test_an_older_file_put_back_is_noticed(tmp_path: Path, older: tuple[str, ...]) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    async with opened(origin) as log:
        await fill(log, 30)
        before = copy_log(origin, tmp_path / "before")
    async with opened(origin) as log:
        await fill(log, 30, seed=2)
        whole, _ = await read_all(log)
        now = copy_log(origin, tmp_path / "now")
    for name in older:
        shutil.copyfile(before / name, now / name)
    assert await outcome(now, whole) in {"named", "refused"}


@pytest.mark.spec("L-S6")
async def test_a_damaged_marker_costs_nothing_and_is_told(
    sample: Sample, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = (sample.killed / "events.mark").stat().st_size
    for number, position in enumerate((0, 5, 11, 20, 30, 4096, 4100, 4110, 4120)):
        assert position < size
        folder = copy_log(sample.killed, tmp_path / str(number))
        flip(folder / "events.mark", position)
        caplog.clear()
        assert await outcome(folder, sample.in_killed) == "whole"
        assert "one of its two slots is damaged" in caplog.text
    for number, what in enumerate(("gone", "damaged")):
        folder = copy_log(sample.killed, tmp_path / what)
        if number:
            (folder / "events.mark").write_bytes(b"\1" * size)
        else:
            (folder / "events.mark").unlink()
        caplog.clear()
        assert await outcome(folder, sample.in_killed) == "whole"
        assert f"events.mark is {what}" in caplog.text


@pytest.mark.spec("L-S5")
async def test_a_torn_tail_is_dropped_and_what_was_acknowledged_stays(tmp_path: Path) -> None:
    """A loss of power: the WAL ends anywhere behind the last synced commit, the marker may be of that commit."""
    origin = tmp_path / "origin"
    origin.mkdir()
    async with opened(origin) as log:
        await fill(log, 20)
        acknowledged, _ = await read_all(log)
        marker = (origin / "events.mark").read_bytes()
        synced = (origin / "events.db-wal").stat().st_size
        await store(log, 0, *(b"x" * 5000 for _ in range(20)))
        torn = copy_log(origin, tmp_path / "torn")
    (torn / "events.mark").write_bytes(marker)
    full = (torn / "events.db-wal").stat().st_size
    assert full > synced + 4 * FRAME
    source = random.Random(7)
    for number, end in enumerate((synced, synced + 1, synced + 24, synced + FRAME, synced + 2 * FRAME + 7, full - 1)):
        for how in ("cut", "garbled"):
            folder = copy_log(torn, tmp_path / f"{how}{number}")
            with (folder / "events.db-wal").open("r+b") as wal:
                if how == "cut":
                    wal.truncate(end)
                else:
                    wal.seek(end)
                    wal.write(source.randbytes(min(3000, full - end)))
            async with opened(folder) as log:
                found, damages = await read_all(log)
                assert not damages
                assert found[1] == acknowledged[1]
                assert found[0][: len(acknowledged[0])] == acknowledged[0]
                if how == "cut" and end > synced + 24:
                    assert log.torn_bytes == (end - synced) // FRAME * FRAME
                await store(log, 0, b"goes on")
            shutil.rmtree(folder)


async def test_damage_found_by_a_reader_makes_its_partition_read_only_and_no_other(tmp_path: Path) -> None:
    needle = b"find me in the file" * 3
    async with opened(tmp_path) as log:
        for number in range(30):
            await store(log, number % 2, needle if number == 10 else b"tail %d" % number)
    content = (tmp_path / "events.db").read_bytes()
    async with opened(tmp_path) as log:
        flip(tmp_path / "events.db", content.index(needle))
        sequence = 5
        with named("partition 0: sequence numbers 5 to 5") as damage:
            await log.read(0, sequence, 1)
        assert "restore" in damage.value.remedy
        assert [event.sequence for event in await log.read(0, 0, 1)] == [0]  # the rest stays readable
        assert [event.sequence for event in await log.read(0, 6, 1)] == [6]
        with named("5 to 5"):
            await store(log, 0, b"refused")
        await store(log, 1, b"taken")
        assert not await _forgotten(log, tmp_path)


async def _forgotten(log: Any, folder: Path) -> bool:
    """Whether retention took the damaged record."""
    await log.retain(newer_than=1 << 60, at_most=1 << 40)
    return log.state(0).first_sequence > 5


async def test_a_kill_while_the_file_is_made_leaves_a_journal_that_is_rolled_back(tmp_path: Path) -> None:
    origin, found = tmp_path / "origin", tmp_path / "found"
    origin.mkdir()
    found.mkdir()
    making = sqlite3.connect(origin / "events.db", isolation_level=None)
    making.executescript("PRAGMA cache_size=1; BEGIN; CREATE TABLE half (x);")
    making.executemany("INSERT INTO half VALUES (?)", [(b"x" * 4000,)] * 20)  # more than the cache: the file is written
    for name in ("events.db", "events.db-journal"):
        shutil.copyfile(origin / name, found / name)
    making.close()
    async with opened(found) as log:
        await store(log, 0, b"first")
        events, damages = await read_all(log)
        assert [each.tail for each in events[0]] == [b"first"]
        assert not damages
