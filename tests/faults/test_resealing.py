"""Sealing everything anew under another key: while the hub serves, killed in the middle, with keys from elsewhere."""

import contextlib
import json
import os
import random
import sqlite3
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from cli.processes import Done, command
from faults.served import Served
from hubkeep.wire import sas

NEW, OLD = b"n" * 32, b"o" * 32


def keys_of(hub: Served, devices: int) -> list[str]:
    found = [hub.get(f"/devices/d{each}?api-version=2021-04-12") for each in range(devices)]
    return [each["authentication"]["symmetricKey"]["primaryKey"] for each in found]


def wait_until_done(hub: Served, within: float = 120) -> Any:
    deadline = time.monotonic() + within
    while (state := hub.get("/api/sealing"))["resealing"]:
        assert time.monotonic() < deadline, state
        time.sleep(0.1)
    return state


def fill(hub: Served, devices: int) -> None:
    """Everything of which the registry and the folder of keys hold sealed parts."""
    hub.register([f"d{each}" for each in range(devices)])
    hub.register(["d0/cam"])
    enrolment = {"registrationId": "press-07", "attestation": {"type": "symmetricKey"}}
    assert command("cert", "ca", "create", "plant", "--data", str(hub.data)).status == 0
    token = hub_token(hub, "provisioning_connection_string")
    assert hub.ask("PUT", "/enrollments/press-07", enrolment, token=token)[0] == 200


def hub_token(hub: Served, name: str) -> str:
    parsed = sas.parse_connection_string(hub.admin[name])
    return sas.make(hub.address, parsed.key, int(time.time()) + 3600, parsed.parts["SharedAccessKeyName"])


def prefixes(data: Path) -> dict[bytes, list[str]]:
    """How what is sealed begins: version and id of its key; with where it stands."""
    found: dict[bytes, list[str]] = {}
    with contextlib.closing(sqlite3.connect(data / "registry.db")) as registry:
        for table, columns in {
            "identity": ("primary_key", "secondary_key"),
            "policy": ("primary_key", "secondary_key"),
            "enrolment": ("primary_key", "secondary_key"),
            "audit_head": ("sealed",),
            "signing_key": ("key",),
            "transfer_job": ("input_url", "output_url"),
        }.items():
            for column in columns:
                for (value,) in registry.execute(
                    f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"
                ):  # of this list
                    found.setdefault(value[:5], []).append(f"{table}.{column}")
    for path in (data / "keys" / "authorities").glob("*.key"):
        found.setdefault(path.read_bytes()[:5], []).append(path.name)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resealing")


def reseal(hub: Served, *options: str) -> Done:
    return command("key", "reseal", "--data", str(hub.data), *options)


def test_all_is_sealed_anew_while_the_hub_serves_and_backups_stay_right(folder: Path) -> None:
    with Served(folder / "data") as hub:
        hub.start()
        fill(hub, 5)
        before, keys = keys_of(hub, 5), hub.data / "keys"
        sealing_key, (old,) = (keys / "sealing.key").read_bytes(), prefixes(hub.data)
        to = [str(folder / "before"), "--keys-to", str(folder / "keys-before")]
        assert command("backup", *to, "--data", str(hub.data)).status == 0
        done = reseal(hub)
        assert (done.status, "back up the keys" in done.out) == (0, True), done
        assert keys_of(hub, 5) == before
        assert (keys / "sealing.key").read_bytes() != sealing_key
        assert not (keys / "resealing").exists()
        after = prefixes(hub.data)
        assert old not in after
        (places,) = after.values()
        assert {each.partition(".")[0] for each in places} >= {"identity", "policy", "enrolment", "audit_head", "plant"}
        hub.register(["later"])
        hub.signal()
        assert hub.wait() == 0
        hub.start()
        assert keys_of(hub, 5) == before
        assert hub.ask("GET", "/api/cas/plant")[0] == 200
        assert command("audit", "verify", "--data", str(hub.data)).status == 0
        to = [str(folder / "after"), "--keys-to", str(folder / "keys-after")]
        assert command("backup", *to, "--data", str(hub.data)).status == 0
    for backup, keys, status in (("before", "before", 0), ("after", "after", 0), ("after", "before", 1)):
        target = folder / f"restored-{backup}-{keys}"
        done = command(
            "restore", str(folder / backup), "--keys-from", str(folder / f"keys-{keys}"), "--data", str(target)
        )
        assert done.status == status, done
    assert "sealed under another key" in done.err


