"""``hubkeep device send | messages | purge``: cloud-to-device messages."""

import datetime as dt
import enum
import re
import sys
import time
import uuid
from typing import Annotated, Any, Final

import typer

from .client import HubClient, device_path
from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, DeviceArgument, JsonOption, client_of
from .output import err, print_json, print_plain, print_table

_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # what a header can be named
_LOOK_EVERY: Final = 0.2  # seconds

ModuleOption = Annotated[str, typer.Option("--module", help="A module of the device instead.")]


class Ack(enum.StrEnum):
    """What the back end is told: nothing, of success, of failure, of both."""

    none = "none"
    positive = "positive"
    negative = "negative"
    full = "full"


def send(
    device_id: DeviceArgument,
    body: Annotated[str, typer.Argument(metavar="BODY", help="The message; - reads standard input.")],
    properties: Annotated[
        list[str] | None, typer.Option("--property", "-p", metavar="NAME=VALUE", help="May be given again.")
    ] = None,
    module: ModuleOption = "",
    ack: Annotated[Ack, typer.Option(help="Which feedback back ends get.")] = Ack.none,
    message_id: Annotated[str | None, typer.Option(help="Made if not given.")] = None,
    correlation_id: Annotated[str | None, typer.Option(help="Of what it answers.")] = None,
    content_type: Annotated[str | None, typer.Option(help="For example application/json.")] = None,
    content_encoding: Annotated[str | None, typer.Option(help="For example utf-8.")] = None,
    expires_in: Annotated[float | None, typer.Option(metavar="SECONDS", help="An hour if not given.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until the device has settled it, or it has expired.")] = False,
    wait_at_most: Annotated[float, typer.Option(metavar="SECONDS", help="With --wait.")] = 60.0,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a message to a device; it waits in the device's queue until the device takes it.

    hubkeep device send press-07 'open valve' -p room=4 --ack full --wait
    """
    content = sys.stdin.buffer.read() if body == "-" else body.encode()
    message_id = message_id or str(uuid.uuid4())
    headers = _application(properties or [])
    named = {
        "iothub-messageid": message_id,
        "iothub-correlationid": correlation_id,
        "iothub-contenttype": content_type,
        "iothub-contentencoding": content_encoding,
        "iothub-expiry": _expiry(expires_in),
        "iothub-ack": ack.value,
    }
    headers.update((name, value) for name, value in named.items() if value is not None)
    path = f"{_identity_path(device_id, module)}/messages/devicebound"
    with client_of(data, connection_string) as client:
        client.post_bytes(path, content, headers)
        status = _wait_ended(client, device_id, module, message_id, wait_at_most) if wait else "Queued"
    if as_json:
        print_json({"messageId": message_id, "statusCode": status})
    else:
        print_plain(f"{message_id} is queued" if status == "Queued" else f"{message_id}: {status}")
    if status not in {"Queued", "Success"}:
        raise CommandFailure(f"the device did not complete the message: {status}")


def messages(
    device_id: DeviceArgument,
    module: ModuleOption = "",
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """What waits for a device, and what became of its newest messages. Nothing is taken.

    hubkeep device messages press-07
    """
    with client_of(data, connection_string) as client:
        found = _look(client, device_id, module)
    if as_json:
        print_json(found)
        return
    rows = [
        (each["messageId"], "waiting", each["enqueuedTimeUtc"][:19], f"{each['bytes']} bytes")
        for each in found["waiting"]
    ]
    rows += [(each["messageId"], each["statusCode"], each["timeUtc"][:19], "") for each in found["ended"]]
    if rows:
        print_table(("message", "state", "since (UTC)", ""), rows)
    else:
        print_plain(f"nothing waits for {device_id}: hubkeep device send {device_id} 'hello'")


def purge(
    device_id: DeviceArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Throw away every message that waits for a device.

    hubkeep device purge press-07
    """
    with client_of(data, connection_string) as client:
        purged = client.request("DELETE", f"{device_path(device_id)}/commands")
    if as_json:
        print_json(purged)
    else:
        print_plain(f"{purged['totalMessagesPurged']} messages for {device_id} are purged")


def _application(properties: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts as headers. Raises CommandFailure."""
    headers: dict[str, str] = {}
    for each in properties:
        name, equals, value = each.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise CommandFailure(f"{each!r} is no property", "write NAME=VALUE, the name in ASCII", MISUSED)
        headers[f"iothub-app-{name}"] = value
    return headers


def _expiry(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).isoformat()


def _identity_path(device_id: str, module: str) -> str:
    return device_path(device_id) + (f"/modules/{device_path(module).rpartition('/')[2]}" if module else "")


def _look(client: HubClient, device_id: str, module: str) -> Any:
    return client.get(f"/api{device_path(device_id)}/messages", module=module or None)


def _wait_ended(client: HubClient, device_id: str, module: str, message_id: str, at_most: float) -> str:
    """What became of the message. Raises CommandFailure when nothing has in time."""
    deadline = time.monotonic() + at_most
    with err.status(f"waiting for {device_id}"):
        while time.monotonic() < deadline:
            for end in reversed(_look(client, device_id, module)["ended"]):
                if end["messageId"] == message_id:
                    return str(end["statusCode"])
            time.sleep(_LOOK_EVERY)
    raise CommandFailure(
        f"{device_id} has not taken the message in {at_most:g} s; it waits on",
        f"hubkeep device messages {device_id}, hubkeep device show {device_id}",
    )
