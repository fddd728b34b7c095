"""Block and allow lists: which devices may be here, whatever their credentials prove."""

from typing import Literal

import msgspec

Verdict = Literal["block", "allow"]


class AccessRule(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the lists. It is for ``devices``, for those that meet ``condition`` (of a fleet query), or for those
    whose certificates ``authority`` vouches for; exactly one of them is given.

    begins, ends: Unix seconds between which it is in force; 0 for no such end.
    """

    name: str
    verdict: Verdict
    devices: tuple[str, ...] = ()
    condition: str = ""
    authority: str = ""
    reason: str = ""
    begins: float = 0.0
    ends: float = 0.0
    created: float = 0.0
    etag: str = ""

    def is_in_force(self, now: float) -> bool:
        return self.begins <= now and not (self.ends and now >= self.ends)


class Expiry(msgspec.Struct, frozen=True, kw_only=True):
    """A device that is to be disabled at ``at`` (Unix seconds)."""

    device_id: str
    at: float
    reason: str = ""
