"""Schemathesis over a real hub, for a short while; at length: ``make fuzz-api``."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "fuzz" / "api.py"


@pytest.mark.timeout(180)
@pytest.mark.spec("S-27", "S-28", "S-29", "L-R2")
def test_generated_requests_get_the_answers_that_are_described() -> None:
    """No fault of the hub, no answer that is not described, nothing bad accepted, nothing changed by a refusal."""
    command = [sys.executable, str(PROGRAM), "--seconds", "20", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-3_000:]
    assert "No issues found" in done.stdout
