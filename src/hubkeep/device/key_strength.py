"""Which public keys are strong enough, for devices and for authorities (provisioning-and-pki 3.3, P-V2, P-V3)."""

from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_RSA_BITS: Final = range(2048, 8193)
_RSA_EXPONENT: Final = 65537
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512, hashes.SHA3_256, hashes.SHA3_384, hashes.SHA3_512)
WANTED: Final = "use P-256, P-384, P-521, Ed25519, or RSA of 2048 to 8192 bits with exponent 65537"


def weakness(key: Any) -> str:
    """What is wrong with a public key; empty: nothing."""
    if isinstance(key, rsa.RSAPublicKey):
        exponent = key.public_numbers().e
        is_strong = key.key_size in _RSA_BITS and exponent == _RSA_EXPONENT
        found = f"RSA of {key.key_size} bits, exponent {exponent}"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        is_strong, found = isinstance(key.curve, _CURVES), f"curve {key.curve.name}"
    else:
        is_strong, found = isinstance(key, ed25519.Ed25519PublicKey), type(key).__name__
    return "" if is_strong else found


def is_for_authorities(key: Any) -> bool:
    """The path library takes no Ed25519 above a device."""
    return isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) and not weakness(key)


def is_weak_hash(digest: hashes.HashAlgorithm | None) -> bool:
    """None: the signature algorithm has its own (Ed25519)."""
    return digest is not None and not isinstance(digest, _HASHES)
