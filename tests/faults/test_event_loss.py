"""Accepting that damaged events are lost: everything else is kept, nothing is given out twice, at any kill."""

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conversations.https_peer import VERSION, request
from faults.event_logs import PARTITIONS, Events, copy_log, fill, flip, opened, read_all, store
from hubkeep.cli.main import app
from hubkeep.errors import EventLogDamaged, StoreUnavailable
from hubkeep.store import event_loss
from hubkeep.testing import HubInThread

NOW = 1_800_000_000_000
STEPS = {"os.link", "os.mkdir", "os.rename", "os.remove", "shutil.copyfile", "sqlite3.connect", "open"}


@pytest.fixture
async def log(tmp_path: Path) -> tuple[Path, Events]:
    """As a kill leaves it, part of it in its write-ahead log, and what is in it."""
    origin = tmp_path / "origin"
    origin.mkdir()
    async with opened(origin) as log:
        await fill(log, 40)
        await read_all(log)
    async with opened(origin) as log:
        await fill(log, 20, seed=2)
        whole, _ = await read_all(log)
        return copy_log(origin, tmp_path / "killed"), whole


def record(folder: Path, sql: str, *values: object) -> None:
    connection = sqlite3.connect(folder / "events.db")
    connection.execute(sql, values)
    connection.commit()
    connection.close()


def spoil(folder: Path, partition: int, sequence: int) -> None:
    """Alter one record, as a disk would: its checksum stays."""
    record(folder, "UPDATE batch SET body = CAST(body || x'00' AS BLOB) WHERE partition = ? AND first_sequence <= ?"
           " AND first_sequence + count > ?", partition, sequence, sequence)  # fmt: skip


def cut(folder: Path, partition: int, sequence: int) -> None:
    record(folder, "DELETE FROM batch WHERE partition = ? AND first_sequence >= ?", partition, sequence)


def accept(folder: Path) -> event_loss.Survey:
    path = folder / "events.db"
    seen = event_loss.survey(path)
    event_loss.accept(path, seen, NOW, "somebody")
    return seen


async def check_accepted(folder: Path, whole: Events, lost: list[tuple[int, int, int]]) -> None:
    """All but ``lost`` (partition, first, last) is there, nothing is damaged, and what comes now goes on behind it."""
    gone = {(partition, each) for partition, first, last in lost for each in range(first, last + 1)}
    async with opened(folder) as log:
        assert [(each.partition, each.first, each.last) for each in log.gaps] == lost
        await log.scrub(rest=0)
        assert not log.damaged
        for partition in range(PARTITIONS):
            await store(log, partition, b"behind it")
        found, damages = await read_all(log)
        assert not damages
        for partition, before in whole.items():
            kept = [each for each in before if (partition, each.sequence) not in gone]
            assert found[partition][:-1] == kept, "altered, or more lost than was told"
            newest = found[partition][-1]
            assert newest.sequence == before[-1].sequence + 1, "a sequence number was given out twice"
            assert newest.offset > before[-1].offset, "an offset was given out twice"
            assert await log.sequence_at_offset(partition, newest.offset) == newest.sequence
        for partition, _, last in lost:
            behind = await log.read(partition, last, 1 << 20)
            assert behind[0].sequence == last + 1
            for offset in (0, *(each.offset for each in whole[partition])):
                sequence = await log.sequence_at_offset(partition, offset)
                assert (await log.read(partition, sequence, 1))[0].offset >= offset
    async with opened(folder) as log:  # and once more, with all in its main file
        assert not log.damaged


def ranges(seen: event_loss.Survey) -> list[tuple[int, int, int]]:
    return sorted((each.partition, each.first, each.last) for each in seen.lost)


@pytest.mark.spec("L-S6")
@pytest.mark.parametrize("place", ["the oldest", "the middle", "the newest", "two places", "all of it"])
async def test_only_what_is_damaged_is_lost(log: tuple[Path, Events], place: str) -> None:
    folder, whole = log
    middle, last = len(whole[1]) // 2, whole[1][-1].sequence
    hit = {"the oldest": [0], "the middle": [middle], "the newest": [last], "two places": [middle, last],
           "all of it": [each.sequence for each in whole[1]]}[place]  # fmt: skip
    for sequence in hit:
        spoil(folder, 1, sequence)
    async with opened(folder) as damaged:
        await damaged.scrub(rest=0)
        assert list(damaged.damaged) == [1]
    evidence = (folder / "events.db").read_bytes()
    seen = accept(folder)
    assert {each.partition for each in seen.lost} == {1}
    assert all(any(each.first <= sequence <= each.last for each in seen.lost) for sequence in hit)
    assert (folder / "events-damaged-20270115T080000Z" / "events.db").read_bytes() == evidence
    await check_accepted(folder, whole, ranges(seen))


