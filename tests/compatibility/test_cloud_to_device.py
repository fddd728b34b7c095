"""Cloud-to-device messages with unmodified clients on both ends."""

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
    assert first == {
        "body": "open valve",
        "id": "m-1",
        "correlationId": "c-1",
        "to": f"/devices/{device_id}/messages/devicebound",
        "contentType": "application/json",
        "contentEncoding": "utf-8",
        "properties": {"room": "4", "text": "c&d=e+f g/é", "iothub-ack": "full"},
    }
    assert second["body"] == "second"
    assert eventually(lambda: waiting(shared_hub, device_id) == 0)


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
