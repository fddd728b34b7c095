"""The table of commands, and what happens when one fails."""

import gc
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hubkeep import __version__

from . import (
    access,
    audit,
    certificates,
    configurations,
    device_messages,
    devices,
    enrolments,
    events,
    fleet_files,
    jobs,
    keys,
    modules,
    people,
    policies,
    posture,
    roles,
    throttles,
    token_service,
    tokens,
    transfers,
)
from .api import api
from .backup import backup, restore
from .demo import demo
from .doctor import doctor
from .documentation import help_command
from .examples import give_examples
from .explain import explain
from .failure import MISUSED, CommandFailure
from .files import files
from .keys import rotate
from .monitor import monitor
from .options import DEFAULT_DATA, JsonOption
from .output import err, print_plain
from .programs import run
from .provision import provision
from .query import query
from .replays import replays

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A self-hosted IoT hub that devices and services made for Azure IoT Hub connect to unchanged. "
    "Start with: hubkeep dev",
)

ListenOption = Annotated[str | None, typer.Option("--listen", help="Address of all listeners.")]
HostNameOption = Annotated[
    list[str] | None, typer.Option("--host-name", help="A name that clients dial; the first one is the hub's own.")
]
HttpsPortOption = Annotated[int | None, typer.Option(help="0: any free one.")]
MqttPortOption = Annotated[int | None, typer.Option(help="0: any free one.")]
AmqpPortOption = Annotated[int | None, typer.Option(help="0: any free one.")]
TierOption = Annotated[
    str | None, typer.Option("--tier", help="Simulate the limits of F1, S1, S2 or S3 of Azure IoT Hub; off by default.")
]
UnitsOption = Annotated[int | None, typer.Option(min=1, max=200, help="Units of the simulated tier.")]
ReportOnlyOption = Annotated[bool, typer.Option("--report-only", help="The tier counts, and refuses nothing.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="A TOML file of settings.")]


@app.command()
def dev(
    data: Annotated[Path, typer.Option("--data", help="The data directory.")] = DEFAULT_DATA,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Keep nothing.")] = False,
    listen: ListenOption = None,
    host_name: HostNameOption = None,
    https_port: HttpsPortOption = None,
    mqtt_port: MqttPortOption = None,
    amqp_port: AmqpPortOption = None,
    plain_amqp: Annotated[
        bool, typer.Option("--plain-amqp", help="AMQP without TLS on 5672 as well, for UseDevelopmentEmulator=true.")
    ] = False,
    partitions: Annotated[int | None, typer.Option(min=1, max=32, help="Of a new event log.")] = None,
    tier: TierOption = None,
    units: UnitsOption = None,
    report_only: ReportOnlyOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The hub for a laptop and for CI: loopback, published keys, one command."""
    gc.disable()  # until the hub is ready: a tenth of the start would look for garbage among what is imported
    from . import hub_process  # noqa: PLC0415  # the other commands need no server

    plain = hub_process.PLAIN_AMQP_PORT if plain_amqp else None
    settings = hub_process.settings_from(
        config,
        mode="dev",
        data=data,
        host_names=tuple(host_name) if host_name else None,
        listeners=hub_process.listener_options(listen, https_port, mqtt_port, amqp_port, plain),
        events={"partitions": partitions} if partitions else None,
        throttles=hub_process.tier_options(tier, units, report_only=report_only),
    )
    hub_process.serve(settings, as_json=as_json, ephemeral=ephemeral, config=config)


@app.command()
def serve(
    data: Annotated[Path, typer.Option("--data", help="The data directory; the first start makes it.")],
    listen: ListenOption = None,
    host_name: HostNameOption = None,
    https_port: HttpsPortOption = None,
    mqtt_port: MqttPortOption = None,
    amqp_port: AmqpPortOption = None,
    partitions: Annotated[int | None, typer.Option(min=1, max=32, help="Of a new event log.")] = None,
    tier: TierOption = None,
    units: UnitsOption = None,
    report_only: ReportOnlyOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The hub for real fleets: random keys, nothing well known."""
    gc.disable()  # until the hub is ready: a tenth of the start would look for garbage among what is imported
    from . import hub_process  # noqa: PLC0415  # the other commands need no server

    settings = hub_process.settings_from(
        config,
        mode="serve",
        data=data,
        host_names=tuple(host_name) if host_name else None,
        listeners=hub_process.listener_options(listen, https_port, mqtt_port, amqp_port),
        events={"partitions": partitions} if partitions else None,
        throttles=hub_process.tier_options(tier, units, report_only=report_only),
    )
    hub_process.serve(settings, as_json=as_json, config=config)


app.command()(demo)
app.command(context_settings={"ignore_unknown_options": True})(run)
app.command()(monitor)
app.command()(query)
app.command("export")(fleet_files.export_fleet)
app.command("import")(fleet_files.import_fleet)
app.command()(provision)
app.command()(backup)
app.command()(restore)
for command in (device_messages.send, device_messages.messages, device_messages.purge, files, rotate):
    devices.app.command()(command)
devices.app.command()(access.expire)
app.add_typer(devices.app, name="device")
access.app.add_typer(roles.app, name="role")
app.add_typer(access.app, name="access")
app.add_typer(keys.app, name="key")
app.add_typer(events.app, name="events")
app.add_typer(modules.app, name="module")
app.add_typer(jobs.app, name="job")
app.add_typer(transfers.app, name="transfer")
app.add_typer(configurations.app, name="configuration")
app.add_typer(enrolments.app, name="enroll")
app.add_typer(tokens.app, name="token")
app.command("token-service")(token_service.token_service)
app.add_typer(token_service.table_app, name="token-table")
app.command("token-refusals")(token_service.token_refusals)
app.add_typer(policies.app, name="policy")
app.add_typer(certificates.app, name="cert")
app.add_typer(audit.app, name="audit")
app.add_typer(posture.app, name="posture")
app.add_typer(throttles.app, name="throttle")
app.add_typer(throttles.tier_app, name="tier")
app.command("connection-string")(tokens.connection_string_command)
app.command()(people.login)
app.command()(people.logout)
app.command()(people.whoami)
app.command()(explain)
app.command()(replays)
app.command()(doctor)
app.command()(api)
app.command("help")(help_command)
give_examples(app)


def _print_version(value: bool) -> None:
    if value:
        print_plain(f"hubkeep {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """See ``app``."""


def main(arguments: list[str] | None = None) -> Any:
    """Run one command; exits the process."""
    try:
        app(arguments)
    except CommandFailure as failure:
        err.print(f"hubkeep: {failure.cause}", markup=False, style="red" if err.is_terminal else None)
        if failure.cure:
            err.print(f"  {failure.cure}", markup=False)
        sys.exit(failure.status)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(MISUSED)
