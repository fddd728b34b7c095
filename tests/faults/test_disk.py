"""A disk that is full or fails: nothing new is acknowledged, nothing acknowledged goes, and it ends by itself."""

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.devices import SENDERS, ask_twin, send_https, send_mqtt, send_to_device
from faults.served import Served

MIB = 1024 * 1024
_ANY = {"If-Match": "*"}
_JOB = {
    "jobId": "j",
    "updateTwin": {"tags": {"a": 1}},
    "queryCondition": "*",
    "startTime": "",
    "maxExecutionTimeInSeconds": 60,
}
_CONFIGURATION = {"content": {"deviceContent": {"properties.desired.a": 1}}, "targetCondition": "*", "priority": 1}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def eventually(condition: Callable[[], bool], within: float) -> float:
    """Seconds until it came true. Fails when it does not in time."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, f"not within {within} s"
        time.sleep(0.1)
    return time.monotonic() - began


def leave_free(disk: Path, size: int) -> None:
    """Fill the disk up to ``size`` bytes."""
    usage = os.statvfs(disk)
    with (disk / "ballast").open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, usage.f_bavail * usage.f_frsize - size)


@pytest.mark.timeout(180)
@pytest.mark.spec("L-S4")
def test_a_full_disk_refuses_new_messages_keeps_the_old_and_recovers_alone(small_disk: Path) -> None:
    with Served(small_disk / "data") as hub:
        hub.start()
        hub.register(list(SENDERS))
        for kind, send in SENDERS.items():
            assert send(hub, kind, b"before").is_stored
        leave_free(small_disk, MIB)  # below 5 per cent: L-L27
        eventually(lambda: hub.health()[0] == 503, 20)
        (reason,) = hub.health()[1]
        assert "free on the disk" in reason
        answers = {kind: send(hub, kind, b"refused") for kind, send in SENDERS.items()}
        assert not any(each.is_stored for each in answers.values())
        assert answers["amqp"].answer == "rejected amqp:resource-limit-exceeded"
        assert answers["https"].answer.startswith("503 Retry-After ")
        assert answers["https"].answer.split()[-1].isdigit()
        assert answers["mqtt"].answer == "closed"
        assert [event.body for event in hub.events()].count(b"before") == 3  # reading goes on
        (small_disk / "ballast").unlink()
        assert eventually(lambda: send_https(hub, "https", b"after").is_stored, 30) < 10 + 5  # 10 s, and a busy machine
        for kind, send in SENDERS.items():
            assert send(hub, kind, b"after").is_stored
        assert hub.health() == (200, [])
        bodies = [event.body for event in hub.events()]
        assert b"refused" not in bodies
        assert bodies.count(b"before") == 3


@pytest.mark.timeout(180)
@pytest.mark.spec("L-S4")
def test_a_full_disk_refuses_what_would_grow_the_registry_and_lets_reads_and_deletions_go_on(small_disk: Path) -> None:
    patch, topic = b'{"temperature": 21}', "PATCH/properties/reported"
    with Served(small_disk / "data") as hub:
        hub.start()
        hub.register(["d", "stolen", "old", "older"])
        assert hub.ask("PUT", "/configurations/gone", {"id": "gone", **_CONFIGURATION})[0] == 200
        assert ask_twin(hub, "d", topic, patch)[0] == 204
        assert send_to_device(hub, "d").is_stored
        leave_free(small_disk, MIB)
        eventually(lambda: hub.health()[0] == 503, 20)

        refused = {
            "reported properties": ask_twin(hub, "d", topic, b'{"temperature": 99}')[0],
            "a new identity": hub.ask("PUT", "/devices/new", {"deviceId": "new"})[0],
            "a changed one": hub.ask("PUT", "/devices/d", {"deviceId": "d", "statusReason": "moved"}, headers=_ANY)[0],
            "desired properties": hub.ask("PATCH", "/twins/d", {"properties": {"desired": {"to": 1}}})[0],
            "identities in bulk": hub.ask("POST", "/devices", [{"id": "new", "importMode": "create"}])[0],
            "a job": hub.ask("PUT", "/jobs/v2/j", {"type": "scheduleUpdateTwin", **_JOB})[0],
            "a configuration": hub.ask("PUT", "/configurations/c", {"id": "c", **_CONFIGURATION})[0],
        }
        assert set(refused.values()) == {503}, refused
        status, headers = hub.ask("PUT", "/devices/new", {"deviceId": "new"})
        assert status == 503
        assert headers["Retry-After"].isdigit()
        assert send_to_device(hub, "d").answer == "rejected amqp:resource-limit-exceeded"

        status, document = ask_twin(hub, "d", "GET")
        assert status == 200
        assert json.loads(document)["reported"] == {"temperature": 21, "$version": 2}
        for path in ("/devices/d", "/twins/d", "/devices"):
            assert hub.ask("GET", path)[0] == 200
        assert hub.ask("PUT", "/devices/stolen", {"deviceId": "stolen", "status": "disabled"}, headers=_ANY)[0] == 200
        assert hub.ask("DELETE", "/devices/old", headers=_ANY)[0] == 204
        assert hub.ask("DELETE", "/configurations/gone", headers=_ANY)[0] == 204
        assert hub.ask("POST", "/devices", [{"id": "older", "importMode": "delete"}])[0] == 200
        token = hub.for_load.token("d")
        waiting, found = hub.ask("GET", "/devices/d/messages/devicebound", token=token)
        assert waiting == 200
        lock = found["ETag"].strip('"')
        assert hub.ask("DELETE", f"/devices/d/messages/devicebound/{lock}", token=token)[0] == 204

        (small_disk / "ballast").unlink()
        eventually(lambda: hub.health() == (200, []), 30)
        assert ask_twin(hub, "d", topic, b'{"temperature": 22}')[0] == 204
        reported = json.loads(ask_twin(hub, "d", "GET")[1])["reported"]
        assert reported == {"temperature": 22, "$version": 3}  # what was refused left no trace
        assert [hub.ask("GET", f"/devices/{each}")[0] for each in ("new", "old", "older")] == [404, 404, 404]
        assert hub.ask("PUT", "/devices/new", {"deviceId": "new"})[0] == 200
        assert send_to_device(hub, "d").is_stored


@pytest.mark.timeout(180)
@pytest.mark.spec("L-S4")
def test_a_disk_that_fills_up_at_once_leaves_no_half_record(small_disk: Path) -> None:
    """No watch on free space can see it coming: the commits themselves fail."""
    with Served(small_disk / "data", environment={"HUBKEEP_LIMITS__DISK_STOP": "0"}) as hub:
        hub.start()
        hub.register(["d"])
        assert send_mqtt(hub, "d", b"before").is_stored
        leave_free(small_disk, 0)
        stored = 0
        for number in range(200):
            sent = send_https(hub, "d", b"%d " % number + b"x" * 200_000)
            stored += sent.is_stored
            if not sent.is_stored:
                assert sent.answer.startswith("503 ")
                break
        else:
            pytest.fail("the disk did not fill up")
        assert [event.body for event in hub.events()][:1] == [b"before"]
        (small_disk / "ballast").unlink()
        eventually(lambda: send_https(hub, "d", b"after").is_stored, 30)
        events = list(hub.events())
        assert [event.sequence for event in events if event.partition == events[0].partition] == list(
            range(len(events))
        )
        assert sum(event.body.endswith(b"xxx") for event in events) >= stored
        hub.kill()
        hub.start()
        assert list(hub.events()) == events


@pytest.mark.timeout(180)
@pytest.mark.spec("L-S3")
def test_a_disk_that_fails_is_not_trusted_again(tmp_path: Path) -> None:
    """A limit on the size of files makes real writes fail, and not as a full disk does."""
    with Served(tmp_path / "data") as hub:
        hub.start()
        hub.register(["d"])
        assert send_https(hub, "d", b"before").is_stored
        assert hub.process is not None
        wal = (hub.data / "events.db-wal").stat().st_size
        _, hard = resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (wal // 4096 * 4096, hard))
        sent = send_https(hub, "d", b"lost" * 50_000)
        assert not sent.is_stored
        assert sent.answer.startswith("503")
        assert send_mqtt(hub, "d", b"after one").is_stored  # opened anew, on a write-ahead log of its own
        assert hub.health() == (200, [])
        resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (32 * 1024, hard))
        for _ in range(2):
            assert not send_mqtt(hub, "d", b"lost" * 5000).is_stored
        eventually(lambda: hub.health()[0] == 503, 20)
        assert any("cannot be written" in reason for reason in hub.health()[1])
        resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert not send_https(hub, "d", b"still").is_stored  # two failures in a row: a person looks first
        assert [event.body for event in hub.events()] == [b"before", b"after one"]
        hub.signal(signal.SIGTERM)
        hub.wait()
        hub.start()
        assert send_https(hub, "d", b"after").is_stored
        assert [event.body for event in hub.events()] == [b"before", b"after one", b"after"]
