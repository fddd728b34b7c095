"""Hubs and commands as real processes."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cli import forked
from hubkeep.testing.hub_in_thread import free_address

COMMAND = [sys.executable, "-m", "hubkeep"]


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class HubProcess:
    """A hub started by the command. ready: the line that it printed, as JSON."""

    def __init__(self, process: "subprocess.Popen[str]", data: Path, address: str) -> None:
        self.process, self.data, self.address = process, data, address
        self.ready: dict[str, Any] = json.loads(first_line(process))

    def run(self, *arguments: str, within: float = 60, **environment: str) -> Done:
        """A command that finds this hub by its data directory."""
        return command(*arguments, within=within, HUBKEEP_DATA=str(self.data), **environment)

    def ok(self, *arguments: str, within: float = 60) -> str:
        """What a command prints that must succeed."""
        done = self.run(*arguments, within=within)
        assert done.status == 0, done
        return done.out

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Done:
        """Stopped by a signal; everything it printed since the ready line."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return Done(self.process.returncode, out, err)


def command(*arguments: str, within: float = 60, **environment: str) -> Done:
    """One command, to its end."""
    return Done(*forked.run(arguments, clean_environment() | environment, within))


@contextlib.contextmanager
def started(*arguments: str, within: float = 60, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A command that runs beside the test, killed at the end if it still does."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment() | environment,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def hub_process(
    data: Path, *options: str, mode: str = "dev", address: str = "", names: Sequence[str] = ()
) -> Iterator[HubProcess]:
    """``hubkeep dev`` or ``hubkeep serve`` on a loopback address of its own, ready."""
    address = address or free_address()
    where = ["--data", str(data), "--listen", address]
    for name in names or (address,):
        where += ["--host-name", name]
    with started(mode, *where, "--json", *options) as process:
        yield HubProcess(process, data, address)


def first_line(process: "subprocess.Popen[str]", within: float = 60) -> str:
    """The first line of standard output; fails with standard error when there is none."""
    assert process.stdout is not None
    assert process.stderr is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(within), "nothing was printed in time"
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return line


def clean_environment() -> dict[str, str]:
    """This process's, without what points at another hub."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HUBKEEP_")}


def wait_until(condition: Any, within: float = 30) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)
