"""Revocation as others see it (openssl reads our lists and answers), and as the hub takes it from others."""

import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from conversations.certificates import register
from conversations.https_peer import request
from conversations.own_certificates import OwnCertificate, revoke
from hubkeep.testing import HubInThread


@pytest.fixture(scope="module")
def plant() -> Iterator[HubInThread]:
    with HubInThread() as hub:
        yield hub


class Files(NamedTuple):
    """Of one issued certificate, as openssl wants them."""

    leaf: Path
    issuer: Path
    root: Path

    @classmethod
    def of(cls, own: OwnCertificate, folder: Path) -> "Files":
        paths = [folder / f"{name}.pem" for name in ("leaf", "issuer", "root")]
        for path, pem in zip(paths, own.chain, strict=True):
            path.write_text(pem)
        return cls(*paths)


def openssl(*words: str | Path) -> str:
    done = subprocess.run(["openssl", *words], check=False, capture_output=True, text=True)
    return done.stdout + done.stderr


def lists(hub: HubInThread, name: str, folder: Path) -> tuple[Path, int]:
    """The lists of an authority and of its root, for openssl; and the number of the first."""
    path, number = folder / "lists.pem", 0
    text = ""
    for each in (name, f"{name}-root"):
        answer = request(hub, "GET", f"/crl/{each}.crl", token="")
        assert answer.headers["content-type"] == "application/pkix-crl"
        loaded = x509.load_der_x509_crl(answer.body)
        text += loaded.public_bytes(serialization.Encoding.PEM).decode()
        number = number or loaded.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    path.write_text(text)
    return path, number


@pytest.mark.spec("P-46")
def test_openssl_reads_our_lists_and_answers(plant: HubInThread, tmp_path: Path) -> None:
    register(plant, "press-01")
    own = OwnCertificate.issued(plant, "press-01")
    other = OwnCertificate.issued(plant, "press-01")
    name, files = own.record["authority"], Files.of(own, tmp_path)
    url = f"https://{plant.address}/ocsp/{name}"

    def verdict() -> str:
        path, _ = lists(plant, name, tmp_path)
        chain = ["-CAfile", files.root, "-untrusted", files.issuer]
        return openssl("verify", "-crl_check_all", "-CRLfile", path, *chain, files.leaf)

    def asked(*options: str) -> str:
        who = ["-issuer", files.issuer, *options, "-cert", files.leaf, "-CAfile", files.root]
        return openssl("ocsp", *who, "-url", url, "-nonce")

    assert verdict().strip().endswith("OK")
    for options in ((), ("-sha256",)):
        assert "Response verify OK" in asked(*options)
        assert f"{files.leaf}: good" in asked(*options)
    _, before = lists(plant, name, tmp_path)
    assert revoke(plant, serial=own.record["serial"], reason="keyCompromise").status == 200
    assert "certificate revoked" in verdict()
    told = asked()
    assert "Response verify OK" in told
    assert f"{files.leaf}: revoked" in told
    assert "Reason: keyCompromise" in told
    _, after = lists(plant, name, tmp_path)
    assert after == before + 1
    _, same = lists(plant, name, tmp_path)
    assert same == after, "nothing new: the same list"
    revoke(plant, deviceId="press-01")
    path, _ = lists(plant, name, tmp_path)
    loaded = x509.load_pem_x509_crl(path.read_bytes())
    assert {f"{each.serial_number:X}" for each in loaded} == {own.record["serial"], other.record["serial"]}


def test_questions_that_are_none(plant: HubInThread) -> None:
    register(plant, "press-02")
    own = OwnCertificate.issued(plant, "press-02")
    leaf, issuer, root = (x509.load_pem_x509_certificate(each.encode()) for each in own.chain)
    path = f"/ocsp/{own.record['authority']}"

    def status(body: bytes) -> str:
        headers = {"Content-Type": "application/ocsp-request"}
        answer = request(plant, "POST", path, body, token="", headers=headers)
        assert answer.status == 200
        response = ocsp.load_der_ocsp_response(answer.body)
        successful = response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
        return response.certificate_status.name if successful else response.response_status.name

    def question(certificate: x509.Certificate, above: x509.Certificate, digest: hashes.HashAlgorithm) -> bytes:
        builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, above, digest)
        return builder.build().public_bytes(serialization.Encoding.DER)

    good = question(leaf, issuer, hashes.SHA256())
    assert status(good) == "GOOD"
    assert status(question(issuer, root, hashes.SHA1())) == "UNAUTHORIZED", "it is not asked about its own"
    assert status(question(leaf, issuer, hashes.SHA512())) == "UNAUTHORIZED"
    told = ocsp.load_der_ocsp_request(good)
    stranger = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        told.issuer_name_hash, told.issuer_key_hash, leaf.serial_number + 1, hashes.SHA256()
    )
    unknown = stranger.build().public_bytes(serialization.Encoding.DER)
    assert status(unknown) == "UNKNOWN", "no row in the log: not good"
    for broken in (b"", b"x", good[:-4], good + b"x"):
        assert status(broken) == "MALFORMED_REQUEST"
    by_get = request(plant, "GET", f"{path}/{quote(b64encode(good).decode(), safe='')}", token="")
    assert ocsp.load_der_ocsp_response(by_get.body).certificate_status is ocsp.OCSPCertStatus.GOOD
    assert request(plant, "POST", path, b"x" * 9000, token="").status == 413
    for address in ("/crl/nobody.crl", "/crl/hubkeep-devices", "/crl/.crl", "/ocsp/nobody/AAAA"):
        assert request(plant, "GET", address, token="").status == 404


def test_a_revoked_issuer_stands_on_the_list_of_its_root(tmp_path: Path) -> None:
    with HubInThread(tmp_path / "hub") as hub:
        register(hub, "press-07")
        own = OwnCertificate.issued(hub, "press-07")
        name, files = own.record["authority"], Files.of(own, tmp_path)
        _, before = lists(hub, name, tmp_path)
        request(hub, "POST", f"/api/cas/{name}/state", {"state": "revoked"})
        path, after = lists(hub, name, tmp_path)
        assert "certificate revoked" in openssl(
            "verify", "-crl_check_all", "-CRLfile", path, "-CAfile", files.root, "-untrusted", files.issuer, files.leaf
        )
        assert after == before
    with HubInThread(tmp_path / "hub") as hub:
        _, later = lists(hub, name, tmp_path)
        assert later == after + 1, "the number rises over a new start as well"
