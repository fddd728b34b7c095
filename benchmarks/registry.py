"""The registry with many identities: a part of ``make bench``; ``make bench REGISTRY="--identities 1000000"``.

One hub process with its defaults, asked over TLS from outside. Figures at a thousand identities stand beside those at
all of them: what a device or back end waits for must not grow with the fleet.
"""

import argparse
import concurrent.futures
import http.client
import json
import random
import socket
import ssl
import statistics
import struct
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import machine
import msgspec
from servers import ADDRESS, API, HOST, Hubkeep

from hubkeep.wire import sas

_RECORDS: Final = 100  # of one request
_FEW: Final = 1000  # identities that the whole is compared with
_SITES: Final = 1000  # different values of a tag
_KEY: Final = bytes(range(32))
_RESULTS: Final = machine.HERE / "results"


class Figure(NamedTuple):
    """few: with a thousand identities; None: not measured. wanted: what is promised of ``all``."""

    what: str
    unit: str
    few: float | None
    all: float
    wanted: str = ""


class Registry:
    """What is asked of the hub."""

    def __init__(self, hub: Hubkeep, repeats: int) -> None:
        self._hub, self._repeats = hub, repeats
        self.identities = 0

    def create(self, count: int, workers: int) -> float:
        """Identities made a second."""
        first, self.identities = self.identities, self.identities + count
        starts = range(first, self.identities, _RECORDS)
        # made beforehand, so that the clients are not the limit
        bodies = [
            json.dumps([_record(number) for number in range(at, min(at + _RECORDS, self.identities))]).encode()
            for at in starts
        ]

        def work(worker: int) -> None:
            connection = self._hub.https()
            for body in bodies[worker::workers]:
                self._hub.ask(connection, "POST", f"/devices?{API}", body)
            connection.close()

        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, range(workers)))
        return count / (time.monotonic() - began)

    def point_read(self) -> float:
        """Milliseconds to read one identity."""
        return self._median(lambda ask: ask("GET", f"/devices/{_name(self._any())}?{API}"))

    def query(self, condition: Callable[[], str]) -> float:
        """Milliseconds for a page of a query."""
        path = f"/devices/query?{API}"
        return self._median(
            lambda ask: ask("POST", path, {"query": f"SELECT * FROM devices WHERE {condition()}"}), expect=b"deviceId"
        )

    def connect(self) -> float:
        """Milliseconds from a device's CONNECT to its answer, behind the TLS handshake."""
        context = ssl.create_default_context(cafile=str(self._hub.data / "trust-bundle.pem"))
        times = []
        for _ in range(self._repeats):
            name = _name(self._any())
            token = sas.make(f"{HOST}/devices/{name}", _KEY, int(time.time()) + 600)
            raw = socket.create_connection((ADDRESS, self._hub.port), 10)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else CONNECT waits for an ACK of the handshake
            with context.wrap_socket(raw, server_hostname=HOST) as link:
                began = time.perf_counter()
                link.sendall(_connect(name, f"{HOST}/{name}/?{API}", token))
                answer = link.recv(4)
                times.append(time.perf_counter() - began)
                if answer != b"\x20\x02\x00\x00":
                    raise RuntimeError(f"{name} was answered {answer!r}")
        return statistics.median(times) * 1000

    def one_site(self) -> str:
        return f"tags.site = 'site-{self._any() % _SITES}'"

    def by_id(self) -> str:
        return f"deviceId = '{_name(self._any())}'"

    def among_ids(self) -> str:
        return f"deviceId IN [{', '.join(repr(_name(self._any())) for _ in range(100))}]"

    def by_reported(self) -> str:
        return f"properties.reported.serial = {self._any()}"

    def _any(self) -> int:
        return random.randrange(self.identities)  # which one does not matter

    def _median(self, work: Callable[[Callable[..., bytes]], bytes], expect: bytes = b"") -> float:
        connection = self._hub.https()

        def ask(method: str, path: str, body: Any = None) -> bytes:
            return self._hub.ask(connection, method, path, body)

        work(ask)
        times = []
        for _ in range(self._repeats):
            began = time.perf_counter()
            answer = work(ask)
            times.append(time.perf_counter() - began)
            if expect not in answer:
                raise RuntimeError(f"the answer has no {expect!r}: {answer[:200]!r}")
        connection.close()
        return statistics.median(times) * 1000


