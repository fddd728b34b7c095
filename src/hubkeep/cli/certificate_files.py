"""Keys and certificates as files on this machine: a private key is made here and leaves for nowhere."""

import contextlib
import datetime as dt
import os
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .failure import MISUSED, CommandFailure
from .thumbprints import certificates_in

ALGORITHMS: Final = ("P-256", "P-384", "RSA-2048", "RSA-3072")
_BEFORE: Final = dt.timedelta(hours=1)  # a device's clock may be behind


def new_key(algorithm: str) -> Any:
    """Raises CommandFailure."""
    if algorithm not in ALGORITHMS:
        raise CommandFailure(f"{algorithm!r} is no algorithm for keys", f"one of {', '.join(ALGORITHMS)}", MISUSED)
    if algorithm.startswith("RSA"):
        return rsa.generate_private_key(65537, int(algorithm[4:]))
    return ec.generate_private_key(ec.SECP384R1() if algorithm == "P-384" else ec.SECP256R1())


def new_request(key: Any, name: str) -> str:
    """A certificate request (PEM) made out to ``name``. Raises CommandFailure for one that no certificate can hold."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_subject(name)).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def new_self_signed(key: Any, name: str, days: float) -> str:
    """A certificate (PEM) by which a device is known through its thumbprint. Raises CommandFailure."""
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(_subject(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _subject(name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError:
        raise CommandFailure(f"{name!r} is too long for a certificate", "64 characters at most", MISUSED) from None


def key_pem(key: Any, password: bytes | None = None) -> bytes:
    sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed))


def write_key(path: Path, content: bytes) -> None:
    """For its owner alone; nothing is written over. Raises CommandFailure."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise CommandFailure(f"{path} is there already", "name another folder with --out", MISUSED) from None
    except OSError as error:
        raise CommandFailure(f"{path} cannot be written: {error.strerror}", status=MISUSED) from None
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(handle)


def write_whole(path: Path, content: bytes) -> None:
    """For its owner alone, and never half written. Raises CommandFailure."""
    new = path.with_name(f"{path.name}.new")
    with contextlib.suppress(OSError):
        new.unlink()
    write_key(new, content)
    new.replace(path)


def write_public(path: Path, content: str) -> None:
    """Raises CommandFailure."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    except OSError as error:
        raise CommandFailure(f"{path} cannot be written: {error.strerror}", status=MISUSED) from None


def read_file(path: Path) -> bytes:
    """Raises CommandFailure."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandFailure(f"{path} cannot be read: {error.strerror}", status=MISUSED) from None


def read_certificates(path: Path) -> list[str]:
    """The certificates (PEM) in a file, PEM or DER. Raises CommandFailure."""
    content = read_file(path)
    if found := certificates_in(content):
        return found
    try:
        return [x509.load_der_x509_certificate(content).public_bytes(serialization.Encoding.PEM).decode()]
    except (ValueError, UnsupportedAlgorithm):
        raise CommandFailure(f"there is no certificate in {path}", "it must be PEM or DER", MISUSED) from None
