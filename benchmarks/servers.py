"""The servers under test, each a process of its own: Hubkeep, Mosquitto, and one that only acknowledges.

All speak TLS with the hub's own ECDSA certificate. Hubkeep's devices have keys and sign tokens; Mosquitto's clients
have passwords and an access list that allows each its own topic: what each server offers for the same purpose.
"""

import concurrent.futures
import hashlib
import http.client
import json
import os
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from machine import Process, free_port, program, require

from hubkeep.wire import sas
from hubkeep.wire.amqp import Described, Symbol, ULong
from hubkeep.wire.amqp.performatives import (
    AMQP_HEADER,
    SASL_HEADER,
    Attach,
    Begin,
    Flow,
    Open,
    Performative,
    encode_performative,
    frame,
)

ADDRESS: Final = "127.0.0.1"
HOST: Final = "localhost"
_VALID_SECONDS: Final = 6 * 3600
_CREDIT: Final = 20_000  # as in native/reader.c
_FRAME: Final = 16 * 1024
API: Final = "api-version=2021-04-12"


def device_name(number: int) -> str:
    return f"bench-{number}"


def _secret(number: int) -> bytes:
    return hashlib.sha256(f"benchmark {number}".encode()).digest()


class Server:
    """What the measurements need of each. clients: a file as native/client.h reads it."""

    name: str
    keeps_messages = False

    def __init__(self, folder: Path, process: Process, port: int) -> None:
        self.folder, self.process, self.port = folder, process, port
        self.clients = folder / f"{self.name}.clients"

    def reader(self, payload: int, run: int, *, from_now: bool) -> Process:
        """A reader of everything; ``from_now``: of what comes after ``mark``, else after its attachment."""
        raise NotImplementedError

    def mark(self) -> None:
        """Remember where the log stands."""


class Hubkeep(Server):
    name = "hubkeep"
    keeps_messages = True

    def __init__(self, folder: Path, devices: int, program: Sequence[str] = ("-m", "hubkeep")) -> None:
        """program: of Python, with the hub's command line."""
        self.data = folder / "hub"
        self.folder = folder
        self._program = program
        self.ports = {"https": 0, "mqtt": 0, "amqp": 0}
        process = self._started()
        super().__init__(folder, process, self.ports["mqtt"])
        admin = json.loads((self.data / "admin").read_text())
        self._owner = sas.parse_connection_string(admin["connection_string"])
        self._positions: list[int] = []
        self._register(devices)

    def _started(self) -> Process:
        """On the ports that it has had before, the first time on free ones."""
        ports = [text for kind, port in self.ports.items() for text in (f"--{kind}-port", str(port))]
        command = [sys.executable, *self._program, "serve", "--data", str(self.data), "--json"]
        log = (self.folder / "hub.log").open("a")
        process = Process([*command, "--listen", ADDRESS, "--host-name", HOST, *ports], stderr=log)
        ready = process.result()
        self.ports = {kind: int(ready[kind].rpartition(":")[2]) for kind in self.ports}
        return process

    def restart(self) -> None:
        """Ends it and starts it again; returns when it is ready."""
        self.process.stop()
        self.process = self._started()

    @property
    def certificate(self) -> tuple[Path, Path]:
        """Chain and key, for the servers beside it."""
        return self.data / "certificates" / "server-ecdsa.pem", self.data / "keys" / "server-ecdsa.key"

    @property
    def trust(self) -> Path:
        return self.data / "trust-bundle.pem"

    def credentials(self, number: int) -> tuple[str, str, str, str]:
        """Of one device: id, user name, token, telemetry topic."""
        name, user, token, its_topic = self.clients.read_text().splitlines()[number].split("\t")
        return name, user, token, its_topic

    def bytes_on_disk(self) -> int:
        """The event log with its write-ahead log."""
        return sum(path.stat().st_size for path in self.data.glob("events.db*"))

    def status(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.ask(self.https(), "GET", f"/api/status?{API}"))
        return value

    def mark(self) -> None:
        self._positions = [each["last_sequence"] for each in self.status()["partitions"]]

    def reader(self, payload: int, run: int, *, from_now: bool) -> Process:
        positions = self._positions if from_now else [each["last_sequence"] for each in self.status()["partitions"]]
        preamble = self.folder / "preamble"
        preamble.write_bytes(self._preamble(positions))
        where = (ADDRESS, str(self.ports["amqp"]), str(preamble), str(len(positions)))
        return Process([program("reader"), "amqp", *where, str(payload), str(run)])

    def owner_token(self) -> str:
        return sas.make(HOST, self._owner.key, int(time.time()) + _VALID_SECONDS, "iothubowner")

    def https(self) -> http.client.HTTPSConnection:
        """A connection for ``ask``."""
        context = ssl.create_default_context(cafile=str(self.trust))
        return http.client.HTTPSConnection(ADDRESS, self.ports["https"], context=context)

    def ask(self, connection: http.client.HTTPSConnection, method: str, path: str, body: Any = None) -> bytes:
        """A request of the owner. body: what is sent as JSON; bytes as they are. Raises RuntimeError for a refusal."""
        headers = {"Authorization": self.owner_token(), "Content-Type": "application/json"}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:200]!r}")
        return content

    def _register(self, devices: int) -> None:
        workers = 8

        def register(first: int) -> None:
            connection = self.https()
            for number in range(first, devices, workers):
                key = b64encode(_secret(number)).decode()
                keys = {"primaryKey": key, "secondaryKey": key}
                authentication = {"type": "sas", "symmetricKey": keys}
                body = {"deviceId": device_name(number), "authentication": authentication}
                self.ask(connection, "PUT", f"/devices/{device_name(number)}?{API}", body)
            connection.close()

        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            list(pool.map(register, range(workers)))
        expiry = int(time.time()) + _VALID_SECONDS
        lines = []
        for number in range(devices):
            name = device_name(number)
            token = sas.make(f"{HOST}/devices/{name}", _secret(number), expiry)
            lines.append(f"{name}\t{HOST}/{name}/?{API}\t{token}\t{topic(name)}\n")
        self.clients.write_text("".join(lines))

    def _preamble(self, positions: Sequence[int]) -> bytes:
        """All that a reader says before its first answer: sign-in, one session, one link to each partition."""
        opening: list[Performative] = [Open("reader", HOST, _FRAME, 8191), Begin(None, 0, 65535, 65535, 255)]
        for partition, after in enumerate(positions):
            address = f"messages/events/ConsumerGroups/$Default/Partitions/{partition}"
            selector = Described(
                Symbol("apache.org:selector-filter:string"), f"amqp.annotation.x-opt-sequence-number > '{after}'"
            )
            filters = {Symbol("apache.org:selector-filter:string"): selector}
            source = Described(ULong(0x28), [address, None, None, None, None, None, None, filters])
            target = Described(ULong(0x29), ["reader"])
            link = Attach(f"reader-{partition}", partition, True, 0, 0, source, target, None, None, None, None)
            opening += (link, Flow(0, 65535, 0, 65535, partition, 0, _CREDIT))
        return client_preamble(f"iothubowner@sas.root.{HOST}", self.owner_token(), opening)


