"""Tokens that the hub makes for one device: who may have them made, what they open, and how they end."""

import time
from base64 import b64decode
from typing import Any

import pytest

from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, tls_socket
from hubkeep.testing import HubInThread
from hubkeep.wire import sas


def policy(hub: HubInThread, name: str, rights: str) -> bytes:
    answer = request(hub, "PUT", f"/api/policies/{name}", {"rights": rights})
    assert answer.status == 200, answer.body
    return b64decode(answer.body["primaryKey"])


def mint(hub: HubInThread, path: str, body: Any = None, **asker: Any) -> Answer:
    return request(hub, "POST", f"/devices/{path}/tokens?{VERSION}", body, **asker)


def connack(hub: HubInThread, client_id: str, token: str) -> int:
    with MqttPeer(hub, tls_socket(hub)) as peer:
        peer.send(connect(client_id, USER_NAME.format(host=hub.host_name, client_id=client_id), token))
        kind, content = peer.read()
        assert kind == 0x20
        return content[1]


def test_a_token_opens_its_own_device_and_nothing_else(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    shared_hub.create_device(f"{device_id}2")
    answer = mint(shared_hub, device_id, policy="device")
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    told, token = answer.body, sas.parse(answer.body["token"])
    assert (told["policy"], told["deviceId"], told["moduleId"]) == ("device", device_id, None)
    assert sas.percent_decoded(token.sr) == f"{shared_hub.host_name}/devices/{device_id}"
    assert 3500 < token.expiry - time.time() <= 3600
    assert connack(shared_hub, device_id, told["token"]) == 0
    assert connack(shared_hub, f"{device_id}2", told["token"]) == 5
    own = f"/devices/{device_id}/messages/events?{VERSION}"
    assert request(shared_hub, "POST", own, b"21", token=told["token"]).status == 204
    for method, path in (
        ("GET", f"/devices/{device_id}"),
        ("DELETE", f"/devices/{device_id}"),
        ("GET", f"/twins/{device_id}"),
        ("POST", f"/devices/{device_id}2/messages/events"),
        ("POST", f"/devices/{device_id}2/tokens"),
    ):
        assert request(shared_hub, method, f"{path}?{VERSION}", b"", token=told["token"]).status == 401, path


@pytest.mark.explains("token-of-another-policy")
def test_what_makes_tokens_must_hold_device_connect_alone(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    key = policy(shared_hub, "both", "RegistryWrite, DeviceConnect")
    both = sas.make(shared_hub.host_name, key, int(time.time()) + 600, "both")
    assert mint(shared_hub, device_id, token=both).code == "ArgumentInvalid"
    assert mint(shared_hub, device_id, {"policy": "device"}, token=both).status == 401
    (refused, *_) = request(shared_hub, "GET", "/api/refusals?key=policy%20both").body
    assert "'device'" in refused["reason"]
    assert refused["cause"] == "token-of-another-policy"
    for each in ("service", "registryReadWrite"):
        assert mint(shared_hub, device_id, policy=each).status == 401
    # an administrator could sign with any key: that of the policy for devices is taken
    assert mint(shared_hub, device_id).body["policy"] == "device"
    assert mint(shared_hub, device_id, {"policy": "iothubowner"}).code == "ArgumentInvalid"
    assert mint(shared_hub, device_id, {"policy": "nobody"}).status == 404
    # a token that is limited to another device makes none for this one
    other = shared_hub.token("devices/elsewhere", policy="device")
    assert mint(shared_hub, device_id, token=other).status == 401


def test_only_an_identity_that_could_connect_gets_one(shared_hub: HubInThread, device_id: str) -> None:
    assert mint(shared_hub, device_id, policy="device").code == "DeviceNotFound"
    shared_hub.create_device(device_id)
    module = f"{device_id}/modules/vision"
    assert mint(shared_hub, module, policy="device").code == "ModuleNotFound"
    made = request(shared_hub, "PUT", f"/devices/{module}?{VERSION}", {"deviceId": device_id, "moduleId": "vision"})
    assert made.status == 200
    token = mint(shared_hub, module, policy="device").body["token"]
    assert connack(shared_hub, f"{device_id}/vision", token) == 0
    assert connack(shared_hub, device_id, token) == 5
    device = request(shared_hub, "GET", f"/devices/{device_id}?{VERSION}").body
    headers = {"If-Match": "*"}
    disabled = {**device, "status": "disabled"}
    assert request(shared_hub, "PUT", f"/devices/{device_id}?{VERSION}", disabled, headers=headers).status == 200
    assert mint(shared_hub, device_id, policy="device").status == 400
    assert mint(shared_hub, module, policy="device").status == 400
    by_certificate = {"deviceId": device_id, "authentication": {"type": "certificateAuthority"}}
    assert request(shared_hub, "PUT", f"/devices/{device_id}?{VERSION}", by_certificate, headers=headers).status == 200
    assert mint(shared_hub, device_id, policy="device").code == "ArgumentInvalid"


@pytest.mark.parametrize("seconds", [59, 86_401, 1e3, "60", True, -60])
def test_its_life_is_bounded(shared_hub: HubInThread, device_id: str, seconds: Any) -> None:
    shared_hub.create_device(device_id)
    assert mint(shared_hub, device_id, {"expiresInSeconds": seconds}, policy="device").status == 400


def test_it_does_not_outlive_what_it_was_asked_with(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    key = policy(shared_hub, "short", "DeviceConnect")
    until = int(time.time()) + 100
    asker = sas.make(shared_hub.host_name, key, until, "short")
    token = mint(shared_hub, device_id, {"expiresInSeconds": 3600}, token=asker).body["token"]
    assert sas.parse(token).expiry == until


def test_it_ends_with_the_key_that_signed_it_and_the_audit_tells_who_had_it_made(
    shared_hub: HubInThread, device_id: str
) -> None:
    shared_hub.create_device(device_id)
    key = policy(shared_hub, "leaked", "DeviceConnect")
    asker = sas.make(shared_hub.host_name, key, int(time.time()) + 600, "leaked")
    token = mint(shared_hub, device_id, token=asker).body["token"]
    (entry, *_) = request(shared_hub, "GET", f"/api/audit?chain=disclosures&target={device_id}").body
    assert (entry["actor"], entry["operation"], entry["outcome"]) == ("policy leaked", "devices/token", "200")
    assert "signed by policy leaked" in entry["detail"]
    assert sas.parse(token).signature.hex() not in str(entry)
    assert token not in str(entry)
    with MqttPeer(shared_hub, tls_socket(shared_hub)) as peer:
        peer.send(connect(device_id, USER_NAME.format(host=shared_hub.host_name, client_id=device_id), token))
        assert peer.read() == (0x20, b"\0\0")
        renewed = request(shared_hub, "POST", "/api/policies/leaked/regenerate", {"policyKeyType": "primary"})
        assert renewed.status == 200
        assert peer.is_closed()
    assert connack(shared_hub, device_id, token) == 5
