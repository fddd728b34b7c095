"""The benchmark beside other servers works with the hub alone, and names who is not there."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "benchmarks" / "peers.py"


def test_the_hub_is_measured_and_who_is_absent_is_named(tmp_path: Path) -> None:
    # no Debian has a NATS that can sync each message
    chosen = ["--quick", "--seconds", "0.2", "--only", "sync always", "--results", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(BENCH), *chosen], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "peers.json").read_text())
    if "NATS JetStream, sync always" in told["absent"]:
        assert [each["name"] for each in told["servers"]] == ["Hubkeep"]
    assert all(row["Hubkeep"] > 0 for row in told["rows"] if "idle" not in row["what"])
    assert {"10 connections, 10 in flight, messages/s", "logins, TLS 1.3, connections/s"} <= {
        row["what"] for row in told["rows"]
    }
    assert "| acknowledged is | file, synced |" in done.stdout
