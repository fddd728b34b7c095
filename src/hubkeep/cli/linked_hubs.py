"""``hubkeep enroll hub ...``: other hubs that the provisioning service assigns devices to."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, provisioning_client_of
from .output import print_json, print_plain, print_table

app = typer.Typer(no_args_is_help=True, help="Other hubs that devices are assigned to.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="How the other hub is called here.")]
_PATH = "/api/provisioning/hubs"


@app.command()
def add(
    name: NameArgument,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="FILE",
            help="A file with the connection string of a policy of that hub, with RegistryWrite and ServiceConnect; "
            "- for standard input. Left out, the one that is known stays.",
        ),
    ] = None,
    weight: Annotated[int, typer.Option(min=1, max=1000, help="Its share of the devices.")] = 1,
    by_name_only: Annotated[
        bool, typer.Option("--by-name-only", help="No device goes there that no enrollment sends there by name.")
    ] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Link a hub, or change how it is linked. Who may see the command line does not see its key."""
    body: dict[str, object] = {"allocationWeight": weight, "applyAllocationPolicy": not by_name_only}
    if to is not None:
        body["connectionString"] = _read(to)
    with provisioning_client_of(data, connection_string) as client:
        made = client.request("PUT", f"{_PATH}/{quote(name, safe='')}", body=body)
    if as_json:
        print_json(made)
    else:
        print_plain(f"{name} is linked: {made['hostName']}")


@app.command("list")
def list_hubs(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """The hubs that are linked; hubkeep enroll hubs tells this one's own names as well."""
    with provisioning_client_of(data, connection_string) as client:
        found = client.get(_PATH)
    if as_json:
        print_json(found)
    else:
        names = ("name", "hostName", "allocationWeight", "applyAllocationPolicy")
        print_table(("name", "hub", "weight", "takes part"), ([each[name] for name in names] for each in found))


@app.command()
def remove(
    name: NameArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Assign no device to it any more. Those that are there stay there."""
    with provisioning_client_of(data, connection_string) as client:
        client.request("DELETE", f"{_PATH}/{quote(name, safe='')}")
    if as_json:
        print_json({"removed": name})
    else:
        print_plain(f"{name} is linked no more; its devices stay there")


def _read(file: Path) -> str:
    """Raises CommandFailure."""
    try:
        return (typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text()).strip()
    except (OSError, UnicodeError):
        raise CommandFailure(f"{file} cannot be read", "", MISUSED) from None
