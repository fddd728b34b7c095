"""``hubkeep posture``: what is weak in this deployment, what mending it costs, and the command that does."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from hubkeep.errors import HubError

from .access import time_of
from .client import HubClient, find_hub
from .failure import FAILED, MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_json, print_plain
from .posture_page import page_of
from .posture_text import lines_of, lines_of_history

_WITHIN: Final = 600.0  # seconds: a million keys are opened
_SEVERITIES: Final = ("low", "medium", "high", "critical")

app = typer.Typer(
    help="What is weak in this deployment, what mending it costs, and the command that does.",
    invoke_without_command=True,
)
CheckArgument = Annotated[str, typer.Argument(metavar="CHECK", help="As PC05.")]


class Level(StrEnum):
    """A severity, and what is worse."""

    low = "low"
    medium = "medium"
    high = "high"
    critical = "critical"


class Fact(StrEnum):
    """What the hub cannot see."""

    restore_drill = "restore-drill"
    key_escrow = "key-escrow"


@app.callback()
def posture(
    context: typer.Context,
    only: Annotated[list[str] | None, typer.Option("--only", help="This check alone: PC05. Repeatable.")] = None,
    if_fixed: Annotated[
        list[str] | None, typer.Option("--if-fixed", help="Tell the index as if this were mended. Repeatable.")
    ] = None,
    fail_on: Annotated[
        Level | None, typer.Option("--fail-on", help="Exit status 1 if a finding is at least this severe.")
    ] = None,
    least: Annotated[
        int, typer.Option("--least", min=0, max=100, help="Exit status 1 if the index is below this.")
    ] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the outcome in the hub's history.")] = False,
    history: Annotated[bool, typer.Option("--history", help="How it went over time, instead.")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="Counts alone, no names of devices.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Of a data directory that no hub serves.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="Settings of that directory's hub.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write it as a page as well.")] = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Report what is weak: the best bargain first, with evidence, cost and the command that mends it.

    Exit status: 0, or 1 with --fail-on or --least where the report does not reach them, 2 misuse, 3 no hub answers.
    """
    if context.invoked_subcommand is not None:
        return
    if keep and (only or if_fixed or summary):
        raise CommandFailure("--keep is for whole reports", "leave out --only, --if-fixed and --summary", MISUSED)
    report: dict[str, Any] | None
    if offline:
        report, runs = _offline(data, config, only, if_fixed, keep=keep, summary=summary)
    else:
        with HubClient(find_hub(data, connection_string), _WITHIN) as client:
            report = None if history else _report(client, only, if_fixed, keep=keep, summary=summary)
            runs = client.get("/api/posture/runs", most=365)
    if history or report is None:
        if as_json:
            print_json(runs)
        else:
            _print(lines_of_history(runs))
        return
    if html is not None:
        _write(html, page_of(report, runs))
    if as_json:
        print_json(report)
    else:
        _print(lines_of(report, runs))
    _judge(report, fail_on, least)


@app.command()
def accept(
    check: CheckArgument,
    reason: Annotated[str, typer.Option(help="Why the risk is taken.")],
    until: Annotated[str, typer.Option(metavar="TIME", help="ISO 8601, or 30d from now; 180 days at most.")],
    owner: Annotated[str, typer.Option(help="Who takes it.")] = "operator",
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept what a check finds, until a day: it is listed on, and fails nothing meanwhile."""
    body = {"owner": owner, "reason": reason, "until": time_of(until)}
    with HubClient(find_hub(data, connection_string), _WITHIN) as client:
        given = client.request("PUT", f"/api/posture/waivers/{check}", body=body)
    if as_json:
        print_json(given)
    else:
        print_plain(
            f"{given['check']} is accepted until {given['until'][:10]}: {given['affected']} affected, "
            f"risk {given['risk']}; it lapses then, or when over a fifth more are"
        )


@app.command()
def withdraw(
    check: CheckArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept what a check finds no more."""
    with client_of(data, connection_string) as client:
        client.request("DELETE", f"/api/posture/waivers/{check}")
    if as_json:
        print_json({"withdrawn": check})
    else:
        print_plain(f"{check} counts again")


@app.command()
def confirm(
    fact: Annotated[Fact, typer.Argument(metavar="WHAT", help="restore-drill or key-escrow.")],
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that a backup was restored elsewhere and worked, or that the sealing key is kept elsewhere: today."""
    with client_of(data, connection_string) as client:
        confirmed = client.request("PUT", f"/api/posture/confirmations/{fact}")
    if as_json:
        print_json(confirmed)
    else:
        print_plain(f"{confirmed['name']}: {confirmed['at'][:10]}")


def _report(
    client: HubClient, only: list[str] | None, if_fixed: list[str] | None, *, keep: bool, summary: bool
) -> dict[str, Any]:
    if keep:
        return dict(client.request("POST", "/api/posture/runs"))
    asked = {"only": ",".join(only or ()), "fixed": ",".join(if_fixed or ()), "form": "summary" if summary else ""}
    return dict(client.get("/api/posture", **{name: value for name, value in asked.items() if value}))


def _offline(
    data: Path, config: Path | None, only: list[str] | None, if_fixed: list[str] | None, *, keep: bool, summary: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from hubkeep.server.failures import StartFailure  # noqa: PLC0415  # other commands need no server
    from hubkeep.server.offline_posture import offline_posture  # noqa: PLC0415
    from hubkeep.settings import SettingsError, load  # noqa: PLC0415

    try:
        settings = load(config, data=data)
        return offline_posture(settings, only or (), if_fixed or (), is_summary=summary, keep=keep)
    except SettingsError as error:
        raise CommandFailure(str(error), "docs/reference/settings.md lists every setting", MISUSED) from None
    except HubError as error:
        raise CommandFailure(error.reason, error.remedy) from None
    except StartFailure as failure:
        raise CommandFailure(failure.cause, failure.cure) from None


def _judge(report: dict[str, Any], fail_on: Level | None, least: int) -> None:
    """Raises CommandFailure: what fails a build."""
    if fail_on is not None:
        severe = _SEVERITIES[_SEVERITIES.index(fail_on) :]
        found = [each["check"] for each in report["findings"] if each["state"] == "fail" and each["severity"] in severe]
        if found:
            raise CommandFailure(
                f"{len(found)} findings are {fail_on} or worse: {', '.join(found)}",
                "mend them, or: hubkeep posture accept CHECK --reason WHY --until 30d",
                FAILED,
            )
    if report["index"] < least:
        raise CommandFailure(f"the index is {report['index']}, below {least}", "", FAILED)


def _print(lines: list[str]) -> None:
    for line in lines:
        print_plain(line)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailure(f"{path}: {error.strerror}", "name another file", MISUSED) from None