def test_a_kill_in_the_middle_loses_no_key_and_the_next_start_brings_it_to_its_end(tmp_path: Path) -> None:
    source = random.Random()
    with Served(tmp_path / "data") as hub:
        hub.start()
        fill(hub, 20)
        before = keys_of(hub, 3)
        for _ in range(3):
            assert hub.ask("POST", "/api/sealing/reseal")[0] in {200, 400}, "400: one from before is under way"
            time.sleep(source.random() * 1.3)
            hub.kill()
            hub.start()
            assert keys_of(hub, 3) == before
        state = wait_until_done(hub)
        assert state["failure"] == ""
        (prefix,) = prefixes(hub.data)
        assert prefix[1:].hex() == state["keyId"]
        hub.kill()
        hub.start()
        assert keys_of(hub, 3) == before
        assert command("audit", "verify", "--data", str(hub.data)).status == 0


def test_a_key_from_a_variable_is_changed_by_a_start_that_knows_both(tmp_path: Path) -> None:
    data = tmp_path / "data"
    new = {"HUBKEEP_SEALING__KEY_VARIABLE": "SEALED_BY", "SEALED_BY": b64encode(NEW).decode()}
    with Served(data) as hub:
        hub.start()
        hub.register(["d0"])
        before = keys_of(hub, 1)
    with Served(data, environment=new) as hub:
        status, told = hub.refused()
        assert status
        assert "is sealed under another key" in told
        assert "sealing.old_key_file" in told
    old = {"HUBKEEP_SEALING__OLD_KEY_FILE": str(data / "keys" / "sealing.key")}
    with Served(data, environment=new | old) as hub:
        hub.start()
        assert keys_of(hub, 1) == before
        wait_until_done(hub)
        refused = reseal(hub)
        assert (refused.status, "keeps its environment" in refused.err) == (1, True), refused
    (data / "keys" / "sealing.key").unlink()
    with Served(data, environment=new) as hub:
        hub.start()
        assert keys_of(hub, 1) == before
        to = ["backup", str(tmp_path / "backup"), "--keys-to", str(tmp_path / "keys")]
        assert command(*to, "--data", str(data)).status == 0
    again = ["restore", str(tmp_path / "backup"), "--keys-from", str(tmp_path / "keys"), "--data"]
    assert command(*again, str(tmp_path / "without")).status == 1
    assert command(*again, str(tmp_path / "with"), **new).status == 0


def test_a_key_that_a_command_prints_is_changed_while_the_hub_serves(tmp_path: Path) -> None:
    held = tmp_path / "vault"
    held.write_text(b64encode(OLD).decode() + "\n")
    setting = {"HUBKEEP_SEALING__KEY_COMMAND": json.dumps(["cat", str(held)])}
    with Served(tmp_path / "data", environment=setting) as hub:
        hub.start()
        hub.register(["d0"])
        before = keys_of(hub, 1)
        assert not (hub.data / "keys" / "sealing.key").exists()
        refused = reseal(hub)
        assert (refused.status, "gives the one in force" in refused.err) == (1, True), refused
        held.write_text(b64encode(NEW).decode())
        assert hub.ask("POST", "/api/sealing/reseal")[0] == 200
        hub.kill()
        held.write_text(b64encode(OLD).decode())  # whichever of the two it gives, the other is at hand
        hub.start()
        assert keys_of(hub, 1) == before
        wait_until_done(hub)
        hub.kill()
        assert "is sealed under another key" in hub.refused()[1]
        held.write_text(b64encode(NEW).decode())
        hub.start()
        assert keys_of(hub, 1) == before


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"KEY_VARIABLE": "NOT_THERE"}, "the environment variable NOT_THERE is not set"),
        ({"KEY_VARIABLE": "HOME"}, "the environment variable HOME does not give 32 bytes in base64"),
        ({"KEY_COMMAND": '["/no/such/program"]'}, "/no/such/program cannot be started"),
        ({"KEY_COMMAND": '["sh", "-c", "echo locked >&2; exit 3"]'}, "sh ended with status 3: locked"),
        ({"KEY_COMMAND": '["echo", "c2hvcnQ="]'}, "echo does not give 32 bytes in base64"),
        ({"KEY_FILE": "/no/such/file"}, "/no/such/file is missing"),
        ({"KEY_FILE": "/a", "KEY_VARIABLE": "A"}, "one of key_file, key_variable and key_command"),
    ],
)
def test_a_start_without_a_usable_key_says_what_is_wrong(tmp_path: Path, setting: dict[str, str], told: str) -> None:
    environment = {f"HUBKEEP_SEALING__{name}": value for name, value in setting.items()}
    done = command("serve", "--data", str(tmp_path / "data"), "--listen", "127.0.0.3", **environment)
    assert done.status
    assert told in " ".join(done.err.split()), done.err
    assert os.environ["HOME"] not in done.err
