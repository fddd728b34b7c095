"""Secrets that one TPM alone can open: what a device imports as its HMAC key after TPM2_ActivateCredential.

Source: TPM 2.0 Library, part 1 (KDFa, TPM2_MakeCredential, duplication: clauses 11.4, 23, 24) and part 2 (structures);
provisioning-and-pki 1.11. All hashes are SHA-256, all symmetric encryption is AES-128 in CFB with an IV of zeros.
"""

import hmac
import secrets
from hashlib import sha256
from typing import Final, NamedTuple, Self

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256

KEY_BYTES: Final = 32  # of a secret
_SEED_BYTES: Final = 32
_INNER_BYTES: Final = 16
_SHA256: Final = b"\x00\x0b"  # TPM_ALG_SHA256, as a name begins
_KEYEDHASH: Final = b"\x00\x08"
_NO_IV: Final = bytes(16)
# TPMT_PUBLIC of an imported key up to its unique field: keyedhash, SHA-256, sign and userWithAuth, no policy, HMAC
_HMAC_KEY: Final = bytes.fromhex("0008000b0004004000000005000b")


class WrappingKey(NamedTuple):
    """An RSA storage key of a TPM: its endorsement key or its storage root key. name: see ``named``."""

    rsa: rsa.RSAPublicKey
    name: bytes


class Randomness(NamedTuple):
    """What a blob is made with, in bytes: 16, then 32 each. New for each one."""

    inner: bytes
    seed1: bytes
    seed2: bytes
    seed_value: bytes

    @classmethod
    def fresh(cls) -> Self:
        return cls(secrets.token_bytes(_INNER_BYTES), *(secrets.token_bytes(_SEED_BYTES) for _ in range(3)))


def wrapped(key: bytes, endorsement: WrappingKey, storage_root: WrappingKey) -> bytes:
    """``key`` (32 bytes) for the TPM that holds both: 766 bytes with RSA of 2048 bits."""
    return _blob(key, endorsement, storage_root, Randomness.fresh())


def _blob(key: bytes, endorsement: WrappingKey, storage_root: WrappingKey, using: Randomness) -> bytes:
    public = hmac_public(key, using.seed_value)
    return b"".join(
        (
            identity_object(using.seed1, using.inner, storage_root.name),
            sized(_to(endorsement, using.seed1, b"IDENTITY\0")),
            duplicate(key, using),
            sized(_to(storage_root, using.seed2, b"DUPLICATE\0")),
            sized(public),
            sized(b""),
        )
    )


# -- structures -------------------------------------------------------------------------------------------------------


def named(public: bytes) -> bytes:
    """The name of an object. public: TPMT_PUBLIC."""
    return _SHA256 + sha256(public).digest()


def sized(content: bytes) -> bytes:
    """A TPM2B."""
    return len(content).to_bytes(2) + content


def hmac_public(key: bytes, seed_value: bytes) -> bytes:
    """TPMT_PUBLIC of ``key`` as an imported HMAC key."""
    return _HMAC_KEY + sized(sha256(seed_value + key).digest())


def identity_object(seed: bytes, inner: bytes, storage_root_name: bytes) -> bytes:
    """TPM2B_ID_OBJECT: opens only where an object of this name is loaded."""
    return sized(protected(seed, storage_root_name, sized(inner)))


def duplicate(key: bytes, using: Randomness) -> bytes:
    """TPM2B_PRIVATE with an inner and an outer wrapper."""
    name = named(hmac_public(key, using.seed_value))
    return sized(protected(using.seed2, name, inner_wrapped(key, using, name)))


def inner_wrapped(key: bytes, using: Randomness, name: bytes) -> bytes:
    sensitive = sized(_KEYEDHASH + sized(b"") + sized(using.seed_value) + sized(key))
    return _encrypted(using.inner, sized(sha256(sensitive + name).digest()) + sensitive)


def protected(seed: bytes, name: bytes, content: bytes) -> bytes:
    """An HMAC over what follows and the name, then ``content`` encrypted."""
    encrypted = _encrypted(kdfa(seed, b"STORAGE", name, 128), content)
    integrity = hmac.digest(kdfa(seed, b"INTEGRITY", b"", 256), encrypted + name, sha256)
    return sized(integrity) + encrypted


def kdfa(key: bytes, label: bytes, party: bytes, bits: int) -> bytes:
    """KDFa with SHA-256 and an empty second party; at most one block (256 bits) is ever needed here."""
    message = (1).to_bytes(4) + label + b"\0" + party + bits.to_bytes(4)
    return hmac.digest(key, message, sha256)[: bits // 8]


def _encrypted(key: bytes, content: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), CFB(_NO_IV)).encryptor()
    return encryptor.update(content) + encryptor.finalize()


def _to(wrapping: WrappingKey, seed: bytes, label: bytes) -> bytes:
    """label: its ending zero is part of it."""
    return wrapping.rsa.encrypt(seed, padding.OAEP(padding.MGF1(SHA256()), SHA256(), label))
