"""How long the built-in endpoint keeps events (service-protocols 2.17)."""

from typing import NamedTuple


class Retention(NamedTuple):
    """hours: age at which events go. size: bytes kept at most; the oldest go first."""

    hours: float
    size: int


class RetentionChange(NamedTuple):
    """What was chosen while the hub ran; None: as settings say."""

    hours: float | None = None
    size: int | None = None
