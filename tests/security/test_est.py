"""Enrolment over Secure Transport (RFC 7030), with curl and openssl as peers: who gets a certificate, for whom."""

import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7

from conversations.certificates import Certificate, register
from conversations.https_peer import VERSION, Answer, request
from conversations.own_certificates import OwnCertificate, csr
from hubkeep.testing import HubInThread
from hubkeep.wire import sas
from security.test_thumbprints import ACCEPTED, REFUSED, by_amqp, by_https, by_mqtt

DAY = 86_400
EST = "/.well-known/est"


@pytest.fixture(scope="module")
def plant() -> Iterator[HubInThread]:
    with HubInThread() as hub:
        register(hub, "first")
        OwnCertificate.issued(hub, "first")  # makes the authority
        yield hub


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def posted(
    hub: HubInThread, operation: str, asked: Any, *, certificate: Path | None = None, basic: tuple[str, str] = ("", "")
) -> Answer:
    """asked: a request; or the body as it is."""
    headers = {"Content-Type": "application/pkcs10"}
    if basic[0]:
        headers["Authorization"] = f"Basic {b64encode(':'.join(basic).encode()).decode()}"
    body = asked if isinstance(asked, bytes) else b64encode(asked.public_bytes(Encoding.DER))
    return request(hub, "POST", f"{EST}/{operation}", body, token="", headers=headers, certificate=certificate)


def given(answer: Answer, key: Any, folder: Path) -> Path:
    """The certificate of an answer, with its key in a file as clients load it."""
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "application/pkcs7-mime; smime-type=certs-only"
    (leaf,) = pkcs7.load_der_pkcs7_certificates(b64decode(answer.body))
    path = folder / f"{leaf.serial_number}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + leaf.public_bytes(Encoding.PEM))
    return path


