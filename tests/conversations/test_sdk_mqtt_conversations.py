"""What the SDKs that are not run here say over MQTT, step by step as they do, and what they need to hear.

Each conversation is one SDK's: its subscriptions, ids and expectations, after device-protocols 3.14 and 8.
"""

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, quote_plus, unquote

import pytest

from conversations.back_end import send
from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, publish, subscribe
from conversations.test_mqtt_devicebound import puback, received
from conversations.test_mqtt_methods import invoke
from conversations.test_mqtt_twins import DESIRED, GET, REPORT, RESPONSES, ask, said, service_twin, set_desired
from hubkeep.testing import HubInThread

METHODS = "$iothub/methods/POST/#"


def connected(hub: HubInThread, device_id: str, *filters: str, clean: bool = True) -> MqttPeer:
    peer = MqttPeer.logged_in(hub, device_id, clean=clean)
    for each in filters:
        subscribed(peer, each)
    return peer


def subscribed(peer: MqttPeer, topic_filter: str, qos: int = 1) -> None:
    peer.send(subscribe([(topic_filter, qos)]))
    assert peer.read() == (0x90, bytes((0, 1, qos)))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def called(peer: MqttPeer, pool: ThreadPoolExecutor, hub: HubInThread, device_id: str, **body: Any) -> Any:
    """A call under way: what came as last segment of the topic, the body, and the call."""
    call: Future[Answer] = pool.submit(invoke, hub, device_id, **body)
    topic, payload = said(peer.read())
    assert topic.startswith("$iothub/methods/POST/reboot/")
    return topic.rpartition("/")[2], payload, call


@pytest.mark.spec("D-C4", "D-C5", "D-C8", "D-C10")
def test_the_c_sdk(shared_hub: HubInThread, device_id: str, pool: ThreadPoolExecutor) -> None:
    """It takes the characters at fixed places, one step after the other, and gives up on CONNACK 2 and 4."""
    with connected(shared_hub, device_id, RESPONSES) as peer:
        topic, body = ask(peer, f"{GET}7")  # only after the SUBACK
        assert topic == "$iothub/twin/res/200/?$rid=7"
        subscribed(peer, DESIRED)  # only after the answer
        set_desired(shared_hub, device_id, {"interval": 5})
        topic, body = said(peer.read())
        assert topic == "$iothub/twin/PATCH/properties/desired/?$version=2"
        assert json.loads(body) == {"interval": 5, "$version": 2}
        assert ask(peer, f"{REPORT}12", b'{"fw":1}')[0] == "$iothub/twin/res/204/?$rid=12&$version=2"
        subscribed(peer, METHODS)
        rid, _, call = called(peer, pool, shared_hub, device_id)
        assert re.fullmatch(r"\?\$rid=[0-9A-Za-z-]+", rid), "nothing behind it: the rest of the segment is sent back"
        peer.send(publish(f"$iothub/methods/res/200/{rid}", b"{}", qos=0))
        assert call.result(10).body == {"status": 200, "payload": {}}
    device = request(shared_hub, "GET", f"/devices/{device_id}?{VERSION}").body
    disabled = {**device, "status": "disabled"}
    answer = request(shared_hub, "PUT", f"/devices/{device_id}?{VERSION}", disabled, headers={"If-Match": "*"})
    assert answer.status == 200
    for token, code in ((None, 3), ("SharedAccessSignature sr=a&sig=YQ%3D%3D&se=1", 5)):
        with MqttPeer(shared_hub) as peer:
            user = USER_NAME.format(host=shared_hub.host_name, client_id=device_id)
            peer.send(peer.login(device_id) if token is None else connect(device_id, user, token))
            assert peer.read() == (0x20, bytes((0, code)))


@pytest.mark.spec("D-N2", "D-N7", "D-N8")
def test_the_net_sdk(shared_hub: HubInThread, device_id: str, pool: ThreadPoolExecutor) -> None:
    """It subscribes again where its session is present, and reads answers by position and as a query."""
    devicebound = f"devices/{device_id}/messages/devicebound/#"
    with connected(shared_hub, device_id, devicebound, clean=False):
        pass
    with MqttPeer(shared_hub) as peer:
        peer.send(peer.login(device_id, clean=False))
        assert peer.read() == (0x20, b"\1\0")
        subscribed(peer, devicebound)
        assert send(shared_hub, device_id, b"once").status == 204
        _, body, packet_id, _ = received(peer)
        peer.send(puback(packet_id))
        assert (body, peer.is_open()) == (b"once", True)
        subscribed(peer, METHODS, 0)
        segment, _, call = called(peer, pool, shared_hub, device_id)
        peer.send(publish(f"$iothub/methods/res/200/?$rid={segment[6:]}", b'"done"', qos=0))
        assert call.result(10).body == {"status": 200, "payload": "done"}
        subscribed(peer, RESPONSES, 0)
        for topic, status in ((f"{GET}f0c1-7", "200"), (f"{REPORT}f0c1-8", "204")):
            answer, _ = ask(peer, topic, b"{}")
            found = re.fullmatch(r"\$iothub/twin/res/(\d+)/(\?.+)", answer)
            assert found is not None
            assert (found[1], parse_qs(found[2][1:])["$rid"]) == (status, [topic.partition("=")[2]])


