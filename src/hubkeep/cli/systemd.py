"""What systemd wants to hear from a service of Type=notify. Elsewhere nothing listens, and nothing is said.

Source: sd_notify(3), the protocol of NOTIFY_SOCKET: datagrams of lines NAME=VALUE.
"""

import contextlib
import os
import socket
import time

READY = "READY=1"
STOPPING = "STOPPING=1"


def reloading() -> str:
    """To be followed by READY."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def tell(state: str) -> None:
    """Say it to the service manager that started this process, if one did. A manager that is gone is no failure."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        out.sendall(state.encode())
