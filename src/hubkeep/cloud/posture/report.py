"""From facts to findings, in the order in which they are worth mending. Start at ``report_of``."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal

import msgspec

from hubkeep.errors import BadRequest
from hubkeep.model import PostureState, Waiver, time_stamp

from .check import Area, Check, Cost, Outcome, Severity, State
from .checks import BY_ID, CHECKS
from .commands import commands_of
from .scoring import Score, index_of, score_of, severity_of
from .waivers import why_lapsed

SCHEMA: Final = 1
_ORDER: Final[Mapping[State, int]] = {"fail": 0, "waived": 1, "unknown": 2, "pass": 3, "not-applicable": 4}
_OPEN: Final = ("fail", "waived")


class EvidenceGroup(msgspec.Struct, frozen=True, rename="camel"):
    """Some that have ``what`` in common."""

    what: str
    devices: int
    sample: Sequence[str]


class Evidence(msgspec.Struct, frozen=True, rename="camel"):
    """text: in words. sample: names of some that are affected; empty in the summary form."""

    text: str
    sample: Sequence[str]
    groups: Sequence[EvidenceGroup]


class Fix(msgspec.Struct, frozen=True, rename="camel"):
    """cost: S below an hour, M below a day, L a project, F firmware or a visit. effect: share of the risk it takes."""

    steps: Sequence[str]
    commands: Sequence[str]
    cost: Cost
    hours: float
    effect: float
    reversible: bool


class GivenWaiver(msgspec.Struct, frozen=True, rename="camel"):
    """A risk that somebody accepted. lapsed: why it holds no more; empty while it does."""

    owner: str
    reason: str
    until: str
    given: str
    risk: float
    affected: int
    lapsed: str


class Finding(msgspec.Struct, frozen=True, rename="camel"):
    """What one check says. population: 0 where it is about the hub itself. score: none of what is not open.

    observed: misuse was seen. dated: something stops on a known day.
    """

    check: str
    area: Area
    title: str
    severity: Severity
    state: State
    observed: bool
    dated: bool
    affected: int
    population: int
    evidence: Evidence
    rationale: str
    fix: Fix
    score: Score | None
    standards: Sequence[str]
    waiver: GivenWaiver | None
    first_seen: str | None


class WhatIf(msgspec.Struct, frozen=True, rename="camel"):
    """The index if these were mended, and the hours that takes."""

    fixed: Sequence[str]
    index: int
    hours: float


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """index: 0 to 100; for comparing with last month, no certificate. counts: findings by state."""

    schema: int
    as_of: str
    hub: str
    version: str
    form: Literal["full", "summary"]
    index: int
    risk: float
    hours: float
    counts: Mapping[State, int]
    findings: Sequence[Finding]
    what_if: WhatIf | None


class Weighing(msgspec.Struct, frozen=True):
    """What a report is made with beside the facts. only: ids of checks; empty: all. fixed: see WhatIf.

    first_seen: by check, when what is open now was seen open first.
    """

    hub: str
    version: str
    waivers: Mapping[str, Waiver] = {}
    first_seen: Mapping[str, str] = {}
    only: Collection[str] = ()
    fixed: Sequence[str] = ()
    is_summary: bool = False


def known_checks(ids: Collection[str]) -> list[str]:
    """In upper case. Raises BadRequest for one that is none."""
    wanted = [each.strip().upper() for each in ids if each.strip()]
    if stray := [each for each in wanted if each not in BY_ID]:
        raise BadRequest(f"There is no check {stray[0][:20]}; they are {CHECKS[0].id} to {CHECKS[-1].id}.")
    return wanted


def report_of(state: PostureState, weighing: Weighing) -> Report:
    chosen = [each for each in CHECKS if not weighing.only or each.id in weighing.only]
    findings = sorted((_finding(each, state, weighing) for each in chosen), key=_worth)
    still_open = [each for each in findings if each.state in _OPEN]
    failed = [each for each in findings if each.state == "fail"]
    return Report(
        schema=SCHEMA,
        as_of=time_stamp(state.now),
        hub=weighing.hub,
        version=weighing.version,
        form="summary" if weighing.is_summary else "full",
        index=_index(still_open),
        risk=round(sum(_risk(each) for each in still_open), 1),
        hours=round(sum(each.fix.hours for each in failed), 1),
        counts={**dict.fromkeys(_ORDER, 0), **Counter(each.state for each in findings)},
        findings=findings,
        what_if=_what_if(still_open, weighing.fixed) if weighing.fixed else None,
    )


def _finding(check: Check, state: PostureState, weighing: Weighing) -> Finding:
    outcome = check.judge(state)
    is_open = outcome.state == "fail"
    waiver = weighing.waivers.get(check.id) if is_open else None
    lapsed = why_lapsed(waiver, outcome, state.now) if waiver is not None else ""
    score = score_of(check, outcome) if is_open else None
    full = not weighing.is_summary
    return Finding(
        check=check.id,
        area=check.area,
        title=check.title,
        severity=severity_of(check, outcome),
        state="waived" if waiver is not None and not lapsed else outcome.state,
        observed=outcome.is_observed,
        dated=outcome.is_dated,
        affected=outcome.affected,
        population=outcome.population,
        evidence=_evidence(outcome) if full else Evidence("", (), ()),
        rationale=check.rationale,
        fix=Fix(
            steps=check.remedy,
            commands=commands_of(check, outcome if full else Outcome(outcome.state)) if is_open else (),
            cost=check.cost,
            hours=score.hours if score is not None else 0.0,
            effect=check.effect,
            reversible=check.is_reversible,
        ),
        score=score,
        standards=check.standards,
        waiver=_told(waiver, lapsed) if waiver is not None else None,
        first_seen=weighing.first_seen.get(check.id, time_stamp(state.now)) if is_open else None,
    )


def _evidence(outcome: Outcome) -> Evidence:
    groups = [EvidenceGroup(each.what, each.number, each.names) for each in outcome.groups]
    return Evidence(outcome.reason, outcome.names, groups)


def _told(waiver: Waiver, lapsed: str) -> GivenWaiver:
    return GivenWaiver(
        owner=waiver.owner,
        reason=waiver.reason,
        until=time_stamp(waiver.until),
        given=time_stamp(waiver.given),
        risk=waiver.risk,
        affected=waiver.affected,
        lapsed=lapsed,
    )


def _worth(finding: Finding) -> tuple[int, bool, float, str]:
    """What is critical, seen, or has a date comes first; then the best bargain."""
    is_pressing = finding.severity == "critical" or finding.observed or finding.dated
    per_hour = finding.score.per_hour if finding.score is not None else 0.0
    return _ORDER[finding.state], not is_pressing, -per_hour, finding.check


def _risk(finding: Finding) -> float:
    return finding.score.risk if finding.score is not None else 0.0


def _index(findings: Sequence[Finding]) -> int:
    severities = [each.severity for each in findings]
    return index_of(map(_risk, findings), severities, observed=any(each.observed for each in findings))


def _what_if(findings: Sequence[Finding], fixed: Sequence[str]) -> WhatIf:
    mended = [each for each in findings if each.check in fixed]
    left = [each for each in findings if each.check not in fixed]
    rest = [each.score.risk - each.score.reduction for each in mended if each.score is not None]
    severities = [each.severity for each in left]
    index = index_of((*map(_risk, left), *rest), severities, observed=any(each.observed for each in left))
    hours = round(sum(each.fix.hours for each in mended), 1)
    return WhatIf([each.check for each in mended], index, hours)
