"""The posture report of a real hub: checks are raised by what a hub really meets, named, mended, and silent again."""

import contextlib
import datetime as dt
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from cli.processes import Done, command
from conversations.certificates import Certificate, register
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import MqttPeer, tls_socket
from hubkeep.server.backup import back_up
from hubkeep.testing import HubInThread
from security.test_cut_off import ACCEPTED, REFUSED, keys_of, log_in, rotate

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
    remove(hub, device_id)


def remove(hub: HubInThread, device_id: str) -> None:
    path = f"/devices/{quote(device_id, safe='')}?{VERSION}"
    assert request(hub, "DELETE", path, headers={"If-Match": "*"}).status == 204


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


@pytest.mark.spec("PC03")
def test_tokens_that_live_for_days(hub: HubInThread, device_id: str) -> None:
    with device(hub, device_id) as keys:
        visit(hub, device_id, keys["primary"], seconds=int(2 * DAY))
        assert names(hub, "PC03") == [device_id]
        visit(hub, device_id, keys["primary"])
        assert names(hub, "PC03") == []


@pytest.mark.spec("PC02")
def test_keys_of_a_year(hub: HubInThread, device_id: str) -> None:
    with device(hub, device_id):
        with later(hub, 80):
            assert device_id not in names(hub, "PC02")
        with later(hub, 366):
            assert device_id in names(hub, "PC02")
            assert "policy iothubowner" in names(hub, "PC02")
            for slot in ("primary", "secondary"):
                rotate(hub, device_id, slot)
            assert device_id not in names(hub, "PC02")


@pytest.mark.spec("PC06")
def test_thumbprints_of_sha_1(hub: HubInThread, device_id: str) -> None:
    certificate = Certificate.made(device_id)
    register(hub, device_id, certificate.sha256)
    assert names(hub, "PC06") == []
    register(hub, device_id, certificate.sha1, update=True)
    assert names(hub, "PC06") == [device_id]
    remove(hub, device_id)


@pytest.mark.spec("PC09")
def test_a_certificate_without_a_next_one(hub: HubInThread, device_id: str, tmp_path: Path) -> None:
    short, following = Certificate.made(device_id, days=(-1, 50)), Certificate.made(device_id, days=(-1, 300))
    register(hub, device_id, short.sha256)
    assert names(hub, "PC09") == []
    with MqttPeer(hub, tls_socket(hub, 8883, short.file(tmp_path))) as peer:
        assert log_in(peer, device_id, None) == ACCEPTED
    assert names(hub, "PC09") == [device_id]
    register(hub, device_id, short.sha256, following.sha256, update=True)
    assert names(hub, "PC09") == []
    remove(hub, device_id)


@pytest.mark.spec("PC10")
def test_a_change_of_keys_that_never_ends(hub: HubInThread, device_id: str) -> None:
    with device(hub, device_id) as keys:
        rotate(hub, device_id, "secondary")
        with later(hub, 31):
            visit(hub, device_id, keys["primary"])
            assert names(hub, "PC10") == [device_id]
            visit(hub, device_id, keys_of(hub, device_id)["secondary"])
            assert names(hub, "PC10") == []


@pytest.mark.spec("PC15")
def test_whose_device_it_is(hub: HubInThread, device_id: str) -> None:
    with device(hub, device_id):
        assert device_id in names(hub, "PC15")
        assert request(hub, "PATCH", f"/twins/{device_id}?{VERSION}", {"tags": {"owner": "line 3"}}).status == 200
        assert device_id not in names(hub, "PC15")


@pytest.mark.spec("PC16")
def test_clients_without_support(hub: HubInThread, device_id: str) -> None:
    with device(hub, device_id) as keys:
        for client, named in (
            ("azure-iot-device-iothub-py/1.4.6", [device_id]),
            ("azure-iot-device-iothub-py/2.14", []),
        ):
            path = f"/devices/{device_id}/messages/events?{VERSION}"
            token = hub.token(f"devices/{device_id}", key=keys["primary"])
            sent = request(hub, "POST", path, b"x", token=token, headers={"User-Agent": client})
            assert sent.status == 204
            assert names(hub, "PC16") == named


@pytest.mark.spec("PC41")
def test_secrets_in_twins(hub: HubInThread, device_id: str) -> None:
    with device(hub, device_id):
        tags = {"wifi": {"password": "correct horse battery"}, "backup": "HostName=h;SharedAccessKey=abc", "token": 7}
        assert request(hub, "PATCH", f"/twins/{device_id}?{VERSION}", {"tags": tags}).status == 200
        found = finding(hub, "PC41")
        assert {each["what"] for each in found["evidence"]["groups"]} == {"tags.wifi.password", "tags.backup"}
        assert "correct horse" not in str(found)
        gone = {"tags": {"wifi": None, "backup": None}}
        assert request(hub, "PATCH", f"/twins/{device_id}?{VERSION}", gone).status == 200
        assert finding(hub, "PC41")["state"] == "pass"


