"""Cloud-to-device messages with unmodified clients on both ends."""

import json
import queue
import ssl
from base64 import b64decode
from typing import Any

import pytest

from conversations.back_end import send, statuses
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import eventually
from hubkeep.testing import HubInThread
from hubkeep.wire import sas

azure = pytest.importorskip("azure.iot.device")
from azure.iot.device import IoTHubDeviceClient, Message  # noqa: E402


def full_message(hub: HubInThread, device_id: str, body: bytes = b"open valve") -> None:
    answer = send(
        hub,
        device_id,
        body,
        iothub_messageid="m-1",
        iothub_correlationid="c-1",
        iothub_contenttype="application/json",
        iothub_contentencoding="utf-8",
        iothub_ack="full",
        iothub_app_room="4",
        # http.client writes headers as Latin-1; the hub reads their bytes as UTF-8
        iothub_app_text="c&d=e+f g/é".encode().decode("latin-1"),
    )
    assert answer.status == 204


def waiting(hub: HubInThread, device_id: str) -> int:
    count: int = request(hub, "GET", f"/devices/{device_id}?{VERSION}").body["cloudToDeviceMessageCount"]
    return count


@pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websockets"])
def test_python_device(shared_hub: HubInThread, device_id: str, websockets: bool) -> None:
    received: queue.Queue[Message] = queue.Queue()
    client = IoTHubDeviceClient.create_from_connection_string(
        shared_hub.create_device(device_id), websockets=websockets
    )
    client.on_message_received = received.put
    client.connect()
    full_message(shared_hub, device_id)
    message = received.get(timeout=10)
    assert message.data == b"open valve"
    assert (message.message_id, message.correlation_id) == ("m-1", "c-1")
    assert (message.content_type, message.content_encoding, message.ack) == ("application/json", "utf-8", "full")
    assert message.custom_properties == {"room": "4", "text": "c&d=e+f g/é"}
    assert eventually(lambda: waiting(shared_hub, device_id) == 0)
    # it does not subscribe again after an explicit disconnect
    client.disconnect()
    send(shared_hub, device_id, b"meanwhile")
    client.connect()
    assert received.get(timeout=10).data == b"meanwhile"
    client.shutdown()
    assert statuses(shared_hub, device_id, 1) == {"m-1": "Success"}


@pytest.mark.parametrize("transport", ["Mqtt", "MqttWs"])
def test_node_device(shared_hub: HubInThread, device_id: str, node: Any, transport: str) -> None:
    connection_string = shared_hub.create_device(device_id)
    full_message(shared_hub, device_id)
    send(shared_hub, device_id, b"second")
    first, second = node("devicebound.js", transport, connection_string, "2")
    properties = {"room": "4", "text": "c&d=e+f g/é", "iothub-ack": "full"}
    assert first == expected(device_id, properties=properties)
    assert second["body"] == "second"
    assert eventually(lambda: waiting(shared_hub, device_id) == 0)


def expected(device_id: str, **more: Any) -> dict[str, Any]:
    """What a Node device tells of ``full_message``."""
    return {
        "body": "open valve",
        "id": "m-1",
        "correlationId": "c-1",
        "to": f"/devices/{device_id}/messages/devicebound",
        "contentType": "application/json",
        "contentEncoding": "utf-8",
        **more,
    }


@pytest.mark.spec("D-ND12", "D-ND13")
@pytest.mark.parametrize("transport", ["Amqp", "AmqpWs"])
def test_node_device_over_amqp(shared_hub: HubInThread, device_id: str, node: Any, transport: str) -> None:
    connection_string = shared_hub.create_device(device_id)
    full_message(shared_hub, device_id)
    send(shared_hub, device_id, b"second", iothub_ack="full", iothub_messageid="m-2")
    received = node("devicebound.js", transport, connection_string, "3", "abandon", "reject")
    assert (
        received[0] == received[2] == expected(device_id, ack="full", properties={"room": "4", "text": "c&d=e+f g/é"})
    )
    assert received[1]["body"] == "second"
    assert statuses(shared_hub, device_id, 2) == {"m-1": "Success", "m-2": "Rejected"}


@pytest.mark.spec("D-ND14")
def test_node_device_over_https(shared_hub: HubInThread, device_id: str, node: Any) -> None:
    connection_string = shared_hub.create_device(device_id)
    full_message(shared_hub, device_id)
    send(shared_hub, device_id, b"second", iothub_ack="full", iothub_messageid="m-2")
    # it fetches until there is nothing more, and settles meanwhile
    first, second, again = node("devicebound.js", "Http", connection_string, "3", "abandon", "reject", "complete")
    assert first == again
    assert (first["id"], first["correlationId"], first["to"]) == ("m-1", "c-1", expected(device_id)["to"])
    assert first["properties"]["iothub-app-room"] == "4"
    assert (first["body"], second["body"]) == ("open valve", "second")
    assert statuses(shared_hub, device_id, 2) == {"m-1": "Success", "m-2": "Rejected"}


# -- back ends -------------------------------------------------------------------------------------------------------


