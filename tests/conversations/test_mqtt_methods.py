"""Direct methods: called over the service REST surface, answered over MQTT by raw packets."""

import json
import struct
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import MqttPeer, eventually, publish, subscribe, unsubscribe
from hubkeep.testing import HubInThread

METHODS = "$iothub/methods/POST/#"


def invoke(hub: HubInThread, device_id: str, **body: Any) -> Answer:
    return request(hub, "POST", f"/twins/{device_id}/methods?{VERSION}", {"methodName": "reboot", **body})


def device(hub: HubInThread, device_id: str, *filters: str) -> MqttPeer:
    peer = MqttPeer.logged_in(hub, device_id)
    peer.send(subscribe([(each, 1) for each in filters or (METHODS,)]))
    packet = peer.read()
    assert packet is not None
    assert packet[0] == 0x90
    return peer


@pytest.fixture
def calling(shared_hub: HubInThread, device_id: str) -> Any:
    """Starts a call of this test's device; its Answer is the future's result."""
    with ThreadPoolExecutor() as pool:
        yield lambda **body: pool.submit(invoke, shared_hub, device_id, **body)


def called(peer: MqttPeer) -> tuple[str, str, bytes]:
    """Method, request id and payload of the next call, which comes with QoS 0 and is not retained."""
    packet = peer.read()
    assert packet is not None
    first, body = packet
    assert first == 0x30
    (size,) = struct.unpack_from(">H", body)
    topic, payload = body[2 : 2 + size].decode(), body[2 + size :]
    head, _, request_id = topic.partition("/?$rid=")
    assert head.startswith("$iothub/methods/POST/")
    return head.removeprefix("$iothub/methods/POST/"), request_id, payload


def answer(peer: MqttPeer, request_id: str, status: object = 200, body: bytes = b"", qos: int = 0) -> None:
    peer.send(publish(f"$iothub/methods/res/{status}/?$rid={request_id}", body, qos=qos, packet_id=9))


def number(refused: Answer) -> tuple[int, int, str]:
    """Status, number and name of a refusal in form B."""
    inner = json.loads(refused.body["Message"])
    assert set(inner) == {"errorCode", "trackingId", "message", "timestampUtc"}
    assert refused.body["ExceptionMessage"] == ""
    return refused.status, inner["errorCode"], refused.headers["iothub-errorcode"]


Calling = Callable[..., "Future[Answer]"]


@pytest.mark.spec("D-65", "D-67", "S-88")
def test_a_call_and_its_answer(shared_hub: HubInThread, device_id: str, calling: Calling) -> None:
    with device(shared_hub, device_id) as peer:
        for status in (200, 0, -7, 404, 500, 123456):
            call = calling(payload={"soft": True}, responseTimeoutInSeconds=10)
            name, request_id, payload = called(peer)
            assert (name, json.loads(payload)) == ("reboot", {"soft": True})
            assert 0 < len(request_id) <= 36
            assert request_id.replace("-", "").isalnum()
            answer(peer, request_id, status, b'{"ok":[1,2.50,"\xc3\xbc"]}')
            done = call.result(10)
            assert (done.status, done.body) == (200, {"status": status, "payload": {"ok": [1, 2.5, "ü"]}})


@pytest.mark.parametrize(
    "payload", ["null", "true", "0", "-1.5e3", '"text"', '""', "[]", "{}", "[[1],{}]", '{"ü":"\\u0000"}']
)
def test_payloads_of_every_kind(shared_hub: HubInThread, device_id: str, calling: Calling, payload: str) -> None:
    with device(shared_hub, device_id) as peer:
        call = calling(payload=json.loads(payload))
        _, request_id, sent = called(peer)
        assert json.loads(sent) == json.loads(payload)
        answer(peer, request_id, 200, payload.encode())
        assert call.result(10).body == {"status": 200, "payload": json.loads(payload)}


