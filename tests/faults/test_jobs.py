"""Kill the hub while a job is at work: it ends all the same, every device counted once."""

import signal
from pathlib import Path

import pytest

from cli.processes import hub_process, wait_until
from hubkeep.cli.client import HubClient, find_hub
from hubkeep.testing.hub_in_thread import free_address

DEVICES = 60


@pytest.mark.timeout(120)
def test_a_job_ends_after_kills(tmp_path: Path) -> None:
    data, address = tmp_path / "hub", free_address()
    job, devices = "/jobs/v2/tune", [f"press-{number}" for number in range(DEVICES)]
    # one device after the other, so that the kill comes in the middle
    config = tmp_path / "hub.toml"
    config.write_text("[limits]\njob_parts_running = 1\n")
    with hub_process(data, "--config", str(config), address=address) as hub:
        with HubClient(find_hub(data, None)) as client:
            for device in devices:
                client.request("PUT", f"/devices/{device}", body={"deviceId": device})
            body = {"type": "scheduleUpdateTwin", "queryCondition": "*", "updateTwin": {"tags": {"wave": 1}}}
            client.request("PUT", job, body=body)
            wait_until(lambda: client.get(job)["deviceJobStatistics"]["succeededCount"] >= 5)
        hub.stop(signal.SIGKILL)
    with hub_process(data, address=address), HubClient(find_hub(data, None)) as client:
        wait_until(lambda: client.get(job)["status"] == "completed")
        counts = client.get(job)["deviceJobStatistics"]
        assert counts["deviceCount"] == counts["succeededCount"] == DEVICES + 1  # first-device
        query = {"query": "SELECT COUNT() AS n FROM devices WHERE tags.wave = 1"}
        assert client.request("POST", "/devices/query", body=query) == [{"n": DEVICES + 1}]
