"""The benchmark of many X.509 devices that connect at once works, and none of them is refused."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "benchmarks" / "storm.py"


def test_a_small_storm(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH), "--devices", "30", "--at-once", "30", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "storm.json").read_text())["rows"]
    assert [(row["version"], row["failed"]) for row in rows] == [("1.2", 0), ("1.3", 0)]
    assert all(row["rate"] > 0 and row["cpu_us"] > 0 and row["ping_p99"] > 0 for row in rows)
    assert "| TLS 1.2 | 30 | 0 |" in done.stdout
