"""Many devices on one hub: what each connection takes, and how long until all are back after a restart.

``make connections``; ``make connections ARGS="--devices 300 --seconds 2"`` is the short form. The devices are one
process in C (``native/crowd.c``) with addresses of 127.0.0.0/8; each has a key of its own and signs its token. They
connect, rest, send once a minute each, and then the hub is stopped and started: whoever is cut off comes back after
about a second, and later each time that it fails.
"""

import argparse
import hashlib
import json
import resource
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import machine
from machine import Missing, Process, program
from servers import ADDRESS, API, HOST, Hubkeep, topic

from hubkeep.wire import sas

_RESULTS: Final = machine.HERE / "results"
_RECORDS: Final = 100  # identities of one request
_A_MINUTE: Final = 60.0
_VALID_SECONDS: Final = 6 * 3600


def register(hub: Hubkeep, devices: int) -> None:
    """In bulk; writes the clients' file as native/client.h reads it."""
    connection, expiry, lines = hub.https(), int(time.time()) + _VALID_SECONDS, []
    for at in range(0, devices, _RECORDS):
        records = []
        for number in range(at, min(at + _RECORDS, devices)):
            name, secret = f"crowd-{number}", hashlib.sha256(b"crowd %d" % number).digest()
            key = b64encode(secret).decode()
            authentication = {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}}
            records.append({"id": name, "importMode": "create", "authentication": authentication})
            token = sas.make(f"{HOST}/devices/{name}", secret, expiry)
            lines.append(f"{name}\t{HOST}/{name}/?{API}\t{token}\t{topic(name)}\n")
        hub.ask(connection, "POST", f"/devices?{API}", records)
    connection.close()
    hub.clients.write_text("".join(lines))


def measure(hub: Hubkeep, devices: int, seconds: float) -> Iterator[tuple[str, float, str]]:
    """Name, value and unit of each figure. Raises RuntimeError where a message was lost or a device stayed away."""
    empty, cpu = hub.process.resident_kib, hub.process.cpu_seconds
    crowd = Process([program("crowd"), ADDRESS, str(hub.port), str(hub.clients), str(devices)])
    with crowd:
        there = crowd.result()
        yield "all connected", there["seconds"], "s"
        yield "a login, hub CPU", (hub.process.cpu_seconds - cpu) / devices * 1e6, "us"
        time.sleep(1)
        yield "memory of a connection", (hub.process.resident_kib - empty) / devices, "KiB"
        yield "memory of the hub", hub.process.resident_kib / 1024, "MiB"
        yield "CPU at rest", 100 * _cpu_of(hub, seconds) / seconds, "% of a core"
        crowd.say(f"rate {devices / _A_MINUTE}")
        busy = _cpu_of(hub, seconds)
        crowd.say("rate 0")
        time.sleep(1)
        crowd.say("tell")
        told = crowd.result()
        if told["sent"] != told["acknowledged"] or told["up"] != devices:
            raise RuntimeError(f"not all were served: {told}")
        yield "CPU while each sends once a minute", 100 * busy / seconds, "% of a core"
        yield "slowest acknowledgement then", told["worst_ms"], "ms"
        began = time.perf_counter()
        hub.restart()
        ready, cpu = time.perf_counter(), hub.process.cpu_seconds
        yield "stop and start of the hub", ready - began, "s"
        back = crowd.result()
        yield "from its start until all are back", time.perf_counter() - ready, "s"
        yield "logins begun since the cut", back["attempts"] / devices, "of each device"
        yield "a login in the storm, hub CPU", (hub.process.cpu_seconds - cpu) / devices * 1e6, "us"
        time.sleep(1)
        yield "memory of the hub then", hub.process.resident_kib / 1024, "MiB"


def _cpu_of(hub: Hubkeep, seconds: float) -> float:
    before = hub.process.cpu_seconds
    time.sleep(seconds)
    return hub.process.cpu_seconds - before


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of rest, and of sending")
    parser.add_argument("--results", type=Path, default=_RESULTS)
    options = parser.parse_args(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if options.devices > hard * 0.75:  # the hub takes four fifths of them
        print(f"{options.devices} devices need more descriptors than the hard limit, {hard}", file=sys.stderr)
        return 2
    try:
        machine.build()
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="hubkeep-connections-") as folder:
        hub = Hubkeep(Path(folder), 0)
        try:
            register(hub, options.devices)
            for what, value, unit in measure(hub, options.devices, options.seconds):
                rows.append({"what": what, "value": round(value, 2), "unit": unit})
                print(f"{what}: {value:,.2f} {unit}", file=sys.stderr)
        finally:
            hub.process.stop()
    lines = [f"| {options.devices:,} devices on one hub | | |", "| --- | ---: | --- |"]
    lines += [f"| {row['what']} | {row['value']:,.1f} | {row['unit']} |" for row in rows]
    told = {"devices": options.devices, "machine": machine.description(), "rows": rows}
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "connections.json").write_text(json.dumps(told, indent=2) + "\n")
    (options.results / "connections.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
