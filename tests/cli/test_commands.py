"""Commands against a hub that runs: devices, tokens, connection strings, events, refusals, checks."""

import json
import os
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.processes import HubProcess, command, first_line, hub_process, started
from conversations.certificates import Certificate
from hubkeep.wire import sas

SEND = """
import os, sys
from azure.iot.device import IoTHubDeviceClient, Message
client = IoTHubDeviceClient.create_from_connection_string(sys.argv[1])
client.connect()
for text in sys.argv[2:]:
    message = Message(text)
    message.custom_properties["kind"] = text
    client.send_message(message)
client.shutdown()
"""
PLAIN_READER = """
import sys
from azure.eventhub import EventHubConsumerClient
with EventHubConsumerClient.from_connection_string(sys.argv[1], consumer_group="$Default") as client:
    partitions = [client.get_partition_properties(each) for each in client.get_partition_ids()]
    print(sum(each["last_enqueued_sequence_number"] + 1 for each in partitions))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with hub_process(tmp_path_factory.mktemp("commands") / "hub", "--plain-amqp") as process:
        yield process


def send(hub: HubProcess, device: str, *texts: str) -> None:
    done = hub.run("device", "create", device, "--json")
    key = done.json["authentication"]["symmetricKey"]["primaryKey"] if done.status == 0 else ""
    text = f"HostName={hub.address};DeviceId={device};SharedAccessKey={key}"
    if not key:
        text = hub.ok("connection-string", "--device", device).strip()
    hub.ok("run", "--device", device, "--", sys.executable, "-c", SEND, text, *texts)


def test_a_device_with_a_certificate(hub: HubProcess, tmp_path: Path) -> None:
    old, new = Certificate.made("press-08"), Certificate.made("press-08")
    made = hub.ok("device", "create", "press-08", "--thumbprint", str(old.file(tmp_path))).strip()
    assert made == f"HostName={hub.address};DeviceId=press-08;x509=true"
    hub.ok("device", "update", "press-08", "--secondary-thumbprint", new.sha1)
    authentication = hub.run("device", "show", "press-08", "--json").json["authentication"]
    assert authentication["type"] == "selfSigned"
    assert authentication["x509Thumbprint"] == {
        "primaryThumbprint": old.sha256.upper(),
        "secondaryThumbprint": new.sha1.upper(),
    }
    nothing = hub.run("device", "create", "press-09", "--thumbprint", "press-09.pem")
    assert (nothing.status, "neither a thumbprint nor a file" in nothing.err) == (2, True)
    both = hub.run("device", "update", "press-08", "--new-keys", "--thumbprint", new.sha1)
    assert both.status == 2
    hub.ok("device", "update", "press-08", "--new-keys")
    assert hub.run("device", "show", "press-08", "--json").json["authentication"]["type"] == "sas"


def test_an_authority_is_registered_and_proved(hub: HubProcess, tmp_path: Path) -> None:
    root, file = Certificate.made("plant root", ca=True), tmp_path / "root.pem"
    file.write_text(root.pem)
    assert "plant is unverified" in hub.ok("cert", "ca", "add", "plant", str(file))
    code = hub.ok("cert", "ca", "verify", "plant").strip()
    wrong, proof = Certificate.made("code", issuer=root), Certificate.made(code, issuer=root)
    refused = hub.run("cert", "ca", "verify", "plant", "--proof", str(wrong.file(tmp_path)))
    assert (refused.status, "not the code" in refused.err) == (1, True)
    proved = tmp_path / "proof.pem"
    proved.write_text(proof.pem)
    assert hub.ok("cert", "ca", "verify", "plant", "--proof", str(proved)).strip() == "plant is active"
    assert "CN=plant root" in hub.ok("cert", "ca", "show", "plant")
    assert "active" in hub.ok("cert", "ca", "list")
    made = hub.ok("device", "create", "press-10", "--ca-signed").strip()
    assert made == f"HostName={hub.address};DeviceId=press-10;x509=true"
    assert hub.ok("cert", "ca", "delete", "plant").strip() == "plant is deleted"
    assert "no authorities yet" in hub.ok("cert", "ca", "list")


def test_the_life_of_a_device(hub: HubProcess) -> None:
    created = hub.ok("device", "create", "press-07").strip()
    assert created.startswith(f"HostName={hub.address};DeviceId=press-07;SharedAccessKey=")
    assert hub.ok("connection-string", "--device", "press-07").strip() == created
    twice = hub.run("device", "create", "press-07")
    assert (twice.status, "exists already" in twice.err, "hubkeep device show" in twice.err) == (1, True, True)

    shown = hub.ok("device", "show", "press-07")
    assert "enabled" in shown
    assert sas.parse_connection_string(created).parts["SharedAccessKey"] not in shown
    assert "press-07" in hub.ok("device", "list")
    assert hub.ok("device", "block", "press-07", "--reason", "lost").strip() == "press-07 is disabled"
    blocked = hub.run("device", "show", "press-07", "--json").json
    assert (blocked["status"], blocked["statusReason"]) == ("disabled", "lost")
    assert hub.run("device", "unblock", "press-07", "--json").json["status"] == "enabled"

    assert hub.ok("device", "update", "press-07", "--new-keys").strip() != created
    assert hub.run("device", "update", "press-07").status == 2
    assert hub.run("device", "update", "press-07", "--status", "sleepy").status == 1
    assert hub.ok("device", "delete", "press-07").strip() == "press-07 is deleted"
    gone = hub.run("device", "show", "press-07")
    assert (gone.status, "not registered" in gone.err, "hubkeep device list" in gone.err) == (1, True, True)


def test_tokens_and_what_is_wrong_with_them(hub: HubProcess) -> None:
    hub.ok("device", "create", "token-holder")
    good = hub.ok("token", "make", "--device", "token-holder", "--seconds", "600").strip()
    said = hub.run("token", "inspect", good, "--json").json
    assert (said["problems"], said["signed_by"]) == ([], "token-holder, primary key")
    assert 0 < said["seconds_left"] <= 600
    by_policy = hub.ok("token", "make", "--policy", "service").strip()
    assert "policy service, primary key" in hub.ok("token", "inspect", by_policy)

    now = int(time.time())
    resource = f"{hub.address}/devices/token-holder"
    expired = sas.make(resource, b"wrong" * 4, now - 7200)
    found = hub.run("token", "inspect", expired)
    assert found.status == 1
    assert "it expired 2 hours ago" in found.out
    assert "its signature matches no key" in found.out
    elsewhere = sas.make("other.example.net/devices/token-holder", b"wrong" * 4, now + 60)
    assert "other.example.net is not a name of this hub" in hub.run("token", "inspect", elsewhere).out
    undecoded = hub.run("device", "show", "token-holder", "--json").json["authentication"]["symmetricKey"]["primaryKey"]
    as_text = sas.make(resource, undecoded.encode(), now + 60)
    assert "decode it first" in hub.run("token", "inspect", as_text).out
    nonsense = hub.run("token", "inspect", "Bearer abc")
    assert (nonsense.status, "this is no token" in nonsense.err) == (1, True)


def test_connection_strings(hub: HubProcess) -> None:
    assert ";SharedAccessKeyName=iothubowner;" in hub.ok("connection-string")
    assert ";SharedAccessKeyName=registryRead;" in hub.ok("connection-string", "--policy", "registryRead")
    events = hub.ok("connection-string", "--events").strip()
    assert events.startswith(f"Endpoint=sb://{hub.address}/;SharedAccessKeyName=service;")
    assert events.endswith(";EntityPath=hubkeep-events")
    both = hub.run("connection-string", "--events", "--device", "x")
    assert (both.status, "--device" in both.err) == (2, True)
    unknown = hub.run("connection-string", "--policy", "nobody")
    assert (unknown.status, "iothubowner" in unknown.err) == (1, True)
    bundle = str(hub.data / "trust-bundle.pem")
    elsewhere = {"HUBKEEP_CONNECTION_STRING": hub.ok("connection-string").strip(), "HUBKEEP_TRUST_BUNDLE": bundle}
    assert command("device", "list", "--json", **elsewhere).status == 0
    untrusted = command("device", "list", HUBKEEP_CONNECTION_STRING=elsewhere["HUBKEEP_CONNECTION_STRING"])
    assert (untrusted.status, "is not trusted" in untrusted.err) == (3, True)


def test_monitor_shows_what_arrives(hub: HubProcess) -> None:
    where = ("--data", str(hub.data))
    with started("monitor", *where, "--device", "watched", "--property", "kind=loud", "--count", "1", "--json") as live:
        assert live.stderr is not None
        send(hub, "watched", "quiet")  # the monitor may listen already or not: it may not show this one
        send(hub, "bystander", "loud")
        deadline = time.monotonic() + 60
        while live.poll() is None:
            assert time.monotonic() < deadline
            send(hub, "watched", "loud")
        event = json.loads(first_line(live))
    assert (event["device"], event["body"], event["properties"]) == ("watched", "loud", {"kind": "loud"})

    text = hub.ok("monitor", "--from-start", "--count", "1", "--device", "watched")
    assert "watched" in text
    assert "quiet" in text
    assert "partition" in text
    bad = hub.run("monitor", "--property", "=x")
    assert (bad.status, "no property name" in bad.err) == (2, True)


def test_monitor_says_when_the_hub_went_away(tmp_path: Path) -> None:
    with hub_process(tmp_path / "hub") as going, started("monitor", "--data", str(going.data)) as live:
        assert live.stderr is not None
        assert "listening" in live.stderr.readline()
        going.stop()
        _, said = live.communicate(timeout=30)
    assert live.returncode == 3
    assert "the hub ended the connection" in said
    assert "Traceback" not in said


def test_explain_tells_what_a_wrong_key_was_and_what_would_mend_it(hub: HubProcess) -> None:
    hub.ok("device", "create", "locked-out")
    wrong = f"HostName={hub.address};DeviceId=locked-out;SharedAccessKey={b64encode(b'wrong' * 7).decode()}"
    assert hub.run("run", "--", sys.executable, "-c", SEND, wrong, "x").status != 0
    (refusal,) = hub.run("explain", "locked-out", "--most", "1", "--json").json
    assert "signature matches neither key" in refusal["reason"]
    text = hub.ok("explain", refusal["tracking_id"])
    for part in ("locked-out", "because", "mend it", refusal["remedy"], refusal["tracking_id"]):
        assert part in text
    assert "DeviceNotFound" in hub.ok("explain", "404001")
    assert "404001" in hub.ok("explain", "DeviceNotFound")
    nothing = hub.run("explain", "never-seen")
    assert (nothing.status, "nothing was refused" in nothing.err) == (1, True)


def test_doctor_finds_what_is_wrong(hub: HubProcess) -> None:
    healthy = hub.run("doctor", "--json")
    assert healthy.status == 0, healthy
    assert {each["state"] for each in healthy.json} <= {"ok", "warning"}
    admin = hub.data / "admin"
    admin.chmod(0o644)
    try:
        found = hub.run("doctor")
        assert found.status == 1
        assert "can be read by others" in found.out
        assert f"chmod 600 {admin}" in found.out
    finally:
        admin.chmod(0o600)


def test_the_development_emulator_without_tls(hub: HubProcess) -> None:
    assert hub.ready["plain_amqp"] == f"amqp://{hub.address}:5672"
    send(hub, "plain", "one")
    events = hub.ok("connection-string", "--events").strip()
    done = hub.ok("run", "--", sys.executable, "-c", PLAIN_READER, f"{events};UseDevelopmentEmulator=true")
    assert int(done) >= 1


def test_no_hub_is_said_plainly(tmp_path: Path) -> None:
    done = command("device", "list", "--data", str(tmp_path / "nowhere"))
    assert (done.status, "hubkeep dev" in done.err) == (3, True)
    with hub_process(tmp_path / "hub") as stopped:
        stopped.stop()
        gone = stopped.run("device", "list")
    assert (gone.status, "no hub answers" in gone.err, "hubkeep doctor" in gone.err) == (3, True, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    variables = {"_HUBKEEP_COMPLETE": f"complete_{shell}", "COMP_WORDS": "hubkeep de", "COMP_CWORD": "1"}
    variables["_TYPER_COMPLETE_ARGS"] = "hubkeep de"
    variables["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    program = Path(sys.executable).parent / "hubkeep"
    done = subprocess.run(
        [program], env={**os.environ, **variables}, capture_output=True, text=True, timeout=60, check=False
    )
    words = done.stdout
    assert "dev" in words
    assert "device" in words
    assert "monitor" not in words


def test_consumer_groups_and_what_is_retained(hub: HubProcess) -> None:
    assert "billing is there" in hub.ok("events", "group", "create", "billing")
    assert [each["name"] for each in json.loads(hub.ok("events", "group", "list", "--json"))] == ["$Default", "billing"]
    assert "always there" in hub.ok("events", "group", "list")
    shown = json.loads(hub.ok("events", "show", "--json"))
    assert (shown["name"], shown["groups"], len(shown["partitions"])) == ("hubkeep-events", ["$Default", "billing"], 4)
    assert shown["retention_hours"] > 0
    assert "billing" in hub.ok("events", "show")
    assert "billing is deleted" in hub.ok("events", "group", "delete", "billing")
    gone = hub.run("events", "group", "delete", "billing")
    assert (gone.status, "no consumer group" in gone.err) == (1, True)


def test_retention_is_changed_while_the_hub_runs(hub: HubProcess) -> None:
    default = {"hours": 24.0, "bytes": 10 << 30}
    assert json.loads(hub.ok("events", "retention", "--json")) == {**default, "default": default}
    changed = json.loads(hub.ok("events", "retention", "--hours", "72", "--bytes", "1.5GiB", "--json"))
    assert changed == {"hours": 72.0, "bytes": 3 << 29, "default": default}
    assert "72 hours, 1536 MiB at most" in hub.ok("events", "show")
    assert "24 hours, 1536 MiB at most" in hub.ok("events", "retention", "--hours", "24")
    assert "24 hours, 10240 MiB at most" in hub.ok("events", "retention", "--default")
    assert hub.run("events", "retention", "--bytes", "much").status == 2
    assert hub.run("events", "retention", "--hours", "0").status == 1


def test_event_sources_are_switched(hub: HubProcess) -> None:
    on = json.loads(hub.ok("events", "source", "enable", "TwinChangeEvents", "deviceLifecycleEvents", "--json"))
    assert [(each["source"], each["enabled"]) for each in on] == [
        ("twinChangeEvents", True),
        ("deviceLifecycleEvents", True),
    ]
    assert hub.ok("events", "source", "list").count(" off") == 3
    assert json.loads(hub.ok("events", "show", "--json"))["sources"][0] == "Telemetry"
    off = hub.ok("events", "source", "disable", "twinChangeEvents", "deviceLifecycleEvents")
    assert off.count(" off") == 2
    unknown = hub.run("events", "source", "enable", "weatherEvents")
    assert (unknown.status, "deviceLifecycleEvents" in unknown.err) == (1, True)


def test_keys_are_rotated(hub: HubProcess) -> None:
    def keys(device: str) -> tuple[str, str]:
        found = json.loads(hub.ok("device", "show", device, "--json"))["authentication"]["symmetricKey"]
        return found["primaryKey"], found["secondaryKey"]

    hub.ok("device", "create", "turned-1")
    hub.ok("device", "create", "turned-2")
    before = keys("turned-1")
    assert hub.ok("device", "rotate", "turned-1", "turned-2", "--key", "secondary").count("has new keys") == 2
    after = keys("turned-1")
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)
    told = json.loads(hub.ok("device", "rotate", "turned-1", "--key", "swap", "--json"))
    assert [(each["primaryKey"], each["secondaryKey"]) for each in told["rotatedKeys"]] == [(after[1], after[0])]
    done = hub.run("device", "rotate", "turned-1", "nobody", "--key", "both")
    assert (done.status, "1 of 2 were refused: nobody" in done.err) == (1, True)
    assert not {*keys("turned-1")} & {*after}
