"""A real ``hubkeep serve`` in a process of its own, that can be killed, stopped, limited, and started again."""

import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from faults.ledger import ReadBack
from faults.load import Hub, identity_path
from hubkeep.testing.hub_in_thread import free_address
from hubkeep.wire import sas

KEY = b"the same key for all devices of a load"
_ENDS_WITHIN = 30.0


class Served:
    """Use as a context: what is still running at its end is killed.

    start_cpu: seconds of processor time that the newest start took; on a busy machine the clock tells less.
    """

    def __init__(
        self, data: Path, *options: str, through: Sequence[str] = (), environment: dict[str, str] | None = None
    ) -> None:
        """through: a command that starts it, with other rights."""
        self.data, self.address = data, free_address()
        self._options, self._through, self._environment = options, through, environment or {}
        self.process: subprocess.Popen[str] | None = None
        self.errors: list[str] = []
        self.metrics = ""
        self.start_cpu = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def spawn(self) -> "subprocess.Popen[str]":
        """Start the process and do not wait."""
        command = [
            *self._through,
            sys.executable,
            "-m",
            "hubkeep",
            "serve",
            "--data",
            str(self.data),
            "--listen",
            self.address,
        ]
        command += ["--host-name", self.address, "--json", *self._options]
        environment = {**os.environ, "HUBKEEP_LISTENERS__METRICS_PORT": "0", **self._environment}
        # an installed hub has its byte code on disk; compiling it anew would be more than half of every start
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        return self.process

    def start(self, within: float = 60.0) -> float:
        """Seconds until it was ready. Raises RuntimeError with what it said when it was not."""
        began = time.monotonic()
        process = self.spawn()
        assert process.stdout is not None
        timer = threading.Timer(within, process.kill)
        timer.start()
        line = process.stdout.readline()
        timer.cancel()
        if not line:
            raise RuntimeError(f"the hub did not start: {process.communicate()[1]}")
        taken = time.monotonic() - began
        self.start_cpu = processor_time(process.pid)
        self.metrics = json.loads(line)["metrics"]
        threading.Thread(target=self._drain, args=(process.stderr,), daemon=True).start()
        return taken

    def _drain(self, stream: Any) -> None:
        with contextlib.suppress(ValueError, OSError):
            self.errors.extend(stream)

    def refused(self, within: float = 60.0) -> tuple[int, str]:
        """Exit status and standard error of a start that does not succeed."""
        process = self.spawn()
        _, errors = process.communicate(timeout=within)
        return process.returncode, errors

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.wait()

    def signal(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, within: float = _ENDS_WITHIN) -> int:
        assert self.process is not None
        status = self.process.wait(within)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return status

    # -- what it is asked --------------------------------------------------------------------------------------------

    @property
    def admin(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "admin").read_text())
        return found

    @property
    def for_load(self) -> Hub:
        return Hub(self.address, str(self.data / "trust-bundle.pem"), KEY)

    def token(self) -> str:
        parsed = sas.parse_connection_string(self.admin["connection_string"])
        return sas.make(self.address, parsed.key, int(time.time()) + 3600, parsed.parts["SharedAccessKeyName"])

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.data / "trust-bundle.pem"))

    def register(self, names: Sequence[str]) -> None:
        """Make devices, and modules (``device/module``), with KEY."""
        key = b64encode(KEY).decode()
        connection = http.client.HTTPSConnection(self.address, 443, context=self.context(), timeout=30)
        with contextlib.closing(connection):
            for name in names:
                device, _, module = name.partition("/")
                body = {
                    "deviceId": device,
                    **({"moduleId": module} if module else {}),
                    "authentication": {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}},
                }
                connection.request(
                    "PUT",
                    f"/devices/{identity_path(name)}?api-version=2021-04-12",
                    json.dumps(body),
                    {"Authorization": self.token(), "Content-Type": "application/json"},
                )
                answer = connection.getresponse()
                content = answer.read()
                assert answer.status == 200, content

    def ask(
        self, method: str, path: str, body: Any = None, *, token: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str]]:
        """Status and headers of one request of the service or device API. token: else the owner's."""
        connection = http.client.HTTPSConnection(self.address, 443, context=self.context(), timeout=30)
        given = {"Authorization": token or self.token(), "Content-Type": "application/json", **(headers or {})}
        with contextlib.closing(connection):
            content = None if body is None else json.dumps(body)
            connection.request(method, f"{path}?api-version=2021-04-12", content, given)
            answer = connection.getresponse()
            answer.read()
            return answer.status, dict(answer.getheaders())

    def get(self, path: str) -> Any:
        """A path of the administration, as JSON."""
        request = urllib.request.Request(f"https://{self.address}{path}", headers={"Authorization": self.token()})
        with urllib.request.urlopen(request, timeout=30, context=self.context()) as answer:
            return json.load(answer)

    def health(self) -> tuple[int, list[str]]:
        """Status and reasons of /healthz."""
        try:
            with urllib.request.urlopen(f"{self.metrics}/healthz", timeout=10) as answer:
                return answer.status, json.load(answer)["reasons"]
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["reasons"]

    def stored(self) -> int:
        """Events in the log."""
        partitions = self.get("/api/status")["partitions"]
        return sum(each["last_sequence"] + 1 - each["first_sequence"] for each in partitions)

    def events(self) -> Iterator[ReadBack]:
        """All events that are stored now, over /api/events."""
        remaining = self.stored()
        request = urllib.request.Request(
            f"https://{self.address}/api/events?from=earliest", headers={"Authorization": self.token()}
        )
        with urllib.request.urlopen(request, timeout=60, context=self.context()) as answer:
            while remaining:
                line = answer.readline()
                if line.strip():
                    event = json.loads(line)
                    assert "error" not in event, event
                    remaining -= 1
                    yield ReadBack(
                        int(event["partition"]),
                        event["sequence_number"],
                        int(event["offset"]),
                        event["device"],
                        event["body"].encode(),
                    )

    def consumed(self, within: float = 300.0) -> list[ReadBack]:
        """All events that are stored now, read by an unmodified azure-eventhub consumer."""
        from azure.eventhub import EventHubConsumerClient

        remaining = self.stored()
        events: list[ReadBack] = []
        is_done = threading.Event()
        client = EventHubConsumerClient.from_connection_string(
            self.admin["events_connection_string"], "$Default", connection_verify=str(self.data / "trust-bundle.pem")
        )

        def on_events(context: Any, batch: Any) -> None:
            for event in batch:
                device = event.system_properties[b"iothub-connection-device-id"].decode()
                body = b"".join(event.body)
                events.append(
                    ReadBack(int(context.partition_id), event.sequence_number, int(event.offset), device, body)
                )
            if len(events) >= remaining:
                is_done.set()

        reading = threading.Thread(
            target=client.receive_batch,
            args=(on_events,),
            kwargs={"starting_position": "-1", "max_batch_size": 1000, "prefetch": 2000},
            daemon=True,
        )
        reading.start()
        is_done.wait(within)
        client.close()
        reading.join(30)
        return events


def processor_time(pid: int) -> float:
    """Seconds that the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
