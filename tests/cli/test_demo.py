"""``hubkeep demo --seconds N``: ends by itself, with status 0 when all that was sent was read back."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from cli.processes import COMMAND, clean_environment, command
from hubkeep.testing.hub_in_thread import free_address

COUNTS = re.compile(r"(\d+) messages were acknowledged, (\d+) of them read back, 0 missing")
NOBODY = 65534


def test_everything_that_was_sent_is_read_back(tmp_path: Path) -> None:
    address = free_address()
    where = ("--data", str(tmp_path / "hub"), "--listen", address, "--host-name", address)
    done = command("demo", "--seconds", "2", "--every", "0.2", *where, within=110)
    assert done.status == 0, done
    found = COUNTS.search(done.out)
    assert found, done.out
    assert int(found[1]) == int(found[2]) >= 3
    assert "samples/python/send.py" in done.out
    assert "temperature" in done.out
    assert "3 messages were sent to devices, 3 of them arrived" in done.out


def test_an_ordinary_user_gets_the_demo_without_port_443() -> None:
    """In a network namespace of its own, where the lowest free port is 1024 as everywhere outside containers."""
    setpriv, unshare = shutil.which("setpriv"), shutil.which("unshare")
    if os.geteuid() != 0 or setpriv is None or unshare is None:
        pytest.skip("becoming an ordinary user needs root, setpriv and unshare")
    probe = subprocess.run([unshare, "--net", "true"], check=False, capture_output=True)
    if probe.returncode != 0:
        pytest.skip("this machine allows no network namespaces")
    with tempfile.TemporaryDirectory(prefix="hubkeep-") as folder:
        os.chown(folder, NOBODY, NOBODY)
        demo = [*COMMAND, "demo", "--seconds", "2", "--every", "0.2", "--data", f"{folder}/hub"]
        user = f"{setpriv} --reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs"
        script = (
            "(ip link set lo up || ifconfig lo up) && echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start "
            f'&& exec {user} "$@"'
        )
        done = subprocess.run(
            [unshare, "--net", "sh", "-c", script, "sh", *demo],
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
            cwd=folder,
            env=clean_environment() | {"HOME": folder},
        )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "port 443 may only be bound by root" in done.stdout
    assert COUNTS.search(done.stdout)
