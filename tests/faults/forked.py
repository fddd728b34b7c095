"""Hubs that start in a third of the time: forked from a process that has imported all of ``hubkeep serve`` before.

Each is the whole program, from its command line on, in a process of its own. With a ``Point`` it is killed, or one of
its system calls fails, at exactly the n-th call of a kind (by strace).
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from faults.served import Served, processor_time


class Point(NamedTuple):
    """The nth of these system calls, counted by thread; the first thread that gets there. file: of the data
    directory, empty for any, which counts sockets too. what: as ``inject=`` of strace takes it."""

    calls: str
    file: str
    nth: int
    what: str = "signal=KILL"
    last: int = 0  # not only the nth, but all up to this one

    def __str__(self) -> str:
        return f"{self.calls} {self.nth} of {self.file or 'any file'}: {self.what}"

    def options(self, data: Path) -> list[str]:
        when = f"{self.nth}..{self.last}" if self.last else f"{self.nth}"
        chosen = ["-P", str(data / self.file)] if self.file else []
        return [
            "-o",
            os.devnull,
            *chosen,
            "-e",
            f"trace={self.calls}",
            "-e",
            f"inject={self.calls}:{self.what}:when={when}",
        ]


class Killed(Exception):
    """The hub was killed before it was ready."""


class ForkedHub(Served):
    """Use as a context: hub and template are ended with it."""

    def __enter__(self) -> Self:
        folder = Path(__file__).parent.parent
        environment = {**os.environ, "HUBKEEP_LISTENERS__METRICS_PORT": "0", "PYTHONPATH": _path(folder)}
        environment |= self._environment
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._said = tempfile.TemporaryFile()  # closed with the context
        self._pid = 0
        self._tracer: subprocess.Popen[str] | None = None
        self._template = subprocess.Popen(
            [sys.executable, "-m", "faults.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=environment,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self._template.stdin is not None
        assert self._template.stdout is not None
        self._template.stdin.close()
        self._template.wait(30)
        self._template.stdout.close()
        self._said.close()

    def start(self, within: float = 60.0, traced: Sequence[str] = ()) -> float:
        """traced: options of strace, which sees all from the first instruction on. Seconds until it was ready.

        Raises Killed, and RuntimeError when it ends otherwise.
        """
        began = time.monotonic()
        arguments = ["serve", "--data", str(self.data), "--listen", self.address, "--host-name", self.address]
        self._say([*arguments, "--json", *self._options])
        self._pid = self._told(within)["pid"]
        if traced:
            self.trace(*traced)
        self._say("go")
        told = self._told(within)
        if "ended" in told:
            self._ended(told["ended"])
            if told["ended"] == signal.SIGKILL:
                raise Killed
            raise RuntimeError(f"the hub did not start: {self.said()}")
        self.metrics = told["metrics"]
        self.start_cpu = processor_time(self._pid)
        return time.monotonic() - began

    @property
    def is_running(self) -> bool:
        """Or was, when somebody last looked."""
        return self._pid != 0

    def trace(self, *options: str) -> None:
        """Attach strace to the hub that runs; back when it is attached."""
        self._tracer = subprocess.Popen(
            ["strace", "-f", "-p", str(self._pid), *options], stderr=subprocess.PIPE, text=True
        )
        line = _lines(self._tracer.stderr).readline()
        assert "attached" in line, line

    def detach(self) -> None:
        """No strace any more; the hub goes on."""
        if self._tracer is not None:
            self._tracer.terminate()
            self._gone()

    def kill(self) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self.ended()

    def ended(self, within: float = 60) -> int:
        """The wait status of the hub, which has been told to end or ends by itself."""
        status: int = self._told(within)["ended"]
        self._ended(status)
        return status

    def is_over(self, within: float = 0.5) -> bool:
        """Whether the hub has ended; when it did, strace is gone too."""
        assert self._tracer is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._tracer.wait(within)
        return self._tracer.poll() is not None

    def said(self) -> str:
        """All of its standard error."""
        self._said.seek(0)
        return self._said.read().decode()

    def _ended(self, _: int) -> None:
        self._pid = 0
        self._gone()

    def _gone(self) -> None:
        if self._tracer is not None:
            self._tracer.wait(30)
            _lines(self._tracer.stderr).close()
            self._tracer = None

    def _say(self, what: Any) -> None:
        to = _lines(self._template.stdin)
        to.write(json.dumps(what) + "\n")
        to.flush()

    def _told(self, _within: float) -> dict[str, Any]:
        line = _lines(self._template.stdout).readline()
        if not line:
            raise RuntimeError(self.said())
        told: dict[str, Any] = json.loads(line)
        return told


def _lines(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _path(folder: Path) -> str:
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


def main() -> None:
    """The template: one line of arguments, then ``"go"``; it says the pid, and in the end the wait status."""
    import uvloop  # noqa: F401  # each of these is imported by a hub that starts

    from hubkeep.cli.main import main as hubkeep_main

    for line in sys.stdin:
        waits, goes = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(goes)
            os.read(waits, 1)
            os.close(waits)
            sys.argv = ["hubkeep", *json.loads(line)]
            hubkeep_main()
            os._exit(0)
        os.close(waits)
        print(json.dumps({"pid": pid}), flush=True)
        sys.stdin.readline()
        with contextlib.suppress(BrokenPipeError):
            os.write(goes, b"g")
        os.close(goes)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"ended": status}), flush=True)


if __name__ == "__main__":
    main()