def measure(hub: Hubkeep, identities: int, repeats: int, workers: int) -> list[Figure]:
    """All figures, the same at a few identities and at all of them."""
    registry = Registry(hub, repeats)
    waits: dict[str, tuple[Callable[[], float], str]] = {
        "point read": (registry.point_read, "under 1"),
        "query by device id": (lambda: registry.query(registry.by_id), "under 50"),
        "query by a tag, a page of 100 at most": (lambda: registry.query(registry.one_site), "under 50"),
        "query by a reported property": (lambda: registry.query(registry.by_reported), "under 50"),
        "query by 100 ids": (lambda: registry.query(registry.among_ids), "under 50"),
        "a device's CONNECT": (registry.connect, "as with 1,000"),
    }
    few_rate = registry.create(min(_FEW, identities), workers)
    few = {name: wait() for name, (wait, _) in waits.items()}
    memory = hub.process.resident_kib
    cpu = hub.process.cpu_seconds
    rate = few_rate
    if (rest := identities - registry.identities) > 0:
        rate = registry.create(rest, workers)
        cost = (hub.process.cpu_seconds - cpu) / rest * 1e6
    else:
        cost = 0.0
    figures = [
        Figure("identities made in bulk", "identities/s", few_rate, rate, "5,000"),
        Figure("the same: CPU of the hub", "us/identity", None, cost),
    ]
    figures += [Figure(name, "ms", few[name], wait(), wanted) for name, (wait, wanted) in waits.items()]
    grown = (hub.process.resident_kib - memory) / 1024
    figures.append(Figure("memory of the hub, more than with 1,000", "MiB", None, grown, "not growing"))
    size = sum(path.stat().st_size for path in hub.data.glob("registry.db*"))
    figures.append(Figure("on disk", "bytes/identity", None, size / registry.identities))
    return figures


def _name(number: int) -> str:
    return f"fleet-{number:07}"


def _record(number: int) -> dict[str, Any]:
    key = b64encode(_KEY).decode()
    return {
        "id": _name(number),
        "importMode": "create",
        "authentication": {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}},
        "tags": {"site": f"site-{number % _SITES}"},
        "properties": {"desired": {"interval": 60}, "reported": {"serial": number}},
    }


def _connect(name: str, user: str, token: str) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack(">H", len(value.encode())) + value.encode()

    body = text("MQTT") + struct.pack(">BBH", 4, 0xC2, 60) + text(name) + text(user) + text(token)
    size = len(body)
    length = bytes((size,)) if size < 128 else bytes((size % 128 | 0x80, size // 128))
    return b"\x10" + length + body


def table(figures: Sequence[Figure], identities: int, about: dict[str, Any]) -> str:
    lines = [
        f"| Measurement | 1,000 identities | {identities:,} identities | Wanted | Unit |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for each in figures:
        few = "" if each.few is None else _number(each.few)
        lines.append(f"| {each.what} | {few} | {_number(each.all)} | {each.wanted} | {each.unit} |")
    return "\n".join([*lines, "", ", ".join(f"{name}: {value}" for name, value in about.items())])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=200, help="of each read, query and connect")
    parser.add_argument("--workers", type=int, default=4, help="connections that create at once")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="folder of registry.md and registry.json")
    chosen = parser.parse_args()
    about = {**machine.description(), "other load, cores": round(machine.busy_cores(), 2)}
    machine.BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hubkeep-registry-", dir=machine.BUILD) as folder:
        hub = Hubkeep(Path(folder), 0)
        try:
            figures = measure(hub, chosen.identities, chosen.repeats, chosen.workers)
        except (RuntimeError, OSError, http.client.HTTPException) as error:
            sys.exit(f"the hub failed: {error}")
        finally:
            hub.process.stop()
    text = table(figures, chosen.identities, about)
    chosen.results.mkdir(exist_ok=True)
    (chosen.results / "registry.md").write_text(f"{text}\n")
    rows = [each._asdict() for each in figures]
    content = json.dumps({"machine": about, "identities": chosen.identities, "rows": rows})
    (chosen.results / "registry.json").write_bytes(msgspec.json.format(content.encode(), indent=2))
    print(text)


if __name__ == "__main__":
    main()
