"""sslyze, in a Python environment of its own: it wants an older ``cryptography`` than the hub's (tests/setup.py)."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from conversations.certificates import Certificate
from hubkeep.testing import HubInThread

SSLYZE: Final = Path(sys.prefix) / "share" / "sslyze" / "bin" / "sslyze"
_VERSIONS: Final = {
    "ssl_2_0": "SSL 2.0",
    "ssl_3_0": "SSL 3.0",
    "tls_1_0": "TLS 1.0",
    "tls_1_1": "TLS 1.1",
    "tls_1_2": "TLS 1.2",
    "tls_1_3": "TLS 1.3",
}
_BY_HTTP: Final = {"http_headers", "tls_1_3_early_data"}  # it asks every port so, and only one answers
VERSIONS_ALONE: Final = ("sslv2", "sslv3", "tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3")
_FAULTS: Final = ("compression", "early_data", "fallback", "heartbleed", "openssl_ccs", "reneg", "resum", "robot")
EVERYTHING: Final = (*VERSIONS_ALONE, *_FAULTS, "certinfo", "elliptic_curves", "ems")
_ATTEMPTS: Final = 3


class Scan:
    """What sslyze says of one port. objections: by name, against Mozilla's intermediate profile."""

    def __init__(self, port: int, results: Mapping[str, Any], objections: Mapping[str, str]) -> None:
        self.results = {name: each["result"] for name, each in results.items() if each["status"] == "COMPLETED"}
        failed = [name for name, each in results.items() if each["status"] == "ERROR"]
        self.failed = [each for each in failed if port == 443 or each not in _BY_HTTP]
        self.objections = objections

    def versions(self) -> list[str]:
        """The versions in which it took a suite."""
        return [told for name, told in _VERSIONS.items() if self.suites(name)]

    def suites(self, version: str) -> list[str]:
        """By the names of the standards. version: as in ``tls_1_2``."""
        accepted = self.results[f"{version}_cipher_suites"]["accepted_cipher_suites"]
        return [each["cipher_suite"]["name"] for each in accepted]


def scan(hub: HubInThread, ports: Sequence[int], options: Iterable[str] = EVERYTHING) -> dict[int, Scan]:
    """All ports at once. What the scanner itself fails at (it does now and then) is scanned again."""
    found = _scanned(hub, ports, [f"--{each}" for each in options])
    for _ in range(_ATTEMPTS):
        again = [port for port in ports if found[port].failed]
        if not again:
            break
        found |= _scanned(hub, again, [f"--{each}" for each in options])
    assert not {port: each.failed for port, each in found.items() if each.failed}
    return found


def _scanned(hub: HubInThread, ports: Sequence[int], options: Sequence[str]) -> dict[int, Scan]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.json"
        command = [str(SSLYZE), "--certinfo_ca_file", str(hub.trust_bundle), "--json_out", str(path), *options]
        command += ["--http_headers"] if "--resum" in options else []
        command += ["--mozilla_config", "intermediate"] if "--resum" in options else []
        # MQTT closes on the scanner's HTTP, which then believes that it must show a certificate
        shown = Certificate.made("a scanner").file(Path(folder))
        command += ["--cert", str(shown), "--key", str(shown)]
        addresses = [f"{hub.address}:{port}" for port in ports]
        done = subprocess.run([*command, *addresses], capture_output=True, text=True, timeout=100, check=False)
        results = json.loads(path.read_text())["server_scan_results"]
    return {
        (port := each["server_location"]["port"]): Scan(
            port, each["scan_result"], _objections(done.stdout, each["server_location"])
        )
        for each in results
    }


def _objections(said: str, location: Mapping[str, Any]) -> dict[str, str]:
    """The lines below ``address:port: FAILED`` in the part on compliance, by name."""
    compliance = said.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2]
    of_port = compliance.partition(f"{location['hostname']}:{location['port']}:")[2].split("\n\n")[0]
    return dict(re.findall(r"^\s+\* (\w+): (.+)$", of_port, re.MULTILINE))
