"""Runs a hub until it is told to stop: signals, logs, and what is printed at the start."""

import asyncio
import contextlib
import gc
import signal
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from hubkeep.errors import HubError
from hubkeep.server import FIRST_DEVICE, Hub, NotServable, StartFailure, raise_descriptor_limit, running
from hubkeep.settings import Settings, SettingsError, load

from . import logs, systemd
from .failure import MISUSED, NOT_SERVABLE, CommandFailure
from .output import err, print_json, print_plain

_T = TypeVar("_T")
_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
PLAIN_AMQP_PORT: Final = 5672
_GENERATION_0: Final = 20_000  # objects; the default makes the collector run thousands of times a second


def settings_from(config: Path | None, **options: Any) -> Settings:
    """Raises CommandFailure that names every fault."""
    try:
        return load(config, **options)
    except SettingsError as error:
        raise CommandFailure(str(error), "docs/reference/settings.md lists every setting", MISUSED) from None


def listener_options(
    listen: str | None,
    https_port: int | None,
    mqtt_port: int | None,
    amqp_port: int | None,
    plain_amqp_port: int | None = None,
) -> dict[str, Any]:
    """Those of the listeners' settings that were given."""
    given = {
        "address": listen,
        "https_port": https_port,
        "mqtt_port": mqtt_port,
        "amqp_port": amqp_port,
        "plain_amqp_port": plain_amqp_port,
    }
    return {name: value for name, value in given.items() if value is not None}


def tier_options(tier: str | None, units: int | None, *, report_only: bool) -> dict[str, Any] | None:
    """Those of the settings of throttles that were given."""
    given = {"tier": tier, "units": units, "report_only": report_only or None}
    return {name: value for name, value in given.items() if value is not None} or None


def run_loop(main: Coroutine[Any, Any, _T]) -> _T:
    """Run ``main`` on the fast loop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415  # optional
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def serve(settings: Settings, *, as_json: bool, ephemeral: bool = False, config: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Raises CommandFailure when the hub cannot start."""
    logs.configure(settings)
    raise_descriptor_limit()
    with contextlib.ExitStack() as kept:
        if ephemeral:
            folder = kept.enter_context(tempfile.TemporaryDirectory(prefix="hubkeep-"))
            settings = settings.model_copy(update={"data": Path(folder)})
        run_loop(_serve(settings, as_json=as_json, config=config))


def stopping() -> asyncio.Event:
    """Set by SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_once() -> None:
        stop.set()
        for number in _STOPPING:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once: nothing acknowledged is lost

    for number in _STOPPING:
        loop.add_signal_handler(number, stop_once)
    return stop


async def _serve(settings: Settings, *, as_json: bool, config: Path | None) -> None:
    stop, loop = stopping(), asyncio.get_running_loop()
    with failures_told():
        async with running(settings) as hub:
            loop.add_signal_handler(signal.SIGHUP, lambda: _reload(hub, config))
            gc.freeze()  # without a collection before: it takes a tenth of a second and finds next to nothing
            gc.set_threshold(_GENERATION_0, 50, 100)
            gc.enable()
            announce(hub, as_json=as_json)
            systemd.tell(systemd.READY)
            await stop.wait()
            systemd.tell(systemd.STOPPING)


@contextlib.contextmanager
def failures_told() -> Iterator[None]:
    """Why a hub cannot start, as a failure of the command."""
    try:
        yield
    except HubError as error:
        raise CommandFailure(error.reason, error.remedy) from None
    except NotServable as error:
        raise CommandFailure(error.cause, error.cure, NOT_SERVABLE) from None
    except StartFailure as error:
        raise CommandFailure(error.cause, error.cure) from None
    except SettingsError as error:
        raise CommandFailure(str(error), "name another one, or see: hubkeep help settings", MISUSED) from None


def _reload(hub: Hub, config: Path | None) -> None:
    """SIGHUP: certificates for new handshakes, and the settings that a running hub can take."""
    systemd.tell(systemd.reloading())
    try:
        changed = hub.reload(load(config) if config is not None else None)
        if changed is not None:
            logs.set_level(changed.log_level)
    except (SettingsError, OSError, ValueError) as error:
        err.print(f"not reloaded: {error}", markup=False)
        return
    finally:
        systemd.tell(systemd.READY)
    err.print("certificates and log level were reloaded; other settings count from the next start", markup=False)


def announce(hub: Hub, *, as_json: bool) -> None:
    """What to paste next, and the line that says the hub is ready."""
    if as_json:
        endpoints = {kind: hub.endpoint(kind) for kind in ("https", "mqtt", "amqp", "plain_amqp", "metrics")}
        value = {"ready": True, **{kind: at for kind, at in endpoints.items() if at}, "data": str(hub.data.resolve())}
        print_json(value | ({"missing": hub.missing} if hub.missing else {}))
        return
    for line in _introduction(hub):
        print_plain(line)
    endpoints_now = " ".join(hub.endpoint(kind) for kind in ("https", "mqtt", "amqp") if hub.endpoint(kind))
    print_plain(f"ready    {endpoints_now}")


def _introduction(hub: Hub) -> list[str]:
    settings = hub.settings
    lines = []
    if settings.mode == "dev":
        reach = "loopback only" if settings.on_loopback else "random keys"
        lines.append(f'Hubkeep dev hub "{settings.host_name}" - {reach}, data in {settings.data}')
        lines.append(f"Owner    {hub.policy_connection_string()}")
        if hub.first_device_key:
            lines.append(
                f"Device   HostName={settings.host_name};DeviceId={FIRST_DEVICE};SharedAccessKey={hub.first_device_key}"
            )
        lines.append(f"Events   {hub.events_connection_string()}")
    else:
        lines.append(f'Hubkeep hub "{settings.host_name}", data in {settings.data}')
        lines.append(
            f"Keys     hubkeep connection-string --data {settings.data} [--policy NAME | --device ID | --events]"
        )
    where = "" if settings.data == Path(".hubkeep") else f" --data {settings.data}"
    lines.append(f"Trust    {hub.data / 'trust-bundle.pem'}        or run things with:  hubkeep run{where} -- COMMAND")
    if plain := hub.endpoint("plain_amqp"):
        lines.append(f"Plain    {plain}   for Event Hubs clients with UseDevelopmentEmulator=true")
    lines.append(f"Metrics  {hub.endpoint('metrics')}/metrics   /healthz /readyz")
    lines += [f"Missing  {why}" for why in hub.missing.values()]
    return lines


Announce = Callable[[Hub], None]