@pytest.mark.spec("D-66", "D-70")
@pytest.mark.parametrize("body", [b"", b" ", b"null"])
def test_no_payload(shared_hub: HubInThread, device_id: str, calling: Calling, body: bytes) -> None:
    with device(shared_hub, device_id) as peer:
        call = calling()
        _, request_id, payload = called(peer)
        assert payload == b"null"
        answer(peer, request_id, 200, body)
        assert call.result(10).body == {"status": 200, "payload": None}


def test_names_are_encoded_except_for_the_star(shared_hub: HubInThread, device_id: str, calling: Calling) -> None:
    with device(shared_hub, device_id) as peer:
        for name, sent in (
            ("thermostat1*getMax", "thermostat1*getMax"),
            ("a b/ü", "a%20b%2F%C3%BC"),
            ("x-._~", "x-._~"),
        ):
            call = calling(methodName=name)
            method, request_id, _ = called(peer)
            assert method == sent
            answer(peer, request_id)
            assert call.result(10).status == 200


@pytest.mark.spec("L-D8", "D-69", "S-89")
def test_a_device_that_is_not_there(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    assert number(invoke(shared_hub, device_id)) == (404, 404103, "DeviceNotOnline")
    with MqttPeer.logged_in(shared_hub, device_id) as peer:  # connected, and listens to nothing
        assert number(invoke(shared_hub, device_id)) == (404, 404103, "DeviceNotOnline")
        peer.send(subscribe([(METHODS, 1)]) + unsubscribe([METHODS], 2))
        assert peer.read() == (0x90, b"\0\1\1")
        assert peer.read() == (0xB0, b"\0\2")
        assert number(invoke(shared_hub, device_id)) == (404, 404103, "DeviceNotOnline")
    assert number(invoke(shared_hub, "nobody")) == (404, 404001, "DeviceNotFound")
    module = request(shared_hub, "POST", f"/twins/{device_id}/modules/m/methods?{VERSION}", {"methodName": "x"})
    assert number(module) == (404, 404010, "ModuleNotFound")


@pytest.mark.spec("L-D8")
def test_a_device_that_goes_while_it_is_waited_for(shared_hub: HubInThread, device_id: str, calling: Calling) -> None:
    with device(shared_hub, device_id) as peer:
        call = calling(responseTimeoutInSeconds=300)
        called(peer)
    assert number(call.result(10)) == (404, 404104, "DeviceConnectionClosedRemotely")


def test_a_device_that_is_disabled_while_it_is_waited_for(
    shared_hub: HubInThread, device_id: str, calling: Calling
) -> None:
    with device(shared_hub, device_id) as peer:
        call = calling(responseTimeoutInSeconds=300)
        called(peer)
        body = {"deviceId": device_id, "status": "disabled"}
        request(shared_hub, "PUT", f"/devices/{device_id}?{VERSION}", body, headers={"If-Match": "*"})
        assert number(call.result(10))[1] == 404104
        assert peer.is_closed()
    assert number(invoke(shared_hub, device_id))[1] == 404103


@pytest.mark.spec("L-D8", "S-90", "D-68")
def test_a_silent_device_and_its_late_answers(device_id: str) -> None:
    with HubInThread() as hub, ThreadPoolExecutor() as pool, device(hub, device_id) as peer:
        call = pool.submit(invoke, hub, device_id, responseTimeoutInSeconds=60)
        _, request_id, _ = called(peer)
        hub.clock.move(30)
        assert not call.done()
        hub.clock.move(31)
        assert number(call.result(10)) == (504, 504101, "GatewayTimeout")
        # the move let the keep-alive lapse as well, so a new link gives the late answers
    with HubInThread() as hub, ThreadPoolExecutor() as pool, device(hub, device_id) as peer:
        call = pool.submit(invoke, hub, device_id, responseTimeoutInSeconds=5)
        _, request_id, _ = called(peer)
        assert call.result(15).status == 504
        for late in (request_id, request_id, "unknown", "", "%00"):
            answer(peer, late, qos=1)
            assert peer.read() == (0x40, b"\0\x09")
        assert peer.is_open()


@pytest.mark.spec("L-D8")
def test_of_two_answers_the_first_counts(shared_hub: HubInThread, device_id: str, calling: Calling) -> None:
    with device(shared_hub, device_id) as peer:
        call = calling()
        _, request_id, _ = called(peer)
        answer(peer, request_id, 1)
        answer(peer, request_id, 2)
        assert call.result(10).body["status"] == 1
        assert peer.is_open()


@pytest.mark.spec("S-92")
def test_a_call_waits_for_the_device_to_connect(shared_hub: HubInThread, device_id: str, calling: Calling) -> None:
    shared_hub.create_device(device_id)
    call = calling(connectTimeoutInSeconds=30)
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        assert not call.done()
        peer.send(subscribe([(METHODS, 0)]))
        assert peer.read() == (0x90, b"\0\1\0")
        _, request_id, _ = called(peer)
        answer(peer, request_id, 201)
        assert call.result(10).body == {"status": 201, "payload": None}


def test_a_call_does_not_wait_for_ever(device_id: str) -> None:
    with HubInThread() as hub, ThreadPoolExecutor() as pool:
        hub.create_device(device_id)
        call = pool.submit(invoke, hub, device_id, connectTimeoutInSeconds=300)
        assert eventually(lambda: hub.clock.move(100) or call.done(), 10)
        assert number(call.result(10))[1] == 404103


def test_a_narrower_subscription_hears_its_method_alone(
    shared_hub: HubInThread, device_id: str, calling: Calling
) -> None:
    with device(shared_hub, device_id, "$iothub/methods/POST/reboot/#") as peer:
        assert number(invoke(shared_hub, device_id, methodName="other"))[1] == 404103
        call = calling()
        _, request_id, _ = called(peer)
        answer(peer, request_id)
        assert call.result(10).status == 200


def test_calls_side_by_side(shared_hub: HubInThread, device_id: str) -> None:
    with device(shared_hub, device_id) as peer, ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(invoke, shared_hub, device_id, payload=n) for n in range(20)]
        heard = [called(peer) for _ in range(20)]
        assert len({request_id for _, request_id, _ in heard}) == 20
        for _, request_id, payload in reversed(heard):
            answer(peer, request_id, 200, payload)
        assert [each.result(10).body["payload"] for each in calls] == list(range(20))


