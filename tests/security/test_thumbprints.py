"""Devices that a thumbprint stands for: who is let in, over which wire, and what the operator is told of the others."""

import base64
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from conversations.amqp_peer import AmqpPeer, condition
from conversations.certificates import Certificate, register, signed_with_sha1
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, tls_socket
from hubkeep.testing import HubInThread
from hubkeep.wire import sas
from hubkeep.wire.amqp.performatives import Detach

ACCEPTED, REFUSED = (0x20, b"\0\0"), (0x20, b"\0\5")


def by_mqtt(hub: HubInThread, client_id: str, certificate: Path | None, password: str | bytes | None = None) -> Any:
    with MqttPeer(hub, tls_socket(hub, 8883, certificate)) as peer:
        peer.send(connect(client_id, USER_NAME.format(host=hub.host_name, client_id=client_id), password))
        return peer.read()


def by_https(hub: HubInThread, device_id: str, certificate: Path | None, token: str = "") -> int:
    path = f"/devices/{device_id}/messages/events?{VERSION}"
    return request(hub, "POST", path, b"x", token=token, certificate=certificate).status


def by_amqp(hub: HubInThread, path: str, certificate: Path | None) -> bool:
    """Without a SASL layer, as Node and C do."""
    with AmqpPeer(hub, tls_socket(hub, 5671, certificate)).opened() as peer:
        answer = peer.attach(f"/devices/{path}/messages/events", handle=0)
        return answer.target is not None


@pytest.mark.spec("P-34", "D-26", "D-108", "D-109", "P-V7a")
@pytest.mark.parametrize("ca", [None, True], ids=["a leaf", "marked as a CA"])
def test_either_thumbprint_of_either_kind_lets_in_over_every_wire(
    shared_hub: HubInThread, device_id: str, tmp_path: Path, ca: bool | None
) -> None:
    first, second = (Certificate.made("some-name", ca=ca) for _ in range(2))
    spelled = ":".join(first.sha256[at : at + 2] for at in range(0, 64, 2))
    stored = register(shared_hub, device_id, spelled, second.sha1)
    assert stored["authentication"]["x509Thumbprint"] == {
        "primaryThumbprint": first.sha256.upper(),
        "secondaryThumbprint": second.sha1.upper(),
    }
    for shown in (first, second):
        file = shown.file(tmp_path)
        assert by_mqtt(shared_hub, device_id, file) == ACCEPTED
        assert by_mqtt(shared_hub, device_id, file, b"") == ACCEPTED, "a password of no bytes is none"
        assert by_amqp(shared_hub, device_id, file)
        assert by_https(shared_hub, device_id, file) == 204
    stranger = Certificate.made("some-name").file(tmp_path)
    assert by_mqtt(shared_hub, device_id, stranger) == REFUSED
    (refusal,) = shared_hub.refusals(device_id, 1)
    assert refusal.reason.startswith("thumbprint: ")
    assert first.sha256.upper() in refusal.reason
    assert len(refusal.presented["certificate_sha256"]) == 64
    assert "hubkeep device update" in refusal.remedy
    assert not by_amqp(shared_hub, device_id, stranger)
    assert by_https(shared_hub, device_id, stranger) == 401
    # another thumbprint: the old certificate is worth nothing at once
    with MqttPeer(shared_hub, tls_socket(shared_hub, 8883, first.file(tmp_path))) as live:
        live.send(connect(device_id, USER_NAME.format(host=shared_hub.host_name, client_id=device_id), None))
        assert live.read() == ACCEPTED
        register(shared_hub, device_id, second.sha256, update=True)
        assert live.is_closed()
    assert by_mqtt(shared_hub, device_id, first.file(tmp_path)) == REFUSED


HOSTILE: dict[str, tuple[Callable[[], Certificate], str]] = {
    "ended": (lambda: Certificate.made("a", days=(-10, -0.001)), "expired: "),
    "not begun": (lambda: Certificate.made("a", days=(0.01, 10)), "not-yet-valid: "),
    "RSA 1024": (lambda: Certificate.made("a", key=rsa.generate_private_key(65537, 1024)), "weak-key: RSA of 1024"),
    "RSA exponent 3": (lambda: Certificate.made("a", key=rsa.generate_private_key(3, 2048)), "weak-key: RSA"),
    "signed with SHA-1": (lambda: signed_with_sha1("a"), "weak-signature: sha1"),
    "signed with SHA-224": (lambda: Certificate.made("a", digest=hashes.SHA224()), "weak-signature: sha224"),
}


