"""The benchmark of many devices on one hub works: all connect, none is lost while they send, all come back."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "benchmarks" / "connections.py"


def test_a_crowd_comes_back_after_a_restart(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH), "--devices", "300", "--seconds", "0.5", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "connections.json").read_text())
    figures = {row["what"]: row["value"] for row in told["rows"]}
    assert told["devices"] == 300
    assert 10 < figures["memory of a connection"] < 200
    assert figures["from its start until all are back"] > 0
    assert figures["logins begun since the cut"] >= 1
