"""What a finding weighs, and what its remedy is worth (provisioning-and-pki 6.7)."""

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from .check import SEVERITIES, Check, Outcome, Severity

_LEAST_EXPOSURE: Final = 0.05  # a small group must not vanish in a large fleet
_SCALE: Final = 200.0
_CAP_CRITICAL: Final = 40.0
_CAP_OBSERVED: Final = 60.0


class Score(msgspec.Struct, frozen=True, rename="camel"):
    """risk: 0 to 100. reduction: how much of it the remedy takes away. hours: of mending. per_hour: the bargain."""

    likelihood: float
    impact: float
    exposure: float
    risk: float
    reduction: float
    hours: float
    per_hour: float


def score_of(check: Check, outcome: Outcome) -> Score:
    likelihood = 1.0 if outcome.is_observed else check.likelihood
    exposure = exposure_of(outcome.affected, outcome.population)
    risk = 10 * likelihood * check.impact * exposure
    reduction, hours = risk * check.effect, check.effort.hours(outcome.affected if outcome.population else 0)
    return Score(
        likelihood=likelihood,
        impact=check.impact,
        exposure=round(exposure, 3),
        risk=round(risk, 1),
        reduction=round(reduction, 1),
        hours=round(hours, 2),
        per_hour=round(reduction / hours, 2),
    )


def exposure_of(affected: int, population: int) -> float:
    """1 for what is about the hub itself."""
    return max(_LEAST_EXPOSURE, math.sqrt(min(1.0, affected / population))) if population else 1.0


def severity_of(check: Check, outcome: Outcome) -> Severity:
    """One step up where misuse was seen."""
    step = SEVERITIES.index(check.severity) + outcome.is_observed
    return SEVERITIES[min(step, len(SEVERITIES) - 1)]


def index_of(risks: Iterable[float], severities: Sequence[Severity] = (), *, observed: bool = False) -> int:
    """0 to 100, for comparing with last month. severities: of what is open, waived ones included."""
    index = 100 * math.exp(-sum(risks) / _SCALE)
    if "critical" in severities:
        index = min(index, _CAP_CRITICAL)
    if observed:
        index = min(index, _CAP_OBSERVED)
    return round(index)
