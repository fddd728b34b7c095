"""What the tests need beside the dev group, installed where it is missing: Debian packages (as root), Node, sslyze.

A machine that cannot install one of them goes on: each test that needs it is one skip with a name, and says so here.
Run again, it only looks whether everything is there.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

COMPATIBILITY = Path(__file__).parent / "compatibility"
NODE_FOLDERS = {
    "node": "the Node clients",
    "azurite": "Azurite, which stands for Azure Blob Storage,",
    "oidc": "oidc-provider, which people of the tests sign in with,",
}
SCANNER = "sslyze>=6.1"
# command to the Debian packages that it needs
COMMANDS = {
    "curl": "curl",
    "gcc": "gcc libssl-dev",  # with mosquitto: the benchmark's programs, and what it compares with
    "ip": "iproute2",
    "mosquitto": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
    "node": "nodejs",
    "npm": "npm",
    "openssl": "openssl",
    "setpriv": "util-linux",
    "softhsm2-util": "softhsm2",
    "strace": "strace",
    "swtpm": "swtpm",
    "systemd-analyze": "systemd",
    "tpm2": "tpm2-tools libtss2-tcti-swtpm0",
}


def main() -> None:
    install_debian_packages()
    if missing := missing_commands():
        told(f"not installed, and the tests that need them are skipped: {', '.join(missing)}")
    for name, what in NODE_FOLDERS.items():
        install_node_folder(COMPATIBILITY / name, what)
    install_scanner(Path(sys.prefix) / "share" / "sslyze")


def missing_commands() -> list[str]:
    paths = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))  # ordinary users have these not in PATH
    return sorted(command for command in COMMANDS if shutil.which(command, path=paths) is None)


def install_debian_packages() -> None:
    packages = sorted({package for command in missing_commands() for package in COMMANDS[command].split()})
    if not packages:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        told(f"as root on Debian these would be installed: {' '.join(packages)}")
        return
    ran(["apt-get", "update", "-qq"])
    ran(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages])


def install_node_folder(folder: Path, what: str) -> None:
    """``npm ci``, once for each state of the lock file."""
    lock, stamp = folder / "package-lock.json", folder / "node_modules" / ".installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    if shutil.which("npm") is None or stamp.parent.is_symlink():  # npm would empty a folder that others use as well
        return
    if ran(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], folder):
        stamp.write_text(wanted)
    else:
        told(f"{what} cannot be installed here: the tests are skipped, or run with what is there")


def install_scanner(folder: Path) -> None:
    """sslyze wants an older ``cryptography`` than the hub's: an environment of its own inside of this one."""
    if (folder / "bin" / "sslyze").is_file():
        return
    if not (
        ran([sys.executable, "-m", "venv", str(folder)])
        and ran([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", SCANNER])
    ):
        told("sslyze cannot be installed here: its tests are skipped")


def ran(command: Sequence[str], folder: Path | None = None) -> bool:
    """Whether it ended well."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0


def told(text: str) -> None:
    print(f"tests/setup.py: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
