"""A storm of X.509 devices: all connect at once, stay, and nobody else notices. ``make bench STORM="--devices 5000"``.

Each device has a certificate of its own below a registered authority, so every login is a whole handshake with a client
certificate, a path to the authority, and MQTT's CONNECT. Meanwhile a bystander, connected before, pings, publishes and
waits for each answer, and does so for two seconds before, too: a ping's is the hub's own time, an acknowledgement's has
the disk's in it. The client is Python on the same two cores, so the rate is the machine's; the hub's CPU time is the
figure.
"""

import argparse
import asyncio
import datetime as dt
import json
import os
import resource
import selectors
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import machine
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from machine import Process
from servers import ADDRESS, API, HOST, Hubkeep

_RESULTS: Final = machine.HERE / "results"
_RECORDS: Final = 100  # identities of one request
_BYSTANDER: Final = "bench-0"
_BYSTANDERS_PAUSE: Final = 0.002  # seconds between an answer and the next message
_QUIET: Final = 2.0  # seconds of the bystander's before the storm
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Waits(NamedTuple):
    """Milliseconds until answers came, in order of size."""

    pings: Sequence[float]
    acks: Sequence[float]

    def told(self) -> str:
        """p50; p99; worst, of pings and of acknowledgements."""
        return " | ".join(f"{statistics.median(each):.1f}; {p99(each):.1f}; {each[-1]:.1f}" for each in self)


def p99(waits: Sequence[float]) -> float:
    return waits[int(len(waits) * 0.99)]


class Storm(NamedTuple):
    """rate: logins a second. cpu_us: of the hub for each. Of the bystander, before (quiet) and during the storm."""

    version: str
    devices: int
    failed: int
    rate: float
    cpu_us: float
    quiet: "Waits"
    stormy: "Waits"


class Issuer:
    """An authority, and a certificate with its key for each device, in one file."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "storm root")])
        made = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.pem = made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, name: str) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(subject, key).sign(self._key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self._folder / f"{name}.pem"
        path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )


def register(hub: Hubkeep, issuer: Issuer, names: Sequence[str]) -> None:
    connection = hub.https()
    hub.ask(connection, "PUT", "/api/cas/storm", {"certificate": issuer.pem, "isVerified": True})
    for at in range(0, len(names), _RECORDS):
        records = [
            {"id": each, "importMode": "create", "authentication": {"type": "certificateAuthority"}}
            for each in names[at : at + _RECORDS]
        ]
        hub.ask(connection, "POST", f"/devices?{API}", records)
    connection.close()


def packet(first: int, *fields: bytes) -> bytes:
    body, out = b"".join(fields), bytearray((first,))
    size = len(body)
    while True:
        size, digit = divmod(size, 128)
        out.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(out) + body


def text(value: str) -> bytes:
    return len(value).to_bytes(2) + value.encode()


def connect_packet(name: str, token: str = "") -> bytes:
    flags, rest = (0xC2, text(token)) if token else (0x82, b"")
    head = text("MQTT") + bytes((4, flags)) + (240).to_bytes(2)
    return packet(0x10, head, text(name), text(f"{HOST}/{name}/?{API}"), rest)


async def log_in(
    hub: Hubkeep, context: ssl.SSLContext, name: str, token: str = ""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises RuntimeError, OSError for one that is refused."""
    reader, writer = await asyncio.open_connection(ADDRESS, hub.ports["mqtt"], ssl=context, server_hostname=HOST)
    writer.write(connect_packet(name, token))
    answer = await reader.readexactly(4)
    if answer != b"\x20\x02\0\0":
        raise RuntimeError(f"{name}: {answer!r}")
    return reader, writer


def shift_priority(by: int) -> None:
    """Of this process, where it has one of real time: the hub's threads go before the storm's client, which stands for
    other machines, and the bystander goes before both."""
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    if policy in {os.SCHED_FIFO, os.SCHED_RR} and priority + by > 0:
        os.sched_setscheduler(0, policy, os.sched_param(priority + by))


