"""``hubkeep token-service``: runs the token service until it is told to stop; and its table and refusals."""

import datetime as dt
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .client import find_hub
from .failure import MISUSED, CommandFailure
from .options import JsonOption
from .output import print_fields, print_json, print_plain, print_table

if TYPE_CHECKING:
    from hubkeep.token_service.table import Row

table_app = typer.Typer(no_args_is_help=True, help="The token service's table of devices and hashes of their secrets.")
_DATA: Final = Path(".hubkeep-tokens")
_TABLE: Final = "table.jsonl"
_REFUSALS: Final = "refusals.jsonl"
DataOption = Annotated[
    Path, typer.Option("--data", help="The token service's directory.", envvar="HUBKEEP_TOKENS_DATA")
]
TableOption = Annotated[Path | None, typer.Option("--table", help="The table; not given: that of --data.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The device's id; DEVICE/MODULE for a module.")]


def token_service(
    config: Annotated[Path | None, typer.Option("--config", help="A TOML file of its settings.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Its directory; the first start makes it.")] = None,
    listen: Annotated[str | None, typer.Option("--listen", help="The address that it binds.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="0: any free one.")] = None,
    host_name: Annotated[list[str] | None, typer.Option("--host-name", help="A name that devices dial.")] = None,
    plugin: Annotated[
        str | None, typer.Option("--plugin", help="What proves devices: jwt, callback, table ...")
    ] = None,
    register: Annotated[
        bool | None,
        typer.Option("--register/--no-register", help="Register devices that are proved for the first time."),
    ] = None,
    hub_data: Annotated[
        Path | None, typer.Option("--hub-data", help="For a try: a hub's data directory on this machine, as its owner.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hand short-lived device tokens to devices that a plug-in proves: by a web token, a callback, a table."""
    options: dict[str, Any] = {"data": data, "address": listen, "port": port, "plugin": plugin}
    options |= {"host_names": tuple(host_name) if host_name else None, "register_devices": register}
    if hub_data is not None:
        options["hub"] = _as_owner(hub_data)
    from .token_process import serve  # noqa: PLC0415  # the other commands need no server

    serve(config, options, as_json=as_json)


def _as_owner(hub_data: Path) -> dict[str, str]:
    place = find_hub(hub_data, None)
    return {
        "connection_string": place.connection_string,
        "registry_connection_string": place.connection_string,
        "address": f"{place.address}:{place.port('https')}",
        "trust_bundle": str(place.trust_bundle),
    }


# -- the table -------------------------------------------------------------------------------------------------------


@table_app.command()
def add(
    name: IdArgument,
    secret_stdin: Annotated[bool, typer.Option("--secret-stdin", help="Read the secret; else one is made.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Also where the id has one already.")] = False,
    table: TableOption = None,
    data: DataOption = _DATA,
    as_json: JsonOption = False,
) -> None:
    """Let a device in by a secret, which is printed this once; the table has its hash."""
    from hubkeep.token_service.table import made_row, new_secret  # noqa: PLC0415  # other commands need none of it

    path = table or data / _TABLE
    secret = sys.stdin.readline().rstrip("\r\n") if secret_stdin else new_secret()
    with _edited(path) as rows:
        if name in rows and not replace:
            raise CommandFailure(f"{name} is in the table already", "--replace gives it another secret", MISUSED)
        rows[name] = made_row(name, secret)
    if as_json:
        print_json({"id": name, "secret": None if secret_stdin else secret, "table": str(path)})
    elif secret_stdin:
        print_plain(f"{name} is in {path}")
    else:
        print_plain(secret)


@table_app.command()
def remove(name: IdArgument, table: TableOption = None, data: DataOption = _DATA, as_json: JsonOption = False) -> None:
    """Give a device no more tokens; those that it has end by themselves, or with hubkeep device block."""
    path = table or data / _TABLE
    with _edited(path) as rows:
        if rows.pop(name, None) is None:
            raise CommandFailure(f"{name} is not in the table", "hubkeep token-table list shows those that are")
    if as_json:
        print_json({"removed": name})
    else:
        print_plain(f"{name} is out of {path}")


@table_app.command("list")
def list_rows(table: TableOption = None, data: DataOption = _DATA, as_json: JsonOption = False) -> None:
    """Who is in the table, and since when; never a hash."""
    rows = _read(table or data / _TABLE)
    if as_json:
        print_json([{"id": each.id, "added": each.added} for each in rows.values()])
    else:
        print_table(("id", "added"), ((each.id, each.added) for each in rows.values()))


def _read(path: Path) -> "dict[str, Row]":
    """Raises CommandFailure."""
    from hubkeep.settings import SettingsError  # noqa: PLC0415  # other commands need none of it
    from hubkeep.token_service.table import read_rows  # noqa: PLC0415

    try:
        return read_rows(path)
    except SettingsError as error:
        raise CommandFailure(str(error), status=MISUSED) from None


@contextmanager
def _edited(path: Path) -> "Iterator[dict[str, Row]]":
    """The rows, written if nothing failed. Raises CommandFailure."""
    from hubkeep.token_service.table import write_rows  # noqa: PLC0415  # other commands need none of it

    rows = _read(path)
    try:
        yield rows
        write_rows(path, rows)
    except ValueError as error:
        raise CommandFailure(str(error), status=MISUSED) from None
    except OSError as error:
        raise CommandFailure(f"{path}: {error.strerror}") from None


def token_refusals(
    key: Annotated[str, typer.Argument(metavar="[KEY]", help="A tracking id, or a device's id; none: all.")] = "",
    most: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    data: DataOption = _DATA,
    as_json: JsonOption = False,
) -> None:
    """Whom the token service refused, why, and what would mend it."""
    from hubkeep.token_service.refusal_file import read_refusals  # noqa: PLC0415  # other commands need none of it

    try:
        found = read_refusals(data / _REFUSALS, key, most)
    except OSError as error:
        raise CommandFailure(f"{data / _REFUSALS}: {error.strerror}") from None
    if as_json:
        print_json(
            [
                {
                    "time": _at(each.time),
                    "device": each.identity,
                    "peer": each.peer,
                    "code": each.code,
                    "cause": each.cause,
                    "reason": each.reason,
                    "remedy": each.remedy,
                    "trackingId": each.tracking_id,
                }
                for each in found
            ]
        )
        return
    for each in found:
        said = {
            "device": each.identity,
            "cause": each.cause,
            "reason": each.reason,
            "remedy": each.remedy,
            "code": each.code,
        }
        print_fields({"time": _at(each.time), "peer": each.peer, **said, "tracking id": each.tracking_id})
        print_plain()
    if not found:
        print_plain("nobody was refused" if not key else f"nothing is known of {key}")


def _at(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
