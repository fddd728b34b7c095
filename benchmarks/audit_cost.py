"""What the audit costs telemetry while a back end does what it tells of: a hub with the audit beside one without."""

import contextlib
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import machine
from report import Row
from servers import API, Hubkeep
from surfaces import Cost, MethodCalls, MqttTelemetry, measure_peers

_EACH_SECOND: Final = 50  # operations, of both kinds in turn
_PAIRS: Final = 4  # of runs in each round: single ones differ by more than the audit costs
_SHORTEST: Final = 0.1  # seconds of a run: CPU time is told in hundredths
_UNAUDITED: Final = (str(Path(__file__).with_name("unaudited.py")),)


class BackEnd:
    """Calls methods and changes tags, one after another, at a fixed rate; each of these is an entry of the audit."""

    def __init__(self, hub: Hubkeep, device: int) -> None:
        """device: one that nobody else is."""
        self._hub, self._calls = hub, MethodCalls(hub, device)
        self._path = f"/twins/{hub.credentials(device)[0]}?{API}"
        self._connection = hub.https()

    def work(self, stop: threading.Event) -> None:
        done, began = 0, time.monotonic()
        while not stop.wait(max(0.0, began + done / _EACH_SECOND - time.monotonic())):
            if done % 2:
                self._calls.send()
                self._calls.finish()
            else:
                self._hub.ask(self._connection, "PATCH", self._path, {"tags": {"turn": done}})
            done += 1


def measure(audited: Hubkeep, connections: int, rounds: int, seconds: float) -> Iterator[Row]:
    """Rows of the medians with the audit, and of how they compare with those without it, in alternating runs."""
    with contextlib.ExitStack() as up:
        folder = up.enter_context(tempfile.TemporaryDirectory(prefix="hubkeep-unaudited-", dir=machine.BUILD))
        bare = Hubkeep(Path(folder), connections + 1, program=_UNAUDITED)
        up.callback(bare.process.stop)
        hubs = {"with": audited, "without": bare}
        back_ends = {name: BackEnd(hub, connections) for name, hub in hubs.items()}
        peers = {name: [MqttTelemetry(hub, number) for number in range(connections)] for name, hub in hubs.items()}
        for name, hub in hubs.items():
            _beside(back_ends[name], hub, peers[name], seconds)  # the first is slower
        entries, each = _entries(audited), max(seconds / _PAIRS, _SHORTEST)
        costs: dict[str, list[Cost]] = {name: [] for name in hubs}
        for number in range(_PAIRS * rounds):
            for name in sorted(hubs, reverse=bool(number % 2)):
                costs[name].append(_beside(back_ends[name], hubs[name], peers[name], each))
        told = (_entries(audited) - entries) / (_PAIRS * rounds * each)
        if not told or _entries(bare):
            raise RuntimeError(f"{told:.0f} entries a second with the audit, and without it {_entries(bare)} in all")
    what = "telemetry, MQTT, beside audited operations"
    yield Row(f"{what}: entries", "a second", hub=told)
    yield Row(what, "operations/s", hub=statistics.median(cost.rate for cost in costs["with"]))
    pairs = list(zip(costs["with"], costs["without"], strict=True))
    rates = [on.rate / off.rate for on, off in pairs]
    work = [on.cpu_us / off.cpu_us for on, off in pairs if off.cpu_us]
    yield Row(f"{what}: of the rate without the audit", "", hub=statistics.median(rates))
    yield Row(f"{what}: of the CPU time without the audit", "", hub=statistics.median(work))


def _beside(back_end: BackEnd, hub: Hubkeep, peers: Sequence[MqttTelemetry], seconds: float) -> Cost:
    stop = threading.Event()
    working = threading.Thread(target=back_end.work, args=(stop,))
    working.start()
    try:
        return measure_peers(hub.process, peers, seconds)
    finally:
        stop.set()
        working.join()


def _entries(hub: Hubkeep) -> int:
    """Of the chains of changes and commands."""
    heads: list[dict[str, Any]] = json.loads(hub.ask(hub.https(), "GET", f"/api/audit/heads?{API}"))
    return sum(each["sequence"] for each in heads if each["chain"] in {"changes", "commands"})


if __name__ == "__main__":
    sys.exit("a part of bench.py: --only audit")
