"""``hubkeep configuration ...``: what part of the fleet should desire, kept up by the hub."""

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_fields, print_json, print_list, print_plain
from .twins import value_of

app = typer.Typer(no_args_is_help=True, help="Settings that the hub keeps up on every device that meets a condition.")

IdArgument = Annotated[str, typer.Argument(metavar="CONFIGURATION", help="Its id: lower case.")]
WhereOption = Annotated[
    str, typer.Option("--where", metavar="CONDITION", help="Which devices, as behind WHERE in a query; * for all.")
]
MetricOption = Annotated[
    list[str] | None, typer.Option("--metric", metavar="NAME=QUERY", help="Rows to count. May come several times.")
]


@app.command()
def create(
    configuration_id: IdArgument,
    where: WhereOption,
    settings: Annotated[
        list[str], typer.Option("--set", metavar="desired.NAME=VALUE", help="JSON or text. May come several times.")
    ],
    priority: Annotated[int, typer.Option(min=0, help="Of several for one device the highest is applied.")] = 0,
    metrics: MetricOption = None,
    modules: Annotated[bool, typer.Option("--modules", help="For modules: --where is about devices.modules.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set desired properties of every device that meets a condition, now and later."""
    kind = "moduleContent" if modules else "deviceContent"
    condition = f"from devices.modules where {where}" if modules and where != "*" else where
    body = {
        "id": configuration_id,
        "content": {kind: dict(_setting(each) for each in settings)},
        "targetCondition": condition,
        "priority": priority,
        "metrics": {"queries": dict(_metric(each) for each in metrics or [])},
    }
    with client_of(data, connection_string) as client:
        made = client.request("PUT", _path(configuration_id), body=body)
    _print(made, as_json=as_json)


@app.command("list")
def list_configurations(
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """All configurations."""
    with client_of(data, connection_string) as client:
        found = client.get("/configurations")
    rows = ((each["id"], each["priority"], _progress(each), each["targetCondition"]) for each in found)
    print_list(
        found,
        ("configuration", "priority", "applied", "where"),
        rows,
        none="no configurations: hubkeep configuration create ID --where CONDITION --set desired.interval=5",
        as_json=as_json,
    )


@app.command()
def show(
    configuration_id: IdArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """One configuration, how far it is applied, and what its own metrics count."""
    with client_of(data, connection_string) as client:
        found = client.get(_path(configuration_id))
    _print(found, as_json=as_json)


@app.command()
def update(
    configuration_id: IdArgument,
    where: Annotated[
        str | None, typer.Option("--where", metavar="CONDITION", help="Which devices from now on.")
    ] = None,
    priority: Annotated[int | None, typer.Option(min=0, help="From now on.")] = None,
    metrics: MetricOption = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change the condition, the priority or the metrics; what it sets cannot be changed."""
    with client_of(data, connection_string) as client:
        body = client.get(_path(configuration_id))
        body["targetCondition"] = body["targetCondition"] if where is None else where
        body["priority"] = body["priority"] if priority is None else priority
        if metrics is not None:
            body["metrics"] = {"queries": dict(_metric(each) for each in metrics)}
        changed = client.request("PUT", _path(configuration_id), body=body, if_match=body["etag"])
    _print(changed, as_json=as_json)


@app.command()
def delete(
    configuration_id: IdArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a configuration; the hub takes back what it set."""
    with client_of(data, connection_string) as client:
        client.request("DELETE", _path(configuration_id), if_match="*")
    if as_json:
        print_json({"deleted": configuration_id})
    else:
        print_plain(f"{configuration_id} is deleted")


def _setting(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals or not path.startswith("desired."):
        raise CommandFailure(f"{text!r} names no property to set", "write desired.interval=5", MISUSED)
    return f"properties.{path}", value_of(value)


def _metric(text: str) -> tuple[str, str]:
    name, equals, query = text.partition("=")
    if not equals or not name:
        raise CommandFailure(f"{text!r} is no metric", "write 'slow=SELECT deviceId FROM devices WHERE ...'", MISUSED)
    return name, query


def _print(configuration: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(configuration)
        return
    content = next(value for value in configuration["content"].values() if value)
    print_fields(
        {
            "configuration": configuration["id"],
            "where": configuration["targetCondition"],
            "priority": configuration["priority"],
            "applied": _progress(configuration),
            **{path.removeprefix("properties."): json.dumps(value) for path, value in content.items()},
            **{f"metric {name}": str(count) for name, count in configuration["metrics"]["results"].items()},
        }
    )


def _progress(configuration: dict[str, Any]) -> str:
    results = configuration["systemMetrics"]["results"]
    return f"{results['appliedCount']} of {results['targetedCount']}"


def _path(configuration_id: str) -> str:
    if not configuration_id:
        raise CommandFailure("an id is empty", "hubkeep configuration list shows those that exist", MISUSED)
    return f"/configurations/{quote(configuration_id, safe='')}"
