"""Hubkeep beside Mosquitto on this machine, in one run: ``make bench``, or ``make bench ARGS="--quick --only ten"``.

Each pair of runs alternates between the servers, so that what else the machine does hits both; a row shows the median
of each and of their ratio. Every message that Hubkeep acknowledged is read back and checked after the run.
"""

import argparse
import contextlib
import itertools
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import audit_cost
import machine
import surfaces
from machine import Missing, Process, program
from report import Row, as_json, markdown, one_line
from servers import ADDRESS, Hubkeep, Mosquitto, Null, Server

_PAYLOAD: Final = 256
_SETTLE_SECONDS: Final = 2.0
_RESULTS: Final = machine.HERE / "results"


class Plan(NamedTuple):
    """How much is measured."""

    rounds: int
    seconds: float  # of each run
    connections: int
    idle: int
    at_once: int  # logins under way
    patience: float  # seconds to wait for a quiet machine before each pair of runs


_FULL: Final = Plan(rounds=5, seconds=4.0, connections=100, idle=5000, at_once=50, patience=20.0)
_QUICK: Final = Plan(rounds=1, seconds=0.5, connections=20, idle=60, at_once=10, patience=0.0)


class Published(NamedTuple):
    messages: int
    rate: float
    cpu_us: float  # of the server, per message
    read: dict[str, Any]


