"""A posture report as text: what people look at first stands first, and the trend is a picture."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

_BARS: Final = "▁▂▃▄▅▆▇█"
_SHOWN: Final = 40  # runs of the picture
_LABELS: Final = {"fail": "to mend", "waived": "accepted", "unknown": "unknown", "pass": "good"}

Report = dict[str, Any]
Runs = Sequence[dict[str, Any]]


def lines_of(report: Report, runs: Runs) -> list[str]:
    return [line.rstrip() for part in _parts(report, runs) for line in part]


def lines_of_history(runs: Runs) -> list[str]:
    """The newest last, so that it stands at the prompt."""
    if not runs:
        return ["no report was kept yet: hubkeep posture --keep; the hub keeps one a day by itself"]
    lines = [trend(runs), ""]
    for run in reversed(runs[:_SHOWN]):
        told = ", ".join(f"{count} {name}" for name, count in sorted(run["severities"].items()))
        by = run["by"] or "the hub, daily"
        lines.append(f"{run['at'][:16].replace('T', ' ')}  {run['index']:>3}  risk {run['risk']:>6}  {told}  ({by})")
    return lines


def trend(runs: Runs) -> str:
    """``▃▅▇ 61 to 74 in 30 reports``. runs: the newest first."""
    shown = [run["index"] for run in reversed(runs[:_SHOWN])]
    if not shown:
        return ""
    bars = "".join(_BARS[min(len(_BARS) - 1, each * len(_BARS) // 101)] for each in shown)
    return f"{bars}  {shown[0]} to {shown[-1]} in {len(shown)} reports"


def _parts(report: Report, runs: Runs) -> Iterator[Iterable[str]]:
    by_state = {state: [each for each in report["findings"] if each["state"] == state] for state in _LABELS}
    counts = ", ".join(f"{len(found)} {_LABELS[state]}" for state, found in by_state.items())
    yield (
        f"Posture of {report['hub']}: {report['index']} of 100   {trend(runs)}",
        f"as of {report['asOf'][:16].replace('T', ' ')} UTC: {counts}; {report['hours']:g} hours of work",
    )
    if (what_if := report["whatIf"]) is not None:
        yield (f"with {', '.join(what_if['fixed'])} mended, in {what_if['hours']:g} h: {what_if['index']} of 100",)
    for finding in by_state["fail"]:
        yield _failed(finding)
    if by_state["waived"]:
        yield ("", "Accepted:")
        for finding in by_state["waived"]:
            waiver = finding["waiver"]
            yield (
                f"  {finding['check']}  {finding['title']} (risk {finding['score']['risk']:g})",
                f"        until {waiver['until'][:10]} by {waiver['owner']}: {waiver['reason']}",
            )
    if by_state["unknown"]:
        yield ("", "Unknown, which is not good:")
        yield (f"  {each['check']}  {each['title']}: {each['evidence']['text']}" for each in by_state["unknown"])
    good = [each["check"] for each in by_state["pass"]]
    aside = [each["check"] for each in report["findings"] if each["state"] == "not-applicable"]
    yield ("", f"Good: {', '.join(good) or 'none'}", f"Not applicable: {', '.join(aside) or 'none'}")


def _failed(finding: dict[str, Any]) -> Iterator[str]:
    score, fix, evidence = finding["score"], finding["fix"], finding["evidence"]
    yield ""
    seen = ", seen" if finding["observed"] else ""
    yield f"{finding['severity'].upper():<8}  {finding['check']}  {finding['title']}"
    yield f"  risk {score['risk']:g}, {fix['hours']:g} h ({fix['cost']}) take {score['reduction']:g} of it{seen}"
    if finding["population"]:
        names = ", ".join(evidence["sample"])
        more = ", ..." if finding["affected"] > len(evidence["sample"]) and names else ""
        yield f"  {finding['affected']} of {finding['population']}{': ' + names if names else ''}{more}"
    if evidence["text"]:
        yield f"  {evidence['text']}"
    for group in evidence["groups"][:5]:
        yield f"    {group['devices']} x {group['what']}: {', '.join(group['sample'][:3])}"
    yield f"  why   {finding['rationale']}"
    if (waiver := finding["waiver"]) is not None:
        yield f"  the risk was accepted by {waiver['owner']}, no more: {waiver['lapsed']}"
    yield f"  mend  {'; '.join(fix['steps'])}"
    for command in fix["commands"]:
        yield f"        {command}"
