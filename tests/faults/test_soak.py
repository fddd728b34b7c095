"""The short form of soak.py; and that a leak would be seen."""

from pathlib import Path

import pytest

from faults.ledger import Ledger
from faults.served import Served
from faults.soak import BOUNDS, Sample, Soak, crowd, environment, soak

# so short a run is warm nowhere: caches fill, and the log has not reached what it may retain
SHORT = {"memory": 0.5, "descriptors": 0.2, "disk": 3.0}


def test_memory_descriptors_and_disk_stay_flat(tmp_path: Path) -> None:
    devices = crowd(20)
    with Served(tmp_path / "data", environment=environment(64 << 20)) as hub:
        hub.start()
        hub.register(list(devices))
        done = soak(hub, devices, rate=200, seconds=6, every=0.5)
        findings = done.ledger.check(hub.events())
    assert done.exceeded(SHORT) == []
    assert (findings.faults, findings.attempted) == (0, findings.acknowledged), findings


@pytest.mark.parametrize("leaking", BOUNDS)
def test_a_leak_is_seen(leaking: str) -> None:
    flat = [Sample(float(at), 100_000 + at % 7 * 100, 300 + at % 2, 5_000_000 + at % 60 * 1000) for at in range(3600)]
    assert Soak(flat, Ledger()).exceeded(BOUNDS) == []
    slowly = [each._replace(**{leaking: round(getattr(each, leaking) * (1 + 0.2 * each.at / 3600))}) for each in flat]
    assert leaking in Soak(slowly, Ledger()).exceeded(BOUNDS)[0]
