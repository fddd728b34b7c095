"""Slow and abusive peers disturb nobody else: a control group keeps its connections and loses nothing (L-O2)."""

import time
from pathlib import Path

import pytest

from faults.abuse import Abuse
from faults.load import Load
from faults.mixed_load import ENVIRONMENT, MixedLoad
from faults.run import wait_for_acknowledged, wait_for_progress
from faults.served import Served

SENDERS = {"control-mqtt-0": "mqtt", "control-mqtt-1": "mqtt", "control-amqp": "amqp", "control-https": "https"}


@pytest.mark.timeout(300)
def test_a_control_group_keeps_its_connections_and_loses_nothing(tmp_path: Path) -> None:
    with Served(tmp_path / "data", environment=ENVIRONMENT) as hub:
        hub.start()
        hub.register(list(SENDERS))
        load = Load(hub.for_load, SENDERS, 20, processes=1)
        control = MixedLoad(hub, devices=2, pace=0.2)
        wait_for_acknowledged(load, len(SENDERS))
        wait_for_progress(control, control.progress)
        abuse = Abuse(hub)
        until = time.monotonic() + 10
        while time.monotonic() < until or set(abuse.did) != abuse.kinds:
            acknowledged, progress = load.acknowledged(), control.progress
            time.sleep(1)
            wait_for_acknowledged(load, acknowledged + 1)
            wait_for_progress(control, progress)
            assert time.monotonic() < until + 60, f"{abuse.kinds - set(abuse.did)} did not come to anything"
        print(abuse.stop())
        ledger, findings = load.stop(), control.stop()
        print(findings)
        assert load.connections == dict.fromkeys(SENDERS, 1)
        assert set(control.connections.values()) == {1}, control.connections
        assert findings.is_faultless, findings
        assert (findings.unanswered, findings.queue.attempted) == (0, findings.queue.accepted)
        telemetry = ledger.check(hub.events())  # nobody else sends any
        assert (telemetry.faults, telemetry.attempted) == (0, telemetry.acknowledged), telemetry
        assert hub.health() == (200, [])
