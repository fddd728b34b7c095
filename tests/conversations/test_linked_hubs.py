"""Devices that one hub's provisioning service assigns to another hub: two real hubs, and the unmodified client."""

from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from azure.iot.device import IoTHubDeviceClient, ProvisioningDeviceClient
from typer.testing import CliRunner

from conversations.certificates import Certificate
from conversations.https_peer import VERSION, Answer, request
from conversations.provisioning_peer import OWNER, derived, enrol, enrol_group, outcome, register, symmetric
from conversations.test_provisioning import identity, twin
from hubkeep.cli.main import app
from hubkeep.testing import HubInThread
from hubkeep.wire import sas

PRIMARY = b"p" * 32
KEY = b64encode(PRIMARY).decode()
TWIN = {"tags": {"line": "B"}, "properties": {"desired": {"rate": 5}}}
MIGRATE = {"updateHubAssignment": True, "migrateDeviceData": True}
RESET = {"updateHubAssignment": True, "migrateDeviceData": False}
NEVER = {"updateHubAssignment": False, "migrateDeviceData": False}
SINCE_2021 = "api-version=2021-06-01"  # older ones are told of one substatus alone


class Hubs(NamedTuple):
    """here: with the provisioning service. there: linked as ``north``."""

    here: HubInThread
    there: HubInThread


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hubs]:
    folder = tmp_path_factory.mktemp("hubs")
    with HubInThread(folder / "north") as there:
        settings = {"answer_at_once": True, "hub_roots": there.trust_bundle}
        egress = {"allow": [there.host_name]}
        with HubInThread(folder / "here", provisioning=settings, egress=egress) as here:
            assert link(here, "north", there.connection_string, applyAllocationPolicy=False).status == 200
            yield Hubs(here, there)


def link(hub: HubInThread, name: str, connection: str | None, **members: Any) -> Answer:
    body = {"connectionString": connection, **members}
    return request(hub, "PUT", f"/api/provisioning/hubs/{name}", body, policy=OWNER)


def sent_to(hub: HubInThread, **members: Any) -> dict[str, Any]:
    """What makes an enrollment assign its device to ``hub``."""
    return {"iotHubs": [hub.host_name], "allocationPolicy": "static", "initialTwin": TWIN, **members}


def reason(hub: HubInThread, device_id: str) -> str:
    """Why its newest registration failed, as the operator reads it."""
    return next(str(each.reason) for each in reversed(hub.refusals()) if each.identity == device_id)


def twin_change(hub: HubInThread, device_id: str) -> None:
    change = {"tags": {"line": "C"}, "properties": {"desired": {"rate": 9}}}
    assert request(hub, "PATCH", f"/twins/{device_id}?{VERSION}", change).status == 200


def test_a_device_registers_here_and_connects_there(hubs: Hubs, device_id: str) -> None:
    enrol(hubs.here, device_id, **sent_to(hubs.there))
    with hubs.here.trusted(), hubs.there.trusted():
        where = (hubs.here.host_name, device_id, hubs.here.id_scope)
        state = ProvisioningDeviceClient.create_from_symmetric_key(*where, KEY).register().registration_state
        assert (state.assigned_hub, state.device_id) == (hubs.there.host_name, device_id)
        client = IoTHubDeviceClient.create_from_symmetric_key(KEY, state.assigned_hub, state.device_id)
        client.connect()
        client.send_message("from the north")
        assert client.get_twin()["desired"]["rate"] == 5
        client.shutdown()
    (event,) = hubs.there.wait_for_events(1, device=device_id)
    assert event["body"] == "from the north"


