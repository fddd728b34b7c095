"""Block and allow lists: who is cut, who stays, and that every protocol hears of it at once."""

import http.client
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from conversations.amqp_peer import AmqpPeer, condition, device_token
from conversations.certificates import Certificate, register
from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, eventually, publish, tls_socket
from hubkeep.testing import HubInThread
from hubkeep.wire.amqp.performatives import Detach

DISABLED = (0x20, b"\0\3")
AT_ONCE = 5.0  # seconds: one, and what a busy machine adds


def put(hub: HubInThread, name: str, *, replace: bool = True, **rule: Any) -> Answer:
    body = {"verdict": "block", **rule}
    return request(hub, "PUT", f"/api/access/{name}", body, headers={"If-Match": "*"} if replace else {})


def drop(hub: HubInThread, name: str) -> None:
    assert request(hub, "DELETE", f"/api/access/{name}").status == 204


def connack(hub: HubInThread, device_id: str) -> Any:
    with MqttPeer(hub) as peer:
        peer.send(peer.login(device_id))
        return peer.read()


def tag(hub: HubInThread, device_id: str, **tags: Any) -> None:
    hub.create_device(device_id)
    patch = {"tags": tags}
    assert request(hub, "PATCH", f"/twins/{device_id}?{VERSION}", patch, headers={"If-Match": "*"}).status == 200


