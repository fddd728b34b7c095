"""``hubkeep audit``: who did what to what, and whether that record is whole."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hubkeep.errors import HubError

from .client import HubClient
from .failure import FAILED, MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_fields, print_json, print_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hubkeep.server.audit import ChainState, Expected

app = typer.Typer(help="Who did what to what, from where, with which credential; all refusals.", no_args_is_help=True)

_PAGE: Final = 1000
ChainOption = Annotated[
    str, typer.Option("--chain", help="One of changes, commands, disclosures, logins, refusals; not given: all.")
]
ActorOption = Annotated[str, typer.Option("--actor", help="A device, device/module, or 'policy NAME'.")]
TargetOption = Annotated[str, typer.Option("--target", help="What was acted on, and what lies below it.")]
OperationOption = Annotated[str, typer.Option("--operation", help="As in the list of operations: devices/put.")]
FromOption = Annotated[str, typer.Option("--from", help="Not before this time (ISO 8601, UTC).")]
ToOption = Annotated[str, typer.Option("--to", help="Before this time (ISO 8601, UTC).")]


@app.command("list")
def list_entries(
    chain: ChainOption = "",
    actor: ActorOption = "",
    target: TargetOption = "",
    operation: OperationOption = "",
    since: FromOption = "",
    until: ToOption = "",
    most: Annotated[int, typer.Option(min=1, max=_PAGE, help="At most so many, the newest first.")] = 20,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """What happened, the newest first."""
    asked = _asked(chain, actor, target, operation, since, until)
    with client_of(data, connection_string) as client:
        found = client.get("/api/audit", most=most, **asked)
    if as_json:
        print_json(found)
    elif not found:
        print_plain("nothing of this kind is in the audit")
    else:
        for each in found:
            _show_entry(each)


@app.command()
def export(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Where to; not given: standard output.")] = None,
    chain: ChainOption = "",
    actor: ActorOption = "",
    target: TargetOption = "",
    operation: OperationOption = "",
    since: FromOption = "",
    until: ToOption = "",
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
) -> None:
    """All entries as JSON lines, the oldest first, with their hashes. Whole chains can be verified from the file."""
    asked = _asked(chain, actor, target, operation, since, until)
    with client_of(data, connection_string) as client, contextlib.ExitStack() as ends:
        try:
            out = sys.stdout if file is None else ends.enter_context(file.open("x", encoding="utf-8"))
        except OSError as error:
            raise CommandFailure(f"{file}: {error.strerror}", "name a file that is not there yet", MISUSED) from None
        for entry in _entries(client, asked):
            out.write(json.dumps(entry, ensure_ascii=False) + "\n")


@app.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="An export; not given: the data directory's own audit.")
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option("--expect", help="An end noted before, CHAIN:SEQUENCE:HASH: it must still be there. Repeatable."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Settings that say where the sealing key is."),
    ] = None,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Whether nothing was changed, removed, moved or cut off, and where it was. Needs no running hub.

    Exit status 1 when a chain is broken.
    """
    states = _verified(file, data, config, [_expected(each) for each in expect or ()])
    if as_json:
        print_json([{**each._asdict(), "hash": each.hash.hex()} for each in states])
    else:
        for each in states:
            _show(each)
    broken = [each.chain for each in states if each.breaks]
    if broken:
        raise CommandFailure(
            f"the audit is broken: {', '.join(broken)}", "compare it with a backup or an export", FAILED
        )


def _verified(
    file: Path | None, data: Path, config: Path | None, expected: "Sequence[Expected]"
) -> "Sequence[ChainState]":
    from hubkeep.server.audit import verify_audit, verify_exported  # noqa: PLC0415  # other commands need no server
    from hubkeep.settings import SettingsError, load  # noqa: PLC0415  # pydantic is half of the start of a command

    try:
        if file is None:
            return verify_audit(data, expected, load(config).sealing)
        with file.open(encoding="utf-8") as lines:
            return verify_exported(lines, expected)
    except SettingsError as error:
        raise CommandFailure(str(error), "docs/reference/settings.md lists every setting", MISUSED) from None
    except HubError as error:
        raise CommandFailure(error.reason, error.remedy) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailure(f"{file} cannot be read: {error}", "", MISUSED) from None


def _expected(text: str) -> "Expected":
    from hubkeep.server.audit import Expected  # noqa: PLC0415

    chain, _, rest = text.partition(":")
    sequence, _, digest = rest.partition(":")
    try:
        expected = Expected(chain, int(sequence), bytes.fromhex(digest))
    except ValueError:
        expected = Expected(chain, 0, b"")
    if expected.sequence < 1 or len(expected.hash) != 32:
        raise CommandFailure(f"{text!r} is no CHAIN:SEQUENCE:HASH", "audit verify prints such ends", MISUSED)
    return expected


def _asked(chain: str, actor: str, target: str, operation: str, since: str, until: str) -> dict[str, str]:
    asked = {"chain": chain, "actor": actor, "target": target, "operation": operation, "from": since, "to": until}
    return {name: value for name, value in asked.items() if value}


def _entries(client: HubClient, asked: dict[str, str]) -> Iterator[dict[str, Any]]:
    page = 0
    while found := client.get("/api/audit", order="oldest", most=_PAGE, page=page, **asked):
        yield from found
        page = found[-1]["number"]


def _show_entry(entry: dict[str, Any]) -> None:
    who = entry["actor"] or "an unknown peer"
    by = f" by {entry['credential']}" if entry["credential"] else ""
    at = f" from {entry['peer']} ({entry['surface']})" if entry["peer"] else ""
    print_plain(f"{entry['time'][:19].replace('T', ' ')} UTC  {who}{at}{by}")
    print_plain(f"  {entry['operation']} {entry['target']}: {entry['outcome']}".replace(" :", ":"))
    print_fields({"  detail": entry["detail"], "  tracking id": entry["trackingId"]})


def _show(state: "ChainState") -> None:
    print_fields(
        {
            state.chain: f"{state.entries} entries, {state.first} to {state.last}" if state.entries else "no entry",
            "  state": "broken" if state.breaks else "whole",
            "  end": f"{state.chain}:{state.last}:{state.hash.hex()}" if state.entries else "",
        }
    )
    for each in state.breaks:
        print_plain(f"  {each}")
