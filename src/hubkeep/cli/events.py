"""``hubkeep events ...``: the Event Hubs-compatible endpoint, its consumer groups, what it gets and what it retains."""

import contextlib
import datetime as dt
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import typer

from hubkeep.errors import HubError

from .failure import NOT_SERVABLE, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_fields, print_json, print_plain, print_table

app = typer.Typer(no_args_is_help=True, help="The Event Hubs-compatible endpoint: what it holds, consumer groups.")
groups = typer.Typer(no_args_is_help=True, help="Consumer groups: create, list, delete.")
app.add_typer(groups, name="group")
sources = typer.Typer(no_args_is_help=True, help="The hub's own events that the endpoint gets besides telemetry.")
app.add_typer(sources, name="source")

if TYPE_CHECKING:
    from hubkeep.server.event_loss import Lost

_UNITS: Final = ("", "k", "m", "g", "t")
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:([kmgt])i?b?)?", re.IGNORECASE)

SourcesArgument = Annotated[
    list[str], typer.Argument(metavar="SOURCE...", help="As 'source list' names them; their case does not matter.")
]
GroupArgument = Annotated[str, typer.Argument(metavar="NAME", help="The group's name; its case does not matter.")]


@app.command()
def show(
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Name, retention, partitions, groups and sources."""
    with client_of(data, connection_string) as client:
        status = client.get("/api/status")
        names = [each["name"] for each in client.get("/api/events/groups")]
        told = ["Telemetry", *(each["source"] for each in client.get("/api/events/sources") if each["enabled"])]
    partitions = status["partitions"]
    if as_json:
        retention = {name: status[name] for name in ("retention_hours", "retention_bytes")}
        print_json(
            {
                "name": status["events_name"],
                **retention,
                "partitions": partitions,
                "lost": status["lost"],
                "groups": names,
                "sources": told,
            }
        )
        return
    print_fields(
        {
            "name": status["events_name"],
            "retention": _retention_words(status["retention_hours"], status["retention_bytes"]),
            "groups": ", ".join(names),
            "sources": ", ".join(told),
        }
    )
    rows = [
        (number, each["first_sequence"], each["last_sequence"], each["last_sequence"] - each["first_sequence"] + 1)
        for number, each in enumerate(partitions)
    ]
    print_table(("partition", "first", "last", "events"), rows)
    for each in status["lost"]:
        place = f"partition {each['partition']}: {each['first_sequence']} to {each['last_sequence']}"
        print_plain(f"lost, which was accepted on {_day(each['accepted'])}: {place}")


@app.command("accept-loss")
def accept_loss(
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Have a damaged event log take events again, without what is lost. The hub must not be running.

    Shows what is lost first. The damaged files stay beside the log as evidence; sequence numbers and offsets go on, and
    readers pass over the gap. A backup that holds the events is the better way.
    """
    from hubkeep.server import event_loss  # noqa: PLC0415  # the other commands need no server

    with _offline(), event_loss.held(data):
        seen = event_loss.survey_loss(data)
        if not as_json:
            for each in seen.lost:
                print_plain(f"lost: {each}: {each.evidence}")
            print_plain(f"whole: {seen.kept} records; lost: {sum(each.events for each in seen.lost)} events")
        if not yes and not (sys.stdin.isatty() and not as_json and typer.confirm("Accept this for good?")):
            _print_loss(seen.lost, None, as_json=as_json)
            raise CommandFailure("nothing was changed", "to accept the loss: hubkeep events accept-loss --yes")
        note = event_loss.accept_loss(data, seen, time.time())
    if as_json:
        _print_loss(seen.lost, note.evidence, as_json=True)
        return
    print_plain(f"the log is whole without them; the damaged files are kept in {data / note.evidence}")
    print_plain("start the hub: it takes events again, and the audit tells what was accepted")


def _print_loss(lost: "Sequence[Lost]", evidence: str | None, *, as_json: bool) -> None:
    if not as_json:
        return
    ranges = [
        {
            "partition": each.partition,
            "first_sequence": each.first,
            "last_sequence": each.last,
            "events": each.events,
            "why": each.evidence,
        }
        for each in lost
    ]
    print_json({"lost": ranges, "accepted": evidence is not None, "evidence": evidence})


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Raises CommandFailure."""
    from hubkeep.server.failures import StartFailure  # noqa: PLC0415  # the other commands need no server

    try:
        yield
    except StartFailure as failure:
        raise CommandFailure(failure.cause, failure.cure, NOT_SERVABLE) from None
    except HubError as error:
        raise CommandFailure(error.reason, error.remedy) from None
    except FileNotFoundError as error:
        raise CommandFailure(f"{error.filename} is not there", "name the hub's directory with --data") from None


def _day(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).strftime("%Y-%m-%d")


@app.command()
def retention(
    hours: Annotated[float | None, typer.Option(help="Keep events for so many hours.")] = None,
    size: Annotated[
        str | None, typer.Option("--bytes", help="Keep at most so much: a number of bytes, or as 500MiB, 20GiB.")
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="Back to what settings say.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how long events are kept, or change it while the hub runs. Older events go at once."""
    changes: dict[str, Any] = {"hours": None, "bytes": None} if default else {}
    if hours is not None:
        changes["hours"] = hours
    if size is not None:
        changes["bytes"] = _bytes(size)
    with client_of(data, connection_string) as client:
        path = "/api/events/retention"
        state = client.request("PATCH", path, body=changes) if changes else client.get(path)
    if as_json:
        print_json(state)
    else:
        of_settings = state["default"]
        print_fields(
            {
                "retention": _retention_words(state["hours"], state["bytes"]),
                "by settings": _retention_words(of_settings["hours"], of_settings["bytes"]),
            }
        )


def _retention_words(hours: float, size: int) -> str:
    return f"{hours:g} hours, {size / 2**20:g} MiB at most"


def _bytes(text: str) -> int:
    """Raises BadParameter."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise typer.BadParameter("a number of bytes, or one with KiB, MiB, GiB or TiB", param_hint="--bytes")
    return int(float(found[1]) * 1024 ** _UNITS.index((found[2] or "").lower()))


@groups.command("create")
def create_group(
    name: GroupArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a consumer group; readers may use it at once."""
    with client_of(data, connection_string) as client:
        group = client.request("PUT", _path(name))
    if as_json:
        print_json(group)
    else:
        print_plain(f"{group['name']} is there")


@groups.command("list")
def list_groups(
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """All consumer groups."""
    with client_of(data, connection_string) as client:
        found = client.get("/api/events/groups")
    if as_json:
        print_json(found)
    else:
        print_table(("group", "created"), [(each["name"], each["created"] or "always there") for each in found])


@groups.command("delete")
def delete_group(
    name: GroupArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a consumer group; its readers are detached."""
    with client_of(data, connection_string) as client:
        client.request("DELETE", _path(name))
    if as_json:
        print_json({"deleted": name})
    else:
        print_plain(f"{name} is deleted")


def _path(name: str) -> str:
    return f"/api/events/groups/{quote(name, safe='')}"


@sources.command("list")
def list_sources(
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """All sources, and which of them the endpoint gets."""
    with client_of(data, connection_string) as client:
        found = client.get("/api/events/sources")
    _print_sources(found, as_json=as_json)


@sources.command("enable")
def enable_sources(
    names: SourcesArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the endpoint get these events, from now on."""
    _switch(names, data, connection_string, enabled=True, as_json=as_json)


@sources.command("disable")
def disable_sources(
    names: SourcesArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the endpoint get these events no more. Those that settings name stay on."""
    _switch(names, data, connection_string, enabled=False, as_json=as_json)


def _switch(names: list[str], data: Path, connection_string: str | None, *, enabled: bool, as_json: bool) -> None:
    with client_of(data, connection_string) as client:
        found = [
            client.request("PUT", f"/api/events/sources/{quote(name, safe='')}", body={"enabled": enabled})
            for name in names
        ]
    _print_sources(found, as_json=as_json)


def _print_sources(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    words = {(True, True): "on, by settings", (True, False): "on", (False, False): "off"}
    print_table(("source", "goes here"), [(each["source"], words[each["enabled"], each["fixed"]]) for each in found])
