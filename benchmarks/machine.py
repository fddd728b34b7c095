"""The machine under the benchmark: what must be installed, the native programs, processes and what they use."""

import json
import os
import platform
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

HERE: Final = Path(__file__).parent
BUILD: Final = HERE / "build"
_PROGRAMS: Final = ("load", "reader", "null_server", "crowd")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_QUIET_CORES: Final = 0.15


class Missing(Exception):
    """Something that the benchmark needs is not installed and cannot be installed from here."""


def require(command: str, *packages: str) -> str:
    """The command's path; as root on Debian it is installed if need be. Raises Missing."""
    found = shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(["apt-get", "install", "-y", "-qq", *packages], check=False, stdout=subprocess.DEVNULL)
        found = shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise Missing(f"{command} is missing; install it first: apt-get install {' '.join(packages)}")
    return found


def build() -> None:
    """Compile the native programs where their source is newer. Raises Missing."""
    BUILD.mkdir(exist_ok=True)
    sources = HERE / "native"
    newest = max(path.stat().st_mtime for path in sources.iterdir())
    for name in _PROGRAMS:
        target = BUILD / name
        if target.exists() and target.stat().st_mtime > newest:
            continue
        compiler = require("gcc", "gcc", "libssl-dev")
        command = [compiler, "-O2", "-o", str(target), str(sources / f"{name}.c"), "-lssl", "-lcrypto"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "openssl/" in done.stderr:
            raise Missing("OpenSSL's headers are missing; install them first: apt-get install libssl-dev")
        if done.returncode:
            raise Missing(f"{name}.c does not compile: {done.stderr}")


def program(name: str) -> str:
    return str(BUILD / name)


class Process:
    """A child that answers in lines. Use as a context: it is ended with it."""

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Let it end by itself at the end of its input, then by SIGTERM."""
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for stream in (child.stdin, child.stdout):
            try:
                stream.close()
            except BrokenPipeError:
                continue

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def say(self, line: str = "") -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(f"{line}\n")
        self._child.stdin.flush()

    def line(self) -> str:
        """The next line of its output. Raises RuntimeError when it ended instead."""
        assert self._child.stdout is not None
        line: str = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"{Path(str(self._child.args[0])).name} ended with status {self._child.wait()}")  # type: ignore[index]
        return line.strip()

    def result(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.line())
        return value

    @property
    def cpu_seconds(self) -> float:
        """User and system time so far, of all its threads."""
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def family_cpu_seconds(self) -> float:
        """The same with all processes below it, as far as they run or were waited for."""
        return sum(_cpu_ticks(pid) for pid in _family(self._child.pid)) / _TICKS

    @property
    def family_resident_kib(self) -> int:
        return sum(_resident_pages(pid) for pid in _family(self._child.pid)) * os.sysconf("SC_PAGE_SIZE") // 1024

    @property
    def resident_kib(self) -> int:
        for line in Path(f"/proc/{self._child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError("no VmRSS")


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:  # it has ended
                continue
    return found


def _cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))  # of itself, and of children that it waited for


def _resident_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0


def busy_cores(seconds: float = 0.3) -> float:
    """How many cores' worth of time the machine is using now."""

    def idle_ticks() -> int:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        return int(fields[4]) + int(fields[5])

    before, started = idle_ticks(), time.monotonic()
    time.sleep(seconds)
    return max((os.cpu_count() or 1) - (idle_ticks() - before) / _TICKS / (time.monotonic() - started), 0.0)


def wait_for_quiet(patience: float) -> float:
    """Wait until nothing else runs, at most ``patience`` seconds. Returns the cores in use by then."""
    give_up = time.monotonic() + patience
    while (busy := busy_cores()) > _QUIET_CORES and time.monotonic() < give_up:
        continue
    return busy


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def description() -> dict[str, Any]:
    """What the figures belong to."""
    processors = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in processors if line.startswith("model name"))
    model = next(models, platform.machine())
    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
    }