def test_too_many_calls_at_once(device_id: str) -> None:
    limits = {"methods_per_identity": 2, "methods": 3}
    with HubInThread(limits=limits) as hub, ThreadPoolExecutor() as pool, device(hub, device_id) as peer:
        other = device(hub, f"{device_id}-2")
        calls = [pool.submit(invoke, hub, device_id) for _ in range(2)]
        ids = [called(peer)[1] for _ in range(2)]
        assert number(invoke(hub, device_id)) == (429, 429001, "ThrottlingException")
        calls.append(pool.submit(invoke, hub, f"{device_id}-2"))
        answer_to = called(other)[1]
        assert invoke(hub, f"{device_id}-2").status == 429
        for each in ids:
            answer(peer, each)
        answer(other, answer_to)
        assert [each.result(10).status for each in calls] == [200] * 3
        other.sock.close()


@pytest.mark.spec("S-91")
@pytest.mark.parametrize(
    "body",
    [
        {"responseTimeoutInSeconds": 4},
        {"responseTimeoutInSeconds": 301},
        {"responseTimeoutInSeconds": "30"},
        {"connectTimeoutInSeconds": -1},
        {"connectTimeoutInSeconds": 301},
        {"methodName": ""},
        {"methodName": "x" * 101},
        {"methodName": None},
        {"methodName": "a\x00b"},
    ],
)
def test_calls_that_break_a_rule(shared_hub: HubInThread, device_id: str, body: dict[str, Any]) -> None:
    with device(shared_hub, device_id) as peer:
        refused = invoke(shared_hub, device_id, **body)
        assert number(refused) == (400, 400004, "ArgumentInvalid")
        assert peer.is_open()  # and was sent nothing


