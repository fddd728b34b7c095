"""The checks one by one, their weights, and what becomes of accepted risks."""

import re
from collections import Counter

import msgspec
import pytest
import typer

from hubkeep.cli.main import app
from hubkeep.cli.posture_page import page_of
from hubkeep.cloud.posture.check import SEVERITIES, Check, Effort, Outcome
from hubkeep.cloud.posture.checks import BY_ID, CHECKS
from hubkeep.cloud.posture.commands import commands_of
from hubkeep.cloud.posture.report import Report, Weighing, report_of
from hubkeep.cloud.posture.scoring import index_of, score_of
from hubkeep.cloud.posture.waivers import checked_waiver, why_lapsed
from hubkeep.errors import BadRequest
from hubkeep.model import HubFacts, Named, PostureRun, PostureState, Together, Waiver
from unit.cloud.posture_states import DAY, GOOD, NOTHING, NOW, OLD_GROUP, RAISES, UNKNOWN, fleet

WEIGHING = Weighing(hub="hub.example.net", version="0")


def report(state: PostureState, *only: str, **members: object) -> Report:
    return report_of(state, msgspec.structs.replace(WEIGHING, only=only, **members))


def test_only_the_active_test_has_no_state_that_raises_it() -> None:
    """PC23 wants a device to be shown a wrong certificate, which no report does by itself."""
    assert set(BY_ID) - set(RAISES) == set(BY_ID) - set(GOOD) == {"PC23"}
    assert len(BY_ID) == 45


@pytest.mark.parametrize("check", [BY_ID[each] for each in RAISES], ids=lambda check: check.id)
def test_a_state_raises_it_and_another_does_not(check: Check) -> None:
    raised = check.judge(RAISES[check.id])
    assert raised.state == "fail"
    assert raised.affected >= 1
    assert check.judge(GOOD[check.id]).state == "pass"
    empty = check.judge(NOTHING)
    assert empty.state in {"pass", "unknown", "not-applicable", "fail"}
    if empty.state in {"unknown", "not-applicable"}:
        assert empty.reason, "it says why"


@pytest.mark.parametrize("check", UNKNOWN)
def test_what_cannot_be_told_is_not_good(check: str) -> None:
    outcome = BY_ID[check].judge(UNKNOWN[check])
    assert outcome.state == "unknown"
    assert outcome.reason


def test_keys_of_groups_are_old_after_ninety_days() -> None:
    state = PostureState(now=NOW, hub=HubFacts(groups=(OLD_GROUP,)))
    assert "presses" in BY_ID["PC02"].judge(state).reason


# -- commands --------------------------------------------------------------------------------------------------------

COMMANDS = [(check.id, command) for check in CHECKS for command in commands_of(check, Outcome("fail"))]


def parsed(words: list[str]) -> None:
    """Raises click.UsageError for what the command line does not take."""
    command, name = typer.main.get_command(app), "hubkeep"
    while hasattr(command, "get_command"):
        context = typer.Context(command, info_name=name)
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, name, words = found, words[0], words[1:]
    command.make_context(name, list(words))


@pytest.mark.parametrize(("check", "command"), COMMANDS)
def test_every_command_that_mends_exists(check: str, command: str) -> None:
    import shlex

    program, *words = shlex.split(command)
    assert program == "hubkeep"
    parsed(words)


def test_names_in_commands_are_quoted_and_no_options() -> None:
    outcome = Outcome("fail", names=("-rf; $(reboot)/camera",))
    assert commands_of(BY_ID["PC13"], outcome) == ["hubkeep device block --reason silent -- '-rf; $(reboot)'"]
    assert "--device '-rf; $(reboot)'" in commands_of(BY_ID["PC08"], outcome)[0]


# -- weights ---------------------------------------------------------------------------------------------------------


def weighed(check: str, affected: int, population: int) -> tuple[float, float, float, float]:
    score = score_of(BY_ID[check], Outcome("fail", affected, population))
    return score.exposure, score.risk, score.hours, score.per_hour


def test_the_worked_example() -> None:
    """provisioning-and-pki 6.7: 2000 devices."""
    assert weighed("PC05", 40, 2000) == (0.141, 5.1, 6.0, 0.81)
    assert weighed("PC01", 1400, 2000) == (0.837, 7.5, 102.4, 0.06)
    assert weighed("PC28", 1, 0) == (1.0, 18.0, 0.5, 25.2)
    assert weighed("PC36", 1, 0) == (1.0, 30.0, 2.0, 13.5)
    assert index_of((18.0, 30.0, 5.1, 7.5)) == 74


