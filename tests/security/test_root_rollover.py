"""Another root for the hub: prepared, rehearsed by devices, switched to and back, with connections that go on."""

import json
import socket
import ssl
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cli.test_certificate_commands import fails, ok
from hubkeep.testing import HubInThread

NAME, CANARY = "localhost", "canary.localhost"


@pytest.fixture
def hub() -> Iterator[HubInThread]:
    with HubInThread(host_names=(NAME,)) as running:
        yield running


def dial(hub: HubInThread, name: str, trusted: Path, kind: str = "mqtt") -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(trusted))
    raw = socket.create_connection((hub.address, hub.hub.ports[kind]), 10)
    return context.wrap_socket(raw, server_hostname=name)


def accepts(hub: HubInThread, name: str, trusted: Path) -> bool:
    try:
        dial(hub, name, trusted).close()
    except ssl.SSLCertVerificationError:
        return False
    return True


def bundle(hub: HubInThread, version: str = "latest") -> dict[str, Any]:
    """What the signed bundle says, its signature checked with the key that it names first."""
    with dial(hub, NAME, hub.trust_bundle, "https") as sock:
        sock.sendall(f"GET /trust/{version} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
    header, payload, signature = answer.partition(b"\r\n\r\n")[2].split(b".")
    assert json.loads(_bytes(header)) == {"alg": "ES256", "kid": "B1", "typ": "hubkeep-trust+jws"}
    said: dict[str, Any] = json.loads(_bytes(payload))
    jwk = said["signers"][0]["jwk"]
    x, y = (int.from_bytes(_bytes(jwk[each].encode())) for each in "xy")
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    raw = _bytes(signature)
    r, s = int.from_bytes(raw[:32]), int.from_bytes(raw[32:])
    key.verify(encode_dss_signature(r, s), header + b"." + payload, ec.ECDSA(hashes.SHA256()))
    return said


def _bytes(text: bytes) -> bytes:
    return urlsafe_b64decode(text + b"=" * (-len(text) % 4))


def client_of(hub: HubInThread, device_id: str, trusted: Path, name: str) -> IoTHubDeviceClient:
    text = hub.create_device(device_id).replace(f"HostName={NAME}", f"HostName={name}")
    return IoTHubDeviceClient.create_from_connection_string(text, server_verification_cert=trusted.read_text())


def test_a_rollover_that_strands_nobody(hub: HubInThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def resolved(name: Any, *arguments: Any, **options: Any) -> Any:
        return resolve(hub.address if name in {NAME, CANARY} else name, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    old = tmp_path / "old.pem"
    old.write_bytes(hub.trust_bundle.read_bytes())
    first = bundle(hub)
    assert [each["state"] for each in first["anchors"]] == ["active"]
    assert first["scope"] == hub.id_scope
    assert "No new root is prepared" in fails(hub, "cert", "rehearse")

    told = json.loads(ok(hub, "cert", "root", "prepare", "--json"))
    assert (told["phase"], told["canary"]) == ("prepared", CANARY)
    assert "under way" in fails(hub, "cert", "root", "prepare")
    new = hub.data / "roots" / "2" / "trust-bundle.pem"
    both = hub.trust_bundle
    trust = {"old": old, "new": new, "both": both}
    assert {each: accepts(hub, NAME, trust[each]) for each in trust} == {"old": True, "new": False, "both": True}
    assert {each: accepts(hub, CANARY, trust[each]) for each in trust} == {"old": False, "new": True, "both": True}
    second = bundle(hub)
    assert [each["state"] for each in second["anchors"]] == ["active", "incoming"]
    assert second["anchors"][1]["sha256"] == told["root"]
    assert ssl.PEM_cert_to_DER_cert(new.read_text()) == b64decode(second["anchors"][1]["der"])
    assert (second["version"], second["hosts"]["canary"]) == (first["version"] + 1, [CANARY])
    assert bundle(hub, str(first["version"])) == first

    ready = client_of(hub, "ready", both, CANARY)
    ready.connect()
    ready.shutdown()
    live = client_of(hub, "live", old, NAME)
    live.connect()
    rehearsed = json.loads(_out(hub, "cert", "rehearse", "--json"))
    assert [each["deviceId"] for each in rehearsed["proved"]] == ["ready"]
    assert rehearsed["missing"] == ["first-device", "live"], "it is connected, but has proved nothing"
    assert "live" in fails(hub, "cert", "rehearse")
    assert "have not proved" in fails(hub, "cert", "root", "switch")
    ok(hub, "device", "delete", "first-device")
    ok(hub, "cert", "root", "switch", "--force")
    live.send_message("still here")
    assert hub.wait_for_events(1, device="live")[0]["body"] == "still here"
    assert {each: accepts(hub, NAME, trust[each]) for each in trust} == {"old": True, "new": True, "both": True}
    assert [each["state"] for each in bundle(hub)["anchors"]] == ["outgoing", "active"]

    ok(hub, "cert", "root", "roll-back")
    assert {each: accepts(hub, NAME, trust[each]) for each in trust} == {"old": True, "new": False, "both": True}
    live.shutdown()
    again = client_of(hub, "live", both, CANARY)
    again.connect()
    again.shutdown()
    ok(hub, "cert", "rehearse")
    told = json.loads(ok(hub, "cert", "root", "switch", "--json"))
    assert told["phase"] == "switched"


def _out(hub: HubInThread, *arguments: str) -> str:
    return fails(hub, *arguments)


def test_a_switched_root_serves_after_a_new_start(tmp_path: Path) -> None:
    data = tmp_path / "hub"
    with HubInThread(data, host_names=(NAME,)) as hub:
        ok(hub, "cert", "root", "prepare")
        ok(hub, "device", "delete", "first-device")
        ok(hub, "cert", "root", "switch")
    with HubInThread(data, host_names=(NAME,)) as hub:
        new = data / "roots" / "2" / "trust-bundle.pem"
        assert accepts(hub, NAME, new)
        assert accepts(hub, CANARY, new)
        assert json.loads(ok(hub, "cert", "root", "show", "--json"))["phase"] == "switched"
        assert [each["state"] for each in bundle(hub)["anchors"]] == ["outgoing", "active"]


def test_a_hub_that_is_dialled_by_address_has_no_canary() -> None:
    with HubInThread() as hub:
        assert "no canary name" in fails(hub, "cert", "root", "prepare")
