"""Certificates that the hub itself issues: what is in them, whom they let in, and until when."""

import datetime as dt
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from conversations.certificates import Certificate, register
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, tls_socket
from conversations.own_certificates import CERTIFICATES, OwnCertificate, asked, csr, pem, revoke
from hubkeep.device.issuing import Issuing
from hubkeep.testing import HubInThread
from hubkeep.wire import sas
from security.test_thumbprints import ACCEPTED, REFUSED, by_amqp, by_https, by_mqtt

DAY = 86_400


@pytest.fixture(scope="module")
def plant() -> Iterator[HubInThread]:
    with HubInThread() as hub:
        yield hub


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def reason(hub: HubInThread, identity: str) -> str:
    return str(hub.refusals(identity, 1)[0].reason)


def kind_of(hub: HubInThread, device_id: str) -> str:
    return str(request(hub, "GET", f"/devices/{device_id}?{VERSION}").body["authentication"]["type"])


def live(hub: HubInThread, device_id: str, file: Path) -> MqttPeer:
    peer = MqttPeer(hub, tls_socket(hub, 8883, file))
    peer.send(connect(device_id, USER_NAME.format(host=hub.host_name, client_id=device_id), None))
    assert peer.read() == ACCEPTED
    return peer


def test_an_issued_certificate_lets_its_device_in_over_every_wire(plant: HubInThread, tmp_path: Path) -> None:
    register(plant, "press-01")
    register(plant, "press-02")
    own = OwnCertificate.issued(plant, "press-01")
    for chain in (1, 2, 3):
        file = own.file(tmp_path, chain=chain)
        assert by_mqtt(plant, "press-01", file) == ACCEPTED
        assert by_amqp(plant, "press-01", file)
        assert by_https(plant, "press-01", file) == 204
    assert by_mqtt(plant, "press-02", file) == REFUSED
    assert reason(plant, "press-02").startswith("cn: ")
    register(plant, "press-01", module_id="camera")
    module = OwnCertificate.issued(plant, "press-01", moduleId="camera").file(tmp_path)
    assert by_mqtt(plant, "press-01/camera", module) == ACCEPTED
    assert by_mqtt(plant, "press-01", module) == REFUSED


def test_the_profile_is_ours_whatever_the_request_asks_for(plant: HubInThread) -> None:
    register(plant, "press-10")
    wishes = (
        x509.BasicConstraints(ca=True, path_length=3),
        x509.SubjectAlternativeName([x509.DNSName("hub.example"), x509.UniformResourceIdentifier("urn:hubkeep:dev:x")]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.OCSP_SIGNING]),
    )
    key = new_key()
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Root"), x509.NameAttribute(NameOID.COMMON_NAME, "press-10")]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for each in wishes:
        builder = builder.add_extension(each, critical=True)
    answer = asked(plant, "press-10", builder.sign(key, hashes.SHA256()))
    leaf = x509.load_pem_x509_certificate(answer.body["certificate"].encode())
    extensions = leaf.extensions
    assert leaf.subject.rfc4514_string() == "CN=press-10"
    assert extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(False, None)
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uri = f"urn:hubkeep:dev:{plant.host_name}:press-10:gen:1"
    assert list(names) == [x509.UniformResourceIdentifier(uri)]
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    assert len(extensions) == 7 - 1
    assert leaf.serial_number.bit_length() == 128
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == dt.timedelta(days=45, hours=1)
    issuer, root = (x509.load_pem_x509_certificate(each.encode()) for each in answer.body["chain"][1:])
    leaf.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(root)
    assert issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    for days, status in ((0.01, 400), (398, 400), (-1, 400), (7, 200)):
        assert asked(plant, "press-10", csr(new_key(), None), days=days).status == status


