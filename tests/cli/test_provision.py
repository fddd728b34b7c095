"""``hubkeep provision``: one device or a manifest, killed and continued, and what it made lets devices in."""

import json
import signal
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient

from cli.processes import hub_process, started, wait_until
from cli.test_certificate_commands import fails, ok
from conversations.certificates import Certificate
from conversations.provisioning_peer import register
from hubkeep.cli.certificate_files import new_key, new_request
from hubkeep.testing import HubInThread
from security.test_thumbprints import ACCEPTED, by_mqtt


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    with HubInThread() as running, running.trusted():
        yield running


def results(file: Path) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in map(json.loads, file.read_text().splitlines())}


def test_one_device_by_key(hub: HubInThread, tmp_path: Path) -> None:
    told = ok(hub, "provision", "press-07", "--out", tmp_path).splitlines()[0]
    client = IoTHubDeviceClient.create_from_connection_string(told)
    client.connect()
    client.send_message("provisioned")
    client.shutdown()
    assert hub.wait_for_events(1, device="press-07")[0]["body"] == "provisioned"
    file = tmp_path / "press-07.provisioned"
    assert file.stat().st_mode & 0o777 == 0o600
    assert results(file)["press-07"]["connectionString"] == told
    assert told == ok(hub, "provision", "press-07", "--out", tmp_path).splitlines()[0], "it stays as it is"
    refused = fails(hub, "provision", "press-07", "--results", tmp_path / "other")
    assert "it exists already" in refused
    assert results(tmp_path / "other")["press-07"]["status"] == "refused"


def test_a_manifest_makes_ids_of_serial_numbers_and_keeps_what_else_it_says(hub: HubInThread, tmp_path: Path) -> None:
    manifest = tmp_path / "batch.csv"
    manifest.write_text("serial, hall\n0815, 3\n4711, 4\n")
    told = json.loads(ok(hub, "provision", "--manifest", manifest, "--id", "pump-{serial}", "--json"))
    assert told == {"provisioned": 2, "refused": 0, "before": 0, "results": f"{manifest}.provisioned"}
    twin = json.loads(ok(hub, "device", "twin", "pump-4711", "--json"))
    assert twin["tags"] == {"serial": "4711", "hall": "4"}
    with manifest.open("a") as out:
        out.write("1234, 5\n")
    again = json.loads(ok(hub, "provision", "--manifest", manifest, "--id", "pump-{serial}", "--json"))
    assert (again["provisioned"], again["before"]) == (3, 2), "only the new one is made"
    manifest.write_text("serial\n1\n1\n")
    assert "is there twice" in fails(hub, "provision", "--manifest", manifest, "--id", "pump-{serial}")
    manifest.write_text('{"id": "../../etc/passwd"}\n')
    assert "is no id" in fails(hub, "provision", "--manifest", manifest)


def test_certificates_of_the_hubs_own_authority(hub: HubInThread, tmp_path: Path) -> None:
    keys, manifest = tmp_path / "keys", tmp_path / "batch.jsonl"
    manifest.write_text('{"id": "ca-1", "hall": 3}\n{"id": "ca-2"}\n{"id": "ca-3", "csr": "none.csr"}\n')
    assert "1 of 3 were refused: ca-3" in fails(
        hub, "provision", "--manifest", manifest, "--by", "certificate", "--out", keys
    )
    made = results(tmp_path / "batch.jsonl.provisioned")
    both = tmp_path / "both.pem"
    for name in ("ca-1", "ca-2"):
        key = Path(made[name]["keyFile"])
        assert key.stat().st_mode & 0o777 == 0o600
        both.write_text(key.read_text() + Path(made[name]["certificateFile"]).read_text())
        assert by_mqtt(hub, name, both) == ACCEPTED
    assert made["ca-1"]["expires"]
    assert "PRIVATE" not in (tmp_path / "batch.jsonl.provisioned").read_text()
    key_pem = Path(made["ca-1"]["keyFile"])
    request = tmp_path / "none.csr"
    request.write_text("no request")
    again = ["provision", "--manifest", manifest, "--by", "certificate", "--out", keys]
    assert "ca-3" in fails(hub, *again)
    before = key_pem.read_bytes()
    request.write_text(new_request(new_key("P-256"), "ca-3"))
    assert "3 of 3 devices are provisioned (2 of them before)" in ok(hub, *again)
    assert key_pem.read_bytes() == before
    assert not (keys / "ca-3.key").exists(), "its key never left it"


