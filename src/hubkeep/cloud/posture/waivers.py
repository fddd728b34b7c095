"""Risks that somebody has accepted for a while: shown, counted, and never for ever (provisioning-and-pki 6.5)."""

from typing import Final

import msgspec

from hubkeep.errors import BadRequest
from hubkeep.limits import POSTURE_REASON, POSTURE_WAIVER_DAYS
from hubkeep.model import Waiver

from .check import DAY, Outcome

_GROWTH: Final = 1.2


def checked_waiver(wanted: Waiver, now: float) -> Waiver:
    """Raises BadRequest: no reason, no owner, or an end that is past or too far away."""
    if not wanted.reason.strip() or not wanted.owner.strip():
        raise BadRequest("A risk is accepted by somebody, for a reason: owner and reason.")
    if max(len(wanted.reason), len(wanted.owner)) > POSTURE_REASON.value:
        raise BadRequest(f"A reason or owner has at most {POSTURE_REASON.value} characters.")
    if wanted.until <= now:
        raise BadRequest("until is past.")
    if wanted.until > now + POSTURE_WAIVER_DAYS.value * DAY:
        raise BadRequest(f"A risk is accepted for {POSTURE_WAIVER_DAYS.value} days at most.")
    return msgspec.structs.replace(wanted, given=now)


def why_lapsed(waiver: Waiver, outcome: Outcome, now: float) -> str:
    """Empty while it holds."""
    if now >= waiver.until:
        return "its day is over"
    if outcome.affected > waiver.affected * _GROWTH:
        return f"{waiver.affected} were affected when it was given, {outcome.affected} are now"
    return ""
