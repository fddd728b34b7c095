"""Half of what a hub can take, for long: memory, descriptors and disk must stay flat. ``python tests/faults/soak.py``.

``--seconds 3600`` by default. Each figure is sampled once a second; its growth is the slope of a line through all
samples behind the first quarter, times the length of the run, as a share of its mean. What the log retains is bounded,
so that its file is full long before the run ends. Status 1 when anything grows more than it may, or a message was not
acknowledged.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from faults.ledger import Ledger
from faults.load import Load
from faults.run import wait_for_acknowledged
from faults.served import Served

_WARM = 0.25  # of the run: caches fill
# of the mean of each, in the whole run; a file system hands out space in steps, and a log is cut in steps
BOUNDS: Mapping[str, float] = {"memory": 0.05, "descriptors": 0.02, "disk": 0.1}


class Sample(NamedTuple):
    """at: seconds of the clock. memory: KiB resident. disk: bytes of the data directory."""

    at: float
    memory: int
    descriptors: int
    disk: int


class Soak(NamedTuple):
    samples: Sequence[Sample]
    ledger: Ledger

    @property
    def growth(self) -> dict[str, float]:
        """Of each figure, as a share of its mean."""
        warm = [each for each in self.samples if each.at >= self.samples[0].at + _WARM * self.span]
        return {name: _growth([each.at for each in warm], [getattr(each, name) for each in warm], self.span)
                for name in ("memory", "descriptors", "disk")}  # fmt: skip

    @property
    def span(self) -> float:
        return self.samples[-1].at - self.samples[0].at

    def exceeded(self, bounds: Mapping[str, float]) -> list[str]:
        return [f"{name} grew by {self.growth[name]:.1%}, more than {most:.1%}" for name, most in bounds.items()
                if self.growth[name] > most]  # fmt: skip


def _growth(times: Sequence[float], values: Sequence[int], span: float) -> float:
    mean = statistics.fmean(values)
    return statistics.linear_regression(times, values).slope * span / mean if mean else 0.0


def soak(hub: Served, devices: Mapping[str, str], rate: float, seconds: float, every: float = 1.0) -> Soak:
    """The hub runs. rate: messages a second of all ``devices``, which it knows. every: seconds between samples."""
    load = Load(hub.for_load, dict(devices), rate, processes=1 if len(devices) < 50 else 2)
    wait_for_acknowledged(load, len(devices))
    samples, until = [_sample(hub)], time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(every)
        samples.append(_sample(hub))
    return Soak(samples, load.stop())


def _sample(hub: Served) -> Sample:
    assert hub.process is not None
    process = Path(f"/proc/{hub.process.pid}")
    pages = int((process / "statm").read_text().split()[1])
    disk = sum(path.stat().st_blocks * 512 for path in hub.data.rglob("*") if path.is_file())
    return Sample(time.monotonic(), pages * 4, len(list((process / "fd").iterdir())), disk)


def crowd(clients: int) -> dict[str, str]:
    """Seven of ten speak MQTT, two AMQP, one HTTPS."""
    kinds = ("mqtt", "mqtt", "amqp", "mqtt", "mqtt", "https", "mqtt", "amqp", "mqtt", "mqtt")
    return {f"soak-{each}": kinds[each % len(kinds)] for each in range(clients)}


def environment(retention_bytes: int) -> dict[str, str]:
    return {"HUBKEEP_EVENTS__RETENTION_BYTES": str(retention_bytes)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--rate", type=float, default=2500, help="messages a second, of all clients together")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--retention", type=int, default=256, help="MiB of events that are kept")
    given = parser.parse_args()
    devices = crowd(given.clients)
    with (
        tempfile.TemporaryDirectory(prefix="hubkeep-soak-") as folder,
        Served(Path(folder) / "data", environment=environment(given.retention << 20)) as hub,
    ):
        hub.start()
        hub.register(list(devices))
        done = soak(hub, devices, given.rate, given.seconds)
    acknowledged = sum(map(len, done.ledger.acknowledged.values()))
    first, last = done.samples[0], done.samples[-1]
    print(f"{acknowledged:,} messages acknowledged, {acknowledged / done.span:,.0f} a second")
    for name, growth in done.growth.items():
        print(f"{name}: {getattr(first, name):,} at first, {getattr(last, name):,} at the end; growth {growth:+.1%}")
    problems = done.exceeded(BOUNDS)
    if (left := sum(done.ledger.attempted.values()) - acknowledged) > 0:
        problems.append(f"{left} messages were not acknowledged")
    for each in problems:
        print(each)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