@pytest.mark.spec("L-S6")
async def test_what_is_missing_at_the_end_and_what_cannot_be_read(log: tuple[Path, Events]) -> None:
    folder, whole = log
    cut(folder, 0, whole[0][-1].sequence - 5)
    with pytest.raises(EventLogDamaged) as refused:
        async with opened(folder):
            pass
    assert "acknowledged events are missing" in refused.value.reason
    size = (folder / "events.db").stat().st_size
    flip(folder / "events.db", size // 2 // 16384 * 16384, 3)  # the kind of a page in the middle
    seen = accept(folder)
    assert any(each.continued is None for each in seen.lost if each.partition == 0)
    await check_accepted(folder, whole, ranges(seen))


async def test_a_damaged_write_ahead_log(log: tuple[Path, Events]) -> None:
    folder, whole = log
    flip(folder / "events.db-wal", 40_000, 1)
    with pytest.raises(EventLogDamaged):
        async with opened(folder):
            pass
    seen = accept(folder)
    assert seen.lost
    assert (folder / "events-damaged-20270115T080000Z" / "events.db-wal").exists()
    await check_accepted(folder, whole, ranges(seen))


async def test_a_second_loss_beside_the_first(log: tuple[Path, Events]) -> None:
    folder, whole = log
    spoil(folder, 1, 10)
    first = ranges(accept(folder))
    event_loss.forget_note(folder / "events.db")
    spoil(folder, 1, whole[1][-1].sequence)
    path = folder / "events.db"
    event_loss.accept(path, event_loss.survey(path), NOW + 60_000, "somebody")
    async with opened(folder) as log_:
        both = [(each.partition, each.first, each.last) for each in log_.gaps]
    assert both[:1] == first
    assert len(both) == 2
    await check_accepted(folder, whole, both)


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Run ``work`` in a process that ends at once before its nth step; whether it got there."""
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        counted = 0

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal counted
            if event in STEPS and (event != "open" or "events" in str(arguments[0])):
                counted += 1
                if counted == step:
                    os._exit(9)

        sys.addaudithook(count)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 9


@pytest.mark.spec("L-S9")
async def test_a_kill_leaves_the_damaged_log_or_the_whole_one(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    async with opened(folder) as small:
        await fill(small, 8)
        whole, _ = await read_all(small)
    spoil(folder, 1, len(whole[1]) // 2)
    outcomes = set()
    for step in range(1, 60):
        copy = tmp_path / f"kill-{step}"
        shutil.copytree(folder, copy)
        if not killed_at(step, lambda copy=copy: accept(copy)):  # type: ignore[misc]
            break
        async with opened(copy) as after:
            await after.scrub(rest=0)
            outcome = "damaged" if after.damaged else "whole"
            assert bool(after.gaps) == (outcome == "whole")
            before, _ = await read_all(after)
        outcomes.add(outcome)
        assert before[0] == whole[0]
        if outcome == "damaged":
            event_loss.accept(copy / "events.db", event_loss.survey(copy / "events.db"), NOW + 1000 * step, "somebody")
        async with opened(copy) as after:
            lost = [(each.partition, each.first, each.last) for each in after.gaps]
        await check_accepted(copy, whole, lost)
        shutil.rmtree(copy)
    assert step > 15, "the steps were not seen"
    assert outcomes == {"damaged", "whole"}


async def test_a_record_of_another_log_is_no_gap(log: tuple[Path, Events]) -> None:
    folder, _ = log
    record(folder, "UPDATE batch SET previous = previous + 1 WHERE id = 9")
    connection = sqlite3.connect(folder / "events.db")
    row = connection.execute("SELECT partition, first_sequence, count, first_offset, enqueued, previous, body"
                             " FROM batch WHERE id = 9").fetchone()  # fmt: skip
    from hubkeep.store.event_batch import checksum

    connection.execute("UPDATE batch SET chain = ? WHERE id = 9", (checksum(*row),))
    connection.commit()
    connection.close()
    with pytest.raises(StoreUnavailable) as refused:
        event_loss.survey(folder / "events.db")
    assert "of another log" in refused.value.reason


def send(hub: HubInThread, body: bytes) -> None:
    assert request(hub, "POST", f"/devices/lossy/messages/events?{VERSION}", body).status == 204


def test_the_command(tmp_path: Path) -> None:
    """Refused while a hub serves; shows without --yes; afterwards events are taken, and the audit tells of it."""
    data = tmp_path / "data"

    def command(*more: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["events", "accept-loss", "--data", str(data), *more])
        return (getattr(done.exception, "status", done.exit_code), done.output)

    with HubInThread(data) as hub:
        hub.create_device("lossy")
        for number in range(5):
            send(hub, b"message %d" % number)
        assert command("--yes")[0] == 78
    with sqlite3.connect(data / "events.db") as connection:
        connection.execute("UPDATE batch SET body = CAST(body || x'00' AS BLOB) WHERE id = 2")
    connection.close()
    status, told = command("--json")
    assert (status, json.loads(told)["accepted"]) == (1, False)
    (lost,) = json.loads(told)["lost"]
    status, told = command("--yes", "--json")
    assert (status, json.loads(told)["accepted"], json.loads(told)["lost"]) == (0, True, [lost])
    assert (data / json.loads(told)["evidence"] / "events.db").exists()
    with HubInThread(data) as hub:
        send(hub, b"another")
        (gap,) = request(hub, "GET", "/api/status").body["lost"]
        assert [gap["partition"], gap["first_sequence"]] == [lost["partition"], lost["first_sequence"]]
        bodies = [each["body"] for each in hub.wait_for_events(5)]
        assert bodies == ["message 0", "message 2", "message 3", "message 4", "another"]
        (entry,) = request(hub, "GET", "/api/audit?operation=events/accept-loss").body
        assert f"sequence numbers {lost['first_sequence']} to {lost['last_sequence']}" in entry["detail"]
    with HubInThread(data) as hub:
        assert len(request(hub, "GET", "/api/audit?operation=events/accept-loss").body) == 1