class KeptConnection:
    """Telemetry over one HTTPS connection that stays open."""

    def __init__(self, hub: HubInThread, device_id: str) -> None:
        self._path, self._token = f"/devices/{device_id}/messages/events?{VERSION}", device_token(hub, device_id)
        context = ssl.create_default_context(cafile=str(hub.trust_bundle))
        self._connection = http.client.HTTPSConnection(hub.host_name, 443, context=context, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def post(self) -> int:
        self._connection.request("POST", self._path, b"x", {"Authorization": self._token})
        answer = self._connection.getresponse()
        answer.read()
        return answer.status


def by_name(hub: HubInThread, device_id: str) -> dict[str, Any]:
    return {"devices": [device_id, "another"]}


def by_tag(hub: HubInThread, device_id: str) -> dict[str, Any]:
    tag(hub, device_id, hall=f"hall of {device_id}")
    return {"condition": f"tags.hall = 'hall of {device_id}'"}


@pytest.mark.parametrize("group", [by_name, by_tag])
def test_a_block_cuts_every_protocol_at_once_and_is_taken_back(
    shared_hub: HubInThread, device_id: str, group: Callable[[HubInThread, str], dict[str, Any]]
) -> None:
    hub, other = shared_hub, f"{device_id}-other"
    with (
        MqttPeer.logged_in(hub, device_id) as mqtt,
        AmqpPeer.device(hub, device_id) as amqp,
        KeptConnection(hub, device_id) as https,
        MqttPeer.logged_in(hub, other) as bystander,
        KeptConnection(hub, other) as other_https,
    ):
        amqp.attached(f"/devices/{device_id}/messages/events", handle=0)
        assert (https.post(), other_https.post()) == (204, 204)
        rule = group(hub, device_id)
        began = time.monotonic()
        answer = put(hub, device_id[:60], **rule, reason="stolen from hall 3")
        assert answer.status == 200
        assert answer.body["members"] == len(rule.get("devices", "x"))
        assert https.post() == 401
        assert mqtt.is_closed()
        assert condition(amqp.expect(Detach).error) == "amqp:unauthorized-access"
        assert time.monotonic() - began < AT_ONCE
        assert bystander.is_open()
        assert other_https.post() == 204
        assert connack(hub, device_id) == DISABLED
        reasons = {each.reason for each in hub.refusals(device_id)}
        assert reasons == {f"the device is blocked by {device_id[:60]!r}: stolen from hall 3"}
        drop(hub, device_id[:60])
        assert connack(hub, device_id) == (0x20, b"\0\0")
        assert https.post() == 204


def test_members_of_a_group_come_and_go_with_their_twins(shared_hub: HubInThread, device_id: str) -> None:
    hub, name = shared_hub, device_id[:60]
    assert put(hub, name, condition=f"tags.group = '{name}' AND properties.reported.old = true").body["members"] == 0
    with MqttPeer.logged_in(hub, device_id) as peer, KeptConnection(hub, device_id) as https:
        tag(hub, device_id, group=name)
        assert peer.is_open()
        peer.send(publish("$iothub/twin/PATCH/properties/reported/?$rid=1", b'{"old":true}', qos=0))
        assert peer.is_closed()
        assert https.post() == 401
        tag(hub, device_id, group=None)
        assert eventually(lambda: https.post() == 204)
    assert request(hub, "GET", f"/api/access/{name}").body["members"] == 0
    fresh = f"{device_id}-new"
    record = {"id": fresh, "importMode": "create", "tags": {"group": name}, "properties": {"reported": {"old": True}}}
    assert request(hub, "POST", f"/devices?{VERSION}", [record]).status == 200
    assert eventually(lambda: connack(hub, fresh) == DISABLED)
    drop(hub, name)


def test_what_an_authority_vouches_for_is_a_group(shared_hub: HubInThread, tmp_path: Path) -> None:
    hub = shared_hub
    roots = {name: Certificate.made(f"{name} root", ca=True) for name in ("plant-a", "plant-b")}
    for name, root in roots.items():
        assert request(hub, "PUT", f"/api/cas/{name}", {"certificate": root.pem, "isVerified": True}).status == 200
        register(hub, f"of-{name}")

    def logged_in(name: str) -> tuple[MqttPeer, Any]:
        file = Certificate.made(f"of-{name}", issuer=roots[name]).file(tmp_path)
        peer = MqttPeer(hub, tls_socket(hub, 8883, file))
        peer.send(connect(f"of-{name}", USER_NAME.format(host=hub.host_name, client_id=f"of-{name}"), None))
        return peer, peer.read()

    (a, said_a), (b, said_b) = logged_in("plant-a"), logged_in("plant-b")
    with a, b:
        assert said_a == said_b == (0x20, b"\0\0")
        assert put(hub, "plant", authority="plant-a", reason="its issuer leaked").body["members"] is None
        assert a.is_closed()
        assert b.is_open()
        again, said = logged_in("plant-a")
        with again:
            assert said == DISABLED
    drop(hub, "plant")


def test_an_allow_list_shuts_out_everybody_else_and_says_whom_before(tmp_path: Path) -> None:
    with HubInThread() as hub:
        tag(hub, "in", hall=3)
        with MqttPeer.logged_in(hub, "in") as inside, MqttPeer.logged_in(hub, "out") as outside:
            rule = {"verdict": "allow", "condition": "tags.hall = 3"}
            preview = request(hub, "POST", "/api/access/hall-3/preview", rule).body
            assert preview == {"connected": 2, "cut": 1, "devices": ["out"]}
            assert outside.is_open()
            assert put(hub, "hall-3", **rule).status == 200
            assert outside.is_closed()
            assert inside.is_open()
            assert connack(hub, "out") == DISABLED
            (refusal, *_) = hub.refusals("out")
            assert refusal.reason == "only devices on an allow list may connect, and it is on none of them: 'hall-3'"
            assert put(hub, "guest", verdict="allow", devices=["out"]).status == 200
            assert connack(hub, "out") == (0x20, b"\0\0")
            assert put(hub, "not-you", devices=["in"]).status == 200, "a block counts more than any permission"
            assert inside.is_closed()


def test_rules_begin_and_end_when_they_should() -> None:
    with HubInThread() as hub, MqttPeer.logged_in(hub, "a", keep_alive=0) as peer:
        now = hub.clock.now()
        stamp = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + each)) for each in (600, 1200)]
        assert put(hub, "later", devices=["a"], begins=stamp[0], ends=stamp[1]).status == 200
        assert peer.is_open()
        hub.clock.move(700)
        assert peer.is_closed()
        assert connack(hub, "a") == DISABLED
        hub.clock.move(600)
        assert connack(hub, "a") == (0x20, b"\0\0")


