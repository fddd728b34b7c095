"""What was measured, as Markdown for people and as JSON for programs."""

from collections.abc import Sequence
from typing import Any

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One measurement. ratio: the hub's figure over Mosquitto's."""

    what: str
    unit: str
    hub: float | None = None
    mosquitto: float | None = None
    ratio: float | None = None
    null: float | None = None


def markdown(rows: Sequence[Row], machine: dict[str, Any]) -> str:
    lines = [
        "| Measurement | Hubkeep | Mosquitto | Ratio | Unit |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        hub = _number(row.hub if row.null is None else row.null)
        lines.append(f"| {row.what} | {hub} | {_number(row.mosquitto)} | {_ratio(row.ratio)} | {row.unit} |")
    lines += ["", ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in machine.items())]
    return "\n".join(lines)


def one_line(row: Row) -> str:
    figures = {"Hubkeep": row.hub, "Mosquitto": row.mosquitto, "generator": row.null}
    said = ", ".join(f"{name} {_number(value)}" for name, value in figures.items() if value is not None)
    return f"{row.what}: {said} {row.unit}" + (f", ratio {_ratio(row.ratio)}" if row.ratio is not None else "")


def as_json(rows: Sequence[Row], machine: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows}), indent=2) + b"\n"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