@pytest.mark.spec("D-111")
@pytest.mark.parametrize("cause", HOSTILE)
def test_the_right_thumbprint_of_a_bad_certificate(
    shared_hub: HubInThread, device_id: str, tmp_path: Path, cause: str
) -> None:
    make, reason = HOSTILE[cause]
    shown = make()
    register(shared_hub, device_id, shown.sha256)
    with MqttPeer(shared_hub, tls_socket_of_anything(shared_hub, shown.file(tmp_path))) as peer:
        peer.send(connect(device_id, USER_NAME.format(host=shared_hub.host_name, client_id=device_id), None))
        assert peer.read() == REFUSED
    (refusal,) = shared_hub.refusals(device_id, 1)
    assert refusal.reason.startswith(reason), refusal.reason
    assert refusal.remedy


def tls_socket_of_anything(hub: HubInThread, certificate: Path) -> Any:
    """The client's own OpenSSL would not load a weak key."""
    context = ssl.create_default_context(cafile=str(hub.trust_bundle))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(certificate)
    return context.wrap_socket(socket.create_connection((hub.address, 8883), 10), server_hostname=hub.host_name)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA", "P-521", "Ed25519"],
)
def test_nothing_else_of_the_certificate_counts(
    shared_hub: HubInThread, device_id: str, tmp_path: Path, key: Any
) -> None:
    """P-V8a: no chain, no usage, no name."""
    for_servers = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    stranger = Certificate.made("a stranger's CA", ca=True)
    shown = Certificate.made(["two", "names"], key=key, issuer=stranger, extensions=[for_servers])
    register(shared_hub, device_id, shown.sha256)
    assert by_mqtt(shared_hub, device_id, shown.file(tmp_path, chain=[stranger])) == ACCEPTED


@pytest.mark.spec("L-I8", "P-38", "L-T11")
def test_one_proof_never_stands_in_for_another(shared_hub: HubInThread, device_id: str, tmp_path: Path) -> None:
    shown, host, soon = Certificate.made("a"), shared_hub.host_name, int(time.time()) + 600
    file = shown.file(tmp_path)
    register(shared_hub, device_id, shown.sha256)
    token = sas.make(f"{host}/devices/{device_id}", b"k" * 32, soon)
    for word in (token, shared_hub.token(policy="device"), "nonsense"):
        for certificate in (file, None):
            assert by_mqtt(shared_hub, device_id, certificate, word) == REFUSED
            assert by_https(shared_hub, device_id, certificate, word) == 401
    assert by_mqtt(shared_hub, device_id, None) == REFUSED
    assert "no client certificate was presented" in shared_hub.refusals(device_id, 1)[0].reason
    # a device with keys: its certificate is not looked at, and an empty password is none
    with_keys = f"{device_id}-keys"
    key = base64.b64decode(sas.parse_connection_string(shared_hub.create_device(with_keys)).parts["SharedAccessKey"])
    good = shared_hub.token(f"devices/{with_keys}", key=key)
    assert by_mqtt(shared_hub, with_keys, file, good) == ACCEPTED
    assert by_https(shared_hub, with_keys, file, good) == 204
    for nothing in (None, b""):
        for certificate in (file, None):
            assert by_mqtt(shared_hub, with_keys, certificate, nothing) == REFUSED
    assert "no token was presented" in shared_hub.refusals(with_keys, 1)[0].reason
    assert not by_amqp(shared_hub, with_keys, file)


def test_a_policy_does_not_act_for_a_device_with_a_certificate(shared_hub: HubInThread, device_id: str) -> None:
    register(shared_hub, device_id, "A" * 40)
    with AmqpPeer(shared_hub).opened().authorised(shared_hub.token(policy="device")) as peer:
        error = peer.refused(f"/devices/{device_id}/messages/events", handle=0)
        assert condition(error) == "amqp:unauthorized-access"
    assert "tokens for it are refused" in shared_hub.refusals()[0].reason


def test_over_amqp_a_certificate_proves_one_identity(shared_hub: HubInThread, device_id: str, tmp_path: Path) -> None:
    shown = Certificate.made("a")
    for each in (device_id, f"{device_id}-2"):
        register(shared_hub, each, shown.sha256)
    with AmqpPeer(shared_hub, tls_socket(shared_hub, 5671, shown.file(tmp_path))).opened() as peer:
        peer.attached(f"/devices/{device_id}/messages/events", handle=0)
        peer.attached(f"/devices/{device_id}/twin", handle=1)
        error = peer.refused(f"/devices/{device_id}-2/messages/events", handle=2)
        assert condition(error) == "amqp:unauthorized-access"
    assert shared_hub.refusals(device_id, 1)[0].remedy == "open a connection for each identity"


@pytest.mark.parametrize("certificate", [True, False])
def test_sasl_external_is_offered_to_those_with_a_certificate(
    shared_hub: HubInThread, tmp_path: Path, certificate: bool
) -> None:
    file = Certificate.made("a").file(tmp_path) if certificate else None
    with AmqpPeer(shared_hub, tls_socket(shared_hub, 5671, file)) as peer:
        assert peer.sasl("EXTERNAL") == (0 if certificate else 1)
        assert ("EXTERNAL" in peer.mechanisms) == certificate


