"""Fixtures that several suites share, and the count of the statements that tests cover."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hubkeep.testing import HubInThread

pytest_plugins = ["spec.coverage", "accounts"]

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


class NodePrograms:
    """Runs programs of tests/compatibility/node; each prints one line of JSON at its end."""

    def __call__(self, program: str, *arguments: str, within: float = 60) -> Any:
        """The result of a whole run."""
        with self.started(program, *arguments, within=within) as wait:
            return wait()

    @contextlib.contextmanager
    def started(self, program: str, *arguments: str, within: float = 60) -> Iterator[Callable[[], Any]]:
        """A program that runs beside the test; what is yielded waits for its result."""
        command = ["node", "--no-deprecation", str(NODE / program), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def wait() -> Any:
            out, err = process.communicate(timeout=within)
            assert process.returncode == 0, err[-3000:] + out[-1000:]
            return json.loads(out.strip().splitlines()[-1])

        with process:
            try:
                yield wait
            finally:
                process.kill()


@pytest.fixture
def node() -> NodePrograms:
    """The Node clients."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if not (NODE / "node_modules").is_dir():
        pytest.skip("the Node clients are not installed")
    return NodePrograms()
