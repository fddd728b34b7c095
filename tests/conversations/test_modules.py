"""Module identities: the service REST surface, and modules over MQTT by raw packets."""

import json
from base64 import b64decode
from typing import Any

import pytest

from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, publish, subscribe
from hubkeep.testing import HubInThread

KEYS = {"primaryKey": "cHJpbWFyeSBrZXkgb2YgMTY=", "secondaryKey": "c2Vjb25kIGtleSBvZiAxNi4="}


def path(device_id: str, module_id: str = "m") -> str:
    return f"/devices/{device_id}/modules/{module_id}?{VERSION}"


def put(hub: HubInThread, device_id: str, module_id: str = "m", etag: str = "", **members: Any) -> Answer:
    body = {"deviceId": device_id, "moduleId": module_id, **members}
    return request(hub, "PUT", path(device_id, module_id), body, headers={"If-Match": etag} if etag else {})


def sas_keys(**keys: str) -> dict[str, Any]:
    return {"type": "sas", "symmetricKey": {"primaryKey": "", "secondaryKey": "", **keys}}


def login(
    hub: HubInThread, device_id: str, module_id: str, key: bytes, *, signed_for: str = "", clean: bool = True
) -> tuple[MqttPeer, int]:
    """A module's link, and the code of its CONNACK."""
    client_id = f"{device_id}/{module_id}"
    token = hub.token(signed_for or f"devices/{device_id}/modules/{module_id}", key=key)
    peer = MqttPeer(hub)
    peer.send(connect(client_id, USER_NAME.format(host=hub.host_name, client_id=client_id), token, clean=clean))
    answer = peer.read()
    assert answer is not None
    return peer, answer[1][1]


def module(hub: HubInThread, device_id: str, module_id: str = "m") -> MqttPeer:
    hub.create_device(device_id)
    key = put(hub, device_id, module_id).body["authentication"]["symmetricKey"]["primaryKey"]
    peer, code = login(hub, device_id, module_id, b64decode(key))
    assert code == 0
    return peer


