"""A posture report as one page of HTML that needs nothing else: no script, no font, no picture from elsewhere.

Names in it come from devices: everything that is not written here goes through ``escape``.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, Final

_SHOWN: Final = 120  # runs of the picture
_WIDTH, _HEIGHT = 720, 120
_SEVERITIES: Final = ("critical", "high", "medium", "low")
_AREAS: Final = {"device": "Device security", "connection": "Connection security", "cloud": "Cloud security"}
_STYLE: Final = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1b1f24; --dim: #5b6570; --line: #d9dee4;
  --accent: #2463c9; --critical: #b3122a; --high: #c2410c; --medium: #92690a; --low: #4b5f77; --good: #18794e; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --card: #1d2127; --ink: #e7eaee; --dim: #9aa5b1;
  --line: #333a43; --accent: #7fb0ff; --critical: #ff7b8b; --high: #ff9d66; --medium: #e8bf5a; --low: #a9bcd2;
  --good: #6fcf9c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; display: inline; }
.dim { color: var(--dim); }
.top { display: flex; gap: 2rem; align-items: center; flex-wrap: wrap; margin: 1rem 0; }
.index { font-size: 4rem; font-weight: 700; line-height: 1; font-variant-numeric: tabular-nums; }
.index small { font-size: 1rem; font-weight: 400; color: var(--dim); }
.trend { flex: 1 1 24rem; min-width: 0; } .trend svg { width: 100%; height: auto; display: block; }
.trend .line { fill: none; stroke: var(--accent); stroke-width: 2; } .trend .area { fill: var(--accent); opacity: .12; }
.trend .grid { stroke: var(--line); stroke-width: 1; } .trend text { fill: var(--dim); font-size: 11px; }
.counts { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; margin: 1rem 0; list-style: none; }
.counts li { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .4rem .8rem; }
.counts b { font-variant-numeric: tabular-nums; }
article { background: var(--card); border: 1px solid var(--line); border-left: .35rem solid var(--line);
  border-radius: .5rem; padding: 1rem; margin: .75rem 0; overflow-wrap: anywhere; }
article.critical { border-left-color: var(--critical); } article.high { border-left-color: var(--high); }
article.medium { border-left-color: var(--medium); } article.low { border-left-color: var(--low); }
.word { font-weight: 600; font-size: .8rem; text-transform: uppercase; letter-spacing: .04em; }
.word.critical { color: var(--critical); } .word.high { color: var(--high); } .word.medium { color: var(--medium); }
.word.low { color: var(--low); } .word.good { color: var(--good); }
.bar { height: .4rem; border-radius: .2rem; background: var(--line); margin: .5rem 0; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--dim); }
article.critical .bar i { background: var(--critical); } article.high .bar i { background: var(--high); }
article.medium .bar i { background: var(--medium); } article.low .bar i { background: var(--low); }
pre { background: var(--page); border: 1px solid var(--line); border-radius: .35rem; padding: .6rem; margin: .5rem 0 0;
  overflow-x: auto; font: .875rem/1.5 ui-monospace, monospace; white-space: pre-wrap; }
p { margin: .35rem 0; } ul { margin: .35rem 0; padding-left: 1.25rem; }
table { border-collapse: collapse; width: 100%; } td { padding: .35rem .5rem .35rem 0;
  border-top: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; } td:first-child { white-space: nowrap; font-weight: 600; }
summary { cursor: pointer; }
@media print { body { background: none; } article { break-inside: avoid; } }
"""

Report = dict[str, Any]
Runs = Sequence[dict[str, Any]]


def page_of(report: Report, runs: Runs) -> str:
    """runs: of the past, the newest first."""
    title = f"Posture of {escape(report['hub'])}"
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # even a mistake in here could fetch and run nothing
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{title}</title><style>{_STYLE}</style></head><body><main>",
            f"<h1>{title}</h1>",
            f'<p class="dim">as of {_time(report["asOf"])} UTC, Hubkeep {escape(report["version"])}</p>',
            *_parts(report, runs),
            "</main></body></html>\n",
        )
    )