class Suite:
    """The servers, and the measurements by name."""

    def __init__(self, hub: Hubkeep, mosquitto: Mosquitto, null: Null, plan: Plan) -> None:
        self._hub, self._mosquitto, self._null, self._plan = hub, mosquitto, null, plan
        self.others: list[float] = []  # cores that other programs used before each pair of runs
        self._runs = itertools.count(int(time.time()) % 1_000_000)

    def null(self) -> Iterator[Row]:
        """What the generator reaches when nothing is done with its messages."""
        for in_flight in (1, 10):
            rates = [self._publish(self._null, in_flight).rate for _ in range(self._plan.rounds)]
            yield Row(f"null server, {in_flight} in flight", "messages/s", null=statistics.median(rates))

    def throughput(self, in_flight: int, *, reader: bool) -> Iterator[Row]:
        pairs = []
        for number in range(self._plan.rounds):
            pair = {}
            for server in self._in_turn(number):
                pair[server.name] = self._publish(server, in_flight, reader=reader)
            pairs.append((pair[self._hub.name], pair[self._mosquitto.name]))
        what = f"QoS 1, {in_flight} in flight" + (", one reader of everything" if reader else "")
        yield _row(what, "messages/s", [(hub.rate, peer.rate) for hub, peer in pairs])
        yield _row(f"{what}: server CPU", "us/message", [(hub.cpu_us, peer.cpu_us) for hub, peer in pairs])
        if reader:
            rates = [(hub.read["rate"], peer.read["rate"]) for hub, peer in pairs]
            yield _row(f"{what}: read", "messages/s", rates)
        elif pairs[0][0].read:
            back = statistics.median(hub.read["rate"] for hub, _ in pairs)
            yield Row(f"{what}: read back complete afterwards", "messages/s", hub=back)

    def connects(self, version: str) -> Iterator[Row]:
        plan, rates, costs = self._plan, [], []
        for number in range(plan.rounds):
            rate, cost = {}, {}
            for server in self._in_turn(number):
                before = server.process.cpu_seconds
                where = (ADDRESS, str(server.port), str(server.clients))
                how = (str(plan.at_once), str(plan.seconds), version)
                with Process([program("load"), "connect", *where, *how]) as load:
                    result = load.result()
                rate[server.name] = result["rate"]
                cost[server.name] = (server.process.cpu_seconds - before) / max(result["connections"], 1) * 1e6
                time.sleep(0.2)
            rates.append((rate[self._hub.name], rate[self._mosquitto.name]))
            costs.append((cost[self._hub.name], cost[self._mosquitto.name]))
        yield _row(f"logins, TLS {version}", "connections/s", rates)
        yield _row(f"logins, TLS {version}: server CPU", "us/connection", costs)

    def idle(self) -> Iterator[Row]:
        used = {}
        for server in (self._hub, self._mosquitto):
            time.sleep(_SETTLE_SECONDS)
            before = server.process.resident_kib
            where = (ADDRESS, str(server.port), str(server.clients))
            with Process([program("load"), "idle", *where, str(self._plan.idle)]) as load:
                load.result()
                time.sleep(_SETTLE_SECONDS)
                used[server.name] = (server.process.resident_kib - before) / self._plan.idle
                cpu = server.process.cpu_seconds
                time.sleep(_SETTLE_SECONDS)
                busy = (server.process.cpu_seconds - cpu) / _SETTLE_SECONDS * 100
                print(f"  {server.name}: {busy:.1f} % of a core while they idle", file=sys.stderr)
        row = (used[self._hub.name], used[self._mosquitto.name])
        yield _row(f"{self._plan.idle} idle TLS connections", "KB each", [row])

    def latency(self) -> Iterator[Row]:
        values: dict[str, list[tuple[float, float]]] = {"p50": [], "p99": []}
        for number in range(self._plan.rounds):
            got = {}
            for server in self._in_turn(number):
                got[server.name] = self._publish(server, 1, reader=True, rate=1000).read
            for name, pairs in values.items():
                hub, peer = (got[server.name][f"{name}_us"] / 1000 for server in (self._hub, self._mosquitto))
                pairs.append((hub, peer))
        for name, pairs in values.items():
            yield _row(f"end to end at 1,000 messages/s, {name}", "ms", pairs)

    def disk(self) -> Iterator[Row]:
        before, messages = self._hub.bytes_on_disk(), 0
        for in_flight in (1, 10):
            messages += self._publish(self._hub, in_flight).messages
        grown = self._hub.bytes_on_disk() - before
        yield Row("on disk, payload of 256 bytes", "bytes/message", hub=grown / messages)

    def surfaces(self) -> Iterator[Row]:
        """Telemetry over AMQP and HTTPS, methods, twins, messages to devices: the hub alone."""
        return surfaces.measure(self._hub, min(self._plan.connections, 16), self._plan.rounds, self._plan.seconds / 2)

    def audit(self) -> Iterator[Row]:
        """What the audit costs telemetry: the hub beside one that keeps none."""
        connections = min(self._plan.connections - 1, 16)
        return audit_cost.measure(self._hub, connections, self._plan.rounds, self._plan.seconds / 2)

    def _in_turn(self, number: int) -> tuple[Server, Server]:
        self.others.append(machine.wait_for_quiet(self._plan.patience))
        return (self._hub, self._mosquitto) if number % 2 == 0 else (self._mosquitto, self._hub)

    def _publish(self, server: Server, in_flight: int, *, reader: bool = False, rate: int = 0) -> Published:
        """One run. Raises RuntimeError when a message that was acknowledged is not read."""
        plan, run = self._plan, str(next(self._runs))
        how = (str(plan.connections), str(in_flight), str(_PAYLOAD), str(plan.seconds), str(rate), run)
        with contextlib.ExitStack() as up:
            server.mark()
            live = up.enter_context(server.reader(_PAYLOAD, int(run), from_now=True)) if reader else None
            if live is not None:
                _expect_ready(live)
            where = (ADDRESS, str(server.port), str(server.clients))
            load = up.enter_context(Process([program("load"), "publish", *where, *how]))
            _expect_ready(load)
            cpu = server.process.cpu_seconds
            load.say()
            result = load.result()
            read: dict[str, Any] = {}
            if live is not None:
                read = _complete(live, result["messages"])
            cpu = server.process.cpu_seconds - cpu
            load.say()
        if server.keeps_messages and live is None:
            with server.reader(_PAYLOAD, int(run), from_now=True) as back:
                _expect_ready(back)
                read = _complete(back, result["messages"])
        return Published(result["messages"], result["rate"], cpu / max(result["messages"], 1) * 1e6, read)


