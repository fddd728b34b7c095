"""``hubkeep cert rehearse`` and ``hubkeep cert root ...``: another root for the hub, and nobody left behind."""

from pathlib import Path
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


_Reports = Annotated[
    bool, typer.Option("--reports", help="A device that reports in its twin that it holds the new root counts as well.")
]


@app.command()
def switch(
    force: Annotated[
        bool, typer.Option("--force", help="Though devices have not proved that they trust the new root.")
    ] = False,
    reports: _Reports = False,
    crosses: Annotated[
        bool,
        typer.Option(
            "--cross/--no-cross",
            help="The old root vouches for the new one in what is served. Not where its key is in other hands.",
        ),
    ] = True,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the new chain to new handshakes; live connections go on. Refuses while a device has not proved its trust.

    The old root vouches for the new one's key in that chain, so that devices that can follow it go on all the same.
    """
    body = {"force": force, "reports": reports, "crosses": crosses}
    _step("switch", body, data, connection_string, as_json=as_json)


@app.command()
def retire(
    force: Annotated[
        bool, typer.Option("--force", help="Though devices have not proved that they trust the new root.")
    ] = False,
    reports: _Reports = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the old root out of the trust bundle and out of the chain. Refuses while a device has not proved its trust.

    Devices are told to forget it a day later. Until the change is finished, roll-back undoes it.
    """
    _step("retire", {"force": force, "reports": reports}, data, connection_string, as_json=as_json)


@app.command()
def finish(
    force: Annotated[bool, typer.Option("--force", help="Within the day in which it could be undone.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Destroy the retired root's keys. There is no way back; another change may begin."""
    _step("finish", {"force": force}, data, connection_string, as_json=as_json)


@app.command("roll-back")
def roll_back(
    force: Annotated[bool, typer.Option("--force", help="Though devices were told to forget the old root.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """One step back, at once: trust the retired root again, or serve the old chain again."""
    _step("roll-back", {"force": force}, data, connection_string, as_json=as_json)


@app.command()
def announce(
    off: Annotated[bool, typer.Option("--off", help="Take it out of the twins.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell every device of the trust bundle in its twin, from now on. Preparing a root does so too."""
    _step("announce", {"announce": not off}, data, connection_string, as_json=as_json)


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
        if found["reported"]:
            print_plain()
            rows = ((each["deviceId"], each["version"], _said(each)) for each in found["reported"])
            print_table(("reports", "bundle", "the new root"), rows)
        if found["proved"]:
            print_plain()
            rows = ((each["deviceId"], each["at"][:19].replace("T", " "), each["peer"]) for each in found["proved"])
            print_table(("proved", "last", "from"), rows)
        if found["missing"]:
            print_plain()
            print_table(("not proved",), ([each] for each in found["missing"]))
    if found["missing"]:
        raise typer.Exit(FAILED)


def _said(report: Any) -> str:
    return f"failed: {report['failure']}" if report["failure"] else "held" if report["holds"] else "not held"


def _step(name: str, body: dict[str, bool], data: Path, connection_string: str | None, *, as_json: bool) -> None:
    with client_of(data, connection_string) as client:
        _tell(client.request("POST", f"/api/roots/{name}", body=body), as_json=as_json)


def _tell(found: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_fields({name: found[name] for name in ("phase", "root", "canary", "bundle")})
