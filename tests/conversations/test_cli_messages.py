"""hubkeep device send, messages and purge, as processes against a running hub."""

import json
import subprocess
import sys
from typing import Any

from conversations.mqtt_peer import MqttPeer
from conversations.test_mqtt_devicebound import listening, puback, received
from hubkeep.testing import HubInThread


def start(hub: HubInThread, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "hubkeep", "device", *arguments, "--data", str(hub.settings.data)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(hub: HubInThread, *arguments: str, standard_input: bytes = b"") -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    process = start(hub, *arguments)
    out, err = process.communicate(standard_input, timeout=30)
    return process.returncode, out.decode(), err.decode()


def run_json(hub: HubInThread, *arguments: str) -> Any:
    status, out, err = run(hub, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def test_a_message_is_sent_and_its_end_waited_for(shared_hub: HubInThread, device_id: str) -> None:
    with listening(shared_hub, device_id) as peer:
        sending = start(
            shared_hub, "send", device_id, "öffne", "-p", "room=4 é", "--ack", "full", "--wait", "--message-id", "m-1"
        )
        topic, body, packet_id, _ = received(peer, 20)
        assert body == "öffne".encode()
        assert topic.endswith("&iothub-ack=full&room=4%20%C3%A9")
        assert sending.poll() is None, "it waits"
        peer.send(puback(packet_id))
        out, err = sending.communicate(timeout=20)
        assert (sending.returncode, out) == (0, b"m-1: Success\n"), err


def test_what_waits_is_shown_and_purged(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    status, out, _ = run(shared_hub, "send", device_id, "-", standard_input=b"\x00\xff")
    assert (status, out.endswith(" is queued\n")) == (0, True)
    sent = run_json(shared_hub, "send", device_id, "x", "--message-id", "late", "--expires-in", "0.1")
    assert sent == {"messageId": "late", "statusCode": "Queued"}
    status, _, err = run(shared_hub, "send", device_id, "x", "--wait", "--expires-in", "0.1")
    assert status == 1
    assert "Expired" in err
    found = run_json(shared_hub, "messages", device_id)
    assert [each["bytes"] for each in found["waiting"]] == [2]
    assert [each["statusCode"] for each in found["ended"]] == ["Expired", "Expired"]
    assert found["ended"][0]["messageId"] == "late"
    purged = run_json(shared_hub, "purge", device_id)
    assert purged == {"totalMessagesPurged": 1, "deviceId": device_id, "moduleId": None}
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        assert peer.is_open()


def test_what_cannot_be_sent_says_why(shared_hub: HubInThread) -> None:
    status, _, err = run(shared_hub, "send", "nobody", "x")
    assert status == 1
    assert "The device is not registered. (404, DeviceNotFound)" in err
    assert "hubkeep device list" in err
    assert run(shared_hub, "send", "nobody", "x", "-p", "no-value")[0] == 2
