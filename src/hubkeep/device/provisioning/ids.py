"""Registration ids, group ids and id scopes (provisioning-and-pki 1.1)."""

import re
import secrets
from hashlib import sha256
from typing import Final

from hubkeep.errors import BadRequest
from hubkeep.limits import REGISTRATION_ID

_ID: Final = re.compile(rf"[A-Za-z0-9\-._:]{{0,{REGISTRATION_ID.value - 1}}}[A-Za-z0-9\-]")
_SCOPE: Final = "0ne{:08X}"


def check_registration_id(registration_id: str, what: str = "A registration id") -> None:
    """Raises BadRequest."""
    if not _ID.fullmatch(registration_id):
        raise BadRequest(
            f"{what} has 1 to {REGISTRATION_ID.value} letters, digits and - . _ :, the last a letter, a digit or -"
        )


def new_id_scope(seed: bytes = b"") -> str:
    """seed: for a scope that is the same everywhere; empty for a random one."""
    digits = sha256(seed).digest()[:4] if seed else secrets.token_bytes(4)
    return _SCOPE.format(int.from_bytes(digits))
