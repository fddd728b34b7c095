"""What a connection remembers of its last good credential: the same one again is not proved anew with each request."""

import hmac
from hashlib import sha256
from typing import Final, NamedTuple

from hubkeep.model import Principal

TRUSTED_FOR: Final = 1.0  # seconds: as soon as a disabled identity's links are cut (L-I2)


class Claim(NamedTuple):
    """Whose the credential must be: a back end's, or that of an identity. changes: see connection/changes.py."""

    credential: str
    device_id: str
    module_id: str
    changes: int


class LastProof:
    """The last credential that Authentication found good on one connection.

    It counts for a second at most, for the same claim and that very text; any change of an identity changes the claim.
    Expiry, permission and scope are checked with each request besides. The text itself is not kept.
    """

    __slots__ = ("_claim", "_digest", "_principal", "_until")

    def __init__(self) -> None:
        self._claim: Claim | None = None
        self._principal: Principal | None = None
        self._digest, self._until = b"", 0.0

    def recall(self, claim: Claim, token: str | None, now: float) -> Principal | None:
        """Whom the same credential stood for within the last second. now: monotonic seconds."""
        if claim != self._claim or now >= self._until or not hmac.compare_digest(_digest(token), self._digest):
            return None
        return self._principal

    def keep(self, claim: Claim, token: str | None, now: float, principal: Principal) -> None:
        """claim, now: from before the credential was looked at, so that no change in between is missed."""
        self._claim, self._digest = claim, _digest(token)
        self._until, self._principal = now + TRUSTED_FOR, principal


def _digest(token: str | None) -> bytes:
    """None and a text of no bytes are one: no token was presented (L-I8)."""
    return sha256((token or "").encode(errors="surrogatepass")).digest()
