"""A data directory of every version that was: the current one opens it, finds all, and goes on writing."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import MqttPeer, publish
from fixtures.make_data import comparable
from hubkeep.testing import HubInThread

FIXTURES = Path(__file__).parent.parent / "fixtures"
KEPT = sorted(FIXTURES.glob("data-*"))


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
def test_a_data_directory_of_an_older_version_is_opened_and_goes_on(kept: Path, tmp_path: Path) -> None:
    contents: dict[str, Any] = json.loads((kept / "contents.json").read_text())
    data = shutil.copytree(kept / "data", tmp_path / "data")
    for path in (data, *data.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)  # git keeps no modes
    for _ in range(2):  # opened by the current version, and once more as it left it
        with opened(data, contents) as hub, hub.trusted():
            events = hub.wait_for_events(len(contents["events"]))
            assert sorted(events, key=place) == sorted(contents["events"], key=place)
            for device, expected in contents["devices"].items():
                assert comparable(hub, device) == expected
            policies = {each["name"]: each for each in request(hub, "GET", "/api/policies").body}
            for each in contents["policies"]:  # a newer version adds policies, and members to those that were there
                assert policies[each["name"]].items() >= each.items()
            assert len(hub.refusals(most=100)) >= contents["refusals"]
            twin = request(hub, "GET", f"/twins/press-01?{VERSION}").body
            assert twin["tags"] == contents["twins"]["press-01"]["tags"]
            assert contents["twins"]["press-01"]["desired"].items() <= twin["properties"]["desired"].items()
    with opened(data, contents) as hub, hub.trusted():
        for text in contents["queued"]["press-02"]:
            answer = request(hub, "GET", f"/devices/press-02/messages/devicebound?{VERSION}")
            assert answer.body == text.encode()
            lock = answer.headers["etag"].strip('"')
            done = request(hub, "DELETE", f"/devices/press-02/messages/devicebound/{lock}?{VERSION}")
            assert done.status == 204
        with MqttPeer.logged_in(hub, "press-01") as peer:
            peer.send(publish("devices/press-01/messages/events/", b"goes on"))
            assert peer.read() == (0x40, b"\0\1")
        (newest,) = [each for each in hub.wait_for_events(21) if each["body"] == "goes on"]
        before = [each for each in contents["events"] if each["partition"] == newest["partition"]]
        assert newest["sequence_number"] == len(before)
        assert int(newest["offset"]) > max(int(each["offset"]) for each in before)
        created = request(hub, "PUT", f"/devices/new?{VERSION}", {"deviceId": "new"})
        assert created.status == 200


def opened(data: Path, contents: dict[str, Any]) -> HubInThread:
    """A hub whose clock goes on where the one that made the directory stopped: nothing in it has expired."""
    hub = HubInThread(data=data)
    hub.clock.move(max(event["enqueued"] for event in contents["events"]) / 1000 + 60 - time.time())
    return hub


def test_there_is_one() -> None:
    assert KEPT, "python tests/fixtures/make_data.py makes it"


def place(event: dict[str, Any]) -> tuple[int, int]:
    return int(event["partition"]), event["sequence_number"]
