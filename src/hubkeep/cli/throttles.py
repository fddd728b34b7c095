"""``hubkeep throttle`` and ``hubkeep tier``: whom rates refused, and what a tier of the original would have."""

from typing import Annotated, Any

import typer

from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_json, print_plain, print_table

app = typer.Typer(no_args_is_help=True, help="Rates, and whom they refuse.")
tier_app = typer.Typer(no_args_is_help=True, help="The simulated limits of Azure IoT Hub's tiers.")


@app.callback()
def throttles() -> None:
    """Rates, and whom they refuse."""


@tier_app.callback()
def tiers() -> None:
    """The simulated limits of Azure IoT Hub's tiers."""


@app.command()
def show(
    most: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, who was refused most first.")] = 20,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rates in force, what they refused or delayed, and the devices and policies that asked most."""
    with client_of(data, connection_string) as client:
        state = client.get("/api/throttles", most=most)
    if as_json:
        print_json(state)
        return
    rates = [
        (scope, kind, f"{rate['rate']:g}", f"{rate['burst']:g}")
        for scope in ("hub", "device")
        for kind, rate in state[scope].items()
    ]
    if rates:
        print_table(("for", "class", "a second", "at once"), rates)
    else:
        print_plain("no rates are set: throttles in the settings")
    if state["refused"]:
        print_plain()
        print_table(("class", "refused or delayed"), state["refused"].items())
        print_plain()
        names = ("identity", "class", "refused", "perSecond")
        print_table(names, ([each[name] for name in names] for each in state["offenders"]))


@tier_app.command()
def report(
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """What was used since the start, and what each tier would have refused of it."""
    with client_of(data, connection_string) as client:
        told = client.get("/api/tier")
    if as_json:
        print_json(told)
        return
    refuses = ", which only reports" if told["reportOnly"] else ""
    print_plain(f"{told['tier']} with {told['units']} unit(s){refuses}; {told['seconds']:.0f} s counted")
    print_plain(f"fits: {told['fits'] or 'no tier with so many units'}")
    print_plain()
    print_table(
        ("class", "count", "peak a second", "peak a minute", "allowed a second", *_TIERS), map(_row, told["classes"])
    )
    print_plain()
    quotas = ((tier, each["used"], each["ofDay"], each["meteredBytes"]) for tier, each in told["quota"].items())
    print_table(("tier", "messages of a day", "of", "bytes a message"), quotas)


_TIERS = ("over F1", "over S1", "over S2", "over S3")


def _row(each: dict[str, Any]) -> list[Any]:
    unit = " B" if each["unit"] == "bytes" else ""
    peaks = (f"{each[name]:g}{unit}" for name in ("peakPerSecond", "peakPerMinute", "allowedPerSecond"))
    return [each["class"], each["count"], *peaks, *each["over"].values()]
