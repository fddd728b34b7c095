"""azure-iot-device (Python), paho-mqtt and mosquitto_pub: devices over MQTT."""

import datetime as dt
import gc
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
import uuid
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse

from conversations.back_end import send
from conversations.mqtt_peer import eventually
from conversations.test_mqtt_methods import invoke
from conversations.test_mqtt_twins import set_desired
from hubkeep.connection.mqtt.link import MqttLink
from hubkeep.testing import HubInThread
from hubkeep.wire import sas


@pytest.fixture
def reconnecting() -> Iterator[None]:
    """For tests whose client connects anew: the SDK then drops paho's client with its wake-up sockets unclosed."""
    yield
    gc.collect()


unclosed_by_the_sdk = pytest.mark.filterwarnings(r"ignore:unclosed <socket.* proto=0:ResourceWarning")


def parts_of(connection_string: str) -> dict[str, str]:
    return sas.parse_connection_string(connection_string).parts


def full_message() -> Message:
    message = Message('{"temperature": 21}', message_id=str(uuid.uuid4()), content_encoding="utf-8")
    message.content_type = "application/json"
    message.correlation_id = "c-1"
    message.user_id = "u-1"
    message.expiry_time_utc = dt.datetime(2030, 1, 2, 3, 4, 5, 678901)  # noqa: DTZ001  # the SDK takes naive UTC
    message.custom_properties = {"alarm": "high temp", "a/b": "c&d=e+f g", "ünï": "ço\u20acdé", "empty": ""}
    return message


@pytest.mark.spec("D-57", "D-PY1", "D-PY4", "D-PY16")
@pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websockets"])
def test_all_properties(shared_hub: HubInThread, device_id: str, websockets: bool) -> None:
    client = IoTHubDeviceClient.create_from_connection_string(
        shared_hub.create_device(device_id), websockets=websockets
    )
    message = full_message()
    client.connect()
    client.send_message(message)
    client.send_message("plain text")
    client.send_message(Message(bytes(range(256))))
    client.shutdown()
    events = shared_hub.wait_for_events(3, device=device_id)
    assert events[0]["properties"] == message.custom_properties
    system = events[0]["system_properties"]
    assert (system["message_id"], system["correlation_id"]) == (message.message_id, "c-1")
    assert (system["content_type"], system["content_encoding"]) == ("application/json", "utf-8")
    assert system["absolute_expiry_time"] == 1893553445678
    assert events[0]["body"] == '{"temperature": 21}'
    assert events[1]["body"] == "plain text"
    assert b64decode(events[2]["body_base64"]) == bytes(range(256))
    assert events[0]["annotations"]["iothub-connection-auth-method"] == (
        '{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}'
    )


@pytest.mark.spec("D-PY12", "S-30")
def test_the_three_ways_to_be_a_device(shared_hub: HubInThread, device_id: str) -> None:
    parts = parts_of(shared_hub.create_device(device_id))
    token = shared_hub.token(f"devices/{device_id}", key=b64decode(parts["SharedAccessKey"]))
    clients = (
        IoTHubDeviceClient.create_from_connection_string(shared_hub.create_device(device_id)),
        IoTHubDeviceClient.create_from_symmetric_key(parts["SharedAccessKey"], shared_hub.host_name, device_id),
        IoTHubDeviceClient.create_from_sastoken(token),
    )
    for number, client in enumerate(clients):
        client.connect()
        client.send_message(str(number))
        client.shutdown()
    assert [event["body"] for event in shared_hub.wait_for_events(3, device=device_id)] == ["0", "1", "2"]


class Everything:
    """A client that listens to all that there is, and a back end that uses it."""

    def __init__(self, hub: HubInThread, device_id: str) -> None:
        self.hub, self.device_id, self.number = hub, device_id, 0
        self.client = IoTHubDeviceClient.create_from_connection_string(
            hub.create_device(device_id), sastoken_ttl=125, connection_retry_interval=1
        )
        self.states: list[bool] = []
        self.messages: list[bytes] = []
        self.patches: list[dict[str, Any]] = []
        self.client.on_connection_state_change = lambda: self.states.append(self.client.connected)
        self.client.connect()
        self.client.on_message_received = lambda message: self.messages.append(message.data)
        self.client.on_twin_desired_properties_patch_received = self.patches.append
        self.client.on_method_request_received = lambda call: self.client.send_method_response(
            MethodResponse.create_from_method_request(call, 200, call.payload)
        )

    def works(self) -> None:
        """Telemetry, messages, methods and the twin, in both directions."""
        self.number += 1
        mark = f"step {self.number}"
        self.client.send_message(mark)
        assert send(self.hub, self.device_id, mark.encode()).status == 204
        assert eventually(lambda: mark.encode() in self.messages)
        called = invoke(self.hub, self.device_id, payload=mark)
        assert (called.status, called.body["payload"]) == (200, mark)
        set_desired(self.hub, self.device_id, {"mark": mark})
        assert eventually(lambda: any(each.get("mark") == mark for each in self.patches))
        self.client.patch_twin_reported_properties({"mark": mark})
        assert self.client.get_twin()["reported"]["mark"] == mark

    def comes_back(self) -> None:
        """It has connected once more than before."""
        before = self.states.count(True)
        assert eventually(lambda: self.states.count(True) > before, 20), self.states

    def reset(self) -> None:
        """Its TCP connection ends with RST, as a firewall ends it that forgot it."""
        links = [each for each in gc.get_objects() if isinstance(each, MqttLink) and each.principal is not None]
        (transport,) = (each._transport for each in links if each.principal.device_id == self.device_id)
        self.hub.ask(reset(transport))


