"""Certificates for devices, good ones and every kind of bad one."""

import datetime as dt
import itertools
import subprocess
import tempfile
from collections.abc import Sequence
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from conversations.https_peer import VERSION, request
from hubkeep.testing import HubInThread

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
_numbers = itertools.count(1)
CLIENT_ALONE = x509.KeyUsage(True, *[False] * 8)
SIGNS_CERTIFICATES = x509.KeyUsage(*[False] * 5, True, *[False] * 3)


class Certificate:
    """A certificate with its key; of an authority, it issues others. above: those between it and its root."""

    def __init__(self, certificate: x509.Certificate, key: Key, above: Sequence["Certificate"] = ()) -> None:
        self.certificate, self.key, self.above = certificate, key, tuple(above)
        self.der = certificate.public_bytes(serialization.Encoding.DER)
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.sha1 = sha1(self.der, usedforsecurity=False).hexdigest()
        self.sha256 = sha256(self.der).hexdigest()

    @classmethod
    def made(
        cls,
        name: str | Sequence[str] | x509.Name,
        *,
        issuer: "Certificate | None" = None,
        key: Key | None = None,
        days: tuple[float, float] = (-1, 30),
        ca: bool | None = None,
        path_length: int | None = None,
        extensions: Sequence[x509.ExtensionType] = (),
        digest: hashes.HashAlgorithm | None = None,
        signer: Key | None = None,
    ) -> Self:
        """name: common name or names. ca: None for no BasicConstraints. signer: another key than the issuer's."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        names = [name] if isinstance(name, str) else name
        subject = (
            names
            if isinstance(names, x509.Name)
            else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each) for each in names])
        )
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(next(_numbers))
            .not_valid_before(now + dt.timedelta(days=days[0]))
            .not_valid_after(now + dt.timedelta(days=days[1]))
        )
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        signer = signer or (issuer.key if issuer else key)
        algorithm: Any = None if isinstance(signer, ed25519.Ed25519PrivateKey) else digest or hashes.SHA256()
        above = (issuer, *issuer.above) if issuer is not None else ()
        return cls(builder.sign(signer, algorithm), key, above)

    def file(self, folder: Path, *, chain: Sequence["Certificate"] = ()) -> Path:
        """Key, certificate, and ``chain`` in one file (PEM), as clients load it."""
        private = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = folder / f"{next(_numbers)}.pem"
        path.write_text(private.decode() + self.pem + "".join(each.pem for each in chain))
        return path


def signed_with_sha1(name: str) -> Certificate:
    """cryptography signs with SHA-1 no more."""
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder) / "key.pem", Path(folder) / "certificate.pem"
        make = [
            "openssl",
            "req",
            "-x509",
            "-sha1",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "30",
            "-subj",
            f"/CN={name}",
        ]
        subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        assert isinstance(private, rsa.RSAPrivateKey)
        return Certificate(x509.load_pem_x509_certificate(certificate.read_bytes()), private)


def register(hub: HubInThread, device_id: str, *thumbprints: str, module_id: str = "", update: bool = False) -> Any:
    """A device or module with these thumbprints, over the REST interface; with none, one that a CA speaks for."""
    names = ("primaryThumbprint", "secondaryThumbprint")
    authentication: dict[str, Any] = {"type": "certificateAuthority"}
    if thumbprints:
        prints = dict(zip(names, thumbprints, strict=False))
        authentication = {"type": "selfSigned", "x509Thumbprint": prints}
    path = f"/devices/{device_id}" + (f"/modules/{module_id}" if module_id else "")
    body = {"deviceId": device_id, "authentication": authentication} | ({"moduleId": module_id} if module_id else {})
    answer = request(hub, "PUT", f"{path}?{VERSION}", body, headers={"If-Match": "*"} if update else {})
    assert answer.status == 200, answer
    return answer.body