def test_an_identity_ends_on_its_day() -> None:
    with HubInThread() as hub, MqttPeer.logged_in(hub, "lent", keep_alive=0) as peer:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(hub.clock.now() + 600))
        plan = {"at": at, "reason": "the fair is over"}
        assert request(hub, "PUT", "/api/devices/lent/expiry", plan).status == 200
        assert request(hub, "GET", "/api/devices/lent/expiry").body["at"][:19] == at[:19]
        assert request(hub, "PUT", "/api/devices/nobody/expiry", plan).status == 404
        assert peer.is_open()
        hub.clock.move(601)
        assert peer.is_closed()

        def identity() -> Any:
            return request(hub, "GET", f"/devices/lent?{VERSION}").body

        assert eventually(lambda: identity()["status"] == "disabled")
        assert identity()["statusReason"] == "the identity expired as planned: the fair is over"
        assert request(hub, "GET", "/api/devices/lent/expiry").body["at"] is None
        body = {"deviceId": "lent", "status": "enabled"}
        assert request(hub, "PUT", f"/devices/lent?{VERSION}", body, headers={"If-Match": "*"}).status == 200
        assert connack(hub, "lent") == (0x20, b"\0\0"), "who lets it in again has the last word"
        for unplan in ("DELETE /api/devices/lent/expiry", f"DELETE /devices/lent?{VERSION}"):
            assert request(hub, "PUT", "/api/devices/lent/expiry", plan | {"at": "2099-01-01"}).status == 200
            method, path = unplan.split(" ", 1)
            assert request(hub, method, path, headers={"If-Match": "*"}).status == 204
            hub.create_device("lent")
            assert request(hub, "GET", "/api/devices/lent/expiry").body["at"] is None


def test_lists_and_plans_outlive_the_hub(tmp_path: Path) -> None:
    with HubInThread(tmp_path / "data") as hub:
        tag(hub, "a", hall=3)
        hub.create_device("b")
        assert put(hub, "hall-3", condition="tags.hall = 3").status == 200
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(hub.clock.now() + 600))
        assert request(hub, "PUT", "/api/devices/b/expiry", {"at": at}).status == 200
    with HubInThread(tmp_path / "data") as hub:
        assert request(hub, "GET", "/api/access/hall-3").body["members"] == 1
        assert connack(hub, "a") == DISABLED
        assert connack(hub, "b") == (0x20, b"\0\0")
        hub.clock.move(601)
        assert connack(hub, "b") == DISABLED


BAD: dict[str, tuple[dict[str, Any], int]] = {
    "for nobody": ({}, 400),
    "for two": ({"devices": ["a"], "authority": "b"}, 400),
    "a verdict of its own": ({"verdict": "maybe", "devices": ["a"]}, 400),
    "an id that is none": ({"devices": ["a b"]}, 400),
    "a condition that cannot be read": ({"condition": "tags.hall ="}, 400),
    "a condition on what changes without a word": ({"condition": "connectionState = 'Connected'"}, 400),
    "a condition on modules": ({"condition": "FROM devices.modules WHERE tags.a = 1"}, 400),
    "an end before its beginning": ({"devices": ["a"], "begins": "2030-01-01", "ends": "2029-01-01"}, 400),
    "too many devices": ({"devices": [f"d{each}" for each in range(10_001)]}, 400),
    "no date": ({"devices": ["a"], "ends": "tomorrow"}, 400),
}


@pytest.mark.parametrize("name", BAD)
def test_rules_that_are_none(shared_hub: HubInThread, name: str) -> None:
    rule, status = BAD[name]
    assert put(shared_hub, "bad", **rule).status == status
    assert request(shared_hub, "GET", "/api/access/bad").status == 404


def test_rules_are_replaced_by_who_has_seen_them(shared_hub: HubInThread, device_id: str) -> None:
    name = device_id[:60]
    first = put(shared_hub, name, replace=False, devices=["nobody-at-all"])
    assert first.status == 200
    assert put(shared_hub, name, replace=False, devices=["somebody"]).status == 412
    body = {"verdict": "block", "devices": ["somebody-else"]}
    for etag, status in ((first.body["etag"], 200), (first.body["etag"], 412)):
        answer = request(shared_hub, "PUT", f"/api/access/{name}", body, headers={"If-Match": f'"{etag}"'})
        assert answer.status == status
    for policy in ("service", "registryReadWrite", "device"):
        assert request(shared_hub, "GET", "/api/access", policy=policy).status == 401
    drop(shared_hub, name)
