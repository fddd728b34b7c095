"""Fixtures that several suites share, and the count of the statements that tests cover."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubkeep.testing import HubInThread

pytest_plugins = ["spec.coverage"]

NODE = Path(__file__).parent / "compatibility" / "node"


@pytest.fixture(scope="module")
def shared_hub() -> Iterator[HubInThread]:
    """One hub for the tests of a module; each test has devices of its own. Clients of the process trust it."""
    with HubInThread() as hub, hub.trusted():
        yield hub


@pytest.fixture
def device_id(request: pytest.FixtureRequest) -> str:
    """An id that no other test uses."""
    return "".join(each if each.isalnum() else "-" for each in request.node.name)[:100]


@pytest.fixture
def node() -> Any:
    """Runs a program of tests/compatibility/node; its last line of output, read as JSON."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if not (NODE / "node_modules").is_dir():
        pytest.skip("the Node clients are not installed")

    def run(program: str, *arguments: str, within: float = 60) -> Any:
        command = ["node", "--no-deprecation", str(NODE / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=within, check=False)
        assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
        return json.loads(done.stdout.strip().splitlines()[-1])

    return run
