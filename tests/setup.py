"""What the tests need besides Python packages, installed if it is missing: Debian packages (as root) and Node clients.

A machine that cannot install one of them goes on: the tests that need it are one named skip each.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NODE = Path(__file__).parent / "compatibility" / "node"
COMMANDS = {
    "mosquitto_pub": "mosquitto-clients",
    "openssl": "openssl",
    # the benchmark's programs, and what it compares with
    "gcc": "gcc libssl-dev",
    "mosquitto": "mosquitto",
}


def main() -> None:
    absent = [packages for command, packages in COMMANDS.items() if _which(command) is None]
    missing = sorted({package for packages in absent for package in packages.split()})
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", *missing], check=False, stdout=subprocess.DEVNULL)
    elif missing:
        print(f"not installed, their tests are skipped: {', '.join(missing)}", file=sys.stderr)
    lock = NODE / "package-lock.json"
    stamp = NODE / "node_modules" / ".installed"
    if shutil.which("npm") is None:
        print("npm is not installed: the tests with Node clients are skipped", file=sys.stderr)
    elif lock.exists() and (not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime):
        done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=NODE, check=False)
        if done.returncode == 0:
            stamp.touch()


def _which(command: str) -> str | None:
    """Servers lie where only root's path looks."""
    return shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


if __name__ == "__main__":
    main()