def run(*words: str | Path, stdin: bytes = b"") -> bytes:
    done = subprocess.run(words, input=stdin, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_and_openssl_enroll_and_renew(plant: HubInThread, tmp_path: Path) -> None:
    key = sas.parse_connection_string(plant.create_device("press-01")).key
    url = f"https://{plant.host_name}:{plant.hub.ports['https']}{EST}"
    curl = ["curl", "-sS", "--fail", "--cacert", str(plant.trust_bundle)]
    message = run(*curl, f"{url}/cacerts")
    text = run("openssl", "pkcs7", "-inform", "DER", "-print_certs", stdin=b64decode(message)).decode()
    assert text.count("BEGIN CERTIFICATE") == 2
    assert f"hubkeep-devices-root of {plant.host_name}" in text
    servers = run(*curl, f"{url}/servers/cacerts")
    (root,) = pkcs7.load_der_pkcs7_certificates(b64decode(servers))
    assert root == x509.load_pem_x509_certificate(plant.trust_bundle.read_bytes())
    attributes = b64decode(run(*curl, f"{url}/csrattrs"))
    told = run("openssl", "asn1parse", "-inform", "DER", stdin=attributes).decode()
    assert "id-ecPublicKey" in told
    assert "ecdsa-with-SHA256" in told
    files = []
    for turn in range(2):
        private, asked = tmp_path / f"{turn}.key", tmp_path / f"{turn}.b64"
        make = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        der = run(*make, "-keyout", private, "-subj", "/CN=press-01", "-outform", "DER")
        asked.write_bytes(b64encode(der))
        post = [*curl, "-H", "Content-Type: application/pkcs10", "--data-binary", f"@{asked}"]
        if turn == 0:
            who = ["--user", f"press-01:{plant.token('devices/press-01', key=key)}"]
            message = run(*post, *who, f"{url}/simpleenroll")
        else:
            message = run(*post, "--cert", files[0], f"{url}/simplereenroll")
        pem = run("openssl", "pkcs7", "-inform", "DER", "-print_certs", stdin=b64decode(message))
        path = tmp_path / f"{turn}.pem"
        path.write_bytes(private.read_bytes() + pem)
        files.append(path)
        assert by_mqtt(plant, "press-01", path) == ACCEPTED
        assert by_amqp(plant, "press-01", path)
        assert by_https(plant, "press-01", path) == 204
    assert by_mqtt(plant, "press-01", None, plant.token("devices/press-01", key=key)) == REFUSED, "its keys are void"


@pytest.mark.spec("P-57")  # with the test above
def test_an_authority_that_wants_approval(plant: HubInThread, tmp_path: Path) -> None:
    assert request(plant, "POST", "/api/cas/guarded/issuer", {}).status == 200
    assert request(plant, "PATCH", "/api/cas/guarded", {"manualApproval": True}).body["manualApproval"] is True
    key = sas.parse_connection_string(plant.create_device("press-02")).key
    who = ("press-02", plant.token("devices/press-02", key=key))
    wanted, other = new_key(), new_key()

    def asked_with(private: Any) -> Answer:
        return posted(plant, "guarded/simpleenroll", csr(private, "press-02"), basic=who)

    def decide(verb: str) -> int:
        waiting = request(plant, "GET", "/api/certificates/requests").body
        return request(plant, "POST", f"/api/certificates/requests/{waiting[0]['id']}/{verb}").status

    for _ in range(2):
        answer = asked_with(wanted)
        assert (answer.status, answer.headers["retry-after"], answer.body) == (202, "60", b"")
    assert decide("approve") == 200
    file = given(asked_with(wanted), wanted, tmp_path)
    assert by_mqtt(plant, "press-02", file) == ACCEPTED
    assert request(plant, "GET", "/api/certificates/requests").body == [], "it was made use of"
    assert posted(plant, "guarded/simplereenroll", csr(other, "press-02"), certificate=file).status == 202
    assert decide("refuse") == 200
    again = posted(plant, "guarded/simplereenroll", csr(other, "press-02"), certificate=file)
    assert again.status == 400
    assert "refused" in again.body["Message"]
    assert request(plant, "POST", "/api/certificates/requests/00/approve").status == 404
    assert request(plant, "PATCH", "/api/cas/guarded", {"manualApproval": False}).status == 200
    assert request(plant, "POST", "/api/cas/guarded/state", {"state": "revoked"}).status == 200


@pytest.mark.spec("P-58")
def test_a_certificate_is_made_out_to_who_asks_and_to_nobody_else(plant: HubInThread, tmp_path: Path) -> None:
    register(plant, "press-10")
    register(plant, "press-11")
    mine, theirs = (OwnCertificate.issued(plant, each) for each in ("press-10", "press-11"))
    file, key = mine.file(tmp_path), new_key()

    def code(operation: str, asked: Any) -> str:
        answer = posted(plant, operation, asked, certificate=file)
        return answer.code if answer.status != 200 else "ok"

    for operation in ("simpleenroll", "simplereenroll"):
        assert code(operation, csr(new_key(), "press-11")) == "CredentialRequestRefused"
        assert code(operation, csr(new_key(), ["press-10", "press-11"])) == "CredentialRequestRefused"
        assert code(operation, csr(theirs.key, "press-10")) == "KeyInUse", "another device's key"
        assert code(operation, csr(theirs.key, "press-11")) == "CredentialRequestRefused", "another's request, replayed"
        assert code(operation, b"AAAA") == "CredentialRequestRefused"
        assert code(operation, b"") == "CredentialRequestRefused"
        assert posted(plant, operation, b"A" * 20_000, certificate=file).status == 413
    other = x509.SubjectAlternativeName([x509.DNSName("press-11")])
    assert code("simplereenroll", csr(key, "press-10", other)) == "CredentialRequestRefused"
    assert code("simplereenroll", csr(key, None)) == "CredentialRequestRefused"
    own = mine.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    first = posted(plant, "simplereenroll", csr(key, "press-10", own), certificate=file)
    again = posted(plant, "simplereenroll", csr(key, "press-10"), certificate=file)
    assert first.body == again.body, "a repeated request gets the same certificate"
    renewed = given(first, key, tmp_path)
    assert by_mqtt(plant, "press-10", renewed) == ACCEPTED
    assert by_mqtt(plant, "press-11", renewed) == REFUSED


def test_who_proves_nothing_gets_nothing(plant: HubInThread, tmp_path: Path) -> None:
    text = plant.create_device("press-20")
    key = sas.parse_connection_string(text).key
    register(plant, "press-21")
    register(plant, "press-22", Certificate.made("press-22").sha256)
    good = plant.token("devices/press-20", key=key)
    stranger = Certificate.made("press-21").file(tmp_path)
    own = OwnCertificate.issued(plant, "press-21").file(tmp_path)

    def status(name: str, operation: str = "simpleenroll", **how: Any) -> int:
        return posted(plant, operation, csr(new_key(), name), **how).status

    assert status("press-20") == 401
    assert status("press-20", basic=("press-20", good[:-3] + "AAA")) == 401
    assert status("press-20", basic=("press-20", "")) == 401
    assert status("press-20", basic=("press-20", plant.token())) == 401, "a policy gets no device's certificate"
    assert status("press-21", basic=("press-21", good)) == 401
    assert status("press-21", certificate=stranger) == 401
    assert status("press-21", certificate=own, basic=("press-21", good)) == 401, "one good proof excuses no bad one"
    assert status("press-22", certificate=Certificate.made("press-22").file(tmp_path)) == 401
    assert status("press-20", "simplereenroll", basic=("press-20", good)) == 401, "renewing wants the certificate"
    nobody = Certificate.made([]).file(tmp_path)
    assert status("press-20", certificate=nobody) == 401
    assert status("press-20", basic=("press-20", good)) == 200
    disabled = {"deviceId": "press-20", "status": "disabled"}
    request(plant, "PUT", f"/devices/press-20?{VERSION}", disabled, headers={"If-Match": "*"})
    assert status("press-20", basic=("press-20", good)) == 401
    for never in ("serverkeygen", "fullcmc"):
        assert posted(plant, never, b"").status == 501
    assert request(plant, "GET", f"{EST}/nobody/cacerts", token="").status == 404


def test_a_thumbprint_gives_way_to_what_the_hub_issues(plant: HubInThread, tmp_path: Path) -> None:
    old = Certificate.made("press-30")
    register(plant, "press-30", old.sha256)
    key = new_key()
    new = given(posted(plant, "simpleenroll", csr(key, "press-30"), certificate=old.file(tmp_path)), key, tmp_path)
    assert by_mqtt(plant, "press-30", old.file(tmp_path)) == ACCEPTED
    assert by_mqtt(plant, "press-30", new) == ACCEPTED
    assert by_mqtt(plant, "press-30", old.file(tmp_path)) == REFUSED


@pytest.mark.spec("P-61")
def test_after_its_end_a_certificate_renews_once_within_the_grace_and_does_nothing_else(tmp_path: Path) -> None:
    with HubInThread(tmp_path / "hub") as hub:
        late = {}
        for name in ("press-07", "press-08"):
            register(hub, name)
            late[name] = OwnCertificate.issued(hub, name, days=7).file(tmp_path)
        foreign = Certificate.made("press-09", days=(-9, 5)).file(tmp_path)
        register(hub, "press-09", Certificate.made("press-09").sha256)
        hub.clock.move(10 * DAY)

        def renewed(name: str, file: Path, key: Any, operation: str = "simplereenroll") -> Answer:
            return posted(hub, operation, csr(key, name), certificate=file)

        assert by_mqtt(hub, "press-07", late["press-07"]) == REFUSED
        assert renewed("press-07", late["press-07"], new_key(), "simpleenroll").status == 401
        assert renewed("press-09", foreign, new_key()).status == 401
        key = new_key()
        fresh = given(renewed("press-07", late["press-07"], key), key, tmp_path)
        assert by_mqtt(hub, "press-07", fresh) == ACCEPTED
        assert by_mqtt(hub, "press-07", late["press-07"]) == REFUSED
        assert renewed("press-07", late["press-07"], new_key()).status == 401, "once"
        hub.clock.move(40 * DAY)
        assert renewed("press-08", late["press-08"], new_key()).status == 401, "the grace is over"
