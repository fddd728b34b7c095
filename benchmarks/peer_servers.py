"""Other MQTT servers, each started with TLS, a password for every client, and what it has to make messages last.

Each tells in ``promise`` what it has done with a message when it acknowledges it. One that is not installed raises
Missing with what would install it.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from machine import BUILD, Missing, Process, free_port
from servers import ADDRESS, HOST, Hubkeep, Mosquitto, Server, device_name, topic, wait_for_port

_RABBIT: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_PATIENCE: Final = 120.0  # seconds for a start: RabbitMQ takes half a minute on a busy machine
_SYNC_SINCE: Final = (2, 10)  # of NATS


class Peer(Server):
    """promise: what an acknowledged message survives, and by what."""

    promise: str
    version: str

    def __init__(self, folder: Path, process: Process, port: int, users: Sequence[tuple[str, str]]) -> None:
        super().__init__(folder, process, port)
        self.clients = folder / "peer.clients"
        self.clients.write_text("".join(f"{name}\t{name}\t{word}\t{topic(name)}\n" for name, word in users))
        try:
            wait_for_port(port, process, _PATIENCE)
        except RuntimeError:
            self.stop()
            raise

    def stop(self) -> None:
        self.process.stop()


class Measured(NamedTuple):
    """A server by the name of its column."""

    name: str
    version: str
    promise: str
    server: Server
    stop: Callable[[], None]


def passwords(devices: int) -> list[tuple[str, str]]:
    return [(device_name(number), hashlib.sha256(b"peer %d" % number).hexdigest()[:32]) for number in range(devices)]


class Nats(Peer):
    """JetStream stores each message in a file before the acknowledgement; when the file is synced is a setting."""

    name = "nats"

    def __init__(self, folder: Path, devices: int, certificate: tuple[Path, Path], *, is_synced: bool) -> None:
        command = _found("nats-server", "apt-get install nats-server")
        self.version = _version([command, "--version"])
        if is_synced and tuple(map(int, self.version.split(".")[:2])) < _SYNC_SINCE:
            raise Missing(f"NATS {self.version} cannot sync each message: sync_interval came with 2.10")
        self.promise = "file, synced" if is_synced else "file, synced every two minutes"
        folder.mkdir()
        users, port = passwords(devices), free_port()
        allowed = ", ".join(f'{{user: "{name}", password: "{word}"}}' for name, word in users)
        settings = folder / "nats.conf"
        settings.write_text(
            f'server_name: bench\nlisten: "{ADDRESS}:{free_port()}"\nlog_file: "{folder / "nats.log"}"\n'
            f'jetstream {{ store_dir: "{folder}"{", sync_interval: always" if is_synced else ""} }}\n'
            f'mqtt {{ listen: "{ADDRESS}:{port}"\n'
            f' tls {{ cert_file: "{certificate[0]}", key_file: "{certificate[1]}" }} }}\n'
            f"authorization {{ users: [{allowed}] }}\n"
        )
        process = Process([command, "-c", str(settings)], stderr=subprocess.DEVNULL)
        super().__init__(folder, process, port, users)


class RabbitMq(Peer):
    """Bound to one queue that takes everything; ``kind``: classic (written, synced a little later) or quorum."""

    name = "rabbitmq"

    def __init__(self, folder: Path, devices: int, certificate: tuple[Path, Path], *, kind: str) -> None:
        if not _RABBIT.exists():
            raise Missing("rabbitmq-server is missing: apt-get install rabbitmq-server")
        self.promise = "file, synced" if kind == "quorum" else "file, synced a little later"
        folder.mkdir()
        users, port = passwords(devices), free_port()
        self._environment = {
            **os.environ, "HOME": str(folder), "ERL_EPMD_PORT": str(free_port()), "ERL_EPMD_ADDRESS": ADDRESS,
            "RABBITMQ_NODENAME": f"bench{port}@{HOST}", "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder), "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"), "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_PID_FILE": str(folder / "pid"), "RABBITMQ_ENV_FILE": str(folder / "none"),
        }  # fmt: skip
        (folder / "plugins").write_text("[rabbitmq_mqtt].\n")
        (folder / "definitions.json").write_text(json.dumps(_definitions(users, kind)))
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {ADDRESS}:{free_port()}\nmqtt.listeners.tcp = none\nmqtt.allow_anonymous = false\n"
            f"mqtt.listeners.ssl.1 = {ADDRESS}:{port}\nssl_options.certfile = {certificate[0]}\n"
            f"ssl_options.keyfile = {certificate[1]}\nssl_options.cacertfile = {certificate[0]}\n"
            f"load_definitions = {folder / 'definitions.json'}\nlog.file.level = error\nlog.console = false\n"
        )
        (folder / "none").touch()
        log = (folder / "rabbit.out").open("w")
        process = Process([str(_RABBIT)], env=self._environment, stderr=log)
        self.version = "Debian's"
        super().__init__(folder, process, port, users)
        found = re.search(r"rabbit-([0-9.]+)", (folder / "rabbit.out").read_text())
        told = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"], capture_output=True,
                              text=True, check=False).stdout  # fmt: skip
        self.version = found[1] if found else told.partition("-")[0]

    def stop(self) -> None:
        super().stop()
        epmd = shutil.which("epmd")
        if epmd is not None:  # the node's own, on a port of its own, which would stay
            command = [epmd, "-port", self._environment["ERL_EPMD_PORT"], "-kill"]
            subprocess.run(command, env=self._environment, capture_output=True, check=False)


class AMqtt(Peer):
    name = "amqtt"
    promise = "memory"

    def __init__(self, folder: Path, devices: int, certificate: tuple[Path, Path]) -> None:
        python = BUILD / "amqtt" / "bin" / "python"
        if not python.exists():
            raise Missing(f"aMQTT is missing: python3 -m venv {BUILD / 'amqtt'} && {python} -m pip install amqtt")
        version = "from importlib.metadata import version; print(version('amqtt'))"
        self.version = _version([str(python), "-c", version])
        folder.mkdir()
        users, port = passwords(devices), free_port()
        hashed = (
            "from pwdlib.hashers.argon2 import Argon2Hasher as H; import sys\n"
            "h = H(time_cost=1, memory_cost=8, parallelism=1)\n"  # the cheapest: logins are not to be slow for this
            "for line in sys.stdin: name, word = line.split(); print(f'{name}:{h.hash(word)}')"
        )
        lines = "".join(f"{name} {word}\n" for name, word in users)
        made = subprocess.run([str(python), "-c", hashed], input=lines, capture_output=True, text=True, check=True)
        (folder / "passwords").write_text(made.stdout)
        config = {
            "listeners": {
                "default": {"type": "tcp", "bind": f"{ADDRESS}:{port}", "ssl": True, "certfile": str(certificate[0]),
                            "keyfile": str(certificate[1]), "max_connections": 0}
            },
            "plugins": {
                "amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(folder / "passwords")}
            },
        }  # fmt: skip
        program = (
            "import asyncio, json, logging, sys\nfrom amqtt.broker import Broker\nlogging.disable()\n"
            "async def main():\n    broker = Broker(json.loads(sys.argv[1]))\n    await broker.start()\n"
            "    await asyncio.Event().wait()\nasyncio.run(main())"
        )
        command = [str(python), "-c", program, json.dumps(config)]
        super().__init__(folder, Process(command, stderr=subprocess.DEVNULL), port, users)


class Aedes(Peer):
    name = "aedes"
    promise = "memory"

    def __init__(self, folder: Path, devices: int, certificate: tuple[Path, Path]) -> None:
        place = BUILD / "aedes"
        package = place / "node_modules" / "aedes" / "package.json"
        if not package.exists():
            raise Missing(f"aedes is missing: npm install --prefix {place} aedes")
        node = _found("node", "apt-get install nodejs")
        self.version = json.loads(package.read_text())["version"]
        folder.mkdir()
        users, port = passwords(devices), free_port()
        (folder / "users.json").write_text(json.dumps(dict(users)))
        program = place / "bench.cjs"
        program.write_text(
            "const { Aedes } = require('aedes'), fs = require('fs'), tls = require('tls')\n"
            "const [certificate, key, usersFile, port] = process.argv.slice(2)\n"
            "const users = JSON.parse(fs.readFileSync(usersFile))\n"
            "Aedes.createBroker({\n"
            "  concurrency: 1000, queueLimit: 10000,\n"
            "  authenticate: (client, name, word, done) => done(null, users[name] === String(word)),\n"
            "  authorizePublish: (client, packet, done) =>\n"
            "    done(packet.topic.startsWith(`devices/${client.id}/`) ? null : new Error('not its own'))\n"
            "}).then(broker => tls.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) },\n"
            f"  broker.handle).listen(Number(port), '{ADDRESS}'))\n"
        )
        command = [node, str(program), *map(str, certificate), str(folder / "users.json"), str(port)]
        super().__init__(folder, Process(command, stderr=subprocess.DEVNULL), port, users)


def columns(folder: Path, devices: int) -> list[tuple[str, Callable[[Hubkeep], Measured]]]:
    """The peers by name, each to be started beside a hub whose certificate it takes. Raise Missing."""

    def peer(name: str, start: Callable[[Path, tuple[Path, Path]], Peer]) -> tuple[str, Callable[[Hubkeep], Measured]]:
        def started(hub: Hubkeep) -> Measured:
            server = start(folder / re.sub(r"\W+", "-", name), hub.certificate)
            return Measured(name, server.version, server.promise, server, server.stop)

        return name, started

    def mosquitto(hub: Hubkeep) -> Measured:
        server = Mosquitto(folder, devices, hub.certificate)
        version = server.version.removeprefix("mosquitto version ")
        return Measured("Mosquitto", version, "memory", server, server.process.stop)

    return [
        ("Mosquitto", mosquitto),
        peer("NATS JetStream", lambda place, keys: Nats(place, devices, keys, is_synced=False)),
        peer("NATS JetStream, sync always", lambda place, keys: Nats(place, devices, keys, is_synced=True)),
        peer("RabbitMQ, classic queue", lambda place, keys: RabbitMq(place, devices, keys, kind="classic")),
        peer("RabbitMQ, quorum queue", lambda place, keys: RabbitMq(place, devices, keys, kind="quorum")),
        peer("aMQTT", lambda place, keys: AMqtt(place, devices, keys)),
        peer("aedes", lambda place, keys: Aedes(place, devices, keys)),
    ]


def _definitions(users: Sequence[tuple[str, str]], kind: str) -> dict[str, object]:
    def hashed(word: str) -> str:
        salt = b"salt"
        return base64.b64encode(salt + hashlib.sha256(salt + word.encode()).digest()).decode()

    how = {"hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""}
    return {
        "users": [{"name": name, "password_hash": hashed(word), **how} for name, word in users],
        "vhosts": [{"name": "/"}],
        "permissions": [
            {"user": name, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"} for name, _ in users
        ],
        "queues": [
            {"name": "all", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {"x-queue-type": kind}}
        ],
        "bindings": [
            {"source": "amq.topic", "vhost": "/", "destination": "all", "destination_type": "queue",
             "routing_key": "#", "arguments": {}}
        ],
    }  # fmt: skip


def _found(command: str, cure: str) -> str:
    found = shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise Missing(f"{command} is missing: {cure}")
    return found


def _version(command: Sequence[str]) -> str:
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"[0-9]+(?:\.[0-9]+)+", told)
    return found[0] if found else "unknown"
