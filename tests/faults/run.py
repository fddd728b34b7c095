"""Kill a hub under load again and again, then read everything back: ``python tests/faults/run.py --kills 100``.

``--points`` kills at each system call that writes instead, about a thousand, or at as many as it is given.
``--load telemetry`` is many devices that send as fast as they are told; ``--load mixed`` is cloud-to-device messages,
twins and methods. Prints the ledger's findings, and how long each start took. Status 1 if anything was lost, altered,
doubled or out of order, or a start took longer than ``--serving-within``.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from faults.kill_points import kill_at_points
from faults.ledger import Findings
from faults.load import Load
from faults.mixed_load import ENVIRONMENT, MixedFindings, MixedLoad
from faults.served import Served


class Report(NamedTuple):
    findings: Findings
    starts: list[float]  # seconds from the start of the process to ready, of the clock
    processor: list[float]  # the same, of processor time
    sending: float  # seconds that the load ran, the hub being up or not
    kinds: Counter[str]  # acknowledged by protocol

    @property
    def rate(self) -> float:
        return self.findings.acknowledged / self.sending


def kill_under_load(
    data: Path,
    *,
    kills: int,
    rate: float,
    clients: int,
    between: tuple[float, float],
    reader: str,
    seed: int = 0,
    budget: float = float("inf"),
) -> Report:
    """between: least and most seconds between a start and the next kill. reader: ``api`` or ``azure-eventhub``.

    budget: seconds after which no further kill is begun.
    """
    source = random.Random(seed)
    # seven of ten speak MQTT, two AMQP, one HTTPS
    devices = {
        f"load-{each:04}": ("mqtt", "amqp", "https")[(0, 0, 0, 1, 0, 0, 2, 0, 1, 0)[each % 10]]
        for each in range(clients)
    }
    with Served(data) as hub:
        starts, processor = [hub.start()], [hub.start_cpu]
        hub.register(list(devices))
        load = Load(hub.for_load, devices, rate)
        wait_for_acknowledged(load, 1)
        began = time.monotonic()
        for _ in range(kills):
            acknowledged = load.acknowledged()
            time.sleep(source.uniform(*between))
            wait_for_acknowledged(load, acknowledged + 1)
            hub.kill()
            starts.append(hub.start())
            processor.append(hub.start_cpu)
            if time.monotonic() - began > budget:
                break
        wait_for_acknowledged(load, load.acknowledged() + clients)
        sending = time.monotonic() - began
        ledger = load.stop()
        events = hub.consumed() if reader == "azure-eventhub" else hub.events()
        findings = ledger.check(events)
    kinds: Counter[str] = Counter()
    for device, numbers in ledger.acknowledged.items():
        kinds[devices[device]] += len(numbers)
    return Report(findings, starts, processor, sending, kinds)


class MixedReport(NamedTuple):
    findings: MixedFindings
    starts: list[float]
    processor: list[float]


def kill_under_mixed_load(
    data: Path,
    *,
    kills: int,
    devices: int,
    between: tuple[float, float],
    seed: int = 0,
    budget: float = float("inf"),
) -> MixedReport:
    """devices: of each kind. Between two kills everything goes on: no surface is left behind by a start."""
    source = random.Random(seed)
    with Served(data, environment=ENVIRONMENT) as hub:
        starts, processor = [hub.start()], [hub.start_cpu]
        load = MixedLoad(hub, devices=devices, seed=seed)
        began = time.monotonic()
        for _ in range(kills):
            before = load.progress
            time.sleep(source.uniform(*between))
            wait_for_progress(load, before)
            hub.kill()
            starts.append(hub.start())
            processor.append(hub.start_cpu)
            if time.monotonic() - began > budget:
                break
        wait_for_progress(load, load.progress)
        return MixedReport(load.stop(), starts, processor)


def wait_for_progress(load: MixedLoad, before: Sequence[int], within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while any(now <= then for now, then in zip(load.progress, before, strict=True)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"from {before} to {load.progress} within {within} s")
        time.sleep(0.02)


def wait_for_acknowledged(load: Load, count: int, within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while load.acknowledged() < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{load.acknowledged()} of {count} messages were acknowledged within {within} s")
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", choices=("telemetry", "mixed"), default="telemetry")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--rate", type=float, default=5000, help="messages a second, of all clients together")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--reader", choices=("api", "azure-eventhub"), default="azure-eventhub")
    parser.add_argument("--serving-within", type=float, default=2.0, help="seconds from start to ready")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--data", type=Path, help="kept, to be looked at; default: a folder that is removed")
    parser.add_argument("--points", type=int, nargs="?", const=0, help="kill at system calls: so many, all without one")
    given = parser.parse_args()
    if given.points is not None:
        sys.exit(_points(given))
    print(f"seed {given.seed}: {given.kills} kills")
    with tempfile.TemporaryDirectory(prefix="hubkeep-faults-") as folder:
        data = given.data or Path(folder) / "data"
        starts, processor, is_faultless = (_mixed if given.load == "mixed" else _telemetry)(given, data)
    starts, processor = sorted(starts[1:]), sorted(processor[1:])
    for what, seconds in (("the clock", starts), ("processor time", processor)):
        print(f"ready after a kill, by {what}: median {statistics.median(seconds):.2f} s, longest {seconds[-1]:.2f} s")
    if not is_faultless or starts[-1] > given.serving_within:
        sys.exit(1)


def _telemetry(given: argparse.Namespace, data: Path) -> tuple[list[float], list[float], bool]:
    """Seconds of the starts, by the clock and of the processor; whether the ledger found no fault."""
    report = kill_under_load(
        data,
        kills=given.kills,
        rate=given.rate,
        clients=given.clients,
        between=(0.2, 4.0),
        reader=given.reader,
        seed=given.seed,
    )
    print(report.findings)
    print(f"acknowledged {report.rate:,.0f} a second, the time of restarts included; {dict(report.kinds)}")
    return report.starts, report.processor, not report.findings.faults


def _points(given: argparse.Namespace) -> int:
    """The exit status."""
    with tempfile.TemporaryDirectory(prefix="hubkeep-faults-") as folder:
        report = kill_at_points(given.data or Path(folder), given.points or None, given.seed)
    print(f"seed {given.seed}: {report.moments} moments in {report.seconds:.0f} s, killed {dict(report.reached)}")
    print(f"{report.acknowledged} writes acknowledged, {len(report.missed)} moments not reached")
    for each in report.missed:
        print(f"not reached: {each.of}, {each.point}")
    for problem in report.problems:
        print(problem)
    return 1 if report.problems else 0


def _mixed(given: argparse.Namespace, data: Path) -> tuple[list[float], list[float], bool]:
    report = kill_under_mixed_load(data, kills=given.kills, devices=8, between=(0.2, 4.0), seed=given.seed)
    print(report.findings)
    return report.starts, report.processor, report.findings.is_faultless


if __name__ == "__main__":
    main()
