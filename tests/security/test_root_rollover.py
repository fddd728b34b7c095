"""Another root for the hub: prepared, rehearsed by devices, switched to and back, with connections that go on."""

import hashlib
import json
import queue
import socket
import ssl
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cli.processes import wait_until
from cli.test_certificate_commands import fails, ok
from conversations.certificates import Certificate
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


@pytest.fixture
def resolved(hub: HubInThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both names lead to the hub."""
    resolve = socket.getaddrinfo

    def address_of(name: Any, *arguments: Any, **options: Any) -> Any:
        return resolve(hub.address if name in {NAME, CANARY} else name, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", address_of)


@pytest.mark.usefixtures("resolved")
@pytest.mark.spec("P-54", "P-T36")
def test_a_rollover_that_strands_nobody(hub: HubInThread, tmp_path: Path) -> None:
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
    ok(hub, "cert", "root", "switch")

    told = json.loads(ok(hub, "cert", "root", "retire", "--json"))
    assert told["phase"] == "retired"
    assert not accepts(hub, NAME, old), "nobody vouches for the new root any more"
    assert accepts(hub, NAME, new)
    last, old_root = bundle(hub), first["anchors"][0]["sha256"]
    assert [(each["state"], each["sha256"]) for each in last["anchors"]] == [("active", told["root"])]
    assert [each["sha256"] for each in last["remove"]] == [old_root]
    assert hub.trust_bundle.read_text() == new.read_text()
    assert "may still be needed" in fails(hub, "cert", "root", "finish")


def test_a_retired_root_comes_back_or_is_destroyed_and_the_next_change_begins(tmp_path: Path) -> None:
    data, old = tmp_path / "hub", tmp_path / "old.pem"
    old_keys = [data / "keys" / f"{each}.key" for each in ("root", "server-ecdsa", "server-rsa")]
    with HubInThread(data, host_names=(NAME,), limits={"root_kept": 0}) as hub:
        old.write_bytes(hub.trust_bundle.read_bytes())
        ok(hub, "cert", "root", "prepare")
        ok(hub, "cert", "root", "switch", "--force", "--no-cross")
        assert not accepts(hub, NAME, old), "the old root was not to vouch for the new one"
        assert "have not proved" in fails(hub, "cert", "root", "retire")
        ok(hub, "cert", "root", "retire", "--force")
        ok(hub, "cert", "root", "roll-back")
        back = bundle(hub)
        assert ([each["state"] for each in back["anchors"]], back["remove"]) == (["active", "outgoing"], [])
        assert "told to forget" in fails(hub, "cert", "root", "roll-back"), "to a chain that devices no longer take"
        ok(hub, "cert", "root", "retire", "--force")
        assert all(each.exists() for each in old_keys)
        assert json.loads(ok(hub, "cert", "root", "finish", "--json"))["phase"] == "steady"
        assert not any(each.exists() for each in old_keys)
    with HubInThread(data, host_names=(NAME,)) as hub:
        second, third = (data / "roots" / each / "trust-bundle.pem" for each in "23")
        assert accepts(hub, NAME, second)
        assert not any(each.exists() for each in old_keys), "a start does not make them anew"
        ok(hub, "cert", "root", "prepare")
        assert accepts(hub, CANARY, third)
        ok(hub, "cert", "root", "switch", "--force")
        assert accepts(hub, NAME, third)
        assert accepts(hub, NAME, second), "the second root vouches for the third"
        assert len(bundle(hub)["remove"]) == 1, "a device that slept through the first change hears of it too"


@pytest.mark.usefixtures("resolved")
def test_twins_tell_devices_of_the_bundle_and_what_they_report_counts(hub: HubInThread) -> None:
    ok(hub, "device", "delete", "first-device")
    patches: queue.Queue[dict[str, Any]] = queue.Queue()
    client = client_of(hub, "press", hub.trust_bundle, NAME)
    client.connect()
    client.on_twin_desired_properties_patch_received = patches.put
    assert "hubkeep" not in client.get_twin()["desired"], "nobody is told before there is something to tell"
    root = json.loads(ok(hub, "cert", "root", "prepare", "--json"))["root"]
    told = patches.get(timeout=20)["hubkeep"]["trust"]
    assert told["probe"] == {"host": CANARY, "port": hub.hub.ports["mqtt"], "id": f"p-{root[:8]}"}
    assert told["url"] == f"https://{NAME}/trust/{told['version']}"
    jws = (hub.data / "bundles" / f"{told['version']}.jws").read_bytes()
    assert told["sha256"] == hashlib.sha256(jws).hexdigest()

    def report(**said: Any) -> dict[str, Any]:
        client.patch_twin_reported_properties({"hubkeep": {"trust": {"version": told["version"], **said}}})
        found = json.loads(fails(hub, "cert", "rehearse", "--json"))
        assert found["missing"] == ["press"], "its word is no proof"
        (reported,) = found["reported"]
        return {name: reported[name] for name in ("holds", "failure")}

    assert report(version=told["version"] - 1) == {"holds": False, "failure": ""}
    assert report() == {"holds": True, "failure": ""}
    assert report(anchors=["00000000"]) == {"holds": False, "failure": ""}
    assert report(anchors=[root[:8]], error="no-space") == {"holds": True, "failure": "no-space"}
    assert "have not proved" in fails(hub, "cert", "root", "switch", "--reports")
    failed = {"id": told["probe"]["id"], "ok": False}
    assert report(error=None, probe=failed) == {"holds": True, "failure": "probe"}
    assert "failed: probe" in fails(hub, "cert", "rehearse")
    assert report(probe=None) == {"holds": True, "failure": ""}
    assert "have not proved" in fails(hub, "cert", "root", "switch")
    ok(hub, "cert", "root", "switch", "--reports")
    assert patches.get(timeout=20)["hubkeep"]["trust"]["version"] == told["version"] + 1
    later = client_of(hub, "later", hub.trust_bundle, NAME)
    later.connect()
    wait_until(lambda: "hubkeep" in later.get_twin()["desired"])
    later.shutdown()
    ok(hub, "cert", "root", "announce", "--off")
    assert patches.get(timeout=20)["hubkeep"] is None
    client.shutdown()


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


@pytest.mark.spec("P-50")
def test_who_dials_no_name_or_an_unknown_one_gets_the_usual_chain(hub: HubInThread, tmp_path: Path) -> None:
    old = tmp_path / "old.pem"
    old.write_bytes(hub.trust_bundle.read_bytes())
    ok(hub, "cert", "root", "prepare")
    context = ssl.create_default_context(cafile=str(old))
    context.check_hostname = False
    for port in (hub.hub.ports[each] for each in ("mqtt", "amqp", "https")):
        for name in (None, "elsewhere.example", f"x.{CANARY}"):
            raw = socket.create_connection((hub.address, port), 10)
            context.wrap_socket(raw, server_hostname=name).close()
        with pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(socket.create_connection((hub.address, port), 10), server_hostname=CANARY)


CHAINS = ("old", "new", "new + cross", "new + expired cross")
# what a device that holds these roots says of each chain (4.2); empty: it takes it
ACCEPTS = {
    "old": ("", "unknown ca", "", "certificate expired"),
    "new": ("unknown ca", "", "", ""),
    "both": ("", "", "", ""),
}


@pytest.mark.spec("P-48")
@pytest.mark.parametrize("trusted", ACCEPTS)
def test_what_openssl_accepts(tmp_path: Path, trusted: str) -> None:
    old, new = (Certificate.made(f"{each} root", ca=True) for each in ("old", "new"))
    cross, late = (
        Certificate.made("new root", issuer=old, key=new.key, ca=True, days=days) for days in ((-1, 9), (-9, -1))
    )
    shown = [(old, ()), (new, ()), (new, (cross,)), (new, (late,))]
    (tmp_path / "trusted.pem").write_text("".join({"old": old.pem, "new": new.pem, "both": old.pem + new.pem}[trusted]))
    said = [handshake(tmp_path, Certificate.made("hub", issuer=root), chain) for root, chain in shown]
    assert dict(zip(CHAINS, said, strict=True)) == dict(zip(CHAINS, ACCEPTS[trusted], strict=True))


def handshake(folder: Path, leaf: Certificate, chain: tuple[Certificate, ...]) -> str:
    """The alert that the client ends it with, as the server reads it; empty for none."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(leaf.file(folder, chain=chain))
    client.check_hostname, client.maximum_version = False, ssl.TLSVersion.TLSv1_2  # its alert comes in the handshake
    client.load_verify_locations(folder / "trusted.pem")
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as pool:
        dialling = pool.submit(lambda: client.wrap_socket(theirs, server_hostname="hub"))
        try:
            with server.wrap_socket(ours, server_side=True) as sock:
                sock.settimeout(10)
                with dialling.result(10) as dialled:
                    dialled.sendall(b"x")
                    sock.recv(1)
        except ssl.SSLError as error:
            return str(error.reason).rpartition("ALERT_")[2].replace("_", " ").lower()
    return ""


def test_a_hub_that_is_dialled_by_address_has_no_canary() -> None:
    with HubInThread() as hub:
        assert "no canary name" in fails(hub, "cert", "root", "prepare")
