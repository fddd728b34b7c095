"""A direct method as it is called and answered (device-protocols 3.12)."""

import msgspec


class MethodCall(msgspec.Struct, frozen=True):
    """payload: JSON; ``null`` when the caller sent none."""

    name: str
    payload: bytes = b"null"


class MethodAnswer(msgspec.Struct, frozen=True):
    """status: the device's own integer. payload: JSON; ``null`` when the device sent none."""

    status: int
    payload: bytes = b"null"
