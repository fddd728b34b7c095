"""Symmetric keys of identities: made, read from text, checked."""

import binascii
import hmac
import secrets
from base64 import b64decode, b64encode
from hashlib import sha256

from hubkeep.errors import BadRequest
from hubkeep.limits import KEY_BYTES_MAX, KEY_BYTES_MIN

_NEW_KEY_BYTES = 32


def new_key() -> bytes:
    """32 random bytes."""
    return secrets.token_bytes(_NEW_KEY_BYTES)


def derived_key(group_key: bytes, registration_id: str) -> bytes:
    """The key of one member of an enrolment group; the id's case counts (provisioning-and-pki 1.9)."""
    return hmac.digest(group_key, registration_id.encode(), sha256)


def check_key(key: bytes, what: str) -> None:
    """Raises BadRequest for a key that has not 16 to 64 bytes (service-protocols 2.3)."""
    if not KEY_BYTES_MIN.value <= len(key) <= KEY_BYTES_MAX.value:
        raise BadRequest(f"{what} must have {KEY_BYTES_MIN.value} to {KEY_BYTES_MAX.value} bytes.")


def key_from_text(text: str, what: str) -> bytes:
    """The bytes of a base64 key. Raises BadRequest: no base64, or not 16 to 64 bytes."""
    try:
        key = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"{what} is not base64.") from None
    check_key(key, what)
    return key


def key_to_text(key: bytes | None) -> str | None:
    """Base64, as clients write keys."""
    return None if key is None else b64encode(key).decode()
