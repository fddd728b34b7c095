"""A hub that is killed while back ends change things: every change that was answered is in the audit."""

import contextlib
import http.client
import json
import threading
import time
from pathlib import Path

import pytest

from faults.served import Served
from hubkeep.server.audit import verify_audit

_WRITERS = 4


def _write(hub: Served, writer: int, answered: list[str]) -> None:
    """One device after another on one connection, until the hub is gone."""
    connection = http.client.HTTPSConnection(hub.address, 443, context=hub.context(), timeout=20)
    headers = {"Authorization": hub.token(), "Content-Type": "application/json"}
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        for number in range(100_000):
            device_id = f"killed-{writer}-{number}"
            body = json.dumps({"deviceId": device_id})
            connection.request("PUT", f"/devices/{device_id}?api-version=2021-04-12", body, headers)
            response = connection.getresponse()
            if response.status == 200:
                answered.append(device_id)
            response.read()


@pytest.mark.timeout(180)
def test_every_change_that_was_answered_before_a_kill_is_in_the_audit(tmp_path: Path) -> None:
    answered: list[str] = []
    with Served(tmp_path / "data") as hub:
        for kills in (1, 2):
            hub.start()
            writers = [
                threading.Thread(target=_write, args=(hub, 10 * kills + each, answered)) for each in range(_WRITERS)
            ]
            for each in writers:
                each.start()
            wanted, deadline = 40 * kills, time.monotonic() + 60
            while len(answered) < wanted and time.monotonic() < deadline:
                time.sleep(0.005)
            hub.kill()
            for each in writers:
                each.join()
        assert len(answered) >= 80
        assert [each.breaks for each in verify_audit(tmp_path / "data") if each.breaks] == []
        hub.start()
        audited: set[str] = set()
        page = 0
        while found := hub.get(f"/api/audit?chain=changes&operation=devices/put&order=oldest&most=1000&page={page}"):
            audited |= {each["target"] for each in found}
            page = found[-1]["number"]
    assert set(answered) <= audited
