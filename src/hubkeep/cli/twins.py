"""``hubkeep device twin`` and ``hubkeep device call``: what a device should be, says it is, and can be asked to do."""

import json
import time
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from .client import HubClient
from .failure import MISUSED, CommandFailure
from .options import (
    DEFAULT_DATA,
    ConnectionStringOption,
    DataOption,
    DeviceArgument,
    JsonOption,
    ModuleOption,
    client_of,
    place_of,
)
from .output import print_json, print_plain, print_table

_SECTIONS: Final = ("desired", "tags")
_GRACE: Final = 15.0  # seconds beyond the hub's own time-outs

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="desired.NAME=VALUE", help="JSON or text; null removes. May come several times."),
]
TagOption = Annotated[
    list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="Short for --set tags.NAME=VALUE.")
]
PayloadOption = Annotated[str | None, typer.Option(help="JSON; none if not given.")]
TimeoutOption = Annotated[int, typer.Option(min=5, max=300, help="Seconds that the device has to answer.")]
ConnectOption = Annotated[int, typer.Option(min=0, max=300, help="Seconds to wait for a device that is not there.")]


def twin(
    device_id: DeviceArgument,
    changes: SetOption = None,
    tags: TagOption = None,
    module: ModuleOption = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the twin of a device, after changing its desired properties or tags."""
    patch = patch_of([*(changes or []), *(f"tags.{each}" for each in tags or [])])
    path = twin_path(device_id, module)
    with client_of(data, connection_string) as client:
        document = client.request("PATCH", path, body=patch) if patch else client.get(path)
    if as_json:
        print_json(document)
        return
    rows = [
        (f"{part}.{name}", _text(value), stamp)
        for part, section in (
            ("tags", document.get("tags", {})),
            ("desired", document["properties"]["desired"]),
            ("reported", document["properties"]["reported"]),
        )
        for name, value, stamp in _leaves(section, section.get("$metadata", {}))
    ]
    versions = {part: document["properties"][part]["$version"] for part in ("desired", "reported")}
    print_plain(
        f"{device_id}{'/' + module if module else ''}  {document['connectionState']}"
        f"  desired version {versions['desired']}, reported version {versions['reported']}"
    )
    if rows:
        print_table(("property", "value", "last updated"), rows)


def call(
    device_id: DeviceArgument,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="The method's name.")],
    payload: PayloadOption = None,
    timeout: TimeoutOption = 30,
    connect_timeout: ConnectOption = 0,
    module: ModuleOption = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Call a direct method of a connected device, and print its answer."""
    body: dict[str, Any] = {
        "methodName": method,
        "responseTimeoutInSeconds": timeout,
        "connectTimeoutInSeconds": connect_timeout,
    }
    if payload is not None:
        body["payload"] = json_payload(payload)
    place = place_of(data, connection_string)
    with HubClient(place, timeout + connect_timeout + _GRACE) as client:
        started = time.perf_counter()
        answer = client.request("POST", f"{twin_path(device_id, module)}/methods", body=body)
        milliseconds = (time.perf_counter() - started) * 1000
    if as_json:
        print_json({**answer, "milliseconds": round(milliseconds, 1)})
        return
    print_plain(f"{answer['status']} in {milliseconds:.0f} ms")
    if answer["payload"] is not None:
        print_plain(json.dumps(answer["payload"], ensure_ascii=False))


def json_payload(text: str) -> Any:
    """Raises CommandFailure."""
    try:
        return json.loads(text)
    except ValueError:
        raise CommandFailure("the payload is not JSON", "text needs quotes: --payload '\"text\"'", MISUSED) from None


def twin_path(device_id: str, module: str | None) -> str:
    path = f"/twins/{quote(device_id, safe='')}"
    return f"{path}/modules/{quote(module, safe='')}" if module else path


def patch_of(changes: list[str]) -> dict[str, Any]:
    """``desired.fan.on=true`` and the like, as the body of a PATCH. Raises CommandFailure."""
    sections: dict[str, dict[str, Any]] = {}
    for change in changes:
        path, equals, text = change.partition("=")
        section, *names = path.split(".")
        if not equals or section not in _SECTIONS or not all(names) or not names:
            raise CommandFailure(
                f"{change!r} names no property to set", "write desired.interval=5 or tags.site=hall-3", MISUSED
            )
        place = sections.setdefault(section, {})
        for name in names[:-1]:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise CommandFailure(f"{change!r} is below a value that is set as well", status=MISUSED)
        place[names[-1]] = value_of(text)
    patch: dict[str, Any] = {"tags": sections["tags"]} if "tags" in sections else {}
    if "desired" in sections:
        patch["properties"] = {"desired": sections["desired"]}
    return patch


def value_of(text: str) -> Any:
    """JSON, or the text itself where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _leaves(value: dict[str, Any], metadata: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, str]]:
    found: list[tuple[str, Any, str]] = []
    for name, member in value.items():
        if name.startswith("$"):
            continue
        known = metadata.get(name, {})
        if isinstance(member, dict) and member:
            found += _leaves(member, known, f"{prefix}{name}.")
        else:
            found.append((prefix + name, member, known.get("$lastUpdated", "")[:19].replace("T", " ")))
    return found
