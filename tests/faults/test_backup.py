"""A backup of a hub under load: everything that was acknowledged before it began, and nothing torn."""

from pathlib import Path

import pytest

from faults.load import Load
from faults.run import wait_for_acknowledged
from faults.served import Served
from hubkeep.server.backup import back_up, restore


@pytest.mark.timeout(300)
def test_a_backup_under_load_holds_all_that_was_acknowledged_before_it(tmp_path: Path) -> None:
    devices = {f"backup-{each}": ("mqtt", "amqp", "https")[each % 3] for each in range(12)}
    before = {device: protocol for device, protocol in devices.items() if int(device[-1]) % 2}

    def no_bar(_size: int) -> None:
        """Nobody looks on."""

    with Served(tmp_path / "data") as hub:
        hub.start()
        hub.register(list(devices))
        first = Load(hub.for_load, before, 500)
        wait_for_acknowledged(first, 200)
        ledger = first.stop()
        others = {device: protocol for device, protocol in devices.items() if device not in before}
        second = Load(hub.for_load, others, 500)
        wait_for_acknowledged(second, 50)
        back_up(hub.data, tmp_path / "backup", tmp_path / "keys", no_bar, no_bar)
        wait_for_acknowledged(second, second.acknowledged() + 20)  # the hub went on
        ledger.attempted |= second.stop().attempted  # of these it holds a beginning
    restore(tmp_path / "backup", tmp_path / "keys", tmp_path / "restored", no_bar, no_bar)
    with Served(tmp_path / "restored") as restored:
        restored.start()
        assert restored.health() == (200, [])
        findings = ledger.check(restored.events())
    assert findings.faults == 0, findings
    assert findings.acknowledged >= 200
    assert findings.read_back > findings.acknowledged
