"""``hubkeep access ...``: block and allow lists, for single devices and for groups; ``hubkeep device expire``."""

import datetime as dt
import re
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from .client import HubClient, device_path
from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, DeviceArgument, JsonOption, client_of
from .output import print_fields, print_json, print_list, print_plain

app = typer.Typer(
    no_args_is_help=True,
    help="Who may be here, whatever their credentials prove: block and allow devices and groups; list, show, delete.",
)

_SPAN: Final = re.compile(r"(\d{1,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A name of your choice.")]
DevicesOption = Annotated[
    list[str] | None, typer.Option("--device", metavar="ID", help="For this device; once for each.")
]
WhereOption = Annotated[
    str, typer.Option(metavar="CONDITION", help="For devices whose twin meets this: \"tags.hall = 'hall 3'\".")
]
CaOption = Annotated[str, typer.Option(metavar="NAME", help="For devices below this registered authority.")]
ReasonOption = Annotated[str, typer.Option(help="Why; shown with the rule and with each refusal.")]
FromOption = Annotated[str, typer.Option("--from", metavar="TIME", help="When it begins: ISO 8601, or 2h, 30d.")]
UntilOption = Annotated[str, typer.Option(metavar="TIME", help="When it ends: ISO 8601, or 2h, 30d.")]


@app.command()
def block(
    name: NameArgument,
    devices: DevicesOption = None,
    where: WhereOption = "",
    ca: CaOption = "",
    reason: ReasonOption = "",
    begins: FromOption = "",
    until: UntilOption = "",
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shut devices out: their connections end now, and their good credentials are refused. Replaces a rule NAME."""
    body = _body("block", devices, where, ca, reason, begins, until)
    with client_of(data, connection_string) as client:
        _put(client, name, body, as_json=as_json)


@app.command()
def allow(
    name: NameArgument,
    devices: DevicesOption = None,
    where: WhereOption = "",
    ca: CaOption = "",
    reason: ReasonOption = "",
    begins: FromOption = "",
    until: UntilOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Also if devices that are connected are cut.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let these devices be here. Once any rule allows somebody, who is not allowed is shut out.

    Asks for --yes where that would cut devices that are connected, and names some of them.
    """
    body = _body("allow", devices, where, ca, reason, begins, until)
    with client_of(data, connection_string) as client:
        if not yes:
            _check_who_is_cut(client, name, body)
        _put(client, name, body, as_json=as_json)


@app.command("list")
def list_rules(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """All rules."""
    with client_of(data, connection_string) as client:
        rules = client.get("/api/access")
    rows = ((each["name"], each["verdict"], _whom(each), _when(each), each["reason"]) for each in rules)
    print_list(
        rules,
        ("name", "verdict", "for", "in force", "reason"),
        rows,
        none="no rules: every device with a good credential may connect",
        as_json=as_json,
    )


@app.command()
def show(
    name: NameArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """One rule."""
    with client_of(data, connection_string) as client:
        rule = client.get(_path(name))
    if as_json:
        print_json(rule)
        return
    print_fields(
        {
            "name": rule["name"],
            "verdict": rule["verdict"],
            "devices": ", ".join(rule["devices"]),
            "condition": rule["condition"],
            "authority": rule["authority"],
            "members": rule["members"],
            "reason": rule["reason"],
            "in force": _when(rule),
            "created": rule["created"][:19].replace("T", " ") + " UTC",
        }
    )


@app.command()
def delete(
    name: NameArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a rule off the lists: whom it blocked may connect again."""
    with client_of(data, connection_string) as client:
        client.request("DELETE", _path(name), if_match="*")
    if as_json:
        print_json({"deleted": name})
    else:
        print_plain(f"{name} is deleted")


def expire(
    device_id: DeviceArgument,
    at: Annotated[str, typer.Option(metavar="TIME", help="ISO 8601, or 2h, 30d from now; never: on no day.")],
    reason: ReasonOption = "",
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Plan the day on which a device is disabled, its connection ended."""
    path = f"/api{device_path(device_id)}/expiry"
    with client_of(data, connection_string) as client:
        if at == "never":
            client.request("DELETE", path)
        else:
            client.request("PUT", path, body={"at": time_of(at), "reason": reason})
        planned = client.get(path)
    if as_json:
        print_json(planned)
    elif planned["at"] is None:
        print_plain(f"{device_id} ends on no day")
    else:
        print_plain(f"{device_id} ends on {planned['at'][:19].replace('T', ' ')} UTC")


def _body(
    verdict: str, devices: list[str] | None, where: str, ca: str, reason: str, begins: str, until: str
) -> dict[str, Any]:
    if bool(devices) + bool(where) + bool(ca) != 1:
        raise CommandFailure("for whom is it?", "give --device (once for each), --where or --ca: one of them", MISUSED)
    return {
        "verdict": verdict,
        "devices": devices or [],
        "condition": where,
        "authority": ca,
        "reason": reason,
        "begins": time_of(begins) if begins else None,
        "ends": time_of(until) if until else None,
    }


def _put(client: HubClient, name: str, body: dict[str, Any], *, as_json: bool) -> None:
    rule = client.request("PUT", _path(name), body=body, if_match="*")
    if as_json:
        print_json(rule)
        return
    count = "" if rule["members"] is None else f": {rule['members']} device{'' if rule['members'] == 1 else 's'} now"
    print_plain(f"{name} {rule['verdict']}s {_whom(rule)}{count}")


def _check_who_is_cut(client: HubClient, name: str, body: dict[str, Any]) -> None:
    told = client.request("POST", f"{_path(name)}/preview", body=body)
    if told["cut"]:
        named = ", ".join(told["devices"][:5]) + (", ..." if told["cut"] > 5 else "")
        raise CommandFailure(
            f"of {told['connected']} that are connected this would cut {told['cut']}: {named}",
            "--yes if that is what you want",
        )


def _whom(rule: dict[str, Any]) -> str:
    if rule["authority"]:
        return f"those below {rule['authority']}"
    if rule["condition"]:
        return str(rule["condition"])
    devices = rule["devices"]
    return ", ".join(devices[:3]) + (f" and {len(devices) - 3} more" if len(devices) > 3 else "")


def _when(rule: dict[str, Any]) -> str:
    begins, ends = (each and each[:16].replace("T", " ") for each in (rule["begins"], rule["ends"]))
    if begins and ends:
        return f"{begins} to {ends}"
    return f"from {begins}" if begins else f"until {ends}" if ends else "always"


def time_of(text: str) -> str:
    """ISO 8601 in UTC, of a time as it was typed. Raises CommandFailure."""
    if span := _SPAN.fullmatch(text):
        at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=int(span[1]) * _SECONDS[span[2]])
    else:
        try:
            at = dt.datetime.fromisoformat(text)
        except ValueError:
            raise CommandFailure(
                f"{text!r} is no time", "2026-12-31T12:00:00Z, 2026-12-31, or 2h, 30d from now", MISUSED
            ) from None
        at = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
    return at.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


def _path(name: str) -> str:
    return f"/api/access/{quote(name, safe='')}"
