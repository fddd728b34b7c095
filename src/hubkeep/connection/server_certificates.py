"""The hub's own root and server certificates, made at the first start and renewed when names or dates want it.

One ECDSA and one RSA chain, each under a root of its kind, so that old and new clients get what suits them. An IP
address stands in the certificate as iPAddress and as dNSName: one client checks the latter even for an address
(proved-on-clients 1).
"""

import datetime as dt
import ipaddress
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hubkeep.device.profiles import key_usage

WriteSecret = Callable[[Path, bytes], None]
_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_ROOT_DAYS: Final = 3650
_SERVER_DAYS: Final = 365  # what strict clients and scanners accept at most
_RENEW_DAYS: Final = 30
_BEFORE: Final = dt.timedelta(hours=1)  # clocks of devices run behind


class ServerCertificates(NamedTuple):
    """Paths of what the listeners load. chains: pairs of certificate chain and key, the preferred one first.

    trust_bundle: what clients are to trust, the roots at first. roots: one, or one of each kind.
    """

    trust_bundle: Path
    chains: Sequence[tuple[Path, Path]]
    roots: Sequence[x509.Certificate]


class _Root(NamedTuple):
    certificate: x509.Certificate
    key: _Key


def ensure_server_certificates(
    directory: Path,
    host_names: Sequence[str],
    write_secret: WriteSecret,
    *,
    rsa_root: bool = False,
    generation: int = 1,
    now: dt.datetime | None = None,
) -> ServerCertificates:
    """Files below ``directory``: keys/, certificates/, trust-bundle.pem. Keeps what is there and still good.

    host_names: DNS names and IP addresses, the hub's own first. write_secret: writes a file of mode 0600 durably.
    rsa_root: of a new directory. An old one keeps its one root, which its clients trust.
    generation: a number in the name of a new root: two roots of one name would be taken for each other.
    """
    now = now or dt.datetime.now(dt.UTC)
    certificates, keys = directory / "certificates", directory / "keys"
    certificates.mkdir(exist_ok=True)
    bundle = directory / "trust-bundle.pem"
    is_new = not (certificates / "root.pem").exists()
    title = f"{generation} of {host_names[0]}" if generation > 1 else f"of {host_names[0]}"
    root = _ensured_root(directory, "root", title, now, write_secret)
    above: dict[str, _Root] = {"ecdsa": root, "rsa": root}
    if (certificates / "root-rsa.pem").exists() or (rsa_root and is_new):
        above["rsa"] = _ensured_root(directory, "root-rsa", title, now, write_secret)
    roots = list(dict.fromkeys(each.certificate for each in above.values()))
    if not bundle.exists():
        _write_public(bundle, b"".join(map(_pem, roots)))
    chains = []
    for kind in ("ecdsa", "rsa"):
        chain_path, key_path = certificates / f"server-{kind}.pem", keys / f"server-{kind}.key"
        if not (chain_path.exists() and key_path.exists() and _serves(chain_path, host_names, now)):
            key: _Key = (
                ec.generate_private_key(ec.SECP256R1()) if kind == "ecdsa" else rsa.generate_private_key(65537, 2048)
            )
            write_secret(key_path, _key_pem(key))
            _write_public(chain_path, _pem(_server(key, *above[kind], host_names, now)))
        chains.append((chain_path, key_path))
    return ServerCertificates(bundle, chains, roots)


def destroy_keys(directory: Path) -> None:
    """Of a root that is over, and of the certificates below it; the certificates stay as a record."""
    for name in ("root", "root-rsa", "server-ecdsa", "server-rsa"):
        (directory / "keys" / f"{name}.key").unlink(missing_ok=True)


def _ensured_root(directory: Path, name: str, ending: str, now: dt.datetime, write_secret: WriteSecret) -> _Root:
    """root: on P-256. root-rsa: for clients that can do RSA alone, which must find RSA up to the root (4.3)."""
    path, key_path = directory / "certificates" / f"{name}.pem", directory / "keys" / f"{name}.key"
    if path.exists() and key_path.exists():
        return _Root(x509.load_pem_x509_certificate(path.read_bytes()), _load_key(key_path))
    key: _Key = rsa.generate_private_key(65537, 3072) if name == "root-rsa" else ec.generate_private_key(ec.SECP256R1())
    title = f"Hubkeep RSA root {ending}" if name == "root-rsa" else f"Hubkeep root {ending}"
    certificate = _root(key, title, now)
    write_secret(key_path, _key_pem(key))
    _write_public(path, _pem(certificate))
    return _Root(certificate, key)


def crossed(chain: Path, old: Path, new: Path, now: dt.datetime | None = None) -> None:
    """Put beside ``chain`` one that clients of the old root take too: NAME.crossed.pem.

    In it the key of the root below ``new`` is vouched for by the one below ``old``, as long as that lasts (4.3).
    """
    now = now or dt.datetime.now(dt.UTC)
    is_rsa = chain.stem.endswith("rsa")
    certificate, _ = _root_for(new, is_rsa=is_rsa)
    above, above_key = _root_for(old, is_rsa=is_rsa)
    days = (above.not_valid_after_utc - now + _BEFORE).days
    cross = (
        _builder(certificate.subject, above.subject, certificate, now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usage(key_cert_sign=True), critical=True)
        .add_extension(_above(above), critical=False)
        .sign(above_key, hashes.SHA256())
    )
    _write_public(chain.with_suffix(".crossed.pem"), chain.read_bytes() + _pem(cross))


def _root_for(directory: Path, *, is_rsa: bool) -> _Root:
    name = "root-rsa" if is_rsa and (directory / "certificates" / "root-rsa.pem").exists() else "root"
    certificate = x509.load_pem_x509_certificate((directory / "certificates" / f"{name}.pem").read_bytes())
    return _Root(certificate, _load_key(directory / "keys" / f"{name}.key"))


def _above(root: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    key_id = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id)


def _serves(path: Path, host_names: Sequence[str], now: dt.datetime) -> bool:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    has = {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
    return set(host_names) <= has and certificate.not_valid_after_utc > now + dt.timedelta(days=_RENEW_DAYS)


def _root(key: _Key, title: str, now: dt.datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title[:64])])
    usage = key_usage(key_cert_sign=True)
    return (
        _builder(subject, subject, key, now, _ROOT_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def _server(
    key: _Key, root: x509.Certificate, root_key: _Key, host_names: Sequence[str], now: dt.datetime
) -> x509.Certificate:
    names: list[x509.GeneralName] = []
    for name in dict.fromkeys(host_names):
        names.append(x509.DNSName(name))
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            continue
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host_names[0][:64])])
    return (
        _builder(subject, root.subject, key, now, _SERVER_DAYS)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            key_usage(digital_signature=True, key_encipherment=isinstance(key, rsa.RSAPrivateKey)), critical=True
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_above(root), critical=False)
        .sign(root_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _Key | x509.Certificate, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now - _BEFORE + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _load_key(path: Path) -> _Key:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey))
    return key


def _key_pem(key: _Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_public(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.replace(path)