def test_it_is_known_there_by_what_proved_it_here(hubs: Hubs, device_id: str, tmp_path: Path) -> None:
    by_key, by_certificate = device_id, f"{device_id}-x509"
    enrol(hubs.here, by_key, deviceId=f"{by_key}-there", **sent_to(hubs.there))
    state = outcome(register(hubs.here, by_key, PRIMARY))
    assert (state["assignedHub"], state["substatus"]) == (hubs.there.host_name, "initialAssignment")
    known = identity(hubs.there, f"{by_key}-there")["authentication"]
    assert known["symmetricKey"] == symmetric()["symmetricKey"]
    assert twin(hubs.there, f"{by_key}-there")["tags"] == TWIN["tags"]
    assert identity(hubs.here, f"{by_key}-there") is None
    leaf = Certificate.made(by_certificate)
    attestation = {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": leaf.pem}}}}
    enrol(hubs.here, by_certificate, attestation, **sent_to(hubs.there))
    assert outcome(register(hubs.here, by_certificate, certificate=leaf.file(tmp_path)))["status"] == "assigned"
    known = identity(hubs.there, by_certificate)["authentication"]
    assert (known["type"], known["x509Thumbprint"]["primaryThumbprint"]) == ("selfSigned", leaf.sha256.upper())
    # registering again changes nothing, and never the twin
    twin_change(hubs.there, f"{by_key}-there")
    assert outcome(register(hubs.here, by_key, PRIMARY))["assignedHub"] == hubs.there.host_name
    assert twin(hubs.there, f"{by_key}-there")["tags"] == {"line": "C"}


@pytest.mark.spec("P-26")
def test_a_device_moves_as_its_policy_lets_it(hubs: Hubs, device_id: str) -> None:
    here, there = hubs

    def registered(hub: HubInThread, policy: dict[str, bool]) -> Any:
        enrol(here, device_id, if_match="*", **sent_to(hub, reprovisionPolicy=policy))
        return outcome(register(here, device_id, PRIMARY, version=SINCE_2021))

    assert registered(here, MIGRATE)["substatus"] == "initialAssignment"
    twin_change(here, device_id)
    state = registered(there, MIGRATE)
    assert (state["assignedHub"], state["substatus"]) == (there.host_name, "deviceDataMigrated")
    assert identity(here, device_id) is None
    moved = twin(there, device_id)
    assert (moved["tags"], moved["properties"]["desired"]["rate"]) == ({"line": "C"}, 9)
    state = registered(here, NEVER)
    assert (state["assignedHub"], state["substatus"]) == (there.host_name, "reprovisionedToInitialAssignment")
    assert identity(there, device_id) is not None
    state = registered(here, RESET)
    assert (state["assignedHub"], state["substatus"]) == (here.host_name, "deviceDataReset")
    assert identity(there, device_id) is None
    begun = twin(here, device_id)
    assert (begun["tags"], begun["properties"]["desired"]["rate"]) == (TWIN["tags"], 5)
    twin_change(here, device_id)
    assert registered(there, RESET)["substatus"] == "deviceDataReset"
    assert twin(there, device_id)["tags"] == TWIN["tags"]
    twin_change(there, device_id)
    assert registered(here, MIGRATE)["substatus"] == "deviceDataMigrated"
    assert twin(here, device_id)["tags"] == {"line": "C"}
    assert identity(there, device_id) is None


def test_what_others_made_there_is_not_taken_over(hubs: Hubs, device_id: str) -> None:
    hubs.there.create_device(device_id)
    keys = identity(hubs.there, device_id)["authentication"]
    enrol(hubs.here, device_id, **sent_to(hubs.there))
    state = outcome(register(hubs.here, device_id, PRIMARY))
    assert (state["status"], state["errorCode"]) == ("failed", 409204)
    assert "was not made by" in reason(hubs.here, device_id)
    assert identity(hubs.there, device_id)["authentication"] == keys


@pytest.mark.explains("hub-not-authorized")
def test_an_attempt_that_is_cut_short_is_carried_on(hubs: Hubs, device_id: str) -> None:
    """Its policy may make identities there and write no twin."""
    enrol(hubs.here, device_id, **sent_to(hubs.there))
    half = request(hubs.there, "PUT", "/api/policies/half", {"rights": "RegistryWrite"}).body
    parts = {"HostName": hubs.there.host_name, "SharedAccessKeyName": "half", "SharedAccessKey": half["primaryKey"]}
    connection = ";".join(f"{name}={value}" for name, value in parts.items())
    try:
        assert link(hubs.here, "north", connection, applyAllocationPolicy=False).status == 200
        state = outcome(register(hubs.here, device_id, PRIMARY))
        assert (state["status"], state["errorCode"]) == ("failed", 400209)
        (refusal,) = (each for each in hubs.here.refusals() if each.identity == device_id)
        assert refusal.cause == "hub-not-authorized"
        assert identity(hubs.there, device_id) is not None
    finally:
        link(hubs.here, "north", hubs.there.connection_string, applyAllocationPolicy=False)
    assert outcome(register(hubs.here, device_id, PRIMARY))["assignedHub"] == hubs.there.host_name
    assert twin(hubs.there, device_id)["tags"] == TWIN["tags"]


def test_a_group_is_spread_over_both(hubs: Hubs, device_id: str) -> None:
    both = [hubs.here.host_name, hubs.there.host_name]
    enrol_group(hubs.here, device_id, iotHubs=both)
    link(hubs.here, "north", None, allocationWeight=1)
    try:
        names = [f"{device_id[:40]}-{number}" for number in range(10)]
        states = [outcome(register(hubs.here, name, derived(hubs.here, device_id, name))) for name in names]
    finally:
        link(hubs.here, "north", None, applyAllocationPolicy=False)
    assert {each["assignedHub"] for each in states} == set(both)
    for name, state in zip(names, states, strict=True):
        at = hubs.here if state["assignedHub"] == hubs.here.host_name else hubs.there
        assert identity(at, name) is not None


def test_a_hub_that_cannot_be_reached_fails_the_registration(hubs: Hubs, device_id: str) -> None:
    nobody = "HostName=192.0.2.1;SharedAccessKeyName=p;SharedAccessKey=" + KEY
    loopback = "HostName=127.9.9.9;SharedAccessKeyName=p;SharedAccessKey=" + KEY
    for name, connection in (("inside", loopback), ("nobody", nobody)):
        assert link(hubs.here, name, connection, applyAllocationPolicy=False).status == 200
    enrol(hubs.here, device_id, iotHubs=["127.9.9.9"], allocationPolicy="static")
    state = outcome(register(hubs.here, device_id, PRIMARY))
    assert (state["status"], state["errorCode"]) == ("failed", 400207)
    assert "egress" in next(each.remedy for each in hubs.here.refusals() if each.identity == device_id)
    for name in ("inside", "nobody"):
        assert request(hubs.here, "DELETE", f"/api/provisioning/hubs/{name}", policy=OWNER).status == 204


def test_what_opens_a_hub_goes_in_and_never_comes_out(hubs: Hubs) -> None:
    key = sas.parse_connection_string(hubs.there.connection_string).parts["SharedAccessKey"]
    listed = request(hubs.here, "GET", "/api/provisioning/hubs", policy=OWNER)
    assert [each["name"] for each in listed.body] == ["north"]
    assert key not in str(listed.body)
    stored = b"".join(each.read_bytes() for each in hubs.here.data.glob("registry*"))
    assert key.encode() not in stored
    assert b64decode(key) not in stored
    for wrong in (
        "no connection string",
        f"HostName={hubs.there.host_name}",
        hubs.here.connection_string,  # itself
        hubs.there.connection_string,  # linked already, by another name
        "HostName=a.test/..;SharedAccessKeyName=p;SharedAccessKey=" + KEY,
    ):
        assert link(hubs.here, "other", wrong).status == 400, wrong
    assert link(hubs.here, "north", None, allocationWeight=0).status == 400
    assert request(hubs.here, "DELETE", "/api/provisioning/hubs/nobody", policy=OWNER).status == 404


def test_the_commands_link_list_and_remove(hubs: Hubs, tmp_path: Path) -> None:
    file = tmp_path / "south.connection"
    file.write_text("HostName=south.hub.test;SharedAccessKeyName=p;SharedAccessKey=" + KEY + "\n")
    place = ["--connection-string", hubs.here.policy_connection_string(OWNER)]
    with hubs.here.trusted():

        def run(*words: str) -> str:
            done = CliRunner().invoke(app, ["enroll", *words, *place])
            assert done.exit_code == 0, done.output
            return done.stdout

        assert "south.hub.test" in run("hub", "add", "south", "--to", str(file), "--weight", "3", "--by-name-only")
        assert "south.hub.test" in run("hub", "list")
        assert "south.hub.test" in run("hubs")
        run("hub", "remove", "south")
        assert "south" not in run("hub", "list")
