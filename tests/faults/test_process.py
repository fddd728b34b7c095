"""How the process starts, is refused a start, stops, is halted, and runs out of descriptors."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faults.devices import SENDERS, send_https, send_mqtt
from faults.event_logs import flip
from faults.load import Load
from faults.run import wait_for_acknowledged
from faults.served import Served

NOT_SERVABLE = 78
DEVICES = {f"stop-{each}": ("mqtt", "mqtt", "amqp", "https")[each % 4] for each in range(40)}


@pytest.mark.timeout(180)
@pytest.mark.spec("L-S8")
def test_sigterm_under_load_ends_well_and_loses_nothing(tmp_path: Path) -> None:
    with Served(tmp_path / "data") as hub:
        hub.start()
        hub.register(list(DEVICES))
        load = Load(hub.for_load, DEVICES, 2000, processes=1)
        wait_for_acknowledged(load, 500)
        began = time.monotonic()
        hub.signal(signal.SIGTERM)
        assert hub.wait() == 0
        assert time.monotonic() - began < 10
        assert not (hub.data / "events.db-wal").exists()  # all of it in one file
        hub.start()
        wait_for_acknowledged(load, load.acknowledged() + 10)
        findings = load.stop().check(hub.events())
        assert findings.faults == 0, findings
        assert findings.acknowledged > 500


@pytest.mark.timeout(120)
@pytest.mark.spec("L-S8")
def test_a_second_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    with Served(tmp_path / "data") as hub:
        hub.start()
        hub.register(["d"])
        assert send_mqtt(hub, "d", b"kept").is_stored
        hub.signal(signal.SIGSTOP)  # both signals are there before it can do anything
        hub.signal(signal.SIGTERM)
        hub.signal(signal.SIGCONT)
        while hub.process is not None and hub.process.poll() is None:
            hub.signal(signal.SIGTERM)
            time.sleep(0.01)
        assert hub.wait() in {0, -signal.SIGTERM}
        hub.start()
        assert [event.body for event in hub.events()] == [b"kept"]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with some events, of a hub that was stopped."""
    data = tmp_path_factory.mktemp("stopped") / "data"
    with Served(data) as hub:
        hub.start()
        hub.register(["d", "e", "f", "g"])
        for device in ("d", "e", "f", "g"):
            for number in range(5):
                assert send_https(hub, device, b"find me %s %d" % (device.encode(), number)).is_stored
        hub.signal()
        assert hub.wait() == 0
    return data


def one_line(errors: str) -> str:
    """What was said, as one line: the terminal may have wrapped it."""
    text = " ".join(line.strip() for line in errors.splitlines() if line.strip())
    assert "Traceback" not in text
    return re.sub(r"\s+", " ", text)


@pytest.mark.timeout(120)
@pytest.mark.spec("L-S7")
def test_a_second_process_and_a_newer_schema_are_refused_with_status_78(stopped: Path, tmp_path: Path) -> None:
    data = shutil.copytree(stopped, tmp_path / "data")
    with Served(data) as first, Served(data) as second:
        first.start()
        status, errors = second.refused()
        assert (status, "is served by another process" in one_line(errors)) == (NOT_SERVABLE, True)
        assert send_https(first, "d", b"undisturbed").is_stored
        first.signal()
        assert first.wait() == 0
        for name, change in (
            ("registry.db", "UPDATE alembic_version SET version_num = '9999'"),
            ("events.db", "PRAGMA user_version = 99"),
        ):
            (copy := tmp_path / f"newer-{name}").mkdir()
            shutil.copytree(data, copy, dirs_exist_ok=True)
            with sqlite3.connect(copy / name) as connection:
                connection.execute(change)
            connection.close()
            before = (copy / name).read_bytes()
            status, errors = Served(copy).refused()
            assert status == NOT_SERVABLE
            assert "start the version that wrote it" in one_line(errors)
            assert (copy / name).read_bytes() == before


@pytest.mark.timeout(120)
@pytest.mark.spec("L-S7")
def test_wrong_permissions_are_refused_with_status_78(stopped: Path, tmp_path: Path) -> None:
    through: tuple[str, ...] = ()
    if os.geteuid() == 0:  # who may do everything, unless that right is given up
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed, and root is refused nothing")
        through = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")
    data = shutil.copytree(stopped, tmp_path / "data")
    for denied, mode in ((".", 0o500), ("registry.db", 0), ("events.db", 0), ("keys/sealing.key", 0)):
        kept = (data / denied).stat().st_mode
        (data / denied).chmod(mode)
        options = ("--https-port", "0", "--mqtt-port", "0", "--amqp-port", "0")
        status, errors = Served(data, *options, through=through).refused()
        (data / denied).chmod(kept)
        assert (status, denied) == (NOT_SERVABLE, denied), errors
        assert one_line(errors).startswith("hubkeep: ")


