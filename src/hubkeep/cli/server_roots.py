"""``hubkeep cert rehearse`` and ``hubkeep cert root ...``: another root for the hub, and nobody left behind."""

from typing import Annotated, Any

import typer

from .failure import FAILED
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_fields, print_json, print_plain, print_table

app = typer.Typer(no_args_is_help=True, help="The root of the hub's own certificates, and a change of it.")


@app.command()
def show(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """How a change of root stands: steady, prepared or switched."""
    with client_of(data, connection_string) as client:
        _tell(client.get("/api/roots"), as_json=as_json)


@app.command()
def prepare(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """Make a new root beside the one that serves. Clients notice nothing; the canary name serves the new chain."""
    with client_of(data, connection_string) as client:
        found = client.request("POST", "/api/roots/prepare")
    _tell(found, as_json=as_json)
    if not as_json:
        print_plain(
            "give devices trust-bundle.pem, which has both roots now, or /trust/latest; let them dial the canary"
        )


@app.command()
def switch(
    force: Annotated[
        bool, typer.Option("--force", help="Though devices have not proved that they trust the new root.")
    ] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the new chain to new handshakes; live connections go on. Refuses while a device has not proved its trust.

    The old root vouches for the new one's key in that chain, so that devices that can follow it go on all the same.
    """
    with client_of(data, connection_string) as client:
        _tell(client.request("POST", "/api/roots/switch", body={"force": force}), as_json=as_json)


@app.command("roll-back")
def roll_back(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """Serve the old chain again, at once."""
    with client_of(data, connection_string) as client:
        _tell(client.request("POST", "/api/roots/roll-back"), as_json=as_json)


def rehearse(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """Which devices have proved that they trust the new root, and which have not, by name.

    A device proves it by logging in under the canary name. Status 1 while any enabled device has not.
    """
    with client_of(data, connection_string) as client:
        found = client.get("/api/roots/rehearsal")
    if as_json:
        print_json(found)
    else:
        print_fields({"proved": len(found["proved"]), "not proved": len(found["missing"]), "canary": found["canary"]})
        if found["proved"]:
            print_plain()
            rows = ((each["deviceId"], each["at"][:19].replace("T", " "), each["peer"]) for each in found["proved"])
            print_table(("proved", "last", "from"), rows)
        if found["missing"]:
            print_plain()
            print_table(("not proved",), ([each] for each in found["missing"]))
    if found["missing"]:
        raise typer.Exit(FAILED)


def _tell(found: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_fields({name: found[name] for name in ("phase", "root", "canary", "bundle")})