def _expect_ready(process: Process) -> None:
    if (line := process.line()) != "ready":
        raise RuntimeError(f"not ready: {line}")


def _complete(reader: Process, messages: int) -> dict[str, Any]:
    reader.say(str(messages))
    result = reader.result()
    if result["received"] != messages or result["lost"] or result["repeated"]:
        raise RuntimeError(f"{messages} messages were acknowledged, and read: {result}")
    return result


def _row(what: str, unit: str, pairs: list[tuple[float, float]]) -> Row:
    """Medians, and the median of the ratios of each alternating pair."""
    hub, peer = (statistics.median(each) for each in zip(*pairs, strict=True))
    ratios = [mine / theirs for mine, theirs in pairs if theirs]
    return Row(what, unit, hub=hub, mosquitto=peer, ratio=statistics.median(ratios) if ratios else None)


MEASUREMENTS: Final[dict[str, Callable[[Suite], Iterator[Row]]]] = {
    "null": Suite.null,
    "one": lambda suite: suite.throughput(1, reader=False),
    "ten": lambda suite: suite.throughput(10, reader=False),
    "one-read": lambda suite: suite.throughput(1, reader=True),
    "ten-read": lambda suite: suite.throughput(10, reader=True),
    "connect-1.3": lambda suite: suite.connects("1.3"),
    "connect-1.2": lambda suite: suite.connects("1.2"),
    "idle": Suite.idle,
    "latency": Suite.latency,
    "disk": Suite.disk,
    "surfaces": Suite.surfaces,
    "audit": Suite.audit,
}


def run(plan: Plan, names: Sequence[str]) -> tuple[list[Row], dict[str, Any]]:
    """Measure, one line of progress each on standard error. Raises Missing for what must be installed first."""
    machine.build()
    about = machine.description()
    rows = []
    devices = max(plan.idle, plan.connections, 4 * plan.at_once) if needs_many(names) else plan.connections
    with (
        tempfile.TemporaryDirectory(prefix="hubkeep-bench-", dir=machine.BUILD) as folder,
        contextlib.ExitStack() as up,
    ):
        hub = Hubkeep(Path(folder), devices)
        up.callback(hub.process.stop)
        mosquitto = Mosquitto(Path(folder), devices, hub.certificate)
        up.enter_context(mosquitto.process)
        null = Null(Path(folder), hub.certificate, hub.clients)
        up.enter_context(null.process)
        about["mosquitto"] = mosquitto.version
        suite = Suite(hub, mosquitto, null, plan)
        for name in names:
            for row in MEASUREMENTS[name](suite):
                print(f"  {one_line(row)}", file=sys.stderr)
                rows.append(row)
    about["other load, cores"] = round(statistics.median(suite.others), 2) if suite.others else 0.0
    return rows, about


def needs_many(names: Sequence[str]) -> bool:
    """Whether more devices are needed than publish."""
    return any(name == "idle" or name.startswith("connect") for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short run each: shows that it works, not how fast")
    parser.add_argument("--only", action="append", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}; repeatable")
    parser.add_argument("--rounds", type=int, help="alternating runs of each measurement")
    parser.add_argument("--seconds", type=float, help="of each run")
    parser.add_argument("--patience", type=float, help="seconds to wait for a quiet machine before each pair of runs")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="folder of latest.md and latest.json")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are stopped with it
    if unknown := set(chosen.only or ()) - set(MEASUREMENTS):
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}")
    given = {
        name: getattr(chosen, name) for name in ("rounds", "seconds", "patience") if getattr(chosen, name) is not None
    }
    try:
        rows, about = run((_QUICK if chosen.quick else _FULL)._replace(**given), chosen.only or list(MEASUREMENTS))
    except Missing as missing:
        sys.exit(str(missing))
    table = markdown(rows, about)
    chosen.results.mkdir(exist_ok=True)
    (chosen.results / "latest.md").write_text(f"{table}\n")
    (chosen.results / "latest.json").write_bytes(as_json(rows, about))
    print(table)


if __name__ == "__main__":
    main()
