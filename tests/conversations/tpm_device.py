"""A TPM in Python, as far as a device that registers needs it. Written from the other end: it opens what the hub wraps.

Its keys are software, and its answers are checked as a TPM checks them: integrity, names, then the content.
"""

import hmac
from hashlib import sha256
from typing import NamedTuple, Self

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256

EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
EK_ATTRIBUTES, SRK_ATTRIBUTES = 0x000300B2, 0x00030472


class SoftwareTpm(NamedTuple):
    endorsement: rsa.RSAPrivateKey
    storage_root: rsa.RSAPrivateKey

    @classmethod
    def made(cls) -> Self:
        return cls(*(rsa.generate_private_key(65537, 2048) for _ in range(2)))

    @property
    def endorsement_key(self) -> bytes:
        return public(self.endorsement, EK_ATTRIBUTES, EK_POLICY)

    @property
    def storage_root_key(self) -> bytes:
        return public(self.storage_root, SRK_ATTRIBUTES)

    def imported(self, blob: bytes) -> bytes:
        """The key that a blob holds: ActivateCredential, Import, Load. An AssertionError tells what a TPM refuses."""
        identity, seed1, private, seed2, hmac_public, uri = split(blob)
        assert uri == b"", "the hub puts nothing there"
        root_name = b"\x00\x0b" + sha256(self.storage_root_key[2:]).digest()
        inner = taken(_unprotected(_opened(self.endorsement, seed1, b"IDENTITY\0"), root_name, identity))[0]
        name = b"\x00\x0b" + sha256(hmac_public).digest()
        wrapped = _unprotected(_opened(self.storage_root, seed2, b"DUPLICATE\0"), name, private)
        integrity, sensitive = taken(_decrypted(inner, wrapped))
        assert integrity == sha256(sensitive + name).digest(), "the inner integrity"
        (content,) = split(sensitive)
        assert content[:2] == b"\x00\x08", "a keyed hash"
        auth, seed_value, key = split(content[2:])
        assert auth == b""
        assert hmac_public[-32:] == sha256(seed_value + key).digest(), "the unique field"
        assert hmac_public[:4] == bytes.fromhex("0008000b")
        return key


def public(key: rsa.RSAPrivateKey, attributes: int, policy: bytes = b"", **changed: bytes) -> bytes:
    """TPM2B_PUBLIC by the template of the device clients. changed: other bytes for one of its parts."""
    modulus = key.public_key().public_numbers().n
    modulus_bytes = modulus.to_bytes((modulus.bit_length() + 7) // 8)
    parts = {
        "algorithms": bytes.fromhex("0001000b"),
        "attributes": attributes.to_bytes(4),
        "policy": len(policy).to_bytes(2) + policy,
        "parameters": bytes.fromhex("0006008000430010") + (8 * len(modulus_bytes)).to_bytes(2),
        "exponent": bytes(4),
        "unique": len(modulus_bytes).to_bytes(2) + modulus_bytes,
        **changed,
    }
    content = b"".join(parts.values())
    return len(content).to_bytes(2) + content


def taken(content: bytes) -> tuple[bytes, bytes]:
    """The first TPM2B, and what stands behind it."""
    size = int.from_bytes(content[:2])
    assert len(content) >= 2 + size, "a TPM2B longer than what is there"
    return content[2 : 2 + size], content[2 + size :]


def split(content: bytes) -> list[bytes]:
    """TPM2B after TPM2B."""
    found = []
    while content:
        one, content = taken(content)
        found.append(one)
    return found


def _opened(key: rsa.RSAPrivateKey, seed: bytes, label: bytes) -> bytes:
    return key.decrypt(seed, padding.OAEP(padding.MGF1(SHA256()), SHA256(), label))


def _unprotected(seed: bytes, name: bytes, content: bytes) -> bytes:
    integrity, encrypted = taken(content)
    hmac_key = hmac.digest(seed, b"\0\0\0\x01INTEGRITY\0\0\0\x01\0", sha256)
    assert integrity == hmac.digest(hmac_key, encrypted + name, sha256), "the outer integrity"
    key = hmac.digest(seed, b"\0\0\0\x01STORAGE\0" + name + b"\0\0\0\x80", sha256)[:16]
    return _decrypted(key, encrypted)


def _decrypted(key: bytes, content: bytes) -> bytes:
    decryptor = Cipher(algorithms.AES(key), CFB(bytes(16))).decryptor()
    return decryptor.update(content) + decryptor.finalize()
