"""``hubkeep replays``: tokens that were accepted from more than one address."""

from typing import Annotated

import typer

from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_list


def replays(
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="A device, device/module, or 'policy NAME'; not given: all.")
    ] = "",
    most: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest first.")] = 20,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tokens that came from another address than before: a device that moved, or somebody else who has its token."""
    with client_of(data, connection_string) as client:
        found = client.get("/api/replays", identity=identity, most=most)
    names = ("time", "identity", "key", "surface", "address", "first_address", "first_time", "client")
    rows = ([each[name][:19] if "time" in name else each[name] for name in names] for each in found)
    print_list(found, names, rows, none="no token came from a second address", as_json=as_json)
