"""Keys by which a TPM proves itself to the provisioning service: each opens one registration, within five minutes.

They are computed, not kept: whoever asks for many of them fills no memory and takes nobody's away. What is kept are
those that were used, until their device has asked how it ended. Source: provisioning-and-pki 1.11.
"""

import hmac
import secrets
from hashlib import sha256
from typing import Final, NamedTuple

from hubkeep.errors import Unauthorized
from hubkeep.limits import REGISTRATION_LINK, TPM_CHALLENGE
from hubkeep.ports import Clock

from .rates import Rate
from .tpm_blob import KEY_BYTES

_TURNS: Final = 10  # a key is good for nine to ten of them


class TpmProof(NamedTuple):
    """id: names the key and tells nothing of it."""

    id: str
    key: bytes


class _Used(NamedTuple):
    proof: TpmProof
    at: float


class TpmProofs:
    """most: challenges per minute, all devices together. A restart makes all keys void."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock, self._secret = clock, secrets.token_bytes(KEY_BYTES)
        self._rate = Rate(most, 60.0)
        self._used: dict[str, tuple[_Used, ...]] = {}

    def take(self) -> None:
        """Count a challenge. Raises Throttled."""
        self._rate.take(self._clock.monotonic())

    def fresh(self, registration_id: str, endorsement_key: bytes) -> TpmProof:
        """For a challenge now."""
        return self._proof(registration_id.lower(), endorsement_key, self._turn())

    def known(self, registration_id: str, endorsement_key: bytes) -> list[TpmProof]:
        """All that may have signed a token now: not yet used, or used for what is being asked about."""
        name, turn = registration_id.lower(), self._turn()
        unused = [self._proof(name, endorsement_key, turn - each) for each in range(_TURNS)]
        return [*unused, *(each.proof for each in self._still_used(name))]

    def use(self, registration_id: str, endorsement_key: bytes, proof_id: str) -> None:
        """Raises Unauthorized: it has been used, or is too old."""
        name, turn = registration_id.lower(), self._turn()
        for each in range(_TURNS):
            proof = self._proof(name, endorsement_key, turn - each)
            if proof.id == proof_id:
                self._used[name] = (*self._still_used(name), _Used(proof, self._clock.monotonic()))
                return
        raise Unauthorized(cause="tpm-key-used", reason="the TPM's key for registering was used before, or is too old")

    def unuse(self, registration_id: str, proof_id: str) -> None:
        """What it was used for did not happen."""
        name = registration_id.lower()
        self._keep(name, tuple(each for each in self._still_used(name) if each.proof.id != proof_id))

    def sweep(self) -> None:
        for name in tuple(self._used):
            self._keep(name, self._still_used(name))

    def _turn(self) -> int:
        return int(self._clock.monotonic() * _TURNS // TPM_CHALLENGE.value)

    def _still_used(self, name: str) -> tuple[_Used, ...]:
        since = self._clock.monotonic() - REGISTRATION_LINK.value
        return tuple(each for each in self._used.get(name, ()) if each.at > since)

    def _keep(self, name: str, used: tuple[_Used, ...]) -> None:
        if used:
            self._used[name] = used
        else:
            self._used.pop(name, None)

    def _proof(self, name: str, endorsement_key: bytes, turn: int) -> TpmProof:
        """Another one after each use, also within one turn."""
        uses = len(self._still_used(name))
        context = f"{turn}/{uses}/{name}/".encode() + sha256(endorsement_key).digest()
        key = hmac.digest(self._secret, context, sha256)
        return TpmProof(sha256(b"id/" + key).hexdigest()[:32], key)