def test_thumbprints(hub: HubInThread, tmp_path: Path) -> None:
    of_device = Certificate.made("tp-2")
    file = of_device.file(tmp_path)
    manifest = tmp_path / "batch.csv"
    manifest.write_text(f"id,certificate\ntp-1,\ntp-2,{file.name}\n")
    ok(hub, "provision", "--manifest", manifest, "--by", "thumbprint", "--out", tmp_path)
    made = results(tmp_path / "batch.csv.provisioned")
    both = tmp_path / "both.pem"
    both.write_text((tmp_path / "tp-1.key").read_text() + (tmp_path / "tp-1.pem").read_text())
    assert by_mqtt(hub, "tp-1", both) == ACCEPTED
    assert by_mqtt(hub, "tp-2", file) == ACCEPTED
    assert "keyFile" not in made["tp-2"]
    assert "is there already" in fails(
        hub, "provision", "tp-1", "--by", "thumbprint", "--out", tmp_path, "--results", tmp_path / "other"
    )


def test_an_enrollment_by_which_the_device_registers_itself(hub: HubInThread, tmp_path: Path) -> None:
    ok(hub, "provision", "self-1", "--enroll", "--out", tmp_path)
    made = results(tmp_path / "self-1.provisioned")["self-1"]
    assert made["idScope"] == hub.id_scope
    assert register(hub, "self-1", b64decode(made["primaryKey"])).status == 202
    ok(hub, "provision", "self-2", "--enroll", "--by", "thumbprint", "--out", tmp_path)
    shown = json.loads(ok(hub, "enroll", "show", "self-2", "--json"))
    thumbprint = shown["attestation"]["x509"]["clientCertificates"]["primary"]["info"]["sha256Thumbprint"]
    assert thumbprint.upper() == results(tmp_path / "self-2.provisioned")["self-2"]["thumbprint"]
    assert "not to single enrollments" in fails(hub, "provision", "self-3", "--enroll", "--by", "certificate")


@pytest.mark.parametrize("options", [(), ("--enroll",), ("--by", "thumbprint"), ("--enroll", "--by", "thumbprint")])
def test_what_may_have_been_made_before_a_kill_is_made_with_the_same_secret(
    hub: HubInThread, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """The hub has them, the file does not know: as after a kill between the hub's answer and the last write."""
    name = "cut" + "".join(each.strip("-")[0] for each in options)
    manifest = tmp_path / "batch.csv"
    manifest.write_text(f"id\n{name}-1\n{name}-2\n")
    command = ["provision", "--manifest", manifest, "--out", tmp_path, *options]
    ok(hub, *command)
    file = tmp_path / "batch.csv.provisioned"
    whole = results(file)
    begun = "".join(json.dumps({**each, "status": "started"}) + "\n" for each in whole.values())
    (tmp_path / "batch.csv.provisioned.part").write_text(begun + '{"id": "torn')
    file.unlink()
    ok(hub, *command)
    assert results(file) == whole
    assert not (tmp_path / "batch.csv.provisioned.part").exists()


def test_a_kill_in_the_middle_and_a_continuation(tmp_path: Path) -> None:
    manifest, keys = tmp_path / "batch.csv", tmp_path / "keys"
    count = 160
    manifest.write_text("id\n" + "".join(f"kill-{number:03}\n" for number in range(count)))
    file, part = tmp_path / "batch.csv.provisioned", tmp_path / "batch.csv.provisioned.part"
    command = ["provision", "--manifest", str(manifest), "--by", "certificate", "--out", str(keys)]

    def done() -> int:
        return part.read_bytes().count(b'"provisioned"') if part.exists() else 0

    with hub_process(tmp_path / "hub") as hub:
        with started(*command, "--data", str(hub.data)) as first:
            wait_until(lambda: done() >= 100)
            first.send_signal(signal.SIGKILL)
            first.wait(30)
        before = done()
        assert 100 <= before < count
        assert not file.exists()
        assert part.stat().st_mode & 0o777 == 0o600
        kept = {each.name: each.read_bytes() for each in keys.glob("*.key")}
        told = json.loads(hub.ok(*command, "--json", within=120))
        assert (told["provisioned"], told["refused"], told["before"]) == (count, 0, before)
        made = results(file)
        assert len(made) == count
        assert kept.items() <= {each.name: each.read_bytes() for each in keys.glob("*.key")}.items()
        issued = json.loads(hub.ok("cert", "list", "--top", "1000", "--json"))
        assert {each["serial"] for each in issued} == {each["serial"] for each in made.values()}, "one each"
