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
from .keys import Slot
from .modules import connection_string_of as connection_string_of_module
from .modules import module_path
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, ModuleOption, client_of
from .output import print_fields, print_json, print_plain
from .policies import connection_string_of as connection_string_of_policy
from .token_faults import faults, plain

app = typer.Typer(no_args_is_help=True, help="SAS tokens: make one, or see what is wrong with one.")


@app.command()
def make(
    device: Annotated[str | None, typer.Option(help="A token of this device.")] = None,
    module: ModuleOption = None,
    policy: Annotated[str | None, typer.Option(help="A token of this policy.")] = None,
    key: Annotated[Slot, typer.Option(help="Which of the two keys signs it.")] = Slot.primary,
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
            secret = found["authentication"]["symmetricKey"][f"{key.value}Key"]
            if not secret:
                raise CommandFailure(f"{device}{'/' + module if module else ''} has no symmetric keys")
            path = f"devices/{device}/modules/{module}" if module else f"devices/{device}"
            token = sas.make(f"{host}/{path}", b64decode(secret), expiry)
        else:
            name = policy or "iothubowner"
            token = sas.make(host, b64decode(_policy(client, name)[f"{key.value}Key"]), expiry, name)
    if as_json:
        print_json({"token": token, "expires": expiry})
    else:
        print_plain(token)


@app.command()
def inspect(
    token: Annotated[str, typer.Argument(help="SharedAccessSignature ..., as a header or a log shows it.")],
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a token says, and in plain words what is wrong with it. Status 1 if this hub would refuse it."""
    try:
        parsed = sas.parse(plain(token))
    except sas.TokenRefused as refused:
        raise CommandFailure(f"this is no token: {refused}", "hubkeep token make") from None
    resource = sas.resources(parsed.sr)[0]
    expires = dt.datetime.fromtimestamp(min(parsed.expiry, 253402300799), dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    try:
        with client_of(data, connection_string) as client:
            problems, notes, signed_by = faults(client, parsed)
    except CommandFailure as failure:
        problems, notes, signed_by = [f"not checked with the hub: {failure.cause}"], [], ""
    said = {
        "resource": "/".join((resource.host, *resource.segments)),
        "policy": parsed.skn,
        "expires": expires,
        "seconds_left": int(parsed.expiry - time.time()),
        "signed_by": signed_by,
        "problems": problems,
        "notes": notes,
    }
    if as_json:
        print_json(said)
    else:
        print_fields({**said, "problems": "; ".join(problems) or "none", "notes": "; ".join(notes)})
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
            found = _policy(client, name)
            if not events:
                text = connection_string_of_policy(found, host)
            else:
                entity, key = client.get("/api/status")["events_name"], found["primaryKey"]
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
