"""``hubkeep cert renew``: a device renews its certificate over its own connection (EST), with a key made anew."""

import base64
import binascii
import http.client
import socket
import ssl
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs7

from .certificate_files import key_pem, new_key, read_certificates, read_file, write_key, write_public
from .client import HubPlace, refusal_of
from .failure import MISUSED, UNREACHABLE, CommandFailure
from .options import DEFAULT_DATA, DataOption, JsonOption, place_of
from .output import print_json, print_plain

_PATH: Final = "/.well-known/est/simplereenroll"
_TIMEOUT: Final = 15.0


def renew(
    certificate: Annotated[Path, typer.Argument(metavar="FILE", help="The device's certificate.")],
    key: Annotated[
        Path | None, typer.Option(help="Its private key; not given: the file of the same name that ends in .key.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="The hub (NAME or NAME:PORT), on a device far from it.")] = None,
    trust: Annotated[Path | None, typer.Option(help="The roots that the hub's certificate must lead to (PEM).")] = None,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Renew a certificate that the hub issued. The device proves itself with it; no operator's credential is needed.

    A new key is made, and both files are replaced once the new certificate is here; the old ones stay beside them as
    FILE.old. The old certificate is good for a day more after the new one was first used.
    """
    key = key or certificate.with_suffix(".key")
    place = _place(host, trust) if host else place_of(data, None)
    subject = x509.load_pem_x509_certificate(read_certificates(certificate)[0].encode()).subject
    fresh = _like(read_file(key), key)
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(fresh, hashes.SHA256())
    leaf = _asked(place, certificate, key, request.public_bytes(Encoding.DER))
    for path in (certificate, key):
        path.with_name(f"{path.name}.old").unlink(missing_ok=True)
    between = read_certificates(certificate)[1:]
    new_file = key.with_name(f".{key.name}.new")
    new_file.unlink(missing_ok=True)
    write_key(new_file, key_pem(fresh))
    key.rename(key.with_name(f"{key.name}.old"))
    certificate.rename(certificate.with_name(f"{certificate.name}.old"))
    new_file.rename(key)
    write_public(certificate, leaf.public_bytes(Encoding.PEM).decode() + "\n".join(between))
    expires = leaf.not_valid_after_utc
    if as_json:
        print_json({"serial": f"{leaf.serial_number:X}", "expires": expires.isoformat(), "file": str(certificate)})
    else:
        print_plain(f"{certificate}  good until {expires:%Y-%m-%d %H:%M} UTC")


def _like(content: bytes, path: Path) -> Any:
    """A new key of the kind of another. Raises CommandFailure."""
    try:
        old = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CommandFailure(f"there is no private key (PEM, without a password) in {path}", status=MISUSED) from None
    if isinstance(old, rsa.RSAPrivateKey):
        return new_key(f"RSA-{3072 if old.key_size > 2048 else 2048}")
    is_384 = isinstance(old, ec.EllipticCurvePrivateKey) and isinstance(old.curve, ec.SECP384R1)
    return new_key("P-384" if is_384 else "P-256")


def _place(host: str, trust: Path | None) -> HubPlace:
    name, colon, port = host.rpartition(":")
    known = {"https": int(port)} if colon and port.isdigit() else {"https": 443}
    return HubPlace("", name if colon else host, name if colon else host, known, trust)


def _asked(place: HubPlace, certificate: Path, key: Path, request: bytes) -> x509.Certificate:
    """What the hub issued. Raises CommandFailure."""
    context = ssl.create_default_context(cafile=place.trust_bundle)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise CommandFailure(f"{certificate} and {key} do not belong together: {error}", status=MISUSED) from None
    connection = http.client.HTTPSConnection(place.host, place.port("https"), context=context, timeout=_TIMEOUT)
    try:
        raw = socket.create_connection((place.address, place.port("https")), _TIMEOUT)
        connection.sock = context.wrap_socket(raw, server_hostname=place.host)
        connection.request("POST", _PATH, base64.b64encode(request), {"Content-Type": "application/pkcs10"})
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise CommandFailure(f"no hub answers at {place.host}: {error}", status=UNREACHABLE) from None
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise refusal_of(response, content)
    try:
        (leaf,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(content))
    except (ValueError, binascii.Error):
        raise CommandFailure("what the hub answered is no certificate") from None
    return leaf