async def reset(transport: Any) -> None:
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()


@unclosed_by_the_sdk
@pytest.mark.usefixtures("reconnecting")
@pytest.mark.spec("D-113")
def test_everything_works_before_and_after_a_reset_and_a_renewal(shared_hub: HubInThread, device_id: str) -> None:
    device = Everything(shared_hub, device_id)
    device.works()
    device.reset()
    device.comes_back()
    device.works()
    device.comes_back()  # the SDK renews its token 120 s before the end: five seconds after it was made
    device.works()
    device.client.shutdown()
    events = shared_hub.wait_for_events(3, device=device_id)
    assert [each["body"] for each in events] == ["step 1", "step 2", "step 3"]


@pytest.mark.spec("D-28")
def test_a_second_connection_takes_over(shared_hub: HubInThread, device_id: str) -> None:
    connection_string = shared_hub.create_device(device_id)
    first = IoTHubDeviceClient.create_from_connection_string(connection_string, connection_retry=False)
    second = IoTHubDeviceClient.create_from_connection_string(connection_string)
    first.connect()
    lost = threading.Event()
    first.on_connection_state_change = lambda: None if first.connected else lost.set()
    second.connect()
    assert lost.wait(10)
    second.send_message("mine")
    second.shutdown()
    first.shutdown()
    assert [event["body"] for event in shared_hub.wait_for_events(1, device=device_id)] == ["mine"]


@unclosed_by_the_sdk
@pytest.mark.usefixtures("reconnecting")
@pytest.mark.spec("D-PY6", "D-PY2", "L-R7")
def test_a_device_comes_back_after_the_hub_did(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with HubInThread(data) as hub, hub.trusted():
        address = hub.address
        client = IoTHubDeviceClient.create_from_connection_string(
            hub.create_device("survivor"), connection_retry_interval=1, keep_alive=5
        )
        client.connect()
        client.send_message("before")
    with HubInThread(data, address) as hub, hub.trusted():
        client.send_message("after")
        client.shutdown()
        events = hub.wait_for_events(2, device="survivor")
    assert [event["body"] for event in events] == ["before", "after"]
    assert events[1]["sequence_number"] == events[0]["sequence_number"] + 1


def test_a_wrong_key_is_refused_and_explained(shared_hub: HubInThread, device_id: str) -> None:
    from azure.iot.device.exceptions import CredentialError

    shared_hub.create_device(device_id)
    wrong = IoTHubDeviceClient.create_from_symmetric_key("d3Jvbmcga2V5IQ==", shared_hub.host_name, device_id)
    with pytest.raises(CredentialError):
        wrong.connect()
    wrong.shutdown()
    (refusal,) = shared_hub.refusals(device_id, 1)
    assert "signature matches neither key" in refusal.reason
    assert refusal.remedy


def test_paho(shared_hub: HubInThread, device_id: str) -> None:
    import paho.mqtt.client as mqtt

    key = b64decode(parts_of(shared_hub.create_device(device_id))["SharedAccessKey"])
    arguments = [mqtt.CallbackAPIVersion.VERSION1] if hasattr(mqtt, "CallbackAPIVersion") else []
    client = mqtt.Client(*arguments, client_id=device_id, protocol=mqtt.MQTTv311, clean_session=False)
    client.username_pw_set(
        f"{shared_hub.host_name}/{device_id}/?api-version=2021-04-12", shared_hub.token(f"devices/{device_id}", key=key)
    )
    client.tls_set_context(ssl.create_default_context(cafile=str(shared_hub.trust_bundle)))
    client.connect(shared_hub.host_name, 8883, keepalive=30)
    client.loop_start()
    sent = [client.publish(f"devices/{device_id}/messages/events/n={n}", str(n), qos=1) for n in range(100)]
    for each in sent:
        each.wait_for_publish(10)
    client.disconnect()
    client.loop_stop()
    events = shared_hub.wait_for_events(100, device=device_id)
    assert [event["properties"]["n"] for event in events] == [str(n) for n in range(100)]


def test_mosquitto_pub_with_a_hand_made_token(shared_hub: HubInThread, device_id: str) -> None:
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not installed")
    key = b64decode(parts_of(shared_hub.create_device(device_id))["SharedAccessKey"])
    token = sas.make(f"{shared_hub.host_name}/devices/{device_id}", key, int(time.time()) + 600)
    command = ["mosquitto_pub", "-h", shared_hub.host_name, "-p", "8883", "--cafile", str(shared_hub.trust_bundle)]
    command += ["-i", device_id, "-u", f"{shared_hub.host_name}/{device_id}/?api-version=2021-04-12", "-P", token]
    command += ["-t", f"devices/{device_id}/messages/events/source=shell", "-q", "1", "-m", "by hand", "-V", "mqttv311"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    (event,) = shared_hub.wait_for_events(1, device=device_id)
    assert (event["body"], event["properties"]) == ("by hand", {"source": "shell"})
