"""A kill at exactly one system call, and calls that fail: strace does it, to the whole program (L-S1, L-S3, L-S4)."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from faults.devices import SENDERS, send_amqp, send_https, send_mqtt
from faults.forked import ForkedHub, Point
from faults.kill_points import kill_at_points
from faults.test_disk import eventually
from faults.writes import DEVICE, Writes


@pytest.fixture(autouse=True)
def strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    traced = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if traced.returncode:
        pytest.skip(f"this machine allows no strace: {traced.stderr.strip()}")


@pytest.mark.timeout(600)
@pytest.mark.spec("L-S1")
def test_a_kill_at_a_system_call_that_writes_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    report = kill_at_points(tmp_path, 60, random.randrange(1 << 30), budget=60)
    print(report)
    assert not report.problems, report.problems
    # a run that takes another path through its threads may make fewer calls of a kind
    assert report.reached.total() >= report.moments * 0.8
    assert report.acknowledged > 0


@pytest.mark.timeout(300)
@pytest.mark.spec("L-S3")
def test_a_sync_or_write_that_fails_acknowledges_nothing_and_loses_nothing(tmp_path: Path) -> None:
    with ForkedHub(tmp_path / "data") as hub:
        hub.start()
        hub.register([DEVICE])
        writes = Writes(hub)
        writes.run(1)
        whole = writes.acknowledged
        for file, calls, error in (
            ("events.db-wal", "fdatasync", "EIO"),
            ("events.db-wal", "pwrite64", "EIO"),
            ("events.db-wal", "pwrite64", "ENOSPC"),
            ("registry.db-wal", "fdatasync", "EIO"),
            ("registry.db-wal", "pwrite64", "ENOSPC"),
        ):
            hub.trace(*Point(calls, file, 1, f"error={error}").options(hub.data))
            refused = writes.refused
            writes.run(1)
            hub.detach()
            assert writes.refused > refused, (file, calls, error)
            assert writes.problems == []
            before = writes.acknowledged
            writes.run(1)  # full service again, without a start
            assert writes.acknowledged - before >= whole, (file, calls, error)
        assert writes.check() == []
        hub.kill()
        hub.start()
        assert writes.check() == []


@pytest.mark.timeout(300)
@pytest.mark.spec("L-S3")
def test_two_syncs_that_fail_in_a_row_stop_the_log_and_are_answered_as_documented(tmp_path: Path) -> None:
    with ForkedHub(tmp_path / "data") as hub:
        hub.start()
        hub.register(list(SENDERS))
        assert send_mqtt(hub, "mqtt", b"before").is_stored
        hub.trace(*Point("fdatasync", "events.db-wal", 1, "error=EIO", last=1000).options(hub.data))
        answers = [send_https(hub, "https", b"lost"), send_amqp(hub, "amqp", b"lost"), send_mqtt(hub, "mqtt", b"lost")]
        assert not any(each.is_stored for each in answers), answers
        assert answers[0].answer.startswith("503 Retry-After ")
        eventually(lambda: hub.health()[0] == 503, 20)
        assert any("cannot be written" in reason for reason in hub.health()[1])
        hub.detach()
        assert not send_https(hub, "https", b"still").is_stored  # a person looks first
        hub.kill()
        hub.start()
        assert send_https(hub, "https", b"after").is_stored
        bodies = [event.body for event in hub.events()]
        assert bodies.count(b"before") == bodies.count(b"after") == 1
        assert b"still" not in bodies