@pytest.mark.spec("S-41")
def test_create_get_list_update_delete(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    created = put(shared_hub, device_id, managedBy="IotEdge", authentication=sas_keys())
    assert created.status == 200
    assert created.headers["etag"] == f'"{created.body["etag"]}"'
    keys = created.body["authentication"]["symmetricKey"]
    assert all(len(b64decode(keys[each])) == 32 for each in ("primaryKey", "secondaryKey"))
    assert created.body == {
        "moduleId": "m",
        "managedBy": "IotEdge",
        "deviceId": device_id,
        "generationId": created.body["generationId"],
        "etag": created.body["etag"],
        "connectionState": "Disconnected",
        "connectionStateUpdatedTime": "0001-01-01T00:00:00Z",
        "lastActivityTime": "0001-01-01T00:00:00Z",
        "cloudToDeviceMessageCount": 0,
        "authentication": {
            "symmetricKey": keys,
            "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
            "type": "sas",
        },
    }
    assert request(shared_hub, "GET", path(device_id)).body == created.body
    duplicate = put(shared_hub, device_id)
    assert (duplicate.status, duplicate.code) == (409, "ModuleAlreadyExistsOnDevice")
    put(shared_hub, device_id, "a")
    listed = request(shared_hub, "GET", f"/devices/{device_id}/modules?{VERSION}")
    assert [each["moduleId"] for each in listed.body] == ["a", "m"]
    updated = put(shared_hub, device_id, etag="*", managedBy="me", authentication=sas_keys(**KEYS))
    assert updated.status == 200
    assert updated.body["authentication"]["symmetricKey"] == KEYS
    assert updated.body["generationId"] == created.body["generationId"]
    stale = put(shared_hub, device_id, etag=created.body["etag"], managedBy="you")
    assert (stale.status, stale.code) == (412, "PreconditionFailed")
    kept = put(shared_hub, device_id, etag=updated.body["etag"], managedBy="us")
    assert (kept.body["managedBy"], kept.body["authentication"]["symmetricKey"]) == ("us", KEYS)
    stale = request(shared_hub, "DELETE", path(device_id), headers={"If-Match": f'"{updated.body["etag"]}"'})
    assert stale.status == 412
    assert request(shared_hub, "DELETE", path(device_id), headers={"If-Match": '"*"'}).status == 204
    for refused in (
        request(shared_hub, "GET", path(device_id)),
        request(shared_hub, "DELETE", path(device_id)),
        put(shared_hub, device_id, etag="*"),
        request(shared_hub, "GET", f"/twins/{device_id}/modules/m?{VERSION}"),
    ):
        assert (refused.status, refused.code) == (404, "ModuleNotFound")
    for refused in (
        put(shared_hub, "nobody"),
        request(shared_hub, "GET", path("nobody")),
        request(shared_hub, "GET", f"/devices/nobody/modules?{VERSION}"),
        request(shared_hub, "GET", f"/twins/nobody/modules/m?{VERSION}"),
    ):
        assert (refused.status, refused.code) == (404, "DeviceNotFound")


@pytest.mark.spec("L-I9", "L-R2")
def test_modules_that_break_a_rule(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    for answer in (
        put(shared_hub, device_id, "m" * 129),
        put(shared_hub, device_id, "a%20b"),
        put(shared_hub, device_id, "a%2Fb"),
        request(shared_hub, "PUT", path(device_id), {"deviceId": device_id, "moduleId": "other"}),
        request(shared_hub, "PUT", path(device_id), {"deviceId": "other", "moduleId": "m"}),
        request(shared_hub, "PUT", path(device_id), []),
        put(shared_hub, device_id, managedBy="x" * 129),
        put(shared_hub, device_id, authentication={"type": "selfSigned"}),
        put(shared_hub, device_id, authentication=sas_keys(primaryKey=KEYS["primaryKey"])),
    ):
        assert answer.status in {400, 404}, answer
    assert request(shared_hub, "GET", f"/devices/{device_id}/modules?{VERSION}").body == []
    assert put(shared_hub, device_id, "m" * 128).status == 200


@pytest.mark.spec("L-L25")
def test_the_fifty_first_module(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    assert {put(shared_hub, device_id, f"m{number}").status for number in range(50)} == {200}
    refused = put(shared_hub, device_id, "one-more")
    assert (refused.status, refused.code) == (413, "TooManyModulesOnDevice")
    assert len(request(shared_hub, "GET", f"/devices/{device_id}/modules?{VERSION}").body) == 50
    request(shared_hub, "DELETE", path(device_id, "m7"))
    assert put(shared_hub, device_id, "one-more").status == 200


@pytest.mark.spec("S-40")
def test_an_edge_device_has_its_system_modules(shared_hub: HubInThread, device_id: str) -> None:
    for name, first in ((device_id, True), (f"{device_id}-later", False)):
        for edge in {first, True}:
            body = {"deviceId": name, "capabilities": {"iotEdge": edge}}
            etag = {} if edge is first else {"If-Match": "*"}
            device = request(shared_hub, "PUT", f"/devices/{name}?{VERSION}", body, headers=etag).body
        assert device["deviceScope"].startswith("ms-azure-iot-edge://")
        modules = request(shared_hub, "GET", f"/devices/{name}/modules?{VERSION}").body
        assert [each["moduleId"] for each in modules] == ["$edgeAgent", "$edgeHub"]
    twin = request(shared_hub, "GET", f"/twins/{device_id}/modules/$edgeAgent?{VERSION}").body
    assert twin["authenticationType"] == "none"
    key = b64decode(modules[1]["authentication"]["symmetricKey"]["primaryKey"])
    peer, code = login(shared_hub, name, "$edgeHub", key)
    peer.sock.close()
    assert code == 0


@pytest.mark.parametrize(
    ("policy", "reads", "writes"),
    [("registryRead", 200, 401), ("registryReadWrite", 200, 200), ("service", 401, 401), ("device", 401, 401)],
)
def test_who_may(shared_hub: HubInThread, device_id: str, policy: str, reads: int, writes: int) -> None:
    shared_hub.create_device(device_id)
    put(shared_hub, device_id, "there")
    there = path(device_id, "there")
    assert request(shared_hub, "GET", there, policy=policy).status == reads
    assert request(shared_hub, "GET", f"/devices/{device_id}/modules?{VERSION}", policy=policy).status == reads
    body = {"deviceId": device_id, "moduleId": "there"}
    assert request(shared_hub, "PUT", there, body, policy=policy, headers={"If-Match": "*"}).status == writes
    assert request(shared_hub, "DELETE", there, policy=policy).status in {writes, writes + 4}


@pytest.mark.spec("D-18", "D-19")
def test_whose_token_opens_what(shared_hub: HubInThread, device_id: str) -> None:
    device_key = b64decode(shared_hub.create_device(device_id).rpartition("SharedAccessKey=")[2])
    put(shared_hub, device_id, "m", authentication=sas_keys(**KEYS))
    put(shared_hub, device_id, "sibling")
    key = b64decode(KEYS["primaryKey"])
    codes = {}
    for name, module_id, signer, signed_for in (
        ("its own", "m", key, ""),
        ("secondary", "m", b64decode(KEYS["secondaryKey"]), ""),
        ("the sibling's", "sibling", key, f"devices/{device_id}/modules/m"),
        ("signed for the sibling", "sibling", key, ""),
        ("the device's", "m", device_key, f"devices/{device_id}"),
        ("the device's, signed for it", "m", device_key, ""),
        ("of nobody", "absent", key, ""),
    ):
        peer, codes[name] = login(shared_hub, device_id, module_id, signer, signed_for=signed_for)
        peer.sock.close()
    assert codes == {
        "its own": 0,
        "secondary": 0,
        "the sibling's": 5,
        "signed for the sibling": 5,
        "the device's": 5,
        "the device's, signed for it": 5,
        "of nobody": 5,
    }
    with MqttPeer(shared_hub) as peer:
        token = shared_hub.token(f"devices/{device_id}/modules/m", key=key)
        peer.send(connect(device_id, USER_NAME.format(host=shared_hub.host_name, client_id=device_id), token))
        assert peer.read() == (0x20, b"\0\5")


@pytest.mark.spec("D-50")
def test_telemetry_and_outputs_of_a_module(shared_hub: HubInThread, device_id: str) -> None:
    with module(shared_hub, device_id, "cam") as peer:
        topic = f"devices/{device_id}/modules/cam/messages/events/"
        peer.send(publish(topic, b"plain") + publish(f"{topic}%24.on=alarms&a=b", b"out", packet_id=2))
        assert [peer.read(), peer.read()] == [(0x40, b"\0\1"), (0x40, b"\0\2")]
        events = shared_hub.wait_for_events(2, device=device_id)
        assert [each["body"] for each in events] == ["plain", "out"]
        for each in events:
            assert each["annotations"]["iothub-connection-module-id"] == "cam"
            assert json.loads(each["annotations"]["iothub-connection-auth-method"])["scope"] == "module"
        assert "iothub-outputname" not in str(events[0])
        assert events[1]["properties"] == {"a": "b"}
        told = {**events[1]["annotations"], **events[1]["system_properties"]}
        assert told.get("iothub-outputname", told.get("output_name")) == "alarms", events[1]
        peer.send(publish(f"devices/{device_id}/messages/events/", b"as the device"))
        assert peer.is_closed()


@pytest.mark.spec("D-55", "D-N6")
@pytest.mark.parametrize("topic_filter", ["messages/devicebound/#", "inputs/#", "#"])
def test_filters_of_a_module(shared_hub: HubInThread, device_id: str, topic_filter: str) -> None:
    with module(shared_hub, device_id) as peer:
        peer.send(subscribe([(f"devices/{device_id}/modules/m/{topic_filter}", 1)]))
        assert peer.read() == (0x90, b"\0\1\1")
        peer.send(subscribe([(f"devices/{device_id}/modules/other/{topic_filter}", 1)], 2))
        assert peer.is_closed()


def test_the_twin_of_a_module(shared_hub: HubInThread, device_id: str) -> None:
    with module(shared_hub, device_id) as peer:
        peer.send(subscribe([("$iothub/twin/res/#", 0), ("$iothub/twin/PATCH/properties/desired/#", 0)]))
        assert peer.read() == (0x90, b"\0\1\0\0")
        request(shared_hub, "PATCH", f"/twins/{device_id}?{VERSION}", {"properties": {"desired": {"of": "device"}}})
        own = f"/twins/{device_id}/modules/m?{VERSION}"
        changed = request(shared_hub, "PATCH", own, {"properties": {"desired": {"of": "module"}}}).body
        packet = peer.read()
        assert packet is not None
        assert packet[1].endswith(b'/?$version=2{"of":"module","$version":2}')
        peer.send(publish("$iothub/twin/PATCH/properties/reported/?$rid=1", b'{"r":1}', qos=0))
        packet = peer.read()
        assert packet is not None
        assert packet[1].endswith(b"204/?$rid=1&$version=2")
        twin = request(shared_hub, "GET", own).body
    assert (twin["deviceId"], twin["moduleId"], twin["connectionState"]) == (device_id, "m", "Connected")
    assert "capabilities" not in twin
    assert (twin["properties"]["reported"]["r"], twin["version"], changed["version"]) == (1, 4, 3)
    device_twin = request(shared_hub, "GET", f"/twins/{device_id}?{VERSION}").body
    assert device_twin["properties"]["reported"] == {
        "$metadata": {"$lastUpdated": "0001-01-01T00:00:00Z"},
        "$version": 1,
    }
    assert device_twin["connectionState"] == "Disconnected"


@pytest.mark.spec("L-I2", "L-I3", "S-42")
@pytest.mark.parametrize("how", ["the module deleted", "other keys", "the device disabled", "the device deleted"])
def test_a_module_is_cut_off(shared_hub: HubInThread, device_id: str, how: str) -> None:
    with module(shared_hub, device_id) as peer:
        key = b64decode(
            request(shared_hub, "GET", path(device_id)).body["authentication"]["symmetricKey"]["primaryKey"]
        )
        match = {"If-Match": "*"}
        device_path = f"/devices/{device_id}?{VERSION}"
        if how == "the module deleted":
            request(shared_hub, "DELETE", path(device_id))
        elif how == "other keys":
            put(shared_hub, device_id, etag="*", authentication=sas_keys())
        elif how == "the device disabled":
            request(shared_hub, "PUT", device_path, {"deviceId": device_id, "status": "disabled"}, headers=match)
        else:
            request(shared_hub, "DELETE", device_path)
        assert peer.is_closed()
    again, code = login(shared_hub, device_id, "m", key)
    again.sock.close()
    assert code == (3 if how == "the device disabled" else 5)
    if how == "the device deleted":
        shared_hub.create_device(device_id)
        assert request(shared_hub, "GET", f"/devices/{device_id}/modules?{VERSION}").body == []
        assert request(shared_hub, "GET", f"/twins/{device_id}/modules/m?{VERSION}").status == 404
