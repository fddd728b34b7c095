"""Hubkeep beside the MQTT servers that are installed here, in one run: ``make bench-peers``.

Every server has TLS with the same certificate and a password (the hub: a signed token) for each client; all get the
same publishers, one server at a time, in turns: each round measures every server, and a figure is the median of the
rounds.
What each promises when it acknowledges stands beside its figures. Servers that are not there are named.
"""

import argparse
import contextlib
import json
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import machine
from machine import Missing, Process, program
from peer_servers import Measured, columns
from servers import ADDRESS, Hubkeep

_RESULTS: Final = machine.HERE / "results"
_PAYLOAD: Final = 256
_RATE: Final = 1000  # messages a second of the measurement of latency
_PROMISE: Final = "file, synced"  # the hub's: fdatasync before each acknowledgement


class Plan(NamedTuple):
    """seconds: of each run."""

    rounds: int
    seconds: float
    few: int
    many: int
    idle: int
    at_once: int
    patience: float


_FULL: Final = Plan(rounds=3, seconds=3.0, few=100, many=1000, idle=500, at_once=20, patience=10.0)
_QUICK: Final = Plan(rounds=1, seconds=0.5, few=10, many=20, idle=20, at_once=5, patience=0.0)

Figures = dict[str, dict[str, list[float]]]  # what, then server


def publish(each: Measured, connections: int, in_flight: int, plan: Plan, rate: int = 0) -> dict[str, float]:
    how = (str(connections), str(in_flight), str(_PAYLOAD), str(plan.seconds), str(rate), "1")
    where = (ADDRESS, str(each.server.port), str(each.server.clients))
    with Process([program("load"), "publish", *where, *how]) as load:
        if load.line() != "ready":
            raise RuntimeError(f"{each.name}: not ready")
        cpu = each.server.process.family_cpu_seconds
        load.say()
        result: dict[str, float] = load.result()
        result["cpu_us"] = (each.server.process.family_cpu_seconds - cpu) / max(result["messages"], 1) * 1e6
        load.say()
    return result


def measure(each: Measured, plan: Plan, note: Callable[[str, str, float], None]) -> None:
    """One round of one server. Raises RuntimeError where it does not serve."""
    for connections, in_flight in ((plan.few, 1), (plan.few, 10), (plan.many, 1), (plan.many, 10)):
        got = publish(each, connections, in_flight, plan)
        what = f"{connections:,} connections, {in_flight} in flight"
        note(each.name, f"{what}, messages/s", got["rate"])
        note(each.name, f"{what}, server CPU, us/message", got["cpu_us"])
    got = publish(each, plan.few, 1, plan, _RATE)
    note(each.name, f"acknowledgement at {_RATE:,} messages/s, p50, ms", got["p50_us"] / 1000)
    note(each.name, f"acknowledgement at {_RATE:,} messages/s, p99, ms", got["p99_us"] / 1000)
    where = (ADDRESS, str(each.server.port), str(each.server.clients))
    with Process([program("load"), "connect", *where, str(plan.at_once), str(plan.seconds), "1.3"]) as load:
        note(each.name, "logins, TLS 1.3, connections/s", load.result()["rate"])
    time.sleep(1)
    before = each.server.process.family_resident_kib
    with Process([program("load"), "idle", *where, str(plan.idle)]) as load:
        load.result()
        time.sleep(1)
        grown = each.server.process.family_resident_kib - before
        note(each.name, "an idle TLS connection, KiB", max(grown, 0) / plan.idle)


def run(plan: Plan, only: Sequence[str]) -> tuple[dict[str, Any], str]:
    """All rounds; the results as data and as a table. Raises Missing for what all of it needs."""
    machine.build()
    figures: Figures = defaultdict(lambda: defaultdict(list))
    absent: dict[str, str] = {}
    devices = max(plan.many, plan.idle, 2 * plan.at_once)
    others = []

    def note(server: str, what: str, value: float) -> None:
        figures[what][server].append(value)

    with (
        tempfile.TemporaryDirectory(prefix="hubkeep-peers-", dir=machine.BUILD) as folder,
        contextlib.ExitStack() as up,
    ):
        hub = Hubkeep(Path(folder), devices)
        up.callback(hub.process.stop)
        there = [Measured("Hubkeep", "this", _PROMISE, hub, hub.process.stop)]
        for name, start in columns(Path(folder), devices):
            if only and not any(each.lower() in name.lower() for each in only):
                continue
            try:
                there.append(start(hub))
                up.callback(there[-1].stop)
            except (Missing, RuntimeError) as missing:
                absent[name] = str(missing)
        for number in range(plan.rounds):
            for each in there if number % 2 == 0 else reversed(there):
                if each.name in absent:
                    continue
                others.append(machine.wait_for_quiet(plan.patience))
                print(f"  round {number + 1}: {each.name}", file=sys.stderr)
                try:
                    measure(each, plan, note)
                except RuntimeError as failure:
                    absent[each.name] = f"stopped serving: {failure}"
        about = machine.description() | {"other load, cores": round(statistics.median(others), 2)}
        served = [each for each in there if any(each.name in values for values in figures.values())]
        told = {
            "machine": about,
            "absent": absent,
            "servers": [{"name": each.name, "version": each.version, "promise": each.promise} for each in served],
            "rows": [
                {"what": what, **{name: statistics.median(values) for name, values in row.items()}}
                for what, row in figures.items()
            ],
        }
        return told, _table(told)


def _table(told: dict[str, Any]) -> str:
    servers = told["servers"]
    lines = [
        f"| | {' | '.join(each['name'] for each in servers)} |",
        f"| --- |{' ---: |' * len(servers)}",
        f"| version | {' | '.join(each['version'] for each in servers)} |",
        f"| acknowledged is | {' | '.join(each['promise'] for each in servers)} |",
    ]
    lines += [
        f"| {row['what']} | {' | '.join(_number(row.get(each['name'])) for each in servers)} |" for row in told["rows"]
    ]
    lines += ["", *(f"Not measured: {name}: {why}" for name, why in told["absent"].items())]
    lines += ["", ", ".join(f"{name}: {value}" for name, value in told["machine"].items())]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short run each: shows that it works, not how fast")
    parser.add_argument("--only", action="append", metavar="NAME", help="part of a server's name; repeatable")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of each run")
    parser.add_argument("--patience", type=float, help="seconds to wait for a quiet machine before each server")
    parser.add_argument("--results", type=Path, default=_RESULTS)
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are stopped with it
    names = ("rounds", "seconds", "patience")
    given = {name: getattr(chosen, name) for name in names if getattr(chosen, name) is not None}
    try:
        told, table = run((_QUICK if chosen.quick else _FULL)._replace(**given), chosen.only or ())
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    chosen.results.mkdir(parents=True, exist_ok=True)
    (chosen.results / "peers.md").write_text(f"{table}\n")
    (chosen.results / "peers.json").write_text(json.dumps(told, indent=2) + "\n")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