def test_requests_that_are_not_signed(plant: HubInThread) -> None:
    register(plant, "press-20")
    register(plant, "press-21")
    good = csr(new_key(), "press-20").public_bytes(serialization.Encoding.DER)
    tampered = b64encode(good[:-1] + bytes([good[-1] ^ 1])).decode()
    large = csr(new_key(), "press-20", x509.SubjectAlternativeName([x509.DNSName("x" * 60)] * 150))
    hostile = {
        "not signed with its key": tampered,
        "another device's name": csr(new_key(), "press-21"),
        "two names": csr(new_key(), ["press-20", "press-21"]),
        "another case": csr(new_key(), "Press-20"),
        "RSA of 1024 bits": csr(rsa.generate_private_key(65537, 1024), "press-20"),
        "an exponent of 3": csr(rsa.generate_private_key(3, 2048), "press-20"),
        "a curve that nobody uses": csr(ec.generate_private_key(ec.SECP256K1()), "press-20"),
        "larger than 8 KiB": large,
        "no request": pem(Certificate.made("press-20").certificate),
        "cut short": b64encode(good[:-9]).decode(),
        "not base64": "-",
        "empty": "",
    }
    for what, each in hostile.items():
        answer = asked(plant, "press-20", each)
        assert (answer.status, answer.code) == (400, "CredentialRequestRefused"), what
    assert request(plant, "GET", f"{CERTIFICATES}?device=press-20").body == []
    assert asked(plant, "nobody", csr(new_key(), "nobody")).status == 404
    for policy in ("service", "registryReadWrite", "device"):
        body = {"deviceId": "press-20", "csr": pem(csr(new_key(), "press-20"))}
        assert request(plant, "POST", CERTIFICATES, body, policy=policy).status == 401


@pytest.mark.spec("P-T02")
def test_a_key_belongs_to_one_identity_and_a_repeated_request_gets_the_same_certificate(plant: HubInThread) -> None:
    register(plant, "press-30")
    register(plant, "press-31")
    key = new_key()
    first = OwnCertificate.issued(plant, "press-30", key)
    again = OwnCertificate.issued(plant, "press-30", key)
    assert again.chain == first.chain
    stolen = asked(plant, "press-31", csr(key, "press-31"))
    assert (stolen.status, stolen.code) == (409, "KeyInUse")


@pytest.mark.explains("certificate-denied")
@pytest.mark.spec("P-42")
def test_a_denied_key_is_refused_in_every_certificate_and_every_request(plant: HubInThread, tmp_path: Path) -> None:
    register(plant, "press-40")
    key = new_key()
    file = OwnCertificate.issued(plant, "press-40", key).file(tmp_path)
    other = Certificate.made("press-41", key=key)
    register(plant, "press-41", other.sha256)
    assert by_mqtt(plant, "press-41", other.file(tmp_path)) == ACCEPTED
    denied = request(
        plant, "POST", "/api/denials", {"kind": "spki", "certificate": other.pem, "reason": "keyCompromise"}
    )
    assert denied.status == 200
    for device, each in (("press-40", file), ("press-41", other.file(tmp_path))):
        assert by_mqtt(plant, device, each) == REFUSED
        assert reason(plant, device).startswith("denied: the certificate is on the deny-list by its key")
    renewed = Certificate.made("press-41", key=key)
    register(plant, "press-41", renewed.sha256, update=True)
    assert by_mqtt(plant, "press-41", renewed.file(tmp_path)) == REFUSED
    refused = asked(plant, "press-40", csr(key, "press-40"))
    assert refused.code == "CredentialRequestRefused"
    mark = denied.body["mark"].replace(":", "%3A")
    assert request(plant, "DELETE", f"/api/denials/{mark}").status == 204
    assert by_mqtt(plant, "press-40", file) == ACCEPTED


@pytest.mark.spec("P-V5")
@pytest.mark.parametrize("kind", ["cert", "spki", "serial"])
def test_a_certificate_is_denied_by_any_of_its_marks(plant: HubInThread, tmp_path: Path, kind: str) -> None:
    device = f"press-4{kind}"
    shown = Certificate.made(device)
    register(plant, device, shown.sha256)
    assert by_mqtt(plant, device, shown.file(tmp_path)) == ACCEPTED
    denied = request(plant, "POST", "/api/denials", {"kind": kind, "certificate": shown.pem})
    assert by_mqtt(plant, device, shown.file(tmp_path)) == REFUSED
    assert reason(plant, device).startswith("denied: ")
    assert request(plant, "DELETE", f"/api/denials/{quote(denied.body['mark'], safe='')}").status == 204
    assert by_mqtt(plant, device, shown.file(tmp_path)) == ACCEPTED


