"""Unmodified provisioning clients: azure-iot-provisioning-device over HTTPS, azure-iot-provisioning-service."""

from base64 import b64encode
from pathlib import Path
from typing import Any

from conversations.certificates import Certificate
from conversations.provisioning_peer import OWNER, derived, enrol, enrol_group
from hubkeep.testing import HubInThread

KEY = b64encode(b"p" * 32).decode()


def test_the_node_service_client(shared_hub: HubInThread, device_id: str, tmp_path: Path, node: Any) -> None:
    root = Certificate.made("node root", ca=True)
    file = tmp_path / "root.pem"
    file.write_text(root.pem)
    connection_string = shared_hub.policy_connection_string(OWNER)
    done = node("provisioning_service.js", connection_string, device_id, str(file))
    assert (done["created"]["deviceId"], done["updated"]["provisioningStatus"]) == (f"{device_id}-d", "disabled")
    assert (done["keys"], done["kept"], done["stale"]) == ([64, 64], True, "InvalidEtagError")
    told = done["group"]["attestation"]["x509"]["signingCertificates"]["primary"]
    assert told["info"]["sha256Thumbprint"] == root.sha256.upper()
    assert done["again"] == done["group"]
    assert (done["bulk"]["isSuccessful"], done["bulk"]["errors"][0]["registrationId"]) == (False, f"{device_id}-1")
    assert {f"{device_id}-{number}" for number in (1, 2, 3)} <= set(done["listed"])
    assert f"{device_id}-g" in done["groups"]
    assert done["records"] == []
    assert (done["missing"], done["gone"]) == ("Error", "Error")


def test_the_node_device_client_with_a_key(shared_hub: HubInThread, device_id: str, node: Any) -> None:
    enrol(shared_hub, device_id)
    given = ("http", shared_hub.host_name, shared_hub.id_scope, device_id, KEY, '{"model": "TX-9"}')
    done = node("provisioning_device.js", *given)
    assert (done["assignedHub"], done["deviceId"]) == (shared_hub.host_name, device_id)
    (event,) = shared_hub.wait_for_events(1, device=device_id)
    assert event["body"] == "provisioned"


def test_the_node_device_client_of_a_group(shared_hub: HubInThread, device_id: str, node: Any) -> None:
    enrol_group(shared_hub, f"g-{device_id}")
    key = b64encode(derived(shared_hub, f"g-{device_id}", device_id)).decode()
    done = node("provisioning_device.js", "http", shared_hub.host_name, shared_hub.id_scope, device_id, key)
    assert done["deviceId"] == device_id
    shared_hub.wait_for_events(1, device=device_id)


def test_the_node_device_client_with_a_certificate(
    shared_hub: HubInThread, device_id: str, tmp_path: Path, node: Any
) -> None:
    root = Certificate.made("vendor root", ca=True)
    between = Certificate.made("vendor issuer", issuer=root, ca=True)
    attestation = {"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": root.pem}}}}
    enrol_group(shared_hub, f"g-{device_id}", attestation)
    name = device_id[:60]
    file = Certificate.made(name, issuer=between).file(tmp_path, chain=[between])
    done = node("provisioning_device.js", "http", shared_hub.host_name, shared_hub.id_scope, name, str(file))
    assert done["deviceId"] == name
    shared_hub.wait_for_events(1, device=name)


def test_the_node_device_client_is_refused(shared_hub: HubInThread, device_id: str, node: Any) -> None:
    given = ("http", shared_hub.host_name, shared_hub.id_scope)
    assert node("provisioning_device.js", *given, "nobody", KEY)["name"] == "UnauthorizedError"
    enrol(shared_hub, device_id, provisioningStatus="disabled")
    assert node("provisioning_device.js", *given, device_id, KEY)["result"] is not None
