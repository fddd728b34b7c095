"""``hubkeep monitor``: events as they arrive."""

import datetime as dt
import json
from typing import Annotated, Any

import typer

from .client import HubClient
from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, place_of
from .output import err, out, print_plain

_SILENCE = 60.0  # seconds; the hub sends an empty line every ten


def monitor(
    device: Annotated[str | None, typer.Option(help="Of this device alone.")] = None,
    where: Annotated[
        list[str] | None, typer.Option("--property", metavar="NAME[=VALUE]", help="With this application property.")
    ] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="From the oldest event kept, not from now.")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many events.")] = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Device-to-cloud events, live. Ctrl-C ends it."""
    wanted = [_filter(each) for each in where or ()]
    shown = 0
    with HubClient(place_of(data, connection_string), timeout=_SILENCE) as client:
        lines = client.lines("/api/events", device=device, **{"from": "earliest" if from_start else "latest"})
        if not as_json:
            err.print(f"listening to {client.place.host}; Ctrl-C ends", style="dim")
        for line in lines:
            if not line:
                continue
            event = json.loads(line)
            if "error" in event:
                raise CommandFailure(event["error"])
            if not all(_has(event["properties"], *each) for each in wanted):
                continue
            if as_json:
                print_plain(line)
            else:
                show_event(event)
            shown += 1
            if shown == count:
                return


def show_event(event: dict[str, Any]) -> None:
    """One event in a few lines."""
    time = dt.datetime.fromtimestamp(event["enqueued"] / 1000).astimezone().strftime("%H:%M:%S.%f")[:-3]
    name = event["device"] + (f"/{event['module']}" if event["module"] else "")
    place = f"partition {event['partition']} #{event['sequence_number']} @{event['offset']}"
    out.print(f"{time}  ", end="", style="dim")
    out.print(f"{name}  ", end="", style="bold", markup=False)
    body = event["body"] if "body" in event else f"base64 {event['body_base64']}"
    out.print(f"{body}  ", end="", markup=False)
    out.print(place, style="dim")
    details = {**event["system_properties"], **event["properties"]}
    details.pop("to", None)
    if details:
        out.print("              " + "  ".join(f"{key}={value}" for key, value in details.items()), markup=False)


def _filter(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not name:
        raise CommandFailure(f"no property name in {text!r}", "--property NAME or --property NAME=VALUE", MISUSED)
    return name, value if equals else None


def _has(properties: dict[str, Any], name: str, value: str | None) -> bool:
    return name in properties and (value is None or str(properties[name]) == value)
