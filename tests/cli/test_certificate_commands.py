"""``hubkeep cert``: a certificate in one command, a root that no hub holds, and what is wrong in plain words."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.iot.device import X509, IoTHubDeviceClient
from typer.testing import CliRunner

from conversations.certificates import Certificate, register
from hubkeep.cli.failure import CommandFailure
from hubkeep.cli.main import app
from hubkeep.testing import HubInThread
from security.test_foreign_revocation import list_of
from security.test_thumbprints import ACCEPTED, REFUSED, by_mqtt


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    with HubInThread() as running, running.trusted():
        yield running


def ok(hub: HubInThread | None, *arguments: str | Path) -> str:
    """What a command prints that must succeed; in this process, against the hub's public API."""
    environment = {"HUBKEEP_DATA": str(hub.data)} if hub else {}
    done = CliRunner().invoke(app, [str(each) for each in arguments], env=environment)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def fails(hub: HubInThread | None, *arguments: str | Path) -> str:
    environment = {"HUBKEEP_DATA": str(hub.data)} if hub else {}
    done = CliRunner().invoke(app, [str(each) for each in arguments], env=environment)
    assert done.exit_code != 0, done.output
    return str(done.exception) if isinstance(done.exception, CommandFailure) else done.stdout


def test_minute_8(hub: HubInThread, tmp_path: Path) -> None:
    hub.create_device("first-device")
    told = ok(hub, "cert", "issue", "first-device", "--out", tmp_path)
    assert f"HostName={hub.host_name};DeviceId=first-device;x509=true" in told
    certificate, key = tmp_path / "first-device.pem", tmp_path / "first-device.key"
    assert key.stat().st_mode & 0o777 == 0o600
    x509 = X509(cert_file=str(certificate), key_file=str(key))
    client = IoTHubDeviceClient.create_from_x509_certificate(x509, hub.host_name, "first-device")
    client.connect()
    client.send_message("by certificate")
    client.shutdown()
    assert hub.wait_for_events(1, device="first-device")[0]["body"] == "by certificate"
    assert "good for first-device" in ok(hub, "cert", "verify", certificate)
    assert "first-device" in ok(hub, "cert", "list", "--device", "first-device")
    before = certificate.read_text()
    where = ["--host", f"{hub.host_name}:{hub.hub.ports['https']}", "--trust", hub.trust_bundle]
    assert "good until" in ok(None, "cert", "renew", certificate, *where)
    assert certificate.read_text() != before
    assert key.stat().st_mode & 0o777 == 0o600
    both = tmp_path / "both.pem"
    both.write_text(key.read_text() + certificate.read_text())
    assert by_mqtt(hub, "first-device", both) == ACCEPTED
    assert "is there already" in fails(hub, "cert", "issue", "first-device", "--out", tmp_path)
    assert "is revoked" in ok(hub, "cert", "revoke", certificate, "--reason", "keyCompromise")
    assert "keyCompromise" in ok(hub, "cert", "denied")
    assert "is revoked" in ok(hub, "cert", "revoke", "--device", "first-device")


def test_a_private_key_that_never_leaves_its_device(hub: HubInThread, tmp_path: Path) -> None:
    register(hub, "press-07")
    key, request = tmp_path / "press.key", tmp_path / "press.csr"
    make = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request]
    subprocess.run([*make, "-subj", "/O=Plant/CN=press-07"], check=True, capture_output=True)
    ok(hub, "cert", "issue", "press-07", "--csr", request, "--out", tmp_path, "--days", "7")
    file = tmp_path / "both.pem"
    file.write_text(key.read_text() + (tmp_path / "press-07.pem").read_text())
    assert by_mqtt(hub, "press-07", file) == ACCEPTED
    assert not (tmp_path / "press-07.key").exists()


