"""Attestation by a TPM: which keys are taken, and what a device is given. Source: provisioning-and-pki 1.11."""

import secrets
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import rsa

from hubkeep.errors import BadRequest
from hubkeep.model import Attestation, Enrolment

from .tpm_blob import KEY_BYTES, WrappingKey, named, wrapped

_EXPONENT: Final = 65537
_MODULUS_BYTES: Final = 256
_RSA_SHA256: Final = bytes.fromhex("0001000b")
# AES of 128 bits in CFB, no scheme, RSA of 2048 bits
_PARAMETERS: Final = bytes.fromhex("0006008000430010") + (8 * _MODULUS_BYTES).to_bytes(2)
# TPMA_OBJECT, part 2 clause 8.3: made in a TPM, never leaves it, and decrypts nothing but what a TPM has protected
_FIXED_TPM, _FIXED_PARENT, _ORIGIN, _RESTRICTED, _DECRYPT, _SIGN = (1 << bit for bit in (1, 4, 5, 16, 17, 18))
_STORAGE_KEY: Final = _FIXED_TPM | _FIXED_PARENT | _ORIGIN | _RESTRICTED | _DECRYPT


class TpmKeys(NamedTuple):
    """TPM2B_PUBLIC of a device's endorsement key and storage root key, as it shows them."""

    endorsement: bytes
    storage_root: bytes


class HubKey(NamedTuple):
    """What opens the identity, and the same for the device's TPM alone."""

    key: bytes
    blob: bytes


def checked(wanted: Attestation, *, is_group: bool) -> Attestation:
    """Raises BadRequest."""
    if is_group:
        raise BadRequest("A group attests by x509 or symmetricKey.")
    if wanted.endorsement_key is None:
        raise BadRequest("A tpm attestation needs an endorsementKey.")
    storage_key(wanted.endorsement_key, "The endorsementKey")
    if wanted.storage_root_key is not None:
        storage_key(wanted.storage_root_key, "The storageRootKey")
    return wanted


def storage_key(public: bytes, what: str) -> WrappingKey:
    """What a TPM calls a storage key, by the template of the device clients. public: TPM2B_PUBLIC.

    A key that could leave its TPM, or was made outside of one, proves no TPM. Raises BadRequest.
    """
    content = public[2:]
    if len(public) < 2 or int.from_bytes(public[:2]) != len(content):
        raise BadRequest(f"{what} is base64 of a TPM2B_PUBLIC.")
    policy = int.from_bytes(content[8:10])
    rest = content[10 + policy :]
    parameters, exponent, unique = rest[:10], int.from_bytes(rest[10:14]), rest[14:]
    is_shaped = content[:4] == _RSA_SHA256 and parameters == _PARAMETERS and len(unique) == 2 + _MODULUS_BYTES
    if not is_shaped or int.from_bytes(unique[:2]) != _MODULUS_BYTES or exponent not in {0, _EXPONENT}:
        raise BadRequest(f"{what} is an RSA key of 2048 bits with SHA-256, AES-128-CFB and exponent 65537.")
    attributes = int.from_bytes(content[4:8])
    if attributes & _STORAGE_KEY != _STORAGE_KEY or attributes & _SIGN:
        raise BadRequest(f"{what} is not a restricted decryption key that is fixed to its TPM.")
    modulus = int.from_bytes(unique[2:])
    if modulus.bit_length() != 8 * _MODULUS_BYTES or modulus % 2 == 0:
        raise BadRequest(f"{what} is no RSA key of 2048 bits.")
    return WrappingKey(rsa.RSAPublicNumbers(_EXPONENT, modulus).public_key(), named(content))


def hub_key(enrolment: Enrolment, shown_root: bytes) -> HubKey:
    """A fresh one: the device is told it now. shown_root: the device's own storage root key, if none is enrolled.

    Raises BadRequest.
    """
    attestation = enrolment.attestation
    root = attestation.storage_root_key or shown_root
    if attestation.endorsement_key is None or not root:
        raise BadRequest("A device with a TPM tells its storageRootKey.")
    endorsement = storage_key(attestation.endorsement_key, "The endorsementKey")
    key = secrets.token_bytes(KEY_BYTES)
    return HubKey(key, wrapped(key, endorsement, storage_key(root, "The storageRootKey")))


def at_the_hub(key: bytes) -> dict[str, Any]:
    """The credentials of the identity; nobody is told the second key."""
    return {
        "authentication": "sas",
        "primary_key": key,
        "secondary_key": secrets.token_bytes(KEY_BYTES),
        "primary_thumbprint": None,
        "secondary_thumbprint": None,
    }


def is_registered(attestation: Attestation, keys: TpmKeys) -> bool:
    """Whether these are the keys of this enrolment. Public keys: the time may tell."""
    root = attestation.storage_root_key
    return attestation.endorsement_key == keys.endorsement and (root is None or root == keys.storage_root)
