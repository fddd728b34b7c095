"""The posture report: what is weak, what mending it costs, and how that went over time."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import Meta

from hubkeep.cloud.posture.check import Severity, State
from hubkeep.cloud.posture.report import Report
from hubkeep.limits import HTTP_SERVICE_BODY, POSTURE_RUNS

from ..posture import WaiverBody
from .rows import JSON, Body, Count, Described, Parameter, Time, Told, empty, given


class KeptRun(Told):
    """What is kept of a report. risks: of what was open, by check. firstSeen: when it was seen open first. by: who
    asked; empty: the hub itself, daily."""

    at: Time
    index: Count
    risk: float
    states: dict[str, State]
    severities: dict[Severity, int]
    risks: dict[str, float]
    first_seen: dict[str, Time]
    by: str


class AcceptedRisk(Told):
    """risk, affected: when it was given. It lapses at its day, and when over a fifth more are affected."""

    check: str
    owner: str
    reason: str
    until: Time
    given: Time
    risk: float
    affected: Count


class Confirmation(Told):
    name: str
    at: Time


_IDS: Final = Annotated[str, Meta(examples=["PC05,PC28"])]

ROWS: Final[Mapping[str, Described]] = {
    "admin/posture": Described(
        "Report the deployment's posture",
        given(Report, "Findings, the best bargain first; what is critical, was seen or has a date comes before."),
        text="Computed from the hub's own state; nothing is kept. No key or token is in it.",
        query=(
            Parameter("only", _IDS, "These checks alone."),
            Parameter("fixed", _IDS, "Tell the index as if these were mended (whatIf)."),
            Parameter("form", Literal["full", "summary"], "summary: counts, and no names of devices."),
        ),
    ),
    "admin/posture/run": Described(
        "Report the posture and keep the outcome", given(Report, "As the report; it stands in the history now.")
    ),
    "admin/posture/history": Described(
        "List posture reports of the past",
        given(list[KeptRun], "The newest first."),
        query=(
            Parameter("most", Annotated[int, Meta(ge=1, le=POSTURE_RUNS.value)], "At most so many: 100 by default."),
        ),
    ),
    "admin/posture/accept": Described(
        "Accept a risk until a day",
        given(AcceptedRisk, "It stays in the report, as waived."),
        text="At most 180 days. Replaces what was accepted before for this check.",
        body=Body({JSON: WaiverBody}, HTTP_SERVICE_BODY.value),
    ),
    "admin/posture/withdraw": Described("Accept a risk no more", empty("It counts again.")),
    "admin/posture/confirm": Described(
        "Confirm that something was done",
        given(Confirmation, "When: now."),
        text="What the hub cannot see: `restore-drill`, `key-escrow`.",
    ),
}