def _parts(report: Report, runs: Runs) -> Iterator[str]:
    yield '<div class="top">'
    yield f'<div class="index">{report["index"]:d} <small>of 100</small></div>'
    yield f'<div class="trend">{_picture(runs)}</div></div>'
    counts = report["counts"]
    yield '<ul class="counts">'
    for state, label in (("fail", "to mend"), ("waived", "accepted"), ("unknown", "unknown"), ("pass", "good")):
        yield f"<li><b>{counts[state]:d}</b> {label}</li>"
    yield f"<li><b>{report['hours']:g}</b> hours of work</li><li>risk <b>{report['risk']:g}</b></li></ul>"
    if (what_if := report["whatIf"]) is not None:
        yield (
            f"<p>With {escape(', '.join(what_if['fixed']))} mended, in {what_if['hours']:g} hours: "
            f"<b>{what_if['index']:d}</b> of 100.</p>"
        )
    failed = _of(report, "fail")
    if failed:
        yield "<h2>To mend, the best bargain first</h2>"
        for finding in failed:
            yield from _failed(finding)
    if accepted := _of(report, "waived"):
        yield "<h2>Accepted</h2><table>"
        for finding in accepted:
            waiver = finding["waiver"]
            yield _row(
                finding["check"],
                f"{finding['title']}: until {waiver['until'][:10]} by {waiver['owner']}: {waiver['reason']}",
            )
        yield "</table>"
    if unclear := _of(report, "unknown"):
        yield "<h2>Unknown, which is not good</h2><table>"
        yield from (_row(each["check"], f"{each['title']}: {each['evidence']['text']}") for each in unclear)
        yield "</table>"
    yield "<h2>Good</h2>"
    for area, label in _AREAS.items():
        good = [each for each in _of(report, "pass") if each["area"] == area]
        yield f"<details><summary>{label}: {len(good)}</summary><table>"
        yield from (_row(each["check"], f"not so: {each['title']}") for each in good)
        yield "</table></details>"
    if aside := _of(report, "not-applicable"):
        yield f"<details><summary>Not applicable: {len(aside)}</summary><table>"
        yield from (_row(each["check"], f"{each['title']}: {each['evidence']['text']}") for each in aside)
        yield "</table></details>"


def _failed(finding: dict[str, Any]) -> Iterator[str]:
    severity = finding["severity"] if finding["severity"] in _SEVERITIES else "low"
    score, fix, evidence = finding["score"], finding["fix"], finding["evidence"]
    yield f'<article class="{severity}" id="{escape(finding["check"])}">'
    yield f'<span class="word {severity}">{severity}</span> <span class="dim">{escape(finding["check"])}</span> '
    yield f"<h3>{escape(finding['title'])}</h3>"
    seen = " - seen" if finding["observed"] else ""
    yield f'<div class="bar"><i style="width:{min(100.0, score["risk"]):.1f}%"></i></div>'
    yield (
        f'<p class="dim">risk {score["risk"]:g}{seen}; {fix["hours"]:g} hours ({escape(fix["cost"])}) '
        f"take {score['reduction']:g} of it, {score['perHour']:g} an hour</p>"
    )
    if finding["population"]:
        yield f"<p><b>{finding['affected']:d}</b> of {finding['population']:d}{_names(evidence['sample'])}</p>"
    if evidence["text"]:
        yield f"<p>{escape(evidence['text'])}</p>"
    if evidence["groups"]:
        yield "<ul>"
        for group in evidence["groups"]:
            yield f"<li>{group['devices']:d} &times; {escape(group['what'])}{_names(group['sample'])}</li>"
        yield "</ul>"
    yield f'<p class="dim">{escape(finding["rationale"])}</p>'
    if (waiver := finding["waiver"]) is not None:
        yield f"<p>Accepted by {escape(waiver['owner'])} once, no more: {escape(waiver['lapsed'])}</p>"
    yield f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in fix['steps'])}</ul>"
    yield f"<pre>{escape(chr(10).join(fix['commands']))}</pre>"
    yield f'<p class="dim">{escape("; ".join(finding["standards"]))}</p></article>'


def _names(names: Iterable[str]) -> str:
    told = ", ".join(map(escape, names))
    return f": {told}" if told else ""


def _row(check: str, text: str) -> str:
    return f"<tr><td>{escape(check)}</td><td>{escape(text)}</td></tr>"


def _of(report: Report, state: str) -> list[dict[str, Any]]:
    return [each for each in report["findings"] if each["state"] == state]


def _time(stamp: str) -> str:
    return escape(stamp[:16].replace("T", " "))


def _picture(runs: Runs) -> str:
    """The index over the kept reports, as a line between 0 and 100."""
    shown = list(reversed(runs[:_SHOWN]))
    if not shown:
        return '<p class="dim">No report was kept yet: hubkeep posture --keep, or wait for the daily one.</p>'
    left, right, top, bottom = 28, _WIDTH - 12, 10, _HEIGHT - 20
    step = (right - left) / max(1, len(shown) - 1)
    points = [
        (left + number * step if len(shown) > 1 else right, bottom - run["index"] * (bottom - top) / 100)
        for number, run in enumerate(shown)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    area = f"{points[0][0]:.1f},{bottom} {line} {points[-1][0]:.1f},{bottom}"
    grid = "".join(
        f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value}</text>'
        for value in (0, 50, 100)
        for y in [bottom - value * (bottom - top) / 100]
    )
    first, last = shown[0], shown[-1]
    said = f"The index in {len(shown)} reports, from {first['index']:d} to {last['index']:d}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{said}"><title>{said}</title>{grid}'
        f'<polygon class="area" points="{area}"/><polyline class="line" points="{line}"/>'
        f'<circle cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}" r="3.5" fill="var(--accent)"/>'
        f'<text x="{left}" y="{_HEIGHT - 4}">{_time(first["at"])[:10]}</text>'
        f'<text x="{right}" y="{_HEIGHT - 4}" text-anchor="end">{_time(last["at"])[:10]}</text></svg>'
    )
