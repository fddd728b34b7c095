"""``hubkeep events ...``: the Event Hubs-compatible endpoint, its consumer groups and what it retains."""

from typing import Annotated
from urllib.parse import quote

import typer

from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_fields, print_json, print_plain, print_table

app = typer.Typer(no_args_is_help=True, help="The Event Hubs-compatible endpoint: what it holds, consumer groups.")
groups = typer.Typer(no_args_is_help=True, help="Consumer groups: create, list, delete.")
app.add_typer(groups, name="group")

GroupArgument = Annotated[str, typer.Argument(metavar="NAME", help="The group's name; its case does not matter.")]


@app.command()
def show(
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Name, retention, partitions and consumer groups. Retention is set by events.retention_hours and _bytes."""
    with client_of(data, connection_string) as client:
        status = client.get("/api/status")
        names = [each["name"] for each in client.get("/api/events/groups")]
    partitions = status["partitions"]
    if as_json:
        retention = {name: status[name] for name in ("retention_hours", "retention_bytes")}
        print_json({"name": status["events_name"], **retention, "partitions": partitions, "groups": names})
        return
    print_fields(
        {
            "name": status["events_name"],
            "retention": f"{status['retention_hours']:g} hours, {status['retention_bytes'] / 2**20:g} MiB at most",
            "groups": ", ".join(names),
        }
    )
    rows = [
        (number, each["first_sequence"], each["last_sequence"], each["last_sequence"] - each["first_sequence"] + 1)
        for number, each in enumerate(partitions)
    ]
    print_table(("partition", "first", "last", "events"), rows)


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
