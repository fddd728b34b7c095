"""The roots of the hub's own server certificates: a client that can do RSA alone finds RSA up to the root."""

import shutil
import subprocess
from pathlib import Path

import pytest

from hubkeep.cloud.secrets import write_secret
from hubkeep.connection.server_certificates import ensure_server_certificates
from hubkeep.testing import HubInThread


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_client_without_ecdsa_verifies_the_hub(tmp_path: Path) -> None:
    with HubInThread(tmp_path / "hub", mode="serve") as hub:
        for kind, algorithms, suite in (
            ("rsa", "rsa_pss_rsae_sha256:RSA+SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
            ("ecdsa", "ECDSA+SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ):
            # of this kind alone: for the handshake, and for every signature on the path
            client = ["openssl", "s_client", "-connect", f"{hub.address}:8883", "-tls1_2", "-cipher", suite]
            client += ["-sigalgs", algorithms, "-CAfile", str(hub.trust_bundle), "-verify_return_error"]
            done = subprocess.run(client, input=b"", capture_output=True, check=False)
            told = done.stdout.decode()
            assert "Verify return code: 0 (ok)" in told, done.stderr
            assert ("RSA root" in told) == (kind == "rsa")


def test_a_directory_with_one_root_keeps_it(tmp_path: Path) -> None:
    made = ensure_server_certificates(tmp_path, ["hub.example"], write_secret)
    before = made.trust_bundle.read_bytes()
    again = ensure_server_certificates(tmp_path, ["hub.example", "new.example"], write_secret, rsa_root=True)
    assert again.trust_bundle.read_bytes() == before, "its clients trust no other"
    assert not (tmp_path / "certificates" / "root-rsa.pem").exists()
