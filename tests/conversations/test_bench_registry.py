"""The benchmark of the registry works."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "benchmarks" / "registry.py"


def test_a_short_run_measures_everything(tmp_path: Path) -> None:
    sizes = ("--identities", "1200", "--repeats", "3")
    command = [sys.executable, str(BENCH), *sizes, "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["what"]: row for row in json.loads((tmp_path / "registry.json").read_text())["rows"]}
    for what in ("identities made in bulk", "point read", "query by a reported property", "a device's CONNECT"):
        assert rows[what]["few"] > 0
        assert rows[what]["all"] > 0
        assert f"| {what} |" in done.stdout
