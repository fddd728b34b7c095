"""Certificates that no honest tool makes: bytes of a good one are exchanged, and the whole is signed anew."""

import ssl
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from conversations.certificates import Certificate

SHA256_RSA, SHA1_RSA, MD5_RSA = (bytes.fromhex(f"2a864886f70d0101{each}") for each in ("0b", "05", "04"))


def altered(
    certificate: Certificate,
    signer: Any,
    *exchanged: tuple[bytes, bytes],
    digest: hashes.HashAlgorithm | None = None,
    break_signature: bool = False,
    outside: tuple[bytes, bytes] | None = None,
) -> bytes:
    """DER. exchanged: bytes of what is signed, for others of the same length. outside: of the algorithm outside."""
    tbs, whole = certificate.certificate.tbs_certificate_bytes, certificate.der
    start = _content(whole, 0)[0]
    body, length = _content(whole, start)
    at, size = _content(whole, body + length)
    algorithm = whole[body + length : at + size]
    for old, new in exchanged:
        assert len(old) == len(new)
        assert old in tbs
        tbs = tbs.replace(old, new)
        algorithm = algorithm.replace(old, new)
    if outside is not None:
        algorithm = algorithm.replace(*outside)
    digest = digest or hashes.SHA256()
    if isinstance(signer, rsa.RSAPrivateKey):
        signature = signer.sign(tbs, padding.PKCS1v15(), digest)
    else:
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        signature = signer.sign(tbs, ec.ECDSA(digest))
    if break_signature:
        signature = signature[:-1] + bytes([signature[-1] ^ 1])
    return _element(0x30, tbs + algorithm + _element(0x03, b"\0" + signature))


def file_of(folder: Path, key: Any, *chain: bytes) -> Path:
    """Key and certificates (DER, whatever they are) in one file, as clients load it."""
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"hostile-{abs(hash(chain))}.pem"
    path.write_text(private.decode() + "".join(ssl.DER_cert_to_PEM_cert(each) for each in chain))
    return path


def _content(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of an element starts, and its length."""
    length = der[at + 1]
    if length < 0x80:
        return at + 2, length
    size = length & 0x7F
    return at + 2 + size, int.from_bytes(der[at + 2 : at + 2 + size])


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    count = (size.bit_length() + 7) // 8
    return bytes((tag, 0x80 | count)) + size.to_bytes(count) + content
