"""``hubkeep query``: which devices or modules, by identity, tags and properties."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from .client import HubClient
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_json, print_plain, print_table

_PAGE = 1000


def query(
    text: Annotated[str, typer.Argument(metavar="QUERY", help="SELECT ... FROM devices | devices.modules ...")],
    most: Annotated[int | None, typer.Option(min=1, help="At most so many rows.")] = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the fleet. The language: hubkeep help queries."""
    with client_of(data, connection_string) as client:
        rows = rows_of(client, text, most)
        if as_json:
            for row in rows:
                print_json(row)
            return
        found = list(rows)
    if not found:
        print_plain("nothing meets the query")
        return
    if text.replace(" ", "").lower().startswith("select*") and "connectionState" in found[0]:
        print_table(("device", "module", "status", "connection", "last activity", "tags"), map(_summary, found))
        print_plain(f"{len(found)} rows; --json shows them whole")
        return
    columns = list(dict.fromkeys(name for row in found for name in row))
    print_table(columns, [[_cell(row.get(name, "")) for name in columns] for row in found])


def rows_of(client: HubClient, text: str, most: int | None) -> Iterator[dict[str, Any]]:
    """All rows of a query, at most ``most``, page by page."""
    left, continuation = most, ""
    while True:
        size = _PAGE if left is None else min(left, _PAGE)
        page, continuation = client.page("/devices/query", {"query": text}, size, continuation)
        yield from page
        if left is not None:
            left -= len(page)
        if not continuation or left == 0:
            return


def _summary(twin: dict[str, Any]) -> list[str]:
    state, active = twin["connectionState"].lower(), twin["lastActivityTime"]
    seen = "never" if active.startswith("0001") else active[:19].replace("T", " ")
    return [twin["deviceId"], twin.get("moduleId", ""), twin["status"], state, seen, _cell(twin.get("tags", ""))]


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
