"""``hubkeep policy ...``: shared access policies, the keys of back ends."""

from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote

import typer

from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_fields, print_json, print_plain, print_table

app = typer.Typer(no_args_is_help=True, help="Shared access policies: which back end may ask for what.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The policy's name.")]
RightsOption = Annotated[
    str, typer.Option(help="Any of RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect, joined by commas.")
]
Which = Literal["primary", "secondary"]


@app.command("list")
def list_policies(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """All policies and their rights."""
    with client_of(data, connection_string) as client:
        found = client.get("/api/policies")
    if as_json:
        print_json([{"name": each["name"], "rights": each["rights"]} for each in found])
    else:
        print_table(("name", "rights"), ((each["name"], each["rights"]) for each in found))


@app.command()
def show(
    name: NameArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """One policy with its connection strings."""
    with client_of(data, connection_string) as client:
        policy, host = client.get(_path(name)), client.place.host
    if as_json:
        print_json(policy)
    else:
        strings = {which: connection_string_of(policy, host, which) for which in get_args(Which)}
        print_fields({"name": policy["name"], "rights": policy["rights"], "used from": _whence(policy), **strings})


@app.command()
def create(
    name: NameArgument,
    rights: RightsOption,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a policy with random keys."""
    with client_of(data, connection_string) as client:
        if name in {each["name"] for each in client.get("/api/policies")}:
            raise CommandFailure(f"there is a policy {name} already", f"hubkeep policy update {name} --rights ...")
        policy, host = client.request("PUT", _path(name), body={"rights": rights}), client.place.host
    if as_json:
        print_json(policy)
    else:
        print_plain(connection_string_of(policy, host))


@app.command()
def update(
    name: NameArgument,
    rights: RightsOption,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a policy other rights. What was opened with it is cut, and comes back with what it may now."""
    with client_of(data, connection_string) as client:
        client.get(_path(name))
        policy = client.request("PUT", _path(name), body={"rights": rights})
    if as_json:
        print_json(policy)
    else:
        print_plain(f"{name}: {policy['rights']}")


@app.command()
def networks(
    name: NameArgument,
    allow: Annotated[list[str] | None, typer.Option(metavar="NETWORK", help="May use it; nobody else then.")] = None,
    deny: Annotated[list[str] | None, typer.Option(metavar="NETWORK", help="May not; stronger than --allow.")] = None,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="Take all networks away again.")] = False,
    shut_me_out: Annotated[bool, typer.Option("--shut-me-out", help="Also if that shuts out who asks.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Where a policy may be used from: networks in place of those before. Without any option: what they are.

    What was opened with it is cut within a second, and comes back from where it may.
    """
    if everywhere and (allow or deny):
        raise CommandFailure("everywhere, or from some networks?", "--everywhere, or --allow and --deny", MISUSED)
    with client_of(data, connection_string) as client:
        policy = client.get(_path(name))
        if everywhere or allow or deny:
            wanted = {"allow": allow or [], "deny": deny or []}
            body = {"rights": policy["rights"], "networks": wanted, "shutMeOut": shut_me_out}
            policy = client.request("PUT", _path(name), body=body)
    if as_json:
        print_json(policy["networks"])
    else:
        print_plain(f"{name} may be used from {_whence(policy)}")


@app.command()
def delete(
    name: NameArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a policy; what was opened with it is cut at once."""
    with client_of(data, connection_string) as client:
        client.request("DELETE", _path(name))
    if as_json:
        print_json({"deleted": name})
    else:
        print_plain(f"{name} is deleted")


@app.command()
def rotate(
    name: NameArgument,
    key: Annotated[Which, typer.Option(help="The one that is replaced.")] = "secondary",
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace one of a policy's keys while the other goes on: move its users to the new one, then replace the other."""
    with client_of(data, connection_string) as client:
        policy = client.request("POST", f"{_path(name)}/regenerate", body={"policyKeyType": key})
        host = client.place.host
    if as_json:
        print_json(policy)
    else:
        print_plain(connection_string_of(policy, host, key))


def _path(name: str) -> str:
    return f"/api/policies/{quote(name, safe='')}"


def _whence(policy: Any) -> str:
    allow, deny = policy["networks"]["allow"], policy["networks"]["deny"]
    return (", ".join(allow) or "everywhere") + (f", but not from {', '.join(deny)}" if deny else "")


def connection_string_of(policy: Any, host: str, which: Which = "primary") -> str:
    """policy: as ``/api/policies`` tells it."""
    return f"HostName={host};SharedAccessKeyName={policy['name']};SharedAccessKey={policy[f'{which}Key']}"
