"""Revocation by others: lists that are uploaded or fetched, responders that are asked, and what if they are silent."""

import datetime as dt
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from conversations.certificates import SIGNS_CERTIFICATES, Certificate, register
from conversations.https_peer import Answer, request
from hubkeep.testing import HubInThread
from security.test_own_authority import live
from security.test_thumbprints import ACCEPTED, REFUSED, by_amqp, by_https, by_mqtt

DAY = 86_400
ROOT = Certificate.made("plant root", ca=True, days=(-1, 900), extensions=[SIGNS_CERTIFICATES])
BETWEEN = Certificate.made("plant issuer", issuer=ROOT, ca=True, days=(-1, 900))
STRANGER = Certificate.made("plant root", ca=True)
DELEGATED = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])


class Responder:
    """A plain HTTP server on loopback. answer: path and body to status and content."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Callable[[str, bytes], tuple[int, bytes]] = lambda path, body: (404, b"")
        responder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                responder.asked.append(self.path)
                status, content = responder.answer(self.path, body)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _answer  # noqa: N815  # as the class wants them

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def responder() -> Iterator[Responder]:
    made = Responder()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def plant() -> Iterator[HubInThread]:
    with HubInThread(egress={"allow": ("127.0.0.1",)}) as hub:
        yield hub


def list_of(
    issuer: Certificate,
    *revoked: Certificate,
    number: int = 1,
    days: tuple[float, float] = (-1, 7),
    signer: Any = None,
    extension: x509.ExtensionType | None = None,
) -> bytes:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now + dt.timedelta(days=days[0]))
        .next_update(now + dt.timedelta(days=days[1]))
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    for each in revoked:
        one = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
        builder = builder.add_revoked_certificate(one.revocation_date(now).build())
    signed = builder.sign(signer or issuer.key, hashes.SHA256())  # type: ignore[arg-type]
    return signed.public_bytes(serialization.Encoding.DER)


def put_list(hub: HubInThread, name: str, content: bytes) -> Answer:
    return request(hub, "PUT", f"/api/cas/{name}/crl", content)


def change(hub: HubInThread, name: str, **changes: Any) -> None:
    assert request(hub, "PATCH", f"/api/cas/{name}", changes).status == 200


def authority(hub: HubInThread, name: str, certificate: Certificate) -> None:
    body = {"certificate": certificate.pem, "isVerified": True}
    assert request(hub, "PUT", f"/api/cas/{name}", body).status == 200


def reason(hub: HubInThread, identity: str) -> str:
    return str(hub.refusals(identity, 1)[0].reason)


@pytest.mark.explains("certificate-crl-revoked", "certificate-crl-stale")
@pytest.mark.spec("P-47", "P-V13b")
def test_an_uploaded_list(tmp_path: Path) -> None:
    with HubInThread() as hub:
        authority(hub, "plant", ROOT)
        made = {each: Certificate.made(each, issuer=ROOT) for each in ("press-01", "press-02", "press-03")}
        deep = Certificate.made("press-04", issuer=BETWEEN)
        files = {each: certificate.file(tmp_path) for each, certificate in made.items()}
        files["press-04"] = deep.file(tmp_path, chain=[BETWEEN])
        for each in files:
            register(hub, each)
        delta = x509.DeltaCRLIndicator(1)
        for what, bad in {
            "of another key": list_of(ROOT, made["press-02"], signer=STRANGER.key),
            "of another name": list_of(BETWEEN, made["press-02"]),
            "over": list_of(ROOT, made["press-02"], days=(-9, -1)),
            "to come": list_of(ROOT, made["press-02"], days=(1, 9)),
            "a delta": list_of(ROOT, made["press-02"], extension=delta),
            "nonsense": b"\x30\x03abc",
            "empty": b"",
        }.items():
            assert put_list(hub, "plant", bad).status == 400, what
        with live(hub, "press-01", files["press-01"]) as one, live(hub, "press-02", files["press-02"]) as two:
            told = put_list(hub, "plant", list_of(ROOT, made["press-01"], number=7))
            assert (told.body["entries"], told.body["number"]) == (1, "7")
            assert one.is_closed()
            assert two.is_open()
        assert by_mqtt(hub, "press-01", files["press-01"]) == REFUSED
        assert reason(hub, "press-01").startswith("crl-revoked: ")
        assert not by_amqp(hub, "press-01", files["press-01"])
        assert by_https(hub, "press-01", files["press-01"]) == 401
        assert by_mqtt(hub, "press-02", files["press-02"]) == ACCEPTED
        assert put_list(hub, "plant", list_of(ROOT, number=6)).status == 400, "an older one takes nothing back"
        assert by_mqtt(hub, "press-04", files["press-04"]) == ACCEPTED
        with live(hub, "press-04", files["press-04"]) as below:
            assert put_list(hub, "plant", list_of(ROOT, made["press-01"], BETWEEN, number=8)).status == 200
            assert below.is_closed(), "an intermediate takes those below it along"
        assert by_mqtt(hub, "press-04", files["press-04"]) == REFUSED
        for mode, expected in (("soft", ACCEPTED), ("hard", ACCEPTED)):
            change(hub, "plant", revocation=mode)
            hub.clock.move(DAY)
            assert by_mqtt(hub, "press-03", files["press-03"]) == expected
        hub.clock.move(7 * DAY)
        assert by_mqtt(hub, "press-03", files["press-03"]) == REFUSED
        assert reason(hub, "press-03").startswith("crl-stale: ")
        change(hub, "plant", revocation="soft")
        assert by_mqtt(hub, "press-03", files["press-03"]) == ACCEPTED
        assert by_mqtt(hub, "press-01", files["press-01"]) == REFUSED, "what was revoked stays so"


def test_a_fetched_list(plant: HubInThread, responder: Responder, tmp_path: Path) -> None:
    authority(plant, "fetched", ROOT)
    register(plant, "gate-01")
    gate = Certificate.made("gate-01", issuer=ROOT)
    file, lists = gate.file(tmp_path), plant.hub.certification.lists
    responder.answer = lambda path, body: (200, list_of(ROOT, number=1))
    change(plant, "fetched", crlUrl=f"{responder.url}/plant.crl", revocation="hard")
    assert by_mqtt(plant, "gate-01", file) == REFUSED
    assert reason(plant, "gate-01").startswith("crl-stale: ")
    plant.ask(lists.fetch_due())
    assert by_mqtt(plant, "gate-01", file) == ACCEPTED
    before = len(responder.asked)
    plant.ask(lists.fetch_due())
    assert len(responder.asked) == before, "it is not due"
    failures = {
        "a redirect": (302, b""),
        "an error": (500, b""),
        "no list": (200, b"x"),
        "large": (200, b"x" * 11_000_000),
    }
    plant.clock.move(DAY)
    for what, answer in failures.items():
        responder.answer = lambda path, body, answer=answer: answer  # type: ignore[misc]
        plant.clock.move(400)
        plant.ask(lists.fetch_due())
        assert request(plant, "GET", "/api/cas/fetched/crl").body["failure"], what
        assert by_mqtt(plant, "gate-01", file) == ACCEPTED, "the list before is good yet"
    assert "/elsewhere" not in responder.asked
    with live(plant, "gate-01", file) as peer:
        responder.answer = lambda path, body: (200, list_of(ROOT, gate, number=2, days=(-1, 30)))
        plant.clock.move(600)
        plant.ask(lists.fetch_due())
        assert peer.is_closed()
    told = request(plant, "GET", "/api/cas/fetched/crl").body
    assert (told["entries"], told["failure"]) == (1, "")
    closed = Certificate.made("closed", ca=True)
    authority(plant, "closed", closed)
    change(plant, "closed", crlUrl=responder.url.replace("127.0.0.1", "127.0.0.2"))
    plant.ask(lists.fetch_due())
    assert "not reached" in request(plant, "GET", "/api/cas/closed/crl").body["failure"], "egress does not open it"
    for address in ("ftp://a/b", "https://", "https://user@host/", "x" * 2000):
        assert request(plant, "PATCH", "/api/cas/closed", {"crlUrl": address}).status == 400


def answer_of(
    issuer: Certificate, certificate: Certificate, status: str, signer: Certificate, *, nonce: bytes | None = b""
) -> Callable[[str, bytes], tuple[int, bytes]]:
    """status: good, revoked, unknown. nonce: None for none, empty for that of the request."""

    def answer(_path: str, body: bytes) -> tuple[int, bytes]:
        asked = ocsp.load_der_ocsp_request(body)
        now = dt.datetime.now(dt.UTC)
        builder = ocsp.OCSPResponseBuilder().add_response(
            certificate.certificate,
            issuer.certificate,
            hashes.SHA1(),
            ocsp.OCSPCertStatus[status.upper()],
            now - dt.timedelta(minutes=1),
            now + dt.timedelta(hours=1),
            now if status == "revoked" else None,
            None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
        if signer is not issuer:
            builder = builder.certificates([signer.certificate])
        if nonce is not None:
            told = asked.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
            builder = builder.add_extension(x509.OCSPNonce(nonce or told), critical=False)
        signed = builder.sign(signer.key, hashes.SHA256())  # type: ignore[arg-type]
        return 200, signed.public_bytes(serialization.Encoding.DER)

    return answer


@pytest.mark.explains("certificate-ocsp-revoked", "certificate-ocsp-unavailable")
def test_a_responder_that_is_asked(responder: Responder, tmp_path: Path) -> None:
    delegate = Certificate.made("responder", issuer=ROOT, extensions=[DELEGATED])
    impostor = Certificate.made("responder", issuer=ROOT)
    with HubInThread(egress={"allow": ("127.0.0.1",)}) as hub:
        authority(hub, "asked", ROOT)
        change(hub, "asked", ocspUrl=f"{responder.url}/ocsp", revocation="hard")
        number = 0

        def verdict(make: Callable[[Certificate], Any]) -> str:
            """Of a device that was never asked about before, and when nobody failed lately."""
            nonlocal number
            number += 1
            hub.clock.move(31)
            name = f"gate-{number}"
            register(hub, name)
            device = Certificate.made(name, issuer=ROOT)
            responder.answer = make(device)
            file = device.file(tmp_path)
            if by_mqtt(hub, name, file) == ACCEPTED:
                before = len(responder.asked)
                assert by_mqtt(hub, name, file) == ACCEPTED
                assert len(responder.asked) == before, "an answer counts for a while"
                return "good"
            return reason(hub, name).partition(":")[0]

        for signer in (ROOT, delegate):
            assert verdict(lambda each, signer=signer: answer_of(ROOT, each, "good", signer)) == "good"
            assert verdict(lambda each, signer=signer: answer_of(ROOT, each, "revoked", signer)) == "ocsp-revoked"
        assert verdict(lambda each: answer_of(ROOT, each, "good", ROOT, nonce=None)) == "good"
        silent = "ocsp-unavailable"
        assert verdict(lambda each: answer_of(ROOT, each, "good", ROOT, nonce=b"x" * 16)) == silent
        assert verdict(lambda each: answer_of(ROOT, each, "unknown", ROOT)) == silent
        assert verdict(lambda each: answer_of(ROOT, each, "good", impostor)) == silent, "not delegated"
        assert verdict(lambda each: answer_of(ROOT, each, "good", STRANGER)) == silent
        assert verdict(lambda each: answer_of(ROOT, BETWEEN, "good", ROOT)) == silent, "about another"
        assert verdict(lambda _: lambda path, body: (200, b"nonsense")) == silent
        assert verdict(lambda _: lambda path, body: (500, b"")) == silent
        change(hub, "asked", revocation="soft")
        assert by_mqtt(hub, f"gate-{number}", next(tmp_path.glob(f"{last_file(tmp_path)}"))) == ACCEPTED


def last_file(folder: Path) -> str:
    return max((each.name for each in folder.glob("*.pem")), key=lambda name: int(name.removesuffix(".pem")))


def test_key_of_responder_is_not_needed_for_other_authorities(plant: HubInThread, tmp_path: Path) -> None:
    other = Certificate.made("other root", ca=True, key=ec.generate_private_key(ec.SECP384R1()))
    authority(plant, "other", other)
    register(plant, "lamp-01")
    assert by_mqtt(plant, "lamp-01", Certificate.made("lamp-01", issuer=other).file(tmp_path)) == ACCEPTED
