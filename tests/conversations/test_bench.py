"""The benchmark works: its generator, its readers, both servers and the table."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "benchmarks" / "bench.py"
PATHS = "/usr/sbin:/usr/bin:/usr/local/bin:/bin"

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc", path=PATHS) and shutil.which("mosquitto", path=PATHS)),
    reason="gcc or mosquitto is not installed: tests/setup.py installs them as root",
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_a_quick_run_measures_both_servers_and_reads_every_message_back(tmp_path: Path) -> None:
    names = ("null", "ten", "ten-read", "connect-1.3")
    only = [word for name in names for word in ("--only", name)]
    done = run("--quick", "--seconds", "0.2", "--results", str(tmp_path), *only)
    assert done.returncode == 0, done.stderr
    rows = {row["what"]: row for row in json.loads((tmp_path / "latest.json").read_text())["rows"]}
    assert rows["null server, 10 in flight"]["null"] > 0
    for what in ("QoS 1, 10 in flight", "QoS 1, 10 in flight, one reader of everything: read", "logins, TLS 1.3"):
        assert rows[what]["hub"] > 0
        assert rows[what]["mosquitto"] > 0
        assert f"| {what} |" in done.stdout
    # a message that is not read back ends the run with an error
    assert rows["QoS 1, 10 in flight: read back complete afterwards"]["hub"] > 0


def test_a_quick_run_measures_every_surface_and_what_the_audit_costs(tmp_path: Path) -> None:
    only = ("--only", "surfaces", "--only", "audit")
    done = run("--quick", "--seconds", "0.1", "--results", str(tmp_path), *only)
    assert done.returncode == 0, done.stderr
    rows = {row["what"]: row["hub"] for row in json.loads((tmp_path / "latest.json").read_text())["rows"]}
    for what in (
        "telemetry, AMQP",
        "telemetry, HTTPS: share of the bare handler's rate",
        "direct method, HTTPS to MQTT and back: one at a time, p99",
        "reported properties, MQTT: server CPU",
        "cloud to device, AMQP to MQTT",
        "telemetry, MQTT, beside audited operations: of the rate without the audit",
    ):
        assert rows[what] > 0


def test_an_unknown_measurement_is_refused_with_the_names_of_all() -> None:
    done = run("--only", "everything")
    assert done.returncode == 2
    assert "there is no measurement everything" in done.stderr