@pytest.mark.spec("D-J3", "D-J5", "D-J6")
def test_the_java_sdk(shared_hub: HubInThread, device_id: str) -> None:
    """It throws at an item of a bag without a value, and at a status or version that is no number."""
    with connected(shared_hub, device_id, f"devices/{device_id}/messages/devicebound/#", RESPONSES, DESIRED) as peer:
        for headers in ({}, {"iothub_ack": "full", "iothub_correlationid": "c", "iothub_app_room": "4"}):
            assert send(shared_hub, device_id, b"x", **headers).status == 204
            topic, _, packet_id, _ = received(peer)
            peer.send(puback(packet_id))
            bag = topic[topic.index("%24") :]
            assert all(name and value for name, _, value in (each.partition("=") for each in bag.split("&")))
        topic, _ = ask(peer, f"{REPORT}0", b'{"a":1}')
        assert re.fullmatch(r"\$iothub/twin/res/[0-9]{3}/\?\$rid=0&\$version=[0-9]{1,9}", topic)
        assert ask(peer, f"{REPORT}1&$version=1", b'{"a":2}')[0].startswith("$iothub/twin/res/412/?$rid=1")
        assert service_twin(shared_hub, device_id)["properties"]["reported"]["a"] == 1
        assert ask(peer, f"{REPORT}2&$version=2", b'{"a":3}')[0] == "$iothub/twin/res/204/?$rid=2&$version=3"
        set_desired(shared_hub, device_id, {"b": 1})
        topic, _ = said(peer.read())
        assert re.fullmatch(re.escape("$iothub/twin/PATCH/properties/desired/?$version=") + "[0-9]{1,9}", topic)


@pytest.mark.spec("D-E1", "D-E2")
def test_the_embedded_sdk(shared_hub: HubInThread, device_id: str) -> None:
    """It tells an answer's kind by its status alone; its request ids are whatever its user likes."""
    with connected(shared_hub, device_id, RESPONSES) as peer:
        for rid in ("id_one", "0", "a.b~c-d", "%C3%BC%20x", "A" * 200):
            topic, body = ask(peer, GET + rid)
            assert (topic, bool(body)) == (f"$iothub/twin/res/200/?$rid={rid}", True)
            topic, body = ask(peer, REPORT + rid, b'{"a":1}')
            assert topic.partition("&")[0] == f"$iothub/twin/res/204/?$rid={rid}"
            assert body == b""
            topic, body = ask(peer, REPORT + rid, b"[]")
            assert (topic, json.loads(body)["errorCode"]) == (f"$iothub/twin/res/400/?$rid={rid}", 400004)


@pytest.mark.spec("D-ND3", "D-ND4")
def test_the_node_sdk(shared_hub: HubInThread, device_id: str, pool: ThreadPoolExecutor) -> None:
    """It knows that a twin was refused by the body alone, and answers a method whose body is no JSON by itself."""
    with connected(shared_hub, device_id, RESPONSES, METHODS) as peer:
        for topic in (f"{REPORT}1", f"{REPORT}2&$version=9"):
            answer, body = ask(peer, topic, b"[1]" if topic.endswith("=1") else b"{}")
            assert json.loads(body)["errorCode"] > 400000, answer
        assert "errorCode" not in json.loads(ask(peer, f"{GET}4")[1])
        for payload in ({}, {"payload": None}):
            rid, body, call = called(peer, pool, shared_hub, device_id, **payload)
            assert body == b"null"
            peer.send(publish(f"$iothub/methods/res/200/{rid}", b"null", qos=0))
            assert call.result(10).status == 200


@pytest.mark.spec("D-PY3", "D-PY5", "D-PY9", "D-PY10", "D-PY11", "D-PY15")
def test_the_python_sdk(shared_hub: HubInThread, device_id: str, pool: ThreadPoolExecutor) -> None:
    """It never looks at a SUBACK, splits topics at each slash, and after a reconnect reads what it missed."""
    devicebound = f"devices/{device_id}/messages/devicebound/#"
    with connected(shared_hub, device_id, devicebound, RESPONSES, METHODS) as peer:
        _, body = ask(peer, f"{GET}5", b" ")
        assert json.loads(body)["desired"]["$version"] == 1
        topic, body = ask(peer, f"{REPORT}6", b'{"a":1}')
        assert (topic.split("/")[3], body) == ("204", b"")
        assert int(ask(peer, f"{REPORT}7", b'{"a":')[0].split("/")[3]) >= 300
        assert send(shared_hub, device_id, b"x", iothub_app_path="a/b/c", iothub_messageid="m/1").status == 204
        topic, _, packet_id, _ = received(peer)
        peer.send(puback(packet_id))
        segments = topic.split("/")
        assert len(segments) == 5
        assert unquote(segments[4]).count("a/b/c") == 1
        rid, _, call = called(peer, pool, shared_hub, device_id)
        encoded = "".join(f"%{ord(each):02x}" for each in rid.removeprefix("?$rid="))
        peer.send(publish(f"$iothub/methods/res/%32%30%30/?$rid={encoded}", b'"ok"', qos=1, packet_id=3))
        assert peer.read() == (0x40, b"\0\3")
        assert call.result(10).body == {"status": 200, "payload": "ok"}
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        peer.send(subscribe([("devices/another/messages/devicebound/#", 1)]))
        assert peer.is_closed(), "0x80 would be passed over: it would wait for ever"


@pytest.mark.spec("D-PY14")
@pytest.mark.parametrize("written", [quote_plus, str], ids=["form", "plain"])
def test_the_python_sdk_writes_ids_in_paths_as_in_forms(shared_hub: HubInThread, written: Any) -> None:
    device_id = f"a+b*{written.__name__}"
    connection = dict(each.split("=", 1) for each in shared_hub.create_device(device_id).split(";"))
    token = shared_hub.token(f"devices/{device_id}", key=b64decode(connection["SharedAccessKey"]))
    path = f"/devices/{written(device_id)}/files?{VERSION}"
    begun = request(shared_hub, "POST", path, {"blobName": "log.txt"}, token=token)
    assert begun.status == 200
    assert unquote(begun.body["blobName"]).startswith(f"{device_id}/")
