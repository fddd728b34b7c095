"""``hubkeep token ...`` and ``hubkeep connection-string``: credentials for people to paste."""

import datetime as dt
import time
from base64 import b64decode
from typing import Annotated, Any

import typer

from hubkeep.wire import sas

from .client import HubClient, device_path
from .devices import connection_string_of
from .failure import FAILED, MISUSED, CommandFailure
from .modules import connection_string_of as connection_string_of_module
from .modules import module_path
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, ModuleOption, client_of
from .output import print_fields, print_json, print_plain

app = typer.Typer(no_args_is_help=True, help="SAS tokens: make one, or see what is wrong with one.")


@app.command()
def make(
    device: Annotated[str | None, typer.Option(help="A token of this device, signed with its primary key.")] = None,
    module: ModuleOption = None,
    policy: Annotated[str | None, typer.Option(help="A token of this policy.")] = None,
    seconds: Annotated[int, typer.Option(min=1, help="How long it is valid.")] = 3600,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a SAS token: an MQTT password, or an Authorization header."""
    if device and policy:
        raise CommandFailure("--device and --policy together", "one token belongs to one of them", MISUSED)
    if module and not device:
        raise CommandFailure("--module without --device", "a module belongs to a device", MISUSED)
    expiry = int(time.time()) + seconds
    with client_of(data, connection_string) as client:
        host = client.place.host
        if device:
            found = client.get(module_path(device, module) if module else device_path(device))
            key = found["authentication"]["symmetricKey"]["primaryKey"]
            if not key:
                raise CommandFailure(f"{device}{'/' + module if module else ''} has no symmetric keys")
            path = f"devices/{device}/modules/{module}" if module else f"devices/{device}"
            token = sas.make(f"{host}/{path}", b64decode(key), expiry)
        else:
            name = policy or "iothubowner"
            token = sas.make(host, b64decode(_policy(client, name)["primaryKey"]), expiry, name)
    if as_json:
        print_json({"token": token, "expires": expiry})
    else:
        print_plain(token)


@app.command()
def inspect(
    token: Annotated[str, typer.Argument(help="SharedAccessSignature ...")],
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a token says, when it ends, and whether this hub would take it. Status 1 if it would not."""
    try:
        parsed = sas.parse(token)
    except sas.TokenRefused as refused:
        raise CommandFailure(f"this is no token: {refused}", "hubkeep token make") from None
    resource = sas.resources(parsed.sr)[0]
    remaining = parsed.expiry - time.time()
    expires = dt.datetime.fromtimestamp(min(parsed.expiry, 253402300799), dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    try:
        with client_of(data, connection_string) as client:
            problems, signed_by = _judged(client, parsed, resource)
    except CommandFailure as failure:
        problems, signed_by = [f"not checked with the hub: {failure.cause}"], ""
    if remaining < 0:
        problems.insert(0, f"it expired {dt.timedelta(seconds=int(-remaining))} (h:mm:ss) ago: hubkeep token make")
    said = {
        "resource": "/".join((resource.host, *resource.segments)),
        "policy": parsed.skn,
        "expires": expires,
        "seconds_left": int(remaining),
        "signed_by": signed_by,
        "problems": problems,
    }
    if as_json:
        print_json(said)
    else:
        print_fields({**said, "problems": "; ".join(problems) or "none"})
    if problems:
        raise typer.Exit(FAILED)


def connection_string_command(
    policy: Annotated[str | None, typer.Option(help="Of a shared access policy (default: iothubowner).")] = None,
    device: Annotated[str | None, typer.Option(help="Of a device.")] = None,
    module: ModuleOption = None,
    events: Annotated[bool, typer.Option("--events", help="Of the Event Hubs-compatible endpoint.")] = False,
    provisioning: Annotated[bool, typer.Option("--provisioning", help="Of the provisioning service.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print exactly one connection string."""
    if sum((policy is not None and not events, device is not None, events, provisioning)) > 1:
        raise CommandFailure("more than one of --policy, --device, --events and --provisioning", status=MISUSED)
    if module and not device:
        raise CommandFailure("--module without --device", "a module belongs to a device", MISUSED)
    with client_of(data, connection_string) as client:
        host = client.place.host
        if device and module:
            text = connection_string_of_module(client.get(module_path(device, module)), host)
        elif device:
            text = connection_string_of(client.get(device_path(device)), host)
        else:
            own = "service" if events else "provisioningserviceowner" if provisioning else "iothubowner"
            name = policy or own
            key = _policy(client, name)["primaryKey"]
            text = f"HostName={host};SharedAccessKeyName={name};SharedAccessKey={key}"
            if events:
                entity = client.get("/api/status")["events_name"]
                text = f"Endpoint=sb://{host}/;SharedAccessKeyName={name};SharedAccessKey={key};EntityPath={entity}"
    if as_json:
        print_json({"connection_string": text})
    else:
        print_plain(text)


def _policy(client: HubClient, name: str) -> Any:
    policies = {each["name"]: each for each in client.get("/api/policies")}
    if name not in policies:
        raise CommandFailure(f"there is no policy {name}", f"there are: {', '.join(policies)}")
    return policies[name]


def _judged(client: HubClient, token: sas.SasToken, resource: sas.Resource) -> tuple[list[str], str]:
    """What this hub would say against the token, and which key signed it."""
    problems = []
    names = {name.lower() for name in client.get("/api/status")["host_names"]}
    if resource.host not in names | {"localhost", "127.0.0.1"}:
        problems.append(f"{resource.host} is not a name of this hub ({', '.join(sorted(names))})")
    keys: dict[str, str | None] = {}
    if token.skn:
        found = _policy(client, token.skn)
        keys = {f"policy {token.skn}, {which} key": found[f"{which}Key"] for which in ("primary", "secondary")}
    elif len(resource.segments) > 1 and resource.segments[0].lower() == "devices":
        device = client.get(device_path(resource.segments[1]))
        held = device["authentication"]["symmetricKey"]
        keys = {f"{device['deviceId']}, {which} key": held[f"{which}Key"] for which in ("primary", "secondary")}
        if device["status"] != "enabled":
            problems.append("the device is disabled")
    for name, text in keys.items():
        if text and sas.is_signed_by(token, b64decode(text)):
            return problems, name
        if text and sas.is_signed_by(token, text.encode()):
            return [*problems, "the key's base64 text was used as the key: decode it first"], name
    return [*problems, "its signature matches no key of the device or policy that it names"], ""