@pytest.mark.spec("PC28", "PC14")
def test_groups_without_bounds_and_half_blocked_devices(hub: HubInThread, device_id: str) -> None:
    body = {"enrollmentGroupId": device_id, "attestation": {"type": "symmetricKey"}}
    path, owner = f"/enrollmentGroups/{device_id}?api-version=2019-03-31", "provisioningserviceowner"
    made = request(hub, "PUT", path, body, policy=owner)
    assert made.status == 200
    found = finding(hub, "PC28")
    assert found["fix"]["commands"][0].startswith(f"hubkeep enroll limit {device_id} ")
    bounded = made.body | {"hubkeep": {"maxRegistrations": 5}}
    assert request(hub, "PUT", path, bounded, policy=owner, headers={"If-Match": "*"}).status == 200
    assert finding(hub, "PC28")["state"] == "pass"
    assert request(hub, "DELETE", path, policy=owner, headers={"If-Match": "*"}).status == 204
    with device(hub, device_id):
        individual = {
            "registrationId": device_id,
            "attestation": {"type": "symmetricKey"},
            "provisioningStatus": "disabled",
        }
        path = f"/enrollments/{device_id}?api-version=2019-03-31"
        assert request(hub, "PUT", path, individual, policy=owner).status == 200
        assert names(hub, "PC14") == [device_id]
        disabled = {"deviceId": device_id, "status": "disabled"}
        answer = request(hub, "PUT", f"/devices/{device_id}?{VERSION}", disabled, headers={"If-Match": "*"})
        assert answer.status == 200
        assert names(hub, "PC14") == []
        assert request(hub, "DELETE", path, policy=owner, headers={"If-Match": "*"}).status == 204


@pytest.mark.spec("PC33")
def test_those_that_may_not_be_here(hub: HubInThread, device_id: str) -> None:
    with device(hub, device_id) as keys:
        token = hub.token(f"devices/{device_id}", key=keys["primary"])
    with MqttPeer(hub) as peer:
        assert log_in(peer, device_id, token) == REFUSED
    found = finding(hub, "PC33")
    assert (found["severity"], found["observed"]) == ("high", True), "one step up: it was seen"
    assert device_id in found["evidence"]["sample"]
    with MqttPeer(hub) as peer:
        assert log_in(peer, "never-there", token) == REFUSED
    assert "never-there" not in names(hub, "PC33")


@pytest.mark.spec("PC36", "PC39")
def test_programs_with_all_rights_and_an_audit_that_nobody_took_elsewhere() -> None:
    with HubInThread() as hub:

        def told(check: str) -> str:
            own = {"User-Agent": "hubkeep/0"}
            return str(request(hub, "GET", f"/api/posture?only={check}", headers=own).body["findings"][0]["state"])

        request(hub, "GET", "/api/status", headers={"User-Agent": "hubkeep/0.1.0"})
        assert told("PC36") == "pass", "the hub's own commands are no program"
        request(hub, "GET", "/api/status", headers={"User-Agent": "a back end"})
        assert told("PC36") == "fail"

        assert told("PC39") == "fail"
        page = 0
        while entries := request(hub, "GET", f"/api/audit?order=oldest&most=1000&page={page}").body:
            page = entries[-1]["number"]
        assert told("PC39") == "pass"
        with later(hub, 2):
            assert told("PC39") == "fail"


@pytest.mark.spec("PC19", "PC20")
def test_the_hubs_own_certificates(hub: HubInThread) -> None:
    assert finding(hub, "PC19")["state"] == "pass"
    with later(hub, 360):
        found = finding(hub, "PC19")
        assert (found["state"], found["severity"], found["dated"]) == ("fail", "critical", True)
        assert request(hub, "GET", "/api/posture").body["index"] <= 40
    assert finding(hub, "PC20")["state"] == "fail"


@pytest.mark.spec("PC24", "PC25")
def test_authorities_of_devices(hub: HubInThread) -> None:
    root = Certificate.made("posture root", ca=True, days=(-1, 200))
    upload = {"certificate": root.pem, "isVerified": True}
    assert finding(hub, "PC24")["state"] == "not-applicable"
    assert request(hub, "PUT", "/api/cas/posture-root", upload).status == 200
    assert finding(hub, "PC24")["state"] == "pass"
    with later(hub, 30):
        assert finding(hub, "PC24")["fix"]["commands"][1].startswith("hubkeep cert ca update posture-root ")
    assert "nobody proved" in finding(hub, "PC25")["evidence"]["text"]
    assert request(hub, "DELETE", "/api/cas/posture-root").status == 204
    assert finding(hub, "PC25")["state"] == "not-applicable"


