"""Jobs and configurations from the command line, against a hub that runs."""

import re
from collections.abc import Iterator

import pytest

from cli.processes import HubProcess, hub_process, wait_until


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with hub_process(tmp_path_factory.mktemp("jobs") / "hub") as process:
        yield process


def test_jobs(hub: HubProcess) -> None:
    text = hub.ok("job", "create-twin", "tune", "--where", "*", "--set", "desired.interval=5", "--wait")
    assert re.search(r"^status +completed$", text, re.MULTILINE)
    assert re.search(r"^progress +1 of 1 done$", text, re.MULTILINE)
    twin = hub.run("device", "twin", "first-device", "--json").json
    assert twin["properties"]["desired"]["interval"] == 5
    called = hub.run("job", "create-method", "it's", "reboot", "--where", "status = 'enabled'", "--wait", "--json").json
    assert (called["status"], called["deviceJobStatistics"]["failedCount"]) == ("completed", 1)
    shown = hub.ok("job", "show", "it's", "--devices")
    assert re.search(r"^first-device +failed +DeviceNotOnline: ", shown, re.MULTILINE)
    hub.ok("job", "create-method", "night", "reboot", "--where", "*", "--start", "2099-01-01T00:00:00Z")
    assert "cancelled" in hub.ok("job", "cancel", "night")
    assert [each["jobId"] for each in hub.run("job", "list", "--json").json] == ["night", "it's", "tune"]
    refused = hub.run("job", "create-twin", "more", "--where", "tags.hall =", "--tag", "a=1")
    assert refused.status == 1
    assert "character" in refused.err
    assert hub.run("job", "create-twin", "more", "--where", "*").status == 2
    assert "job list" in hub.run("job", "show", "nothing").err


def test_configurations(hub: HubProcess) -> None:
    metric = "all=SELECT deviceId FROM devices"
    settings = ("--set", "desired.fan.mode=auto", "--metric", metric)
    made = hub.run("configuration", "create", "tune", "--where", "*", *settings, "--json").json
    assert made["content"] == {"deviceContent": {"properties.desired.fan.mode": "auto"}}
    wait_until(lambda: "1 of 1" in hub.ok("configuration", "show", "tune"), within=60)
    changed = hub.ok("configuration", "update", "tune", "--priority", "7")
    assert re.search(r"^priority +7$", changed, re.MULTILINE)
    assert re.search(r"^metric all +1$", changed, re.MULTILINE)
    assert "tune" in hub.ok("configuration", "list")
    assert hub.ok("configuration", "delete", "tune") == "tune is deleted\n"
    assert "configuration list" in hub.run("configuration", "show", "tune").err
