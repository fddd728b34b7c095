"""``hubkeep demo``: a dev hub, simulated devices and a back end, all real clients, shown live."""

import asyncio
import contextlib
import datetime as dt
import signal
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .client import HubClient, device_path, find_hub
from .failure import FAILED, CommandFailure
from .options import DEFAULT_DATA
from .output import out, print_plain

if TYPE_CHECKING:
    from hubkeep.server import Hub
    from hubkeep.settings import Settings

_DEVICES: Final = ("thermometer-1", "thermometer-2", "thermometer-3")
_READ_BACK_WITHIN: Final = 15.0
_READERS_WITHIN: Final = 20.0


def demo(
    seconds: Annotated[float | None, typer.Option(min=1, help="End by itself; status 0 if all was read back.")] = None,
    data: Annotated[Path, typer.Option("--data", help="The data directory.")] = DEFAULT_DATA,
    listen: Annotated[str | None, typer.Option("--listen", help="Address of all listeners.")] = None,
    host_name: Annotated[list[str] | None, typer.Option("--host-name", help="A name that clients dial.")] = None,
    every: Annotated[float, typer.Option(min=0.01, help="Seconds between two messages of a device.")] = 1.0,
) -> None:
    """Three simulated devices (azure-iot-device over MQTT) and a back end (azure-eventhub), live on a dev hub."""
    from . import hub_process, logs  # noqa: PLC0415  # the other commands need no server

    try:
        import hubkeep.testing.sdk_clients  # noqa: F401, PLC0415  # optional
    except ImportError as error:
        raise CommandFailure(f"the demo's clients are not installed: {error}", "pip install 'hubkeep[demo]'") from None
    settings = hub_process.settings_from(
        None,
        mode="dev",
        data=data,
        host_names=tuple(host_name) if host_name else None,
        listeners=hub_process.listener_options(listen, None, None, None),
        log_level="warning",
    )
    logs.configure(settings)
    if not hub_process.run_loop(_demo(settings, seconds, every)):
        raise typer.Exit(FAILED)


async def _demo(settings: "Settings", seconds: float | None, every: float) -> bool:
    from hubkeep.server import running  # noqa: PLC0415

    from .hub_process import announce, failures_told  # noqa: PLC0415

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with failures_told():
        async with running(settings) as hub:
            if missing := [hub.missing[kind] for kind in ("mqtt", "amqp") if kind in hub.missing]:
                raise CommandFailure("; ".join(missing))
            announce(hub, as_json=False)
            print_plain()
            print_plain("try, in another terminal:")
            where = "" if settings.data == DEFAULT_DATA else f" --data {settings.data}"
            print_plain(f"  hubkeep monitor{where}")
            print_plain(f"  hubkeep device twin{where} {_DEVICES[0]} --set desired.interval=0.2")
            print_plain(f"  hubkeep device call{where} {_DEVICES[0]} status")
            print_plain(f"  hubkeep run{where} -- python samples/python/send.py")
            print_plain()
            return await _traffic(hub, stop, seconds, every)


async def _traffic(hub: "Hub", stop: asyncio.Event, seconds: float | None, every: float) -> bool:
    """Whether every acknowledged message was read back, and every one for a device arrived."""
    from hubkeep.testing.sdk_clients import Backend, SimulatedDevice  # noqa: PLC0415

    bundle = hub.trust_bundle
    back_end = Backend(hub.events_connection_string(), str(bundle), _show)
    pem = bundle.read_text()
    devices = [SimulatedDevice(each, await hub.ensure_device(each), pem, every, _show_taken) for each in _DEVICES]
    for device in devices:
        device.awaited.add(await asyncio.to_thread(_send_to, hub.data, device.device_id))
    reading = asyncio.create_task(back_end.run())
    await _until(lambda: reading.done() or hub.event_readers >= (back_end.partitions or 1), _READERS_WITHIN)
    if reading.done():
        reading.result()
    print_plain(f"{len(devices)} devices send, the back end reads {back_end.partitions} partitions. Ctrl-C ends.")
    running = [asyncio.create_task(each.run(stop)) for each in devices]
    obeyed = True
    try:
        if "https" not in hub.missing:
            await asyncio.to_thread(_command, hub.data, every)
    except CommandFailure as error:
        print_plain(f"{_DEVICES[0]} did not do what it should: {error.cause}")
        obeyed = False
    if seconds is not None:
        asyncio.get_running_loop().call_later(seconds, stop.set)
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    sent = {message_id for device in devices for message_id in device.sent}
    await _until(lambda: sent <= back_end.received or reading.done(), _READ_BACK_WITHIN)
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await reading
    failures = [each for each in outcomes if isinstance(each, BaseException)]
    for failure in failures:
        print_plain(f"a device failed: {failure!r}")
    lost = len(sent - back_end.received)
    taken = sum(device.awaited <= device.taken for device in devices)
    print_plain()
    print_plain(f"{len(sent)} messages were acknowledged, {len(sent) - lost} of them read back, {lost} missing")
    print_plain(f"{len(devices)} messages were sent to devices, {taken} of them arrived")
    return obeyed and not lost and not failures and bool(sent) and taken == len(devices)


def _send_to(data: Path, device_id: str) -> str:
    """Queue a message for a device, as a back end does; its id."""
    message_id = uuid.uuid4().hex
    with HubClient(find_hub(data, None)) as client:
        path = f"{device_path(device_id)}/messages/devicebound"
        client.post_bytes(path, b"show", {"iothub-messageid": message_id, "iothub-app-unit": "celsius"})
    return message_id


def _command(data: Path, every: float) -> None:
    """What a back end does: call a method, set a desired property, wait for the device to report it."""
    path = f"/twins/{_DEVICES[0]}"
    with HubClient(find_hub(data, None), 2 * _READERS_WITHIN) as client:
        body = {"methodName": "status", "connectTimeoutInSeconds": int(_READERS_WITHIN)}
        answer = client.request("POST", f"{path}/methods", body=body)
        print_plain(f"{_DEVICES[0]} was called: status answered {answer['status']} {answer['payload']}")
        version = client.get(path)["properties"]["reported"]["$version"]
        client.request("PATCH", path, body={"properties": {"desired": {"interval": every}}})
        deadline = time.monotonic() + _READERS_WITHIN
        while client.get(path)["properties"]["reported"]["$version"] == version:
            if time.monotonic() > deadline:
                raise CommandFailure("it did not report its new interval")
            time.sleep(0.05)
        print_plain(f"{_DEVICES[0]} was told desired.interval={every:g}, and reports it")


async def _until(done: Any, within: float) -> None:
    deadline = time.monotonic() + within
    while not done() and time.monotonic() < deadline:  # noqa: ASYNC110  # clients that have no event for it
        await asyncio.sleep(0.05)


def _show_taken(device_id: str, message: Any) -> None:
    at = dt.datetime.now().astimezone().strftime("%H:%M:%S")
    details = "  ".join(f"{key}={value}" for key, value in message.custom_properties.items())
    out.print(f"{at}  {device_id:<14} got {message.data.decode()!r}  {details}", markup=False, style="green")


def _show(partition: str, event: Any) -> None:
    properties = {key.decode(): value.decode() for key, value in event.properties.items()}
    device = event.system_properties[b"iothub-connection-device-id"].decode()
    at = dt.datetime.now().astimezone().strftime("%H:%M:%S")
    details = "  ".join(f"{key}={value}" for key, value in properties.items())
    line = f"{at}  {device:<14} {event.body_as_str()}  {details}  partition {partition} #{event.sequence_number}"
    out.print(line, markup=False, style="red" if properties.get("alarm") == "true" else None)
