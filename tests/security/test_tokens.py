"""The key of an authority in a PKCS#11 token: it signs there, and never comes out. SoftHSM stands for the hardware."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from conversations.certificates import register
from conversations.https_peer import request
from conversations.own_certificates import OwnCertificate, asked, csr
from hubkeep.testing import HubInThread
from security.test_own_authority import new_key
from security.test_revocation import Files, lists, openssl
from security.test_thumbprints import ACCEPTED, by_mqtt

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
MODULE = next((each for each in MODULES if Path(each).exists()), "")
PIN = "73-twelve"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a token of the label ``vault``; the library reads its settings once in a process."""
    if not MODULE or shutil.which("softhsm2-util") is None:
        pytest.skip("softhsm2 is not installed")
    pytest.importorskip("pkcs11")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    settings = folder / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(settings)
    make = ["softhsm2-util", "--init-token", "--free", "--label", "vault", "--pin", PIN, "--so-pin", "12345678"]
    subprocess.run(make, check=True, capture_output=True)
    (folder / "pin").write_text(PIN)
    yield folder
    del os.environ["SOFTHSM2_CONF"]


def make(hub: HubInThread, name: str, **wanted: str) -> None:
    answer = request(hub, "POST", f"/api/cas/{name}/issuer", wanted)
    assert answer.status == 200, answer
    assert answer.body["key"].startswith("pkcs11:token=vault;object=")


def test_a_key_that_never_leaves_its_token(tokens: Path, tmp_path: Path) -> None:
    settings = {"pkcs11_module": MODULE, "pkcs11_pin_file": str(tokens / "pin")}
    with HubInThread(tmp_path / "hub", certificates=settings) as hub:
        for number, algorithm in enumerate(("P-256", "P-384", "RSA-3072")):
            name, device = f"line-{number}", f"press-0{number}"
            make(hub, name, key="pkcs11:token=vault", algorithm=algorithm)
            register(hub, device)
            own = OwnCertificate.issued(hub, device, authority=name)
            assert by_mqtt(hub, device, own.file(tmp_path)) == ACCEPTED
            files, (path, _) = Files.of(own, tmp_path), lists(hub, name, tmp_path)
            chain = ["-CAfile", files.root, "-untrusted", files.issuer, "-CRLfile", path]
            assert openssl("verify", "-x509_strict", "-crl_check_all", *chain, files.leaf).strip().endswith("OK")
        assert not (hub.data / "keys" / "authorities").exists()
        register(hub, "press-09")
    with HubInThread(tmp_path / "hub", certificates=settings) as hub:
        own = OwnCertificate.issued(hub, "press-09", authority="line-0")
        # pulled out: the hub says so, and goes on with all that needs no signature
        away = tokens / "away"
        (tokens / "tokens").rename(away)
        (tokens / "tokens").mkdir()
        hub.ask(hub.hub.certification.own.probe())
        answer = asked(hub, "press-09", csr(new_key(), "press-09"), authority="line-0")
        assert (answer.status, answer.code) == (503, "SigningKeyUnavailable")
        assert any("vault" in each for each in request(hub, "GET", "/api/status").body["unhealthy"])
        assert by_mqtt(hub, "press-09", own.file(tmp_path)) == ACCEPTED
        (tokens / "tokens").rmdir()
        away.rename(tokens / "tokens")
        hub.ask(hub.hub.certification.own.probe())
        assert not request(hub, "GET", "/api/status").body["unhealthy"]
        assert OwnCertificate.issued(hub, "press-09", authority="line-0").certificate.subject == x509.Name(
            own.certificate.subject
        )


def test_places_that_cannot_be(tokens: Path) -> None:
    with HubInThread() as hub:
        for place in ("pkcs11:token=vault", "pkcs11:", "http://vault", "", "../file"):
            assert request(hub, "POST", "/api/cas/a/issuer", {"key": place}).status == 400, place
    with HubInThread(certificates={"pkcs11_module": MODULE, "pkcs11_pin_file": str(tokens / "none")}) as hub:
        answer = request(hub, "POST", "/api/cas/a/issuer", {"key": "pkcs11:token=vault"})
        assert (answer.status, answer.code) == (503, "SigningKeyUnavailable")
        assert request(hub, "GET", "/api/cas").body == []