def test_a_root_that_no_hub_holds(hub: HubInThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBKEEP_ROOT_PASSWORD", "of the vault")
    vault, request, chain = tmp_path / "vault", tmp_path / "line-3.csr", tmp_path / "line-3.pem"
    ok(None, "cert", "ca", "create-root", "Example Plant", "--out", vault)
    assert b"ENCRYPTED" in (vault / "root.key").read_bytes()
    ok(hub, "cert", "ca", "create", "line-3", "--request", request, "--days", "7")
    root = ["--root", vault / "root.pem", "--key", vault / "root.key", "--out", chain]
    ok(None, "cert", "ca", "sign", request, *root)
    wrong = Certificate.made("another", ca=True)
    assert "cannot be read" in fails(hub, "cert", "ca", "install", "line-3", tmp_path / "none.pem")
    assert "not for the key" in fails(hub, "cert", "ca", "install", "line-3", wrong.file(tmp_path))
    assert "active" in ok(hub, "cert", "ca", "install", "line-3", chain)
    verified = ["openssl", "verify", "-x509_strict", "-CAfile", vault / "root.pem", chain]
    assert subprocess.run(verified, check=False, capture_output=True, text=True).stdout.strip().endswith("OK")
    register(hub, "press-03")
    ok(hub, "cert", "issue", "press-03", "--ca", "line-3", "--out", tmp_path)
    file = tmp_path / "both.pem"
    file.write_text((tmp_path / "press-03.key").read_text() + (tmp_path / "press-03.pem").read_text())
    assert by_mqtt(hub, "press-03", file) == ACCEPTED
    monkeypatch.setenv("HUBKEEP_ROOT_PASSWORD", "a guess")
    assert "cannot be read" in fails(None, "cert", "ca", "sign", request, *root)
    assert "active" in ok(hub, "cert", "ca", "update", "line-3", "--allow", "press-1*")
    assert by_mqtt(hub, "press-03", file) == REFUSED
    assert "revoked" in ok(hub, "cert", "ca", "update", "line-3", "--allow-all", "--state", "revoked")
    assert by_mqtt(hub, "press-03", file) == REFUSED


def test_authorities_of_others(hub: HubInThread, tmp_path: Path) -> None:
    plant = Certificate.made("others", ca=True)
    ok(hub, "cert", "ca", "add", "others", plant.file(tmp_path), "--verified")
    told = ok(hub, "cert", "ca", "update", "others", "--ocsp-url", "https://pki.example.net/ocsp", "--allow", "gate-*")
    assert "others is active" in told
    shown = ok(hub, "cert", "ca", "show", "others")
    assert "gate-*" in shown
    assert "soft" in shown, "who names an address wants it asked"
    file = tmp_path / "others.crl"
    file.write_bytes(list_of(plant, plant, number=12))
    assert "12" in ok(hub, "cert", "ca", "crl", "others", file)
    assert "12" in ok(hub, "cert", "ca", "crl", "others")
    denied = ok(hub, "cert", "deny", plant.file(tmp_path), "--kind", "cert")
    mark = denied.split("hubkeep cert allow ")[1].split()[0]
    assert mark in ok(hub, "cert", "denied")
    assert "off the deny-list" in ok(hub, "cert", "allow", mark)
    assert "nothing to change" in fails(hub, "cert", "ca", "update", "others")


WRONG = {
    "expired": ({"days": (-9, -1)}, "expired"),
    "not yet valid": ({"days": (1, 9)}, "not-yet-valid"),
    "another name": ({"name": "press-08"}, "cn"),
    "an authority": ({"ca": True}, "is-ca"),
}


def test_what_is_wrong_in_plain_words_without_a_hub(tmp_path: Path) -> None:
    root = Certificate.made("plant root", ca=True)
    ca = ["--ca", root.file(tmp_path), "--data", tmp_path / "nothing", "--device", "press-07"]
    good = Certificate.made("press-07", issuer=root).file(tmp_path)
    assert "good for press-07" in ok(None, "cert", "verify", good, *ca)
    for options, word in WRONG.values():
        made = Certificate.made(options.pop("name", "press-07"), issuer=root, **options)
        assert f"refused  {word}" in fails(None, "cert", "verify", made.file(tmp_path), *ca)
    stranger = Certificate.made("press-07").file(tmp_path)
    assert "refused  chain" in fails(None, "cert", "verify", stranger, *ca)
    assert "refused  expired" in fails(None, "cert", "verify", good, *ca, "--at", "2999-01-01")
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert "malformed" in fails(None, "cert", "verify", broken, *ca)
    assert "no authorities" in fails(None, "cert", "verify", good, "--data", tmp_path / "nothing")
