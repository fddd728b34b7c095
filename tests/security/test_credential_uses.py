"""The record of which key, thumbprint or authority was last used, and what a rotation makes of it."""

import concurrent.futures
import socket
import ssl
import threading
import warnings
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conversations.amqp_peer import AmqpPeer, events_token
from conversations.certificates import Certificate, register
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import MqttPeer, tls_socket
from hubkeep.testing import HubInThread
from security.test_cut_off import ACCEPTED, REFUSED, keys_of, log_in, rotate


def uses(hub: HubInThread, **query: str) -> list[dict[str, Any]]:
    answer = request(hub, "GET", "/api/credentials?" + "&".join(f"{name}={value}" for name, value in query.items()))
    assert answer.status == 200
    return list(answer.body)


def visit(hub: HubInThread, device_id: str, key: bytes, seconds: int = 3600) -> None:
    with MqttPeer(hub) as peer:
        token = hub.token(f"devices/{device_id}", key=key, seconds=seconds)
        assert log_in(peer, device_id, token) == ACCEPTED


def rollover(hub: HubInThread, retire: str, condition: str = "") -> tuple[int, list[str], list[str]]:
    query = f"retire={retire}" + (f"&condition={condition.replace(' ', '%20')}" if condition else "")
    body = request(hub, "GET", f"/api/credentials/rollover?{query}").body
    return body["confirmed"], [each["name"] for each in body["outgoing"]], [each["name"] for each in body["unknown"]]


def regenerated(hub: HubInThread, devices: Sequence[str], which: str) -> dict[str, bytes]:
    """The secondary keys after it."""
    body = {"policyKey": which, "devices": [{"id": each} for each in devices]}
    answer = request(hub, "POST", f"/devices/keys/regenerate?{VERSION}", body)
    assert answer.status == 200
    return {each["id"]: b64decode(each["secondaryKey"]) for each in answer.body["rotatedKeys"]}


def test_what_is_kept_of_a_use(shared_hub: HubInThread, device_id: str) -> None:
    hub = shared_hub
    keys = keys_of(hub, device_id)
    assert uses(hub, device=device_id) == []
    visit(hub, device_id, keys["primary"], seconds=900)
    (first,) = uses(hub, device=device_id)
    assert (first["slot"], first["uses"], first["surface"], first["tls"]) == ("primary", 1, "mqtt", "TLSv1.3")
    assert 890 <= first["tokenSeconds"] <= 900
    assert first["firstUsed"] == first["lastUsed"]
    assert (first["created"], first["policy"]) == (None, None)
    visit(hub, device_id, keys["primary"])
    token = hub.token(f"devices/{device_id}", key=keys["secondary"])
    path = f"/devices/{device_id}/messages/events?{VERSION}"
    assert request(hub, "POST", path, b"x", token=token, headers={"User-Agent": "a test"}).status == 204
    primary, secondary = uses(hub, device=device_id)
    assert (primary["uses"], primary["firstUsed"]) == (2, first["firstUsed"])
    assert (secondary["slot"], secondary["surface"], secondary["client"]) == ("secondary", "https", "a test")
    rotate(hub, device_id, "primary")
    made, kept = uses(hub, device=device_id)
    assert (made["uses"], made["lastUsed"], kept["uses"]) == (0, None, 1)
    assert made["created"] is not None
    assert request(hub, "DELETE", f"/devices/{device_id}?{VERSION}", headers={"If-Match": "*"}).status == 204
    assert request(hub, "GET", f"/api/credentials?device={device_id}").status == 404
    hub.create_device(device_id)
    assert uses(hub, device=device_id) == []


def test_thumbprints_and_authorities_are_slots_too(shared_hub: HubInThread, tmp_path: Path) -> None:
    hub = shared_hub
    old, new, root = Certificate.made("x"), Certificate.made("x"), Certificate.made("uses root", ca=True)
    upload = {"certificate": root.pem, "isVerified": True}
    assert request(hub, "PUT", "/api/cas/uses-root", upload).status == 200
    register(hub, "by-print", old.sha256, new.sha256)
    register(hub, "by-ca")
    for device_id, certificate, slot in (
        ("by-print", new, "secondary"),
        ("by-ca", Certificate.made("by-ca", issuer=root), "authority"),
    ):
        with MqttPeer(hub, tls_socket(hub, 8883, certificate.file(tmp_path))) as peer:
            assert log_in(peer, device_id, None) == ACCEPTED
        assert [(each["slot"], each["uses"]) for each in uses(hub, device=device_id)] == [(slot, 1)]