@pytest.mark.spec("L-L23")
def test_the_bounds_of_payload_and_wait(shared_hub: HubInThread, device_id: str, calling: Calling) -> None:
    with device(shared_hub, device_id) as peer:
        for seconds in (5, 300):
            call = calling(payload="x" * 131070, responseTimeoutInSeconds=seconds)
            _, request_id, payload = called(peer)
            answer(peer, request_id, 200, payload)
            assert call.result(10).body["payload"] == "x" * 131070
        for seconds in (4, 301):
            assert number(invoke(shared_hub, device_id, responseTimeoutInSeconds=seconds))[0] == 400
        assert number(invoke(shared_hub, device_id, payload="x" * 131071))[:2] == (413, 413001)
        assert peer.is_open()


def test_payloads_over_their_size(shared_hub: HubInThread, device_id: str, calling: Calling) -> None:
    with device(shared_hub, device_id) as peer:
        assert number(invoke(shared_hub, device_id, payload="x" * 131072))[:2] == (413, 413001)
        call = calling(payload="x" * 131070)
        _, request_id, payload = called(peer)
        assert len(payload) == 131072
        answer(peer, request_id, 200, payload)
        assert call.result(10).body["payload"] == "x" * 131070
        call = calling()
        _, request_id, _ = called(peer)
        answer(peer, request_id, 200, b'"%b"' % (b"x" * 131072))
        assert number(call.result(10))[:2] == (413, 413001)
        assert peer.is_open()


@pytest.mark.parametrize("body", [b"x", b"{", b"\xff", b"{}{}", b'{"a":1,"a":2}', b"[" * 5000])
def test_an_answer_that_is_no_json(shared_hub: HubInThread, device_id: str, calling: Calling, body: bytes) -> None:
    with device(shared_hub, device_id) as peer:
        call = calling()
        _, request_id, _ = called(peer)
        answer(peer, request_id, 200, body)
        assert call.result(10).status == 400
        assert peer.is_open()


def test_an_answer_without_a_status(shared_hub: HubInThread, device_id: str, calling: Calling) -> None:
    with device(shared_hub, device_id) as peer:
        call = calling()
        _, request_id, _ = called(peer)
        answer(peer, request_id, "soon")
        assert call.result(10).status == 400
        assert peer.is_open()


@pytest.mark.spec("S-11", "S-12")
@pytest.mark.parametrize("policy", ["registryRead", "registryReadWrite", "device"])
def test_who_may_not_call(shared_hub: HubInThread, device_id: str, policy: str) -> None:
    with device(shared_hub, device_id) as peer:
        path = f"/twins/{device_id}/methods?{VERSION}"
        assert request(shared_hub, "POST", path, {"methodName": "reboot"}, policy=policy).status == 401
        own = shared_hub.token(f"devices/{device_id}", key=b"k" * 32)
        assert request(shared_hub, "POST", path, {"methodName": "reboot"}, token=own).status == 401
        assert peer.is_open()


def test_the_newest_link_is_called(shared_hub: HubInThread, device_id: str, calling: Calling) -> None:
    with device(shared_hub, device_id) as older, device(shared_hub, device_id) as newer:
        assert older.is_closed()
        call = calling()
        _, request_id, _ = called(newer)
        answer(newer, request_id)
        assert call.result(10).status == 200


def test_an_answer_of_another_device_counts_for_nothing(
    shared_hub: HubInThread, device_id: str, calling: Calling
) -> None:
    with device(shared_hub, device_id) as peer, device(shared_hub, f"{device_id}-2") as other:
        call = calling()
        _, request_id, _ = called(peer)
        answer(other, request_id, 666, qos=1)
        assert other.read() == (0x40, b"\0\x09")
        answer(peer, request_id, 200)
        assert call.result(10).body["status"] == 200