def test_keys_open_a_device_until_it_first_shows_its_certificate(plant: HubInThread, tmp_path: Path) -> None:
    text = plant.create_device("press-50")
    key = sas.parse_connection_string(text).key
    token = plant.token("devices/press-50", key=key)
    own = OwnCertificate.issued(plant, "press-50")
    assert own.record["authentication"] == "sas"
    assert by_mqtt(plant, "press-50", None, token) == ACCEPTED
    stranger = Certificate.made("press-50").file(tmp_path)
    assert by_mqtt(plant, "press-50", stranger) == REFUSED
    assert by_mqtt(plant, "press-50", own.file(tmp_path), token) == ACCEPTED, "whoever sends a token means it"
    assert kind_of(plant, "press-50") == "sas"
    assert by_mqtt(plant, "press-50", own.file(tmp_path)) == ACCEPTED
    assert (
        request(plant, "GET", f"/devices/press-50?{VERSION}").body["authentication"]["type"] == "certificateAuthority"
    )
    assert by_mqtt(plant, "press-50", None, token) == REFUSED
    assert by_mqtt(plant, "press-50", own.file(tmp_path)) == ACCEPTED
    request(
        plant,
        "PUT",
        f"/devices/press-50?{VERSION}",
        {"deviceId": "press-50", "status": "disabled"},
        headers={"If-Match": "*"},
    )
    assert by_mqtt(plant, "press-50", own.file(tmp_path)) != ACCEPTED