@pytest.mark.spec("D-57", "S-96", "S-99")
def test_python_back_end_to_python_device(shared_hub: HubInThread, device_id: str) -> None:
    iothub = pytest.importorskip("azure.iot.hub")
    received: queue.Queue[Message] = queue.Queue()
    client = IoTHubDeviceClient.create_from_connection_string(shared_hub.create_device(device_id))
    client.on_message_received = received.put
    client.connect()
    manager = iothub.IoTHubRegistryManager(shared_hub.connection_string)
    properties = {"a/b": "c&d=e+f g", "n": 5, "contentType": "text/plain", "messageId": "m-1", "iothub-ack": "positive"}
    manager.send_c2d_message(device_id, "open valve", properties=properties)
    message = received.get(timeout=10)
    assert (message.data, message.message_id, message.content_type) == (b"open valve", "m-1", "text/plain")
    assert (message.custom_properties, message.ack) == ({"a/b": "c&d=e+f g", "n": "5"}, "positive")
    with pytest.raises(Exception, match="C2D message send failure"):
        manager.send_c2d_message("nobody", "x")
    manager.send_c2d_message(device_id, "the link goes on")
    assert received.get(timeout=10).data == b"the link goes on"
    client.shutdown()
    assert statuses(shared_hub, device_id, 1) == {"m-1": "Success"}


@pytest.mark.spec("D-57", "S-97", "S-98", "S-99")
def test_node_back_end(shared_hub: HubInThread, device_id: str, node: Any) -> None:
    name = f"{device_id}=1"  # Node percent-encodes ids
    connection_string = shared_hub.create_device(name)
    owner = shared_hub.connection_string
    identity = "9d6a4d28-9c61-4a9c-9cf5-6f5d0e2a5b11"  # travels as an AMQP uuid
    message = {"body": "open valve", "id": identity, "ack": "full", "properties": {"a/b": "c&d=e+f g"}}
    fill = [json.dumps({"body": "fill"})] * 49
    outcomes = node("back_end.js", owner, name, "send", json.dumps(message), *fill, json.dumps(message))
    assert outcomes == ["Object"] * 50 + ["DeviceMaximumQueueDepthExceededError"]
    too_large = json.dumps({"body": "x" * 65_537})
    assert node("back_end.js", owner, "nobody", "send", fill[0], too_large) == [
        "DeviceNotFoundError",
        "MessageTooLargeError",
    ]
    received = node("devicebound.js", "Mqtt", connection_string, "50")
    assert (received[0]["id"], received[0]["body"]) == (identity, "open valve")
    assert received[0]["properties"] == {"a/b": "c&d=e+f g", "iothub-ack": "full"}
    assert eventually(lambda: waiting(shared_hub, name) == 0)


@pytest.mark.spec("S-100", "S-102")
@pytest.mark.parametrize(("transport", "count"), [("Amqp", 70), ("AmqpWs", 2)])
def test_node_hears_feedback(
    device_id: str, node: Any, transport: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSPORT", transport)
    with HubInThread() as hub, hub.trusted():
        hub.create_device(device_id)
        for number in range(count):
            send(hub, device_id, b"x", iothub_ack="full", iothub_messageid=str(number))
            if number in {35, count - 1}:
                request(hub, "DELETE", f"/devices/{device_id}/commands?{VERSION}")
        hub.clock.move(15)
        # 64 together, then the rest; the first batch is abandoned once and comes again
        records = node("back_end.js", hub.connection_string, device_id, "feedback", str(count), "abandon")
        assert {each["originalMessageId"]: each["statusCode"] for each in records} == {
            str(number): "Purged" for number in range(count)
        }
        path = f"/messages/serviceBound/feedback?{VERSION}"
        assert eventually(lambda: request(hub, "GET", path).status == 204)


@pytest.mark.parametrize("qos", [0, 1])
def test_paho(shared_hub: HubInThread, device_id: str, qos: int) -> None:
    import paho.mqtt.client as mqtt

    key = b64decode(sas.parse_connection_string(shared_hub.create_device(device_id)).parts["SharedAccessKey"])
    arguments = [mqtt.CallbackAPIVersion.VERSION1] if hasattr(mqtt, "CallbackAPIVersion") else []
    client = mqtt.Client(*arguments, client_id=device_id, protocol=mqtt.MQTTv311, clean_session=False)
    client.username_pw_set(
        f"{shared_hub.host_name}/{device_id}/?api-version=2021-04-12", shared_hub.token(f"devices/{device_id}", key=key)
    )
    client.tls_set_context(ssl.create_default_context(cafile=str(shared_hub.trust_bundle)))
    received: queue.Queue[Any] = queue.Queue()
    client.on_message = lambda _client, _data, message: received.put(message)
    client.on_connect = lambda *_: client.subscribe(f"devices/{device_id}/messages/devicebound/#", qos)
    for number in range(30):
        send(shared_hub, device_id, b"%d" % number, iothub_app_n=str(number))
    client.connect(shared_hub.host_name, 8883, keepalive=30)
    client.loop_start()
    messages = [received.get(timeout=10) for _ in range(30)]
    assert [message.payload for message in messages] == [b"%d" % number for number in range(30)]
    assert all(message.qos == qos and message.topic.endswith(f"&n={message.payload.decode()}") for message in messages)
    assert eventually(lambda: waiting(shared_hub, device_id) == 0)
    client.disconnect()
    client.loop_stop()
