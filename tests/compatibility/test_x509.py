"""Unmodified clients that show a certificate: azure-iot-device (Python, Node), Qpid Proton, openssl."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import X509, IoTHubDeviceClient, IoTHubModuleClient
from azure.iot.device.exceptions import CredentialError
from proton import Message as ProtonMessage

from conversations.certificates import Certificate, register
from conversations.https_peer import request
from conversations.mqtt_peer import USER_NAME, connect
from conversations.proton_peer import certificate_connection
from hubkeep.testing import HubInThread


def method_of(event: dict[str, Any]) -> Any:
    return json.loads(event["annotations"]["iothub-connection-auth-method"])


BY_CERTIFICATE = {"scope": "device", "type": "x509", "issuer": "iothub", "acceptingIpFilterRule": None}


def python_client(hub: HubInThread, device_id: str, file: Path, **options: Any) -> IoTHubDeviceClient:
    certificate = X509(cert_file=str(file), key_file=str(file))
    return IoTHubDeviceClient.create_from_x509_certificate(certificate, hub.host_name, device_id, **options)


@pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websockets"])
def test_the_python_device_client(shared_hub: HubInThread, device_id: str, tmp_path: Path, websockets: bool) -> None:
    shown = Certificate.made(device_id)
    register(shared_hub, device_id, shown.sha1, shown.sha256)
    client = python_client(shared_hub, device_id, shown.file(tmp_path), websockets=websockets)
    client.connect()
    client.send_message("by certificate")
    client.shutdown()
    (event,) = shared_hub.wait_for_events(1, device=device_id)
    assert (event["body"], method_of(event)) == ("by certificate", BY_CERTIFICATE)


def test_the_python_module_client(shared_hub: HubInThread, device_id: str, tmp_path: Path) -> None:
    shown = Certificate.made("m")
    shared_hub.create_device(device_id)
    register(shared_hub, device_id, shown.sha256, module_id="camera")
    file = str(shown.file(tmp_path))
    client = IoTHubModuleClient.create_from_x509_certificate(
        X509(cert_file=file, key_file=file), shared_hub.host_name, device_id, "camera"
    )
    client.connect()
    client.send_message("by certificate")
    client.shutdown()
    (event,) = shared_hub.wait_for_events(1, device=device_id)
    assert method_of(event) == BY_CERTIFICATE | {"scope": "module"}


def test_the_python_device_client_with_another_certificate(
    shared_hub: HubInThread, device_id: str, tmp_path: Path
) -> None:
    register(shared_hub, device_id, Certificate.made(device_id).sha256)
    client = python_client(shared_hub, device_id, Certificate.made(device_id).file(tmp_path), connection_retry=False)
    with pytest.raises(CredentialError):
        client.connect()
    client.shutdown()


def test_clients_that_present_their_intermediates(shared_hub: HubInThread, tmp_path: Path, node: Any) -> None:
    root = Certificate.made("plant root", ca=True)
    between = Certificate.made("plant issuer", issuer=root, ca=True, path_length=0)
    body = {"certificate": root.pem, "isVerified": True}
    assert request(shared_hub, "PUT", "/api/cas/plant", body).status == 200
    for device_id in ("ca-python", "ca-node"):
        register(shared_hub, device_id)
    file = Certificate.made("ca-python", issuer=between).file(tmp_path, chain=[between])
    client = python_client(shared_hub, "ca-python", file)
    client.connect()
    client.send_message("by certificate")
    client.shutdown()
    file = Certificate.made("ca-node", issuer=between).file(tmp_path, chain=[between])
    for transport in ("mqtt", "amqp"):
        connection_string = f"HostName={shared_hub.host_name};DeviceId=ca-node;x509=true"
        node("device.js", "reconnect", transport, connection_string, str(file))
    assert method_of(shared_hub.wait_for_events(1, device="ca-python")[0]) == BY_CERTIFICATE
    assert [each["body"] for each in shared_hub.wait_for_events(4, device="ca-node")] == ["before", "after"] * 2


@pytest.mark.parametrize("transport", ["mqtt", "mqtt-ws", "amqp", "amqp-ws", "http"])
def test_the_node_device_client(
    shared_hub: HubInThread, device_id: str, tmp_path: Path, node: Any, transport: str
) -> None:
    shown = Certificate.made("another-name-than-its-own")
    register(shared_hub, device_id, shown.sha256)
    connection_string = f"HostName={shared_hub.host_name};DeviceId={device_id};x509=true"
    node("device.js", "send", transport, connection_string, str(shown.file(tmp_path)))
    events = shared_hub.wait_for_events(2, device=device_id)
    assert events[0]["body"] == '{"temperature":21}'
    assert method_of(events[0]) == BY_CERTIFICATE
    if transport in {"mqtt", "amqp"}:
        other = Certificate.made(device_id).file(tmp_path)
        refused = node("device.js", "refused", transport, connection_string, str(other))
        assert refused == {"name": "UnauthorizedError"}


def test_proton_by_sasl_external(shared_hub: HubInThread, device_id: str, tmp_path: Path) -> None:
    shown = Certificate.made(device_id)
    register(shared_hub, device_id, shown.sha256)
    connection = certificate_connection(shared_hub, shown.file(tmp_path))
    sender = connection.create_sender(f"/devices/{device_id}/messages/events")
    sender.send(ProtonMessage(body=b"from proton"))
    connection.close()
    (event,) = shared_hub.wait_for_events(1, device=device_id)
    assert method_of(event) == BY_CERTIFICATE


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_and_an_mqtt_connect(shared_hub: HubInThread, device_id: str, tmp_path: Path, version: str) -> None:
    key, certificate = tmp_path / "device.key", tmp_path / "device.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={device_id[:40]}"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tell = ["openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256"]
    fingerprint = subprocess.run(tell, check=True, capture_output=True, text=True).stdout.strip().partition("=")[2]
    register(shared_hub, device_id, fingerprint)
    client = ["openssl", "s_client", "-quiet", "-no_ign_eof", version, "-CAfile", str(shared_hub.trust_bundle)]
    client += ["-connect", f"{shared_hub.address}:8883", "-cert", str(certificate), "-key", str(key)]
    words = connect(device_id, USER_NAME.format(host=shared_hub.host_name, client_id=device_id), None)
    with subprocess.Popen(client, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(words)
        process.stdin.flush()
        assert process.stdout.read(4) == b"\x20\x02\0\0"
        process.kill()