@pytest.mark.spec("PC42")
def test_what_people_confirm(hub: HubInThread, tmp_path: Path) -> None:
    assert request(hub, "PUT", "/api/posture/confirmations/all-is-well").status == 404
    for fact in ("restore-drill", "key-escrow"):
        assert request(hub, "PUT", f"/api/posture/confirmations/{fact}").status == 200
    assert finding(hub, "PC42")["evidence"]["text"] == "no backup was ever made"
    back_up(hub.data, tmp_path / "backup", None, lambda _: None, lambda _: None)
    assert finding(hub, "PC42")["state"] == "pass"
    with later(hub, 2):
        assert finding(hub, "PC42")["state"] == "fail"


@pytest.mark.spec("PC27", "PC31", "PC32", "PC34", "PC44")
def test_what_settings_and_sources_tell(hub: HubInThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBKEEP_TEST_KEY", b64encode(bytes(32)).decode())
    assert [finding(hub, each)["state"] for each in ("PC34", "PC44", "PC27")] == ["fail", "pass", "pass"]
    settings: dict[str, Any] = {
        "sealing": {"key_variable": "HUBKEEP_TEST_KEY"},
        "limits": {"identities": 2},
        "tls": {"compat_suites": True},
    }
    with HubInThread(tmp_path / "data", **settings) as other:
        keys = keys_of(other, "press-07")
        assert [finding(other, each)["state"] for each in ("PC34", "PC44")] == ["pass", "fail"]
        with later(other, 31):
            assert "tls.compat_suites" in finding(other, "PC27")["evidence"]["text"]
        for number in range(14):  # whatever hour ends meanwhile
            raw = socket.create_connection((other.address, 8883), 30, source_address=(f"127.0.0.{2 + number % 2}", 0))
            context = ssl.create_default_context(cafile=str(other.trust_bundle))
            with MqttPeer(other, context.wrap_socket(raw, server_hostname=other.host_name)) as peer:
                token = other.token("devices/press-07", key=keys["primary"])
                assert log_in(peer, "press-07", token) == ACCEPTED
        assert names(other, "PC31") == ["press-07"]
        assert finding(other, "PC32")["state"] == "pass"
        for number in range(20):
            raw = socket.create_connection((other.address, 8883), 30, source_address=("127.0.0.4", 0))
            with MqttPeer(other, context.wrap_socket(raw, server_hostname=other.host_name)) as peer:
                assert log_in(peer, f"guess-{number}", other.token("devices/x", key=bytes(32))) == REFUSED
        found = finding(other, "PC32")
        assert found["observed"]
        assert found["evidence"]["groups"][0]["what"] == "127.0.0.4"
    key = b64encode(bytes(32)).decode()
    environment = {"HUBKEEP_SEALING__KEY_VARIABLE": "HUBKEEP_TEST_KEY", "HUBKEEP_TEST_KEY": key}
    done = command("posture", "--offline", "--data", str(tmp_path / "data"), "--only", "PC31", "--json", **environment)
    assert done.status == 0, done
    assert done.json["findings"][0]["evidence"]["sample"] == ["press-07"]


def test_every_check_looks_at_a_real_hub(hub: HubInThread) -> None:
    report = request(hub, "GET", "/api/posture").body
    assert len(report["findings"]) == 45
    assert sum(report["counts"].values()) == 45
    key = request(hub, "GET", "/api/policies/iothubowner").body["primaryKey"]
    assert key not in str(report)


def test_the_command_in_a_build(hub: HubInThread, device_id: str, tmp_path: Path) -> None:
    def posture(*arguments: str) -> Done:
        return command("posture", "--data", str(hub.data), *arguments)

    with device(hub, f"{device_id}-$;"):
        page = tmp_path / "posture.html"
        done = posture("--only", "PC15", "--fail-on", "low", "--html", str(page))
        assert done.status == 1, done
        assert "PC15" in done.err
        assert f"--tag owner=TEAM '{device_id}-$;'" in done.out
        assert f"{device_id}-$;" in page.read_text()
        assert posture("--only", "PC15", "--fail-on", "medium").status == 0
        assert posture("--only", "PC15", "--least", "101").status == 2
        assert posture("--only", "PC15", "--least", "100").status == 1
    assert command("posture", "--data", str(tmp_path / "nothing")).status == 3


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