class Mosquitto(Server):
    """Stores nothing: what it acknowledges is in its memory. Queues without bound, so that a reader loses nothing."""

    name = "mosquitto"

    def __init__(self, folder: Path, devices: int, certificate: tuple[Path, Path]) -> None:
        command = require("mosquitto", "mosquitto")
        self.version = subprocess.run([command, "-h"], capture_output=True, text=True, check=False).stdout.split("\n")[
            0
        ]
        users = [(device_name(number), _secret(number).hex()) for number in range(devices)]
        passwords = folder / "passwords"
        passwords.write_text("".join(f"{name}:{password}\n" for name, password in users))
        passwords.chmod(0o600)
        subprocess.run([require("mosquitto_passwd", "mosquitto"), "-U", str(passwords)], check=True)
        access = folder / "access"
        access.write_text(f"pattern write {topic('%c')}\n\nuser {users[0][0]}\ntopic read #\n")
        port = free_port()
        settings = folder / "mosquitto.conf"
        settings.write_text(
            f"listener {port} {ADDRESS}\ncertfile {certificate[0]}\nkeyfile {certificate[1]}\n"
            f"allow_anonymous false\npassword_file {passwords}\nacl_file {access}\npersistence false\n"
            "max_queued_messages 0\nmax_inflight_messages 0\nconnection_messages false\nlog_type error\n"
            f"log_dest file {folder / 'mosquitto.log'}\n" + ("user root\n" if os.geteuid() == 0 else "")
        )
        super().__init__(folder, Process([command, "-c", str(settings)], stderr=subprocess.DEVNULL), port)
        lines = [f"{name}\t{name}\t{password}\t{topic(name)}\n" for name, password in users]
        self.clients.write_text("".join(lines))
        self._reader = folder / "mosquitto.reader"
        # the reader's client id is its own: the first device publishes under its name at the same time
        self._reader.write_text(lines[0].replace(users[0][0], "reader", 1))
        wait_for_port(port, self.process)

    def reader(self, payload: int, run: int, *, from_now: bool) -> Process:
        where = (ADDRESS, str(self.port), str(self._reader), "#")
        return Process([program("reader"), "mqtt", *where, str(payload), str(run)])


class Null(Server):
    name = "null server"

    def __init__(self, folder: Path, certificate: tuple[Path, Path], clients: Path) -> None:
        process = Process([program("null_server"), ADDRESS, *map(str, certificate)])
        super().__init__(folder, process, int(process.line()))
        self.clients = clients


def topic(name: str) -> str:
    return f"devices/{name}/messages/events/"


def client_preamble(user: str, password: str, opening: Sequence[Performative]) -> bytes:
    """What a client says before its first answer: SASL PLAIN, then ``opening``."""
    sasl = b"\x00\x53\x41\xd0" + _list(Symbol("PLAIN"), f"\0{user}\0{password}".encode(), HOST)
    frames = b"".join(frame(0, encode_performative(each)) for each in opening)
    return SASL_HEADER + frame(0, sasl, 1) + AMQP_HEADER + frames


def _list(*fields: Any) -> bytes:
    """A list32 behind a descriptor that is already there."""
    from hubkeep.wire.amqp import encode

    body = b"".join(map(encode, fields))
    return (len(body) + 4).to_bytes(4) + len(fields).to_bytes(4) + body


def wait_for_port(port: int, process: Process, within: float = 60) -> None:
    """Raises RuntimeError."""
    import socket

    give_up = time.monotonic() + within
    while time.monotonic() < give_up:
        if not process.alive:
            raise RuntimeError("the server did not start")
        with socket.socket() as probe:
            if probe.connect_ex((ADDRESS, port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the server does not listen")