def test_a_critical_finding_and_seen_misuse_cap_the_index() -> None:
    assert index_of(()) == 100
    assert index_of((1.0,), ["critical"]) == 40
    assert index_of((1.0,), ["high"], observed=True) == 60
    assert index_of((1.0,), SEVERITIES[:3]) == 100


def test_what_has_a_date_comes_first() -> None:
    state = fleet(silent=Named(100, ("b",)), thumbprints=100, lone_thumbprints=Named(1, ("a",)))
    found = report(state, "PC13", "PC09").findings
    assert [each.check for each in found] == ["PC09", "PC13"]
    assert found[0].score is not None
    assert found[1].score is not None
    assert found[0].score.per_hour < found[1].score.per_hour


def test_what_if() -> None:
    state = fleet(by_policy=RAISES["PC08"].fleet.by_policy, silent=Named(50, ("a",)))
    before = report(state, "PC08", "PC13")
    after = report(state, "PC08", "PC13", fixed=["PC13"]).what_if
    assert after is not None
    assert (after.fixed, after.index > before.index) == (["PC13"], True)


def test_effort_counts_visits() -> None:
    assert Effort(80, 0.01, 0.002).hours(1400) == pytest.approx(102.4)


def test_the_summary_names_nobody() -> None:
    whole, summary = report(RAISES["PC08"]), report(RAISES["PC08"], is_summary=True)
    assert b"press-07" in msgspec.json.encode(whole)
    assert b"press-07" not in msgspec.json.encode(summary)
    assert summary.index == whole.index


# -- as a page -------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_and_runs_nothing() -> None:
    bad = "<script>alert(1)</script><img src=x onerror=y>\"'&"
    state = fleet(silent=Named(2, (bad,)), agents=(Together(f"azure-iot-device-iothub-py/1 {bad}", 1, (bad,)),))
    given = accepted(affected=2, reason=bad, owner=bad)
    whole = report(state, waivers={"PC13": given}, fixed=["PC16"], hub=bad)
    run = PostureRun(at=NOW, index=70, risk=3.0, states={}, severities={}, risks={}, first_seen={}, by=bad)
    runs = [{**msgspec.to_builtins(run), "at": "2027-01-15T08:00:00Z"}] * 3
    page = page_of(msgspec.to_builtins(whole), runs)
    assert "&lt;script&gt;" in page
    assert not re.findall(r"<(script|img|link|iframe|object)\b|<[^>]*\b(src|href)=|url\(|@import|://", page)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    tags = re.findall(r"<(/?)([a-z0-9]+)[^>]*?(/?)>", page.partition("</style>")[2])
    opened = Counter(name for closing, name, single in tags if not closing and not single)
    assert opened - Counter(name for closing, name, _ in tags if closing) == Counter(), "each is closed"


# -- accepted risks --------------------------------------------------------------------------------------------------


def accepted(**members: object) -> Waiver:
    given = {"check": "PC13", "owner": "ann", "reason": "the depot is closed", "until": NOW + 30 * DAY, **members}
    return msgspec.convert(given, Waiver)


def test_an_accepted_risk_is_listed_and_counts() -> None:
    state = fleet(silent=Named(10, ("a",)))
    (found,) = report(state, "PC13", waivers={"PC13": accepted(affected=10)}).findings
    assert (found.state, found.waiver and found.waiver.owner) == ("waived", "ann")
    open_, waived = report(state, "PC13"), report(state, "PC13", waivers={"PC13": accepted(affected=10)})
    assert open_.index == waived.index < 100
    assert waived.counts["fail"] == 0


def test_it_lapses_at_its_day_and_when_a_fifth_more_are_affected() -> None:
    waiver = accepted(affected=10)
    assert not why_lapsed(waiver, Outcome("fail", 12), NOW)
    assert why_lapsed(waiver, Outcome("fail", 13), NOW)
    assert why_lapsed(waiver, Outcome("fail", 10), NOW + 30 * DAY)
    (found,) = report(fleet(silent=Named(13, ("a",))), "PC13", waivers={"PC13": waiver}).findings
    assert found.state == "fail"
    assert found.waiver is not None
    assert "13 are now" in found.waiver.lapsed


@pytest.mark.parametrize(
    "members", [{"reason": " "}, {"owner": ""}, {"until": NOW}, {"until": NOW + 181 * DAY}, {"reason": "x" * 600}]
)
def test_nobody_accepts_for_ever_or_for_nothing(members: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        checked_waiver(accepted(**members), NOW)
    assert checked_waiver(accepted(), NOW).given == NOW


def test_the_table_is_in_order() -> None:
    assert [each.id for each in CHECKS] == sorted(BY_ID)
    for each in CHECKS:
        assert 0 < each.likelihood <= 1
        assert 0 < each.effect <= 1
        assert each.commands or each.id == "PC23"
