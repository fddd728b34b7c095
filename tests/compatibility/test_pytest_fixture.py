"""``from hubkeep.testing import hub``: what a user's own test does with it."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from azure.iot.device import IoTHubDeviceClient

from hubkeep.server import StartFailure
from hubkeep.settings import SettingsError
from hubkeep.testing import HubInThread, hub

__all__ = ["hub"]


def test_a_device_of_this_test_sends_to_a_hub_of_this_test(hub: HubInThread) -> None:
    client = IoTHubDeviceClient.create_from_connection_string(hub.create_device("press-07"))
    client.connect()
    client.send_message("hello")
    client.shutdown()
    assert [event["body"] for event in hub.wait_for_events(1)] == ["hello"]


def test_two_hubs_stand_side_by_side_each_in_seconds(hub: HubInThread) -> None:
    started = time.monotonic()
    with HubInThread() as other:
        assert time.monotonic() - started < 10  # under one on an idle machine
        assert other.address != hub.address
        other.create_device("only-here")
        assert hub.refusals() == []


def test_time_passes_when_the_test_says_so(hub: HubInThread) -> None:
    before = hub.clock.now()
    hub.clock.move(3600)
    assert hub.clock.now() - before >= 3600


def test_hubs_of_tests_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with HubInThread() as other, other.trusted():
        other.create_device("press-07")
        assert list(tmp_path.iterdir())
    with pytest.raises(SettingsError):
        HubInThread(log_levle="warning")
    with pytest.raises(StartFailure), HubInThread(listeners={"mqtt_port": 1}, address="192.0.2.1", mode="serve"):
        pytest.fail("no hub can be there")
    assert not list(tmp_path.iterdir())


FRESH_PROJECT = """
import pytest
from hubkeep.testing import hub


@pytest.mark.parametrize("number", range(2))
def test_each_has_a_hub_of_its_own(hub, number):
    hub.create_device(f"device-{number}")
    assert hub.refusals() == []
    assert hub.address.startswith("127.")
"""


def test_a_fresh_project_in_parallel(tmp_path: Path) -> None:
    (tmp_path / "test_imported.py").write_text(FRESH_PROJECT)
    by_plugin = FRESH_PROJECT.replace("from hubkeep.testing import hub\n", "")
    (tmp_path / "test_by_the_plugin_alone.py").write_text(by_plugin)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-W",
        "error",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