def test_policies_are_told_by_key_and_by_whom_they_stood_for(shared_hub: HubInThread, device_id: str) -> None:
    hub = shared_hub
    hub.create_device(device_id)
    with MqttPeer(hub) as peer:
        assert log_in(peer, device_id, hub.token(policy="device")) == ACCEPTED
    (own,) = uses(hub, device=device_id)
    assert (own["policy"], own["slot"]) == ("device", "primary")
    assert device_id in {each["deviceId"] for each in uses(hub, policy="device")}
    with AmqpPeer(hub).opened().authorised(events_token(hub, "service")):
        pass
    (reader,) = [each for each in uses(hub, policy="service") if each["surface"] == "amqp"]
    assert (reader["deviceId"], reader["slot"]) == (None, "primary")
    for query in ("", "device=a&policy=b", "device=nobody-here"):
        assert request(hub, "GET", f"/api/credentials?{query}").status in {400, 404}
    assert request(hub, "GET", "/api/credentials?policy=service", policy="service").status == 401


@pytest.mark.spec("P-64")
def test_a_rotation_of_a_fleet() -> None:
    """Ten devices on their primary key move to a new secondary one; one straggles, one stays away."""
    with HubInThread() as hub:
        request(hub, "DELETE", f"/devices/first-device?{VERSION}", headers={"If-Match": "*"})
        fleet = {f"d{number}": keys_of(hub, f"d{number}") for number in range(10)}
        for device_id, keys in fleet.items():
            visit(hub, device_id, keys["primary"])
        assert rollover(hub, "primary") == (0, list(reversed(fleet)), [])
        assert rollover(hub, "secondary") == (10, [], [])
        hub.clock.move(10)
        new = regenerated(hub, list(fleet), "secondary")
        assert rollover(hub, "primary") == (0, [], list(reversed(fleet))), "nobody was seen since the key was made"
        hub.clock.move(10)
        for device_id in list(fleet)[:8]:
            visit(hub, device_id, new[device_id])
        visit(hub, "d8", fleet["d8"]["primary"])
        assert rollover(hub, "primary") == (8, ["d8"], ["d9"])
        assert rollover(hub, "primary", "deviceId IN ['d1', 'd2', 'd8']") == (2, ["d8"], [])
        regenerated(hub, ["d1"], "swap")
        visit(hub, "d1", new["d1"])
        assert [each["slot"] for each in uses(hub, device="d1") if each["uses"]] == ["primary"]
        regenerated(hub, [each for each in fleet if each != "d1"], "primary")
        with MqttPeer(hub) as peer:
            assert log_in(peer, "d8", hub.token("devices/d8", key=fleet["d8"]["primary"])) == REFUSED
        visit(hub, "d0", new["d0"])


def test_who_comes_with_old_tls_is_named() -> None:
    with HubInThread(tls={"old_versions": {"mqtt": "1.1"}}) as hub:
        keys = keys_of(hub, "old-press")
        visit(hub, "new-press", keys_of(hub, "new-press")["primary"])
        old = ssl.create_default_context(cafile=str(hub.trust_bundle))
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        raw = socket.create_connection((hub.address, 8883), 30)
        with MqttPeer(hub, old.wrap_socket(raw, server_hostname=hub.host_name)) as peer:
            assert log_in(peer, "old-press", hub.token("devices/old-press", key=keys["primary"])) == ACCEPTED
        visit(hub, "old-press", keys["primary"])
        (named,) = request(hub, "GET", "/api/credentials/old-tls").body
        assert (named["deviceId"], named["oldTls"], named["tls"]) == ("old-press", "TLSv1.1", "TLSv1.3")


def test_uses_outlive_the_hub(tmp_path: Path) -> None:
    with HubInThread(tmp_path / "data") as hub:
        keys = keys_of(hub, "a")
        for _ in range(3):
            visit(hub, "a", keys["primary"])
    with HubInThread(tmp_path / "data") as hub:
        assert uses(hub, device="a")[0]["uses"] == 3
        visit(hub, "a", keys["primary"])
        assert uses(hub, device="a")[0]["uses"] == 4


def test_asking_while_others_log_in_is_answered(shared_hub: HubInThread) -> None:
    """Uses that come while others are written must not keep the hub busy with what is not due yet."""
    over = threading.Event()

    def log_in_again(device: str, key: bytes) -> None:
        token = shared_hub.token(f"devices/{device}", key=key)
        path = f"/devices/{device}/messages/events?{VERSION}"
        while not over.is_set():
            assert request(shared_hub, "POST", path, b"x", token=token).status == 204

    devices = [f"asking-{number}" for number in range(3)]
    keys = {device: keys_of(shared_hub, device)["primary"] for device in devices}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        visitors = [pool.submit(log_in_again, *each) for each in keys.items()]
        try:
            for _ in range(20):
                assert request(shared_hub, "GET", f"/api/credentials/old-tls?{VERSION}").status == 200
        finally:
            over.set()
        for each in visitors:
            each.result()
