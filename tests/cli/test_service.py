"""As a service of systemd: what the unit leaves open, what the hub says, and that it works behind such walls."""

import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.processes import hub_process
from faults.served import Served

UNIT = Path(__file__).parents[2] / "packaging" / "hubkeep.service"
# PR_SET_MDWE with PR_MDWE_REFUSE_EXEC_GAIN: what MemoryDenyWriteExecute= means, without systemd
NO_NEW_CODE = """
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).prctl(65, 1, 0, 0, 0):
    sys.exit(f"PR_SET_MDWE: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_unit_reaches_little_of_the_system() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    exposure = re.search(r"Overall exposure level for hubkeep\.service: ([0-9.]+)", said)
    assert exposure is not None, said
    assert float(exposure[1]) <= 2.0, said


def test_the_service_manager_hears_when_the_hub_is_ready_reloads_and_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        with hub_process(tmp_path / "data", mode="serve") as hub:
            assert manager.recv(100) == b"READY=1"
            hub.process.send_signal(signal.SIGHUP)
            assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", manager.recv(100))
            assert manager.recv(100) == b"READY=1"
            assert hub.stop().status == 0
            assert manager.recv(100) == b"STOPPING=1"


def test_a_service_manager_that_is_gone_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with hub_process(tmp_path / "data", mode="serve") as hub:
        assert hub.stop().status == 0


def test_the_hub_works_where_no_memory_may_become_code(tmp_path: Path) -> None:
    """Its callback at TLS handshakes is made at run time: it must not need such memory."""
    through = [sys.executable, "-c", NO_NEW_CODE]
    tried = subprocess.run([*through, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip("the kernel is older than 6.3: PR_SET_MDWE")
    with Served(tmp_path / "data", through=through) as hub:
        hub.start()
        hub.register(["press-07"])
        assert hub.health() == (200, [])
        said = subprocess.run(
            ["openssl", "s_client", "-connect", f"{hub.address}:8883"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert b"Requested Signature Algorithms" in said.stdout, "no client certificate is asked for"
        hub.signal()
        assert hub.wait() == 0