def test_modules_have_thumbprints_of_their_own(shared_hub: HubInThread, device_id: str, tmp_path: Path) -> None:
    of_device, of_module = Certificate.made("d"), Certificate.made("m")
    register(shared_hub, device_id, of_device.sha256)
    register(shared_hub, device_id, of_module.sha1, module_id="camera")
    assert by_mqtt(shared_hub, f"{device_id}/camera", of_module.file(tmp_path)) == ACCEPTED
    assert by_mqtt(shared_hub, f"{device_id}/camera", of_device.file(tmp_path)) == REFUSED
    assert by_mqtt(shared_hub, device_id, of_module.file(tmp_path)) == REFUSED
    path = f"{device_id}/modules/camera"
    assert by_amqp(shared_hub, path, of_module.file(tmp_path))
    assert by_https(shared_hub, path, of_module.file(tmp_path)) == 204
    (event,) = shared_hub.wait_for_events(1, device=device_id)
    assert '"scope":"module","type":"x509"' in event["annotations"]["iothub-connection-auth-method"]


def test_a_disabled_device_is_told_apart_only_with_its_own_certificate(
    shared_hub: HubInThread, device_id: str, tmp_path: Path
) -> None:
    shown = Certificate.made("a")
    register(shared_hub, device_id, shown.sha256)
    body = {"deviceId": device_id, "status": "disabled"}
    assert request(shared_hub, "PUT", f"/devices/{device_id}?{VERSION}", body, headers={"If-Match": "*"}).status == 200
    assert by_mqtt(shared_hub, device_id, shown.file(tmp_path)) == (0x20, b"\0\3")
    assert by_mqtt(shared_hub, device_id, Certificate.made("a").file(tmp_path)) == REFUSED


@pytest.mark.spec("P-41", "P-V14", "P-T07")
def test_a_session_ends_with_its_certificate(tmp_path: Path) -> None:
    with HubInThread() as hub:
        shown = Certificate.made("a", days=(-1, 60 / 86_400))
        register(hub, "press-07", shown.sha256)
        file = shown.file(tmp_path)
        user_name = USER_NAME.format(host=hub.host_name, client_id="press-07")
        with (
            MqttPeer(hub, tls_socket(hub, 8883, file)) as mqtt,
            AmqpPeer(hub, tls_socket(hub, 5671, file)).opened() as amqp,
        ):
            mqtt.send(connect("press-07", user_name, None, keep_alive=0))
            assert mqtt.read() == ACCEPTED
            amqp.attached("/devices/press-07/messages/events", handle=0)
            assert mqtt.is_open()
            hub.clock.move(60)
            assert mqtt.is_closed()
            amqp.expect(Detach)
            assert amqp.closes()
            assert by_mqtt(hub, "press-07", file) == REFUSED
            assert any("ended while connected" in each.reason for each in hub.refusals("press-07"))


@pytest.mark.spec("L-T12")
@pytest.mark.parametrize("port", [8883, 5671, 443])
@pytest.mark.parametrize("length", [8, 300], ids=["nine certificates", "more than 32 KiB"])
def test_more_certificates_than_anybody_needs(shared_hub: HubInThread, tmp_path: Path, port: int, length: int) -> None:
    shown = Certificate.made("a")
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        tls_socket(shared_hub, port, shown.file(tmp_path, chain=[shown] * length)) as sock,
    ):
        sock.settimeout(20)
        assert sock.recv(1) == b"", "closed before anything was asked"
    with tls_socket(shared_hub, port, shown.file(tmp_path, chain=[shown] * 7)) as sock:
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_a_login_needs_no_temporary_file(
    shared_hub: HubInThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = Certificate.made("no-file")
    file = certificate.file(tmp_path)
    register(shared_hub, "no-file", certificate.sha256)

    def none(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", none)
    assert by_mqtt(shared_hub, "no-file", file) == ACCEPTED


@pytest.mark.spec("P-V4")
def test_clocks_may_differ_by_five_minutes(shared_hub: HubInThread, device_id: str, tmp_path: Path) -> None:
    for days, answer in (((4 / 1440, 1), ACCEPTED), ((7 / 1440, 1), REFUSED), ((-1, -1 / 1440), REFUSED)):
        shown = Certificate.made("a", days=days)
        register(shared_hub, device_id, shown.sha256, update=answer == REFUSED)
        assert by_mqtt(shared_hub, device_id, shown.file(tmp_path)) == answer
    assert [each.reason.partition(":")[0] for each in shared_hub.refusals(device_id, 2)] == ["expired", "not-yet-valid"]
