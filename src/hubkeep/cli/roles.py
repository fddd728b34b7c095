"""``hubkeep access role ...``: what people may do."""

from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote

import typer

from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_json, print_list, print_plain

app = typer.Typer(no_args_is_help=True, help="Roles of people who sign in: assign, list, remove.")

Role = Literal["reader", "contributor", "registry-contributor", "twin-contributor", "administrator"]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The assignment's name, of your choice.")]


@app.command()
def assign(
    name: NameArgument,
    role: Annotated[Role, typer.Option(help=f"One of: {', '.join(get_args(Role))}.")],
    person: Annotated[str, typer.Option(metavar="SUB", help="One person: the sub of their token.")] = "",
    claim: Annotated[
        str, typer.Option(metavar="CLAIM=VALUE", help="Whoever's token holds it: groups=readers, realm_access.roles=x.")
    ] = "",
    where: Annotated[
        str, typer.Option(metavar="CONDITION", help='Only for devices that meet this: "tags.hall = 3".')
    ] = "",
    reason: Annotated[str, typer.Option(help="Why; shown with the assignment.")] = "",
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a role; in force at once. Replaces an assignment NAME."""
    of, equals, value = ("sub", "=", person) if person else claim.partition("=")
    if bool(person) == bool(claim) or not equals:
        raise CommandFailure("whose role is it?", "--person SUB, or --claim groups=NAME", MISUSED)
    body = {"role": role, "claim": of, "value": value, "devices": where, "reason": reason}
    with client_of(data, connection_string) as client:
        made = client.request("PUT", _path(name), body=body)
    if as_json:
        print_json(made)
    else:
        print_plain(f"{made['claim']}={made['value']} is {made['role']}{_where(made)}")


@app.command("list")
def list_roles(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """Who has which role."""
    with client_of(data, connection_string) as client:
        found = client.get("/api/roles")
    rows = (
        (each["name"], each["role"], f"{each['claim']}={each['value']}", each["devices"], each["reason"])
        for each in found
    )
    print_list(
        found,
        ("name", "role", "of", "for devices", "reason"),
        rows,
        none="no roles: people who sign in may do nothing",
        as_json=as_json,
    )


@app.command()
def remove(
    name: NameArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a role away; what it allowed ends at once."""
    with client_of(data, connection_string) as client:
        client.request("DELETE", _path(name))
    if as_json:
        print_json({"removed": name})
    else:
        print_plain(f"{name} is removed")


def _path(name: str) -> str:
    return f"/api/roles/{quote(name, safe='')}"


def _where(assignment: Any) -> str:
    return f" where {assignment['devices']}" if assignment["devices"] else ""
