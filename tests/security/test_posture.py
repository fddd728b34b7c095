"""The posture report of a real hub: checks are raised by what a hub really meets, named, mended, and silent again."""

import contextlib
import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

import pytest

from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import MqttPeer
from hubkeep.testing import HubInThread
from security.test_cut_off import ACCEPTED, keys_of, log_in

DAY = 86_400.0


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    """Without first-device: a fleet of nobody."""
    with HubInThread() as hub:
        request(hub, "DELETE", f"/devices/first-device?{VERSION}", headers={"If-Match": "*"})
        yield hub


@contextlib.contextmanager
def later(hub: HubInThread, days: float) -> Iterator[None]:
    hub.clock.jump(days * DAY)
    try:
        yield
    finally:
        hub.clock.jump(-days * DAY)


def finding(hub: HubInThread, check: str) -> dict[str, Any]:
    answer = request(hub, "GET", f"/api/posture?only={check}")
    assert answer.status == 200
    (found,) = answer.body["findings"]
    return dict(found)


def names(hub: HubInThread, check: str) -> list[str]:
    """Who is named; nobody where the check is content."""
    found = finding(hub, check)
    assert (found["state"] == "fail") == bool(found["affected"])
    return list(found["evidence"]["sample"])


def visit(hub: HubInThread, device_id: str, key: bytes, seconds: int = 3600) -> None:
    with MqttPeer(hub) as peer:
        assert log_in(peer, device_id, hub.token(f"devices/{device_id}", key=key, seconds=seconds)) == ACCEPTED
    wait_gone(hub, device_id)


def wait_gone(hub: HubInThread, device_id: str) -> None:
    """That a link ended is activity as well: it shall not happen on a day to come."""
    deadline = time.monotonic() + 20
    while request(hub, "GET", f"/devices/{device_id}?{VERSION}").body["connectionState"] != "Disconnected":
        assert time.monotonic() < deadline, "the link of a closed socket ends"
        time.sleep(0.02)


@contextlib.contextmanager
def device(hub: HubInThread, device_id: str) -> Iterator[dict[str, bytes]]:
    yield keys_of(hub, device_id)
    request(hub, "DELETE", f"/devices/{device_id}?{VERSION}", headers={"If-Match": "*"})


@pytest.mark.spec("PC13")
def test_the_silent(hub: HubInThread, device_id: str) -> None:
    with device(hub, device_id) as keys:
        visit(hub, device_id, keys["primary"])
        with later(hub, 89):
            assert names(hub, "PC13") == []
        with later(hub, 91):
            assert names(hub, "PC13") == [device_id]
            found = finding(hub, "PC13")
            assert found["fix"]["commands"] == [f"hubkeep device block --reason silent {device_id}"]
            body = {"deviceId": device_id, "status": "disabled"}
            assert request(hub, "PUT", f"/devices/{device_id}?{VERSION}", body, headers={"If-Match": "*"}).status == 200
            assert names(hub, "PC13") == []


@pytest.mark.spec("PC12")
def test_those_that_never_came(hub: HubInThread, device_id: str) -> None:
    with device(hub, device_id) as keys, later(hub, 31):
        assert names(hub, "PC12") == [device_id]
        visit(hub, device_id, keys["primary"])
        assert names(hub, "PC12") == []


@pytest.mark.spec("PC05")
def test_one_key_on_several_devices(hub: HubInThread, device_id: str) -> None:
    with device(hub, f"{device_id}-1") as keys, device(hub, f"{device_id}-2"):
        assert names(hub, "PC05") == []
        shared = request(hub, "GET", f"/devices/{device_id}-1?{VERSION}").body["authentication"]
        body = {"deviceId": f"{device_id}-2", "authentication": shared}
        assert request(hub, "PUT", f"/devices/{device_id}-2?{VERSION}", body, headers={"If-Match": "*"}).status == 200
        found = finding(hub, "PC05")
        assert {each["devices"] for each in found["evidence"]["groups"]} == {2}
        assert set(found["evidence"]["sample"]) == {f"{device_id}-1", f"{device_id}-2"}
        assert keys["primary"].hex()[:16] not in str(found)


@pytest.mark.spec("PC04")
def test_tokens_that_are_keys_in_disguise(hub: HubInThread, device_id: str) -> None:
    with device(hub, device_id) as keys:
        visit(hub, device_id, keys["primary"], seconds=int(DAY) - 60)
        assert (names(hub, "PC03"), names(hub, "PC04")) == ([], [])
        visit(hub, device_id, keys["primary"], seconds=int(2 * DAY))
        assert (names(hub, "PC03"), names(hub, "PC04")) == ([device_id], [])
        visit(hub, device_id, keys["primary"], seconds=int(400 * DAY))
        assert (names(hub, "PC03"), names(hub, "PC04")) == ([], [device_id])


@pytest.mark.spec("PC08")
def test_devices_that_use_a_policys_key(hub: HubInThread, device_id: str) -> None:
    with device(hub, device_id):
        with MqttPeer(hub) as peer:
            assert log_in(peer, device_id, hub.token(policy="device")) == ACCEPTED
        found = finding(hub, "PC08")
        assert (found["severity"], found["evidence"]["sample"]) == ("high", [device_id])
        assert "hubkeep policy rotate --key primary device" in found["fix"]["commands"]


def test_a_run_is_kept_and_a_report_is_not(hub: HubInThread) -> None:
    before = len(request(hub, "GET", "/api/posture/runs").body)
    assert request(hub, "GET", "/api/posture").status == 200
    kept = request(hub, "POST", "/api/posture/runs").body
    runs = request(hub, "GET", "/api/posture/runs?most=1000").body
    assert len(runs) == before + 1
    assert (runs[0]["index"], runs[0]["by"]) == (kept["index"], "policy iothubowner")


def test_an_accepted_risk(hub: HubInThread, device_id: str) -> None:
    with device(hub, device_id), later(hub, 31):
        assert finding(hub, "PC12")["state"] == "fail"
        body = {"owner": "ann", "reason": "on the shelf", "until": "2100-01-01T00:00:00Z"}
        assert request(hub, "PUT", "/api/posture/waivers/PC12", body).status == 400
        body["until"] = (dt.datetime.now(dt.UTC) + dt.timedelta(days=150)).isoformat()
        given = request(hub, "PUT", "/api/posture/waivers/pc12", body)
        assert given.status == 200
        found = finding(hub, "PC12")
        assert (found["state"], found["waiver"]["reason"]) == ("waived", "on the shelf")
        with device(hub, f"{device_id}-2"), later(hub, 31):
            found = finding(hub, "PC12")
            assert (found["state"], found["affected"]) == ("fail", 2)
            assert "2 are now" in found["waiver"]["lapsed"]
        assert request(hub, "DELETE", "/api/posture/waivers/PC12").status == 204
        assert request(hub, "DELETE", "/api/posture/waivers/PC12").status == 404
        assert finding(hub, "PC12")["state"] == "fail"


@pytest.mark.parametrize("query", ["only=PC99", "fixed=x", "form=short"])
def test_questions_that_are_none(hub: HubInThread, query: str) -> None:
    assert request(hub, "GET", f"/api/posture?{query}").status == 400


def test_a_reader_may_read_and_no_more(hub: HubInThread) -> None:
    assert request(hub, "GET", "/api/posture?only=PC12", policy="registryRead").status == 200
    assert request(hub, "GET", "/api/posture/runs", policy="registryRead").status == 200
    for policy in ("service", "device"):
        assert request(hub, "GET", "/api/posture", policy=policy).status == 401
    assert request(hub, "POST", "/api/posture/runs", policy="registryReadWrite").status == 401
