"""What a check is, and what it says of a hub (provisioning-and-pki 6.5 to 6.7)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from hubkeep.model import Named, PostureState, Together

Area = Literal["device", "connection", "cloud"]
Severity = Literal["critical", "high", "medium", "low"]
SEVERITIES: Final[tuple[Severity, ...]] = ("low", "medium", "high", "critical")
Cost = Literal["S", "M", "L", "F"]
State = Literal["pass", "fail", "unknown", "not-applicable", "waived"]
DAY: Final = 86_400.0
_SAMPLES: Final = 10


class Outcome(NamedTuple):
    """What a check found. population: of what ``affected`` is a part; 0: it is about the hub itself.

    reason: in words; of a state that is unknown, why. words: what commands name (``policy``, ``group``).
    is_observed: misuse was seen, not the mere possibility. is_dated: there is a date at which something stops.
    """

    state: State
    affected: int = 0
    population: int = 0
    reason: str = ""
    names: tuple[str, ...] = ()
    groups: tuple[Together, ...] = ()
    words: Mapping[str, str] = {}
    is_observed: bool = False
    is_dated: bool = False


class Effort(NamedTuple):
    """Hours of mending: once, and for each that is affected; breaks: the share of these that somebody must go and see,
    ``visit`` hours each (6.7)."""

    once: float
    each: float = 0.0
    breaks: float = 0.0
    visit: float = 3.0

    def hours(self, affected: int) -> float:
        return self.once + affected * (self.each + self.breaks * self.visit)


class Check(NamedTuple):
    """rationale: what it is a risk of. remedy: steps. commands: that mend it, with ``{device}`` and the like in place
    of names. cost: S below an hour, M below a day, L a project, F firmware or a visit.

    likelihood, impact: of the harm, before evidence (6.7). effect: how much of the risk the remedy takes away.
    """

    id: str
    area: Area
    severity: Severity
    title: str
    rationale: str
    remedy: Sequence[str]
    commands: Sequence[str]
    cost: Cost
    likelihood: float
    impact: float
    effect: float
    effort: Effort
    judge: Callable[[PostureState], Outcome]
    is_reversible: bool = True
    standards: Sequence[str] = ()


def passed(population: int = 0, reason: str = "") -> Outcome:
    return Outcome("pass", 0, population, reason)


def unknown(reason: str) -> Outcome:
    return Outcome("unknown", reason=reason)


def not_applicable(reason: str) -> Outcome:
    return Outcome("not-applicable", reason=reason)


def of_named(
    found: Named, population: int, reason: str = "", *, observed: bool = False, dated: bool = False
) -> Outcome:
    """Fails if there is one."""
    if not found.number:
        return passed(population)
    # who is counted may have been disabled since, or be a policy: never more than all
    population = max(population, found.number)
    return Outcome(
        "fail", found.number, population, reason, found.names[:_SAMPLES], is_observed=observed, is_dated=dated
    )


def of_groups(groups: Sequence[Together], population: int, reason: str = "", *, observed: bool = False) -> Outcome:
    """Fails if there is one; each of a group counts."""
    if not groups:
        return passed(population)
    affected = sum(each.number for each in groups)
    names = tuple(name for each in groups for name in each.names)[:_SAMPLES]
    population = max(population, affected) if population else 0
    return Outcome("fail", affected, population, reason, names, tuple(groups[:_SAMPLES]), is_observed=observed)


def of_hub(faults: Sequence[str], *, observed: bool = False, dated: bool = False, **words: str) -> Outcome:
    """Of the hub itself: fails for each of ``faults``, which are in words."""
    if not faults:
        return passed()
    told = "; ".join(faults[:_SAMPLES])
    return Outcome("fail", len(faults), 0, told, words=words, is_observed=observed, is_dated=dated)
