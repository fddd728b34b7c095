"""What the posture report wants to know of the machine: which versions run, and who keeps its clock."""

import ctypes
import datetime as dt
import platform
import sqlite3
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hubkeep import __version__
from hubkeep.model import Component

# Ends of support as the projects have announced them; read 2026-11.
_PYTHON: Final[Mapping[str, str]] = {"3.11": "2027-10-31", "3.12": "2028-10-31", "3.13": "2029-10-31"}
_OPENSSL: Final[Mapping[str, str]] = {
    "1.1": "2023-09-11",
    "3.0": "2026-09-07",
    "3.1": "2025-03-14",
    "3.2": "2025-11-23",
    "3.3": "2026-04-09",
    "3.4": "2026-10-22",
    "3.5": "2030-04-08",
}
# A distribution mends what it ships for as long as it is supported, whatever the version says.
_DISTRIBUTIONS: Final[Mapping[tuple[str, str], str]] = {
    ("debian", "11"): "2026-08-31",
    ("debian", "12"): "2028-06-30",
    ("debian", "13"): "2030-06-30",
    ("ubuntu", "22.04"): "2027-04-30",
    ("ubuntu", "24.04"): "2029-04-30",
    ("alpine", "3.20"): "2026-04-01",
    ("alpine", "3.21"): "2026-11-01",
    ("alpine", "3.22"): "2027-05-01",
}
_UNSYNCHRONISED: Final = 5  # TIME_ERROR of adjtimex(2)


def components() -> tuple[Component, ...]:
    python, openssl = platform.python_version(), ssl.OPENSSL_VERSION.split()[1]
    distribution, branch = _distribution(), _branch(openssl)
    shipped = _end(_DISTRIBUTIONS.get(distribution, ""))
    of_system = sys.base_prefix == "/usr"
    return (
        Component("Hubkeep", __version__, 0.0),
        Component("Python", python, shipped if of_system and shipped else _end(_PYTHON.get(_branch(python), ""))),
        Component("OpenSSL", openssl, shipped if _is_of_system() and shipped else _end(_OPENSSL.get(branch, ""))),
        Component("SQLite", sqlite3.sqlite_version, 0.0),
        Component(" ".join(distribution).strip() or "this system", "", shipped),
    )


def clock_kept() -> tuple[bool | None, float]:
    """Whether a time source keeps the clock, and by how many seconds it may be off; None: the machine does not say."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None, 0.0
    buffer = (ctypes.c_long * 64)()  # struct timex: modes, offset, frequency, maximum error in microseconds ...
    state = adjtimex(ctypes.byref(buffer))
    if state < 0:
        return None, 0.0
    return state != _UNSYNCHRONISED, buffer[3] / 1_000_000


def _is_of_system() -> bool:
    """Whether libssl comes from where the distribution puts it."""
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return False
    libraries = {line.split()[-1] for line in mapped.splitlines() if "/libssl." in line}
    return bool(libraries) and all(each.startswith(("/usr/lib", "/lib")) for each in libraries)


def _distribution() -> tuple[str, str]:
    try:
        told = platform.freedesktop_os_release()
    except OSError:
        return "", ""
    version = told.get("VERSION_ID", "")
    name = told.get("ID", "")
    return name, _branch(version) if name == "alpine" else version


def _branch(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _end(day: str) -> float:
    return dt.datetime.fromisoformat(f"{day}T23:59:59+00:00").timestamp() if day else 0.0