@pytest.mark.timeout(120)
@pytest.mark.spec("L-S6")
def test_damage_is_named_by_the_hub_its_health_its_metrics_and_the_doctor(stopped: Path, tmp_path: Path) -> None:
    data = shutil.copytree(stopped, tmp_path / "data")
    content = (data / "events.db").read_bytes()
    flip(data / "events.db", content.index(b"find me d 2"))
    with Served(data) as hub:
        hub.start()
        status, (reason,) = hub.health()
        assert status == 503
        found = re.fullmatch(r"partition (\d): sequence numbers (\d+) to \2: the checksum does not match", reason)
        assert found, reason
        assert not send_mqtt(hub, "d", b"refused").is_stored  # its partition is read-only
        taken = {device: send_https(hub, device, b"more").is_stored for device in "defg"}
        assert not taken["d"]
        assert any(taken.values()), "no other partition is disturbed"
        metrics = read_metrics(hub)
        assert "hubkeep_event_log_damages 1.0" in metrics
        assert any("event log damaged" in line and reason in line for line in hub.errors)
        command = [sys.executable, "-m", "hubkeep", "doctor", "--data", str(data), "--json"]
        doctor = subprocess.run(command, capture_output=True, text=True, check=False)
        assert doctor.returncode == 1
        assert {"state": "failed", "what": reason} in [
            {"state": each["state"], "what": each["what"]} for each in json.loads(doctor.stdout)
        ]
    lost = shutil.copytree(stopped, tmp_path / "lost")
    (lost / "events.db").unlink()
    status, errors = Served(lost).refused()
    assert status == 1
    assert re.search(r"events.db is gone, and with it partition \d: sequence numbers up to \d+", one_line(errors))
    assert not (lost / "events.db").exists()


def read_metrics(hub: Served) -> str:
    import urllib.request

    with urllib.request.urlopen(f"{hub.metrics}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
        return text


@pytest.mark.timeout(120)
@pytest.mark.spec("L-K3")
def test_a_process_that_was_halted_goes_on(tmp_path: Path) -> None:
    with Served(tmp_path / "data") as hub:
        hub.start()
        hub.register(list(DEVICES))
        load = Load(hub.for_load, DEVICES, 500, processes=1)
        wait_for_acknowledged(load, 100)
        hub.signal(signal.SIGSTOP)
        time.sleep(3)
        hub.signal(signal.SIGCONT)
        wait_for_acknowledged(load, load.acknowledged() + 100)
        findings = load.stop().check(hub.events())
        assert findings.faults == 0, findings
        assert hub.health() == (200, [])


@pytest.mark.timeout(180)
@pytest.mark.spec("L-O5")
def test_out_of_descriptors_what_is_connected_goes_on_and_the_log_is_read(tmp_path: Path) -> None:
    with Served(tmp_path / "data") as hub:
        hub.start()
        hub.register(list(SENDERS))
        for kind, send in SENDERS.items():
            assert send(hub, kind, b"before").is_stored
        assert hub.process is not None
        descriptors = len([*Path(f"/proc/{hub.process.pid}/fd").iterdir()])
        _, hard = resource.prlimit(hub.process.pid, resource.RLIMIT_NOFILE)
        load = Load(hub.for_load, {"mqtt": "mqtt"}, 50, processes=1)
        wait_for_acknowledged(load, 10)
        resource.prlimit(hub.process.pid, resource.RLIMIT_NOFILE, (descriptors + 6, hard))
        held = [socket.create_connection((hub.address, 8883), 10) for _ in range(20)]
        wait_for_acknowledged(load, load.acknowledged() + 50)  # a device that is connected notices nothing
        for sock in held:
            sock.close()
        resource.prlimit(hub.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        deadline = time.monotonic() + 30
        while not send_https(hub, "https", b"after").is_stored:
            assert time.monotonic() < deadline
        ledger = load.stop()
        bodies = [event.body for event in hub.events()]
        assert bodies.count(b"before") == 3
        assert sum(map(len, ledger.acknowledged.values())) <= len(bodies) - 4
        assert hub.health() == (200, [])
