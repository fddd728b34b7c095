"""``hubkeep device ...``: the identity registry."""

import contextlib
from typing import Annotated, Any, Final

import typer

from .client import device_path
from .failure import MISUSED, CommandFailure
from .keys import last_used
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, DeviceArgument, JsonOption, client_of
from .output import print_fields, print_json, print_list, print_plain
from .thumbprints import thumbprint_from
from .twins import call, twin

app = typer.Typer(
    no_args_is_help=True,
    help="Devices: create, show, list, update, delete, block, unblock; their twins and direct methods.",
)
app.command()(twin)
app.command()(call)

_ANY: Final = "*"
_ThumbprintOption = Annotated[
    str | None,
    typer.Option(help="Of its self-signed certificate: SHA-1 or SHA-256, or the certificate's file. It has no keys."),
]
_SecondaryThumbprintOption = Annotated[
    str | None, typer.Option(help="Of the certificate that follows: both are taken until one is removed.")
]


@app.command()
def create(
    device_id: DeviceArgument,
    primary_key: Annotated[str | None, typer.Option(help="Base64; made by the hub if not given.")] = None,
    secondary_key: Annotated[str | None, typer.Option(help="Base64; made by the hub if not given.")] = None,
    thumbprint: _ThumbprintOption = None,
    secondary_thumbprint: _SecondaryThumbprintOption = None,
    ca_signed: Annotated[
        bool, typer.Option("--ca-signed", help="A certificate of a registered authority, made out to its id, opens it.")
    ] = False,
    disabled: Annotated[bool, typer.Option("--disabled", help="Register it, but let it not connect yet.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a device, and print its connection string."""
    if (primary_key is None) != (secondary_key is None):
        raise CommandFailure(
            "one key without the other", "give both --primary-key and --secondary-key, or none", MISUSED
        )
    keys = {"primaryKey": primary_key or "", "secondaryKey": secondary_key or ""}
    authentication: dict[str, Any] = {"type": "sas", "symmetricKey": keys}
    prints = _thumbprints(thumbprint, secondary_thumbprint)
    if (primary_key is not None) + bool(prints) + ca_signed > 1:
        raise CommandFailure("keys, thumbprints, an authority", "a device has one of them", MISUSED)
    if ca_signed:
        authentication = {"type": "certificateAuthority"}
    if prints:
        authentication = {"type": "selfSigned", "x509Thumbprint": prints}
    body = {
        "deviceId": device_id,
        "status": "disabled" if disabled else "enabled",
        "authentication": authentication,
    }
    with client_of(data, connection_string) as client:
        device = client.request("PUT", device_path(device_id), body=body)
        host = client.place.host
    if as_json:
        print_json(device)
        return
    print_plain(connection_string_of(device, host))


@app.command()
def show(
    device_id: DeviceArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything about one device except its keys (``--json`` has them)."""
    with client_of(data, connection_string) as client:
        device = client.get(device_path(device_id))
        used = planned = ""
        if not as_json:
            with contextlib.suppress(CommandFailure):  # who may read the registry alone is not told
                used = last_used(client, device_id)
                planned = client.get(f"/api{device_path(device_id)}/expiry")["at"] or ""
    if as_json:
        print_json(device)
        return
    print_fields(
        {
            "device": device["deviceId"],
            "status": device["status"],
            "reason": device["statusReason"],
            "connection": f"{device['connectionState']} since {_when(device['connectionStateUpdatedTime'])}",
            "last activity": _when(device["lastActivityTime"]),
            "authentication": device["authentication"]["type"],
            "last login by": used,
            "ends": _when(planned) if planned else "",
            "generation": device["generationId"],
            "etag": device["etag"],
        }
    )


@app.command("list")
def list_devices(
    top: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 1000,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """All devices."""
    with client_of(data, connection_string) as client:
        devices = client.get("/devices", top=top)
    rows = (
        (each["deviceId"], each["status"], each["connectionState"], _when(each["lastActivityTime"])) for each in devices
    )
    print_list(
        devices,
        ("device", "status", "connection", "last activity"),
        rows,
        none="no devices yet: hubkeep device create ID",
        as_json=as_json,
    )


@app.command()
def update(
    device_id: DeviceArgument,
    status: Annotated[str | None, typer.Option(help="enabled or disabled")] = None,
    reason: Annotated[str | None, typer.Option(help="Why it has this status.")] = None,
    primary_key: Annotated[str | None, typer.Option(help="Base64.")] = None,
    secondary_key: Annotated[str | None, typer.Option(help="Base64.")] = None,
    new_keys: Annotated[bool, typer.Option("--new-keys", help="Let the hub make two new keys.")] = False,
    thumbprint: _ThumbprintOption = None,
    secondary_thumbprint: _SecondaryThumbprintOption = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a device. Other keys or thumbprints, and disabling, end its connection."""
    prints = _thumbprints(thumbprint, secondary_thumbprint)
    keys: dict[str, str] = {}
    if new_keys:
        keys = {"primaryKey": "", "secondaryKey": ""}
    elif primary_key is not None:
        keys["primaryKey"] = primary_key
    if secondary_key is not None and not new_keys:
        keys["secondaryKey"] = secondary_key
    if keys and prints:
        raise CommandFailure("keys and a certificate", "a device has one or the other", MISUSED)
    if not keys and not prints and status is None and reason is None:
        raise CommandFailure("nothing to change", "see hubkeep device update --help", MISUSED)
    with client_of(data, connection_string) as client:
        device = _change(client, device_id, status=status, reason=reason, keys=keys, prints=prints)
        host = client.place.host
    if as_json:
        print_json(device)
    elif keys or prints:
        print_plain(connection_string_of(device, host))
    else:
        print_plain(f"{device_id} is {device['status']}")


@app.command()
def delete(
    device_id: DeviceArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a device; its connection ends."""
    with client_of(data, connection_string) as client:
        client.request("DELETE", device_path(device_id), if_match=_ANY)
    if as_json:
        print_json({"deleted": device_id})
    else:
        print_plain(f"{device_id} is deleted")


@app.command()
def block(
    device_id: DeviceArgument,
    reason: Annotated[str | None, typer.Option(help="Why; shown with the device.")] = None,
    everywhere: Annotated[
        bool,
        typer.Option(
            "--everywhere", help="Its registrations and its certificates, too: nothing of it opens anything again."
        ),
    ] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Disable a device: its connection ends, its credentials are refused.

    That leaves its enrollment and what it was issued: unblock lets it in with them again, --everywhere ends them.
    """
    if not everywhere:
        _set_status(device_id, "disabled", reason, data, connection_string, as_json=as_json)
        return
    with client_of(data, connection_string) as client:
        body = {"statusReason": reason or ""}
        found = client.request("POST", f"/api{device_path(device_id)}/block", body=body)
    if as_json:
        print_json(found)
    else:
        print_plain(f"{device_id} is disabled; what the hub issued to it is void; {found['denials']} denials")
        print_plain(f"enrollment {found['enrollment']} is disabled" if found["enrollment"] else "it cannot register")


@app.command()
def unblock(
    device_id: DeviceArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enable a device again."""
    _set_status(device_id, "enabled", "", data, connection_string, as_json=as_json)


def connection_string_of(device: dict[str, Any], host: str) -> str:
    """Raises CommandFailure for a device without any credential."""
    key = device["authentication"]["symmetricKey"]["primaryKey"]
    if device["authentication"]["type"] in {"selfSigned", "certificateAuthority"}:
        return f"HostName={host};DeviceId={device['deviceId']};x509=true"
    if not key:
        raise CommandFailure(f"{device['deviceId']} authenticates by {device['authentication']['type']}, not by keys")
    return f"HostName={host};DeviceId={device['deviceId']};SharedAccessKey={key}"


def _set_status(
    device_id: str, status: str, reason: str | None, data: Any, connection_string: str | None, *, as_json: bool
) -> None:
    with client_of(data, connection_string) as client:
        device = _change(client, device_id, status=status, reason=reason, keys={})
    if as_json:
        print_json(device)
    else:
        print_plain(f"{device_id} is {device['status']}")


def _thumbprints(primary: str | None, secondary: str | None) -> dict[str, str]:
    given = {"primaryThumbprint": primary, "secondaryThumbprint": secondary}
    return {name: thumbprint_from(each) for name, each in given.items() if each is not None}


def _change(
    client: Any,
    device_id: str,
    *,
    status: str | None,
    reason: str | None,
    keys: dict[str, str],
    prints: dict[str, str] | None = None,
) -> Any:
    """Read, change, write under the etag that was read."""
    path = device_path(device_id)
    device = client.get(path)
    if status is not None:
        device["status"] = status
    if reason is not None:
        device["statusReason"] = reason or None
    if keys:
        device["authentication"]["type"] = "sas"
        device["authentication"]["symmetricKey"] |= keys
    elif prints:
        device["authentication"]["type"] = "selfSigned"
        device["authentication"]["x509Thumbprint"] |= prints
    else:
        del device["authentication"]
    return client.request("PUT", path, body=device, if_match=device["etag"])


def _when(stamp: str) -> str:
    return "never" if stamp.startswith("0001") else stamp[:19].replace("T", " ") + " UTC"
