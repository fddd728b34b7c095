"""testssl.sh against the default listeners: ``make testssl``. Minutes for each, so it is no part of the suite.

Status 1 for a finding that does not stand in ALLOWED.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from hubkeep.testing import HubInThread

# what it would have otherwise, and why it stays; see test_scanners.py for sslyze's
ALLOWED: Final = {
    "cert_revocation": "the hub's certificate comes from a root of the hub's own, which is taken back by a new one",
    "engine_problem": "of the scanner's own OpenSSL",
    "service": "it speaks HTTP alone, and these ports do not",
}
_GOOD: Final = {"OK", "INFO"}


def findings(hub: HubInThread, port: int) -> list[str]:
    command = [
        shutil.which("testssl") or shutil.which("testssl.sh") or "",
        "--quiet",
        "--warnings",
        "off",
        "-n",
        "none",
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command += ["--add-ca", str(hub.trust_bundle), "--jsonfile", str(path), f"{hub.address}:{port}"]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        found = json.loads(path.read_text())
    return [
        f"{port}: {each['severity']} {each['id']}: {each['finding']}"
        for each in found
        if each["severity"] not in _GOOD and each["id"].split()[0] not in ALLOWED
    ]


def main() -> int:
    if shutil.which("testssl") is None and shutil.which("testssl.sh") is None:
        print("testssl.sh is missing; install it first: apt-get install testssl.sh", file=sys.stderr)
        return 1
    with HubInThread(mode="serve") as hub:
        found = [line for port in (443, 8883, 5671) for line in findings(hub, port)]
    print("\n".join(found) or "nothing to mend")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
