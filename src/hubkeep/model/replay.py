"""A token that came from another address than before, as the operator reads it (L-I5)."""

import msgspec


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A bearer token is taken from wherever it comes; that it came from elsewhere may mean that somebody else has it.

    time: Unix seconds. identity: device, device/module or ``policy NAME``. key: which of its two keys had signed.
    address, first_address: where it came from now, and where from when it was seen first. client: what the peer calls
    itself, never trusted. fingerprint: tells tokens apart and nothing of the token.
    """

    time: float
    surface: str
    identity: str
    key: str
    address: str
    first_address: str
    first_time: float
    client: str
    fingerprint: str
