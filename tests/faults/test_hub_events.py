"""A hub that is killed amid changes: what was acknowledged is told at least once, in order, after the next start."""

import http.client
import itertools
import json
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from cli.processes import HubProcess, hub_process
from hubkeep.cli.client import HubClient, find_hub
from hubkeep.cli.failure import CommandFailure
from hubkeep.testing.hub_in_thread import free_address

ROUNDS = 3


def changed(process: HubProcess, numbers: "itertools.count[int]", kill_at: int) -> list[tuple[str, Any]]:
    """Make a device, set its tag, delete the one before it, again and again until the hub is killed.

    What was acknowledged, as it must be told: device and operation.
    """
    acknowledged: list[tuple[str, Any]] = []
    with HubClient(find_hub(process.data, None)) as client:
        for number in numbers:
            name = f"d{number}"
            steps: list[tuple[str, str, Any, tuple[str, Any]]] = [
                ("PUT", f"/devices/{name}", {"deviceId": name}, (name, "createDeviceIdentity")),
                ("PATCH", f"/twins/{name}", {"tags": {"n": number}}, (name, number)),
                ("DELETE", f"/devices/{name}", None, (name, "deleteDeviceIdentity")),
            ]
            for method, path, body, told in steps:
                if len(acknowledged) == kill_at:
                    process.process.send_signal(signal.SIGKILL)
                try:
                    client.request(method, path, body=body)
                except (CommandFailure, OSError, http.client.HTTPException):
                    return acknowledged
                acknowledged.append(told)
    raise AssertionError("it was never killed")


def told(process: HubProcess, wanted: set[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """All events of one life after the other, until those that are wanted were among them."""
    seen: list[tuple[str, Any]] = []
    with HubClient(find_hub(process.data, None), timeout=20) as client:
        for line in client.lines("/api/events", **{"from": "earliest"}):
            if line:
                event = json.loads(line)
                operation, body = event["properties"]["opType"], json.loads(event["body"])
                seen.append((event["device"], body["tags"]["n"] if operation == "updateTwin" else operation))
                wanted = wanted - {seen[-1]}
            if not wanted:
                return seen
    raise AssertionError(wanted)


@pytest.mark.timeout(120)
def test_no_acknowledged_change_is_left_untold(tmp_path: Path) -> None:
    chance, numbers = random.Random(7), itertools.count()
    data, address = tmp_path / "hub", free_address()
    config = tmp_path / "hub.toml"
    config.write_text('[events]\npartitions = 1\nsources = ["deviceLifecycleEvents", "twinChangeEvents"]\n')
    acknowledged: list[tuple[str, Any]] = []
    for _ in range(ROUNDS):
        with hub_process(data, "--config", str(config), address=address) as process:
            acknowledged += changed(process, numbers, chance.randrange(10, 40))
    with hub_process(data, "--config", str(config), address=address) as process:
        seen = told(process, set(acknowledged))
    assert len(acknowledged) >= ROUNDS * 10
    first_told = [each for each in dict.fromkeys(seen) if each in set(acknowledged)]
    assert first_told == acknowledged