@pytest.mark.explains("certificate-unlogged")
@pytest.mark.spec("P-63", "P-T27")
def test_a_certificate_that_the_log_does_not_know(
    plant: HubInThread, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register(plant, "press-60")
    own = OwnCertificate.issued(plant, "press-60")
    issuing: Issuing = plant.hub.certification.issuing
    authority = plant.hub.certification.authorities.get(own.record["authority"])
    stolen_key = plant.ask(issuing._own.key_of(authority))
    issuer = Certificate(x509.load_der_x509_certificate(authority.certificate), stolen_key)
    forged = Certificate.made("press-60", issuer=issuer)
    assert by_mqtt(plant, "press-60", forged.file(tmp_path)) == REFUSED
    assert reason(plant, "press-60").startswith("unlogged: ")
    assert any(each.levelname == "CRITICAL" for each in caplog.records)
    # not even with the number of one that the log knows
    same = forged_with_number(own.certificate, issuer)
    assert by_mqtt(plant, "press-60", same.file(tmp_path)) == REFUSED
    assert reason(plant, "press-60").startswith("unlogged: ")
    assert by_mqtt(plant, "press-60", own.file(tmp_path)) == ACCEPTED


def forged_with_number(of: x509.Certificate, issuer: Certificate) -> Certificate:
    key = new_key()
    builder = x509.CertificateBuilder(
        of.issuer, of.subject, key.public_key(), of.serial_number, of.not_valid_before_utc, of.not_valid_after_utc
    )
    for each in of.extensions:
        builder = builder.add_extension(each.value, each.critical)
    return Certificate(builder.sign(issuer.key, hashes.SHA256()), key)  # type: ignore[arg-type]


@pytest.mark.explains("certificate-generation")
@pytest.mark.spec("P-V12b")
def test_an_identity_of_the_same_name_that_was_made_later_is_another(plant: HubInThread, tmp_path: Path) -> None:
    register(plant, "press-70")
    own = OwnCertificate.issued(plant, "press-70").file(tmp_path)
    assert by_mqtt(plant, "press-70", own) == ACCEPTED
    request(plant, "DELETE", f"/devices/press-70?{VERSION}", headers={"If-Match": "*"})
    register(plant, "press-70")
    assert by_mqtt(plant, "press-70", own) == REFUSED
    assert reason(plant, "press-70").startswith("generation: ")


@pytest.mark.explains("certificate-superseded")
@pytest.mark.spec("P-60", "P-L5", "P-V12b")
def test_the_old_certificate_ends_a_day_after_the_new_one_was_used(tmp_path: Path) -> None:
    with HubInThread(tmp_path / "hub") as hub:
        register(hub, "press-07")
        old = OwnCertificate.issued(hub, "press-07").file(tmp_path)
        assert by_mqtt(hub, "press-07", old) == ACCEPTED
        new = OwnCertificate.issued(hub, "press-07").file(tmp_path)
        hub.clock.move(2 * DAY)
        assert by_mqtt(hub, "press-07", old) == ACCEPTED, "the new one was not used yet"
        assert by_mqtt(hub, "press-07", new) == ACCEPTED
        hub.ask(hub.hub.certification.uses.flush())
        assert by_mqtt(hub, "press-07", old) == ACCEPTED, "within the overlap"
        hub.clock.move(DAY + 60)
        assert by_mqtt(hub, "press-07", old) == REFUSED
        assert "superseded" in reason(hub, "press-07")
        assert by_mqtt(hub, "press-07", new) == ACCEPTED
        found = request(hub, "GET", f"{CERTIFICATES}?device=press-07").body
        assert [each["status"] for each in found] == ["valid", "superseded"]
        hub.clock.move(45 * DAY)
        assert by_mqtt(hub, "press-07", new) == REFUSED
        assert reason(hub, "press-07").startswith("expired: ")
    with HubInThread(tmp_path / "hub") as hub:  # all of it outlives the process
        newer = OwnCertificate.issued(hub, "press-07")
        assert newer.chain[1:] == OwnCertificate.issued(hub, "press-07").chain[1:]
        assert by_mqtt(hub, "press-07", newer.file(tmp_path)) == ACCEPTED


@pytest.mark.spec("P-40", "P-L1", "P-L2", "P-L3", "P-L4", "P-V14")
@pytest.mark.parametrize("lever", ["disable", "deny", "generation", "issuer"])
def test_every_lever_cuts_at_once_and_refuses_the_next(plant: HubInThread, tmp_path: Path, lever: str) -> None:
    device = f"lever-{lever}"
    register(plant, device)
    request(plant, "POST", f"/api/cas/of-{lever}/issuer", {})
    own = OwnCertificate.issued(plant, device, authority=f"of-{lever}")
    with live(plant, device, own.file(tmp_path)) as peer:
        began = time.monotonic()
        if lever == "disable":
            body = {"deviceId": device, "status": "disabled", "authentication": {"type": "certificateAuthority"}}
            request(plant, "PUT", f"/devices/{device}?{VERSION}", body, headers={"If-Match": "*"})
        elif lever == "deny":
            request(plant, "POST", "/api/denials", {"kind": "cert", "certificate": own.chain[0]})
        elif lever == "generation":
            revoke(plant, deviceId=device)
        else:
            request(plant, "POST", f"/api/cas/of-{lever}/state", {"state": "revoked"})
        assert peer.is_closed()
        assert time.monotonic() - began < 5, "within the second, on a machine that is not busy"
    assert by_mqtt(plant, device, own.file(tmp_path)) != ACCEPTED


def test_revoking_ends_live_links_over_every_wire_and_refuses_the_next(plant: HubInThread, tmp_path: Path) -> None:
    for way in ("serial", "deviceId"):
        device = f"press-8{way}"
        register(plant, device)
        own, other = (OwnCertificate.issued(plant, device) for _ in range(2))
        file = own.file(tmp_path)
        with live(plant, device, file) as peer:
            what = {"serial": own.record["serial"]} if way == "serial" else {"deviceId": device}
            assert revoke(plant, **what, reason="keyCompromise").status == 200
            assert peer.is_closed()
        assert by_mqtt(plant, device, file) == REFUSED
        assert reason(plant, device).startswith("denied: ")
        assert not by_amqp(plant, device, file)
        assert by_https(plant, device, file) == 401
        expected = ACCEPTED if way == "serial" else REFUSED
        assert by_mqtt(plant, device, other.file(tmp_path)) == expected
        fresh = OwnCertificate.issued(plant, device)
        assert fresh.record["generation"] == (1 if way == "serial" else 2)
        assert by_mqtt(plant, device, fresh.file(tmp_path)) == ACCEPTED
    assert revoke(plant, serial="00").status == 404
    assert revoke(plant, serial="00", deviceId="press-8serial").status == 400
    assert revoke(plant, serial=fresh.record["serial"], reason="dislike").status == 400