def bystander(port: int, trust: str, token: str, topic: str) -> None:
    """A process of its own. At each line of its input it prints the waits since the one before, in order of size."""
    shift_priority(2)
    context = ssl.create_default_context(cafile=trust)
    message = packet(0x32, text(topic), b"\0\1", b"x" * 100)
    waits: dict[str, list[float]] = {"pings": [], "acks": []}
    with (
        socket.create_connection((ADDRESS, port)) as raw,
        context.wrap_socket(raw, server_hostname=HOST) as tls,
        selectors.DefaultSelector() as ending,
    ):
        ending.register(sys.stdin, selectors.EVENT_READ)
        tls.sendall(connect_packet(_BYSTANDER, token))
        if tls.recv(4) != b"\x20\x02\0\0":
            raise RuntimeError("the bystander is refused")
        print("{}", flush=True)
        while True:
            for kind, asked, answer in (("pings", b"\xc0\0", b"\xd0\0"), ("acks", message, b"\x40\x02\0\1")):
                began = time.perf_counter()
                tls.sendall(asked)
                if tls.recv(4) != answer:
                    raise RuntimeError("the bystander was not answered")
                waits[kind].append((time.perf_counter() - began) * 1000)
                time.sleep(_BYSTANDERS_PAUSE)
            if ending.select(0):
                if not sys.stdin.readline():
                    return
                print(json.dumps({kind: sorted(each) for kind, each in waits.items()}), flush=True)
                waits = {"pings": [], "acks": []}


async def storm(hub: Hubkeep, files: dict[str, Path], at_once: int, version: str) -> Storm:
    """All devices, ``at_once`` of them under way; they stay until the last one is in."""
    places = asyncio.Semaphore(at_once)
    inside: list[asyncio.StreamWriter] = []
    failures: list[str] = []
    contexts = {}
    for name, file in files.items():
        contexts[name] = context = ssl.create_default_context(cafile=str(hub.trust))
        context.minimum_version = context.maximum_version = _VERSIONS[version]
        context.load_cert_chain(file)

    async def enter(name: str) -> None:
        async with places:
            try:
                _, writer = await log_in(hub, contexts[name], name)
                inside.append(writer)
            except (OSError, RuntimeError, asyncio.IncompleteReadError) as error:
                failures.append(f"{name}: {error}")

    _, _, token, topic = hub.credentials(0)
    watched = Process([sys.executable, __file__, "--bystander", str(hub.ports["mqtt"]), str(hub.trust), token, topic])
    watched.result()
    await asyncio.sleep(_QUIET)
    watched.say()
    quiet = Waits(**watched.result())
    before, began = hub.process.cpu_seconds, time.perf_counter()
    await asyncio.gather(*map(enter, files))
    seconds, cpu = time.perf_counter() - began, hub.process.cpu_seconds - before
    watched.say()
    stormy = Waits(**watched.result())
    watched.stop()
    for each in failures[:5]:
        print(f"  {each}", file=sys.stderr)
    for writer in inside:
        writer.transport.abort()
    await asyncio.sleep(0.5)
    return Storm(version, len(files), len(failures), len(inside) / seconds, cpu / len(files) * 1e6, quiet, stormy)


def markdown(storms: Sequence[Storm]) -> str:
    lines = [
        "| X.509 logins | devices | failed | logins/s | hub CPU, us | pings, p50; p99; worst, ms | acks, the same |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in storms:
        lines.append(f"| before | | | | | {each.quiet.told()} |")
        lines.append(
            f"| TLS {each.version} | {each.devices} | {each.failed} | {each.rate:.0f} | {each.cpu_us:.0f} "
            f"| {each.stormy.told()} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """1: a device was refused."""
    if arguments is None and sys.argv[1:2] == ["--bystander"]:
        port, trust, token, topic = sys.argv[2:]
        bystander(int(port), trust, token, topic)
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=200, help="logins under way")
    parser.add_argument("--results", type=Path, default=_RESULTS)
    options = parser.parse_args(arguments)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, options.devices * 2 + 1000)), hard))
    socket.setdefaulttimeout(60)
    with tempfile.TemporaryDirectory(prefix="hubkeep-storm-") as folder:
        names = [f"storm-{number}" for number in range(options.devices)]
        issuer = Issuer(Path(folder))
        hub = Hubkeep(Path(folder), 1)
        with hub.process:
            shift_priority(-1)
            register(hub, issuer, names)
            files = {name: issuer.issue(name) for name in names}
            storms = []
            for version in _VERSIONS:
                storms.append(uvloop.run(storm(hub, files, options.at_once, version)))
                print("\n".join(markdown(storms[-1:]).splitlines()[-2:]), file=sys.stderr)
    options.results.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = [
        {"version": each.version, "rate": each.rate, "cpu_us": each.cpu_us, "failed": each.failed}
        | {"ping_p99": p99(each.stormy.pings), "ack_p99": p99(each.stormy.acks)}
        for each in storms
    ]
    (options.results / "storm.json").write_text(json.dumps({"rows": rows}))
    print(markdown(storms))
    return int(any(each.failed for each in storms))


if __name__ == "__main__":
    sys.exit(main())
