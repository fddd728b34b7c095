"""Devices that register themselves over HTTPS: raw requests over real sockets."""

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from conversations.certificates import Certificate
from conversations.https_peer import VERSION, Answer, request
from conversations.provisioning_peer import (
    DEVICE_VERSION,
    GROUP_KEYS,
    derived,
    enrol,
    enrol_group,
    outcome,
    register,
    service,
    symmetric,
    token,
)
from hubkeep.device.provisioning.allocation import hashed
from hubkeep.model import LinkedHub
from hubkeep.testing import HubInThread
from hubkeep.testing.hub_in_thread import free_address
from hubkeep.wire import sas

PRIMARY, SECONDARY = b"p" * 32, b"s" * 32


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    """One that tells the outcome at once."""
    with HubInThread(provisioning={"answer_at_once": True}) as running:
        yield running


def identity(hub: HubInThread, device_id: str) -> Any:
    answer = request(hub, "GET", f"/devices/{device_id}?{VERSION}")
    return answer.body if answer.status == 200 else None


def twin(hub: HubInThread, device_id: str) -> Any:
    return request(hub, "GET", f"/twins/{device_id}?{VERSION}").body


def reason(hub: HubInThread, answer: Answer) -> str:
    """Why it was refused, as the operator reads it."""
    (refusal,) = hub.refusals(answer.body["trackingId"])
    return str(refusal.reason)


def poll(hub: HubInThread, registration_id: str, operation_id: str, shown: str) -> Answer:
    path = f"/{hub.id_scope}/registrations/{registration_id}/operations/{operation_id}?{DEVICE_VERSION}"
    return request(hub, "GET", path, token=shown)


# -- symmetric keys ---------------------------------------------------------------------------------------------------


def test_a_device_is_told_to_ask_again_and_then_its_hub(shared_hub: HubInThread, device_id: str) -> None:
    enrol(shared_hub, device_id)
    shown = token(shared_hub, device_id, PRIMARY)
    answer = register(shared_hub, device_id, by=shown)
    assert (answer.status, answer.body["status"], answer.headers["retry-after"]) == (202, "assigning", "3")
    operation_id = answer.body["operationId"]
    assert answer.headers["location"].endswith(f"/operations/{operation_id}?{DEVICE_VERSION}")
    state = outcome(poll(shared_hub, device_id, operation_id, shown))
    assert (state["assignedHub"], state["deviceId"]) == (shared_hub.host_name, device_id)
    assert (state["substatus"], state["symmetricKey"]) == ("initialAssignment", {})
    keys = identity(shared_hub, device_id)["authentication"]["symmetricKey"]
    assert keys == symmetric()["symmetricKey"]


def test_an_individual_may_have_another_name_at_the_hub(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id, deviceId=f"{device_id}@plant")
    assert outcome(register(hub, device_id, SECONDARY))["deviceId"] == f"{device_id}@plant"


@pytest.mark.parametrize("sr", ["{}%2Fregistrations%2F{}", "{}%2fregistrations%2f{}", "{}/registrations/{}"])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.spec("P-9")
def test_tokens_are_read_as_every_client_writes_them(hub: HubInThread, sr: str, named: bool) -> None:
    device = "many-tokens"
    enrol(hub, device, if_match="*")
    resource = sr.format(hub.id_scope, device)
    sig = quote(sas.b64encode(sas.signature(resource, "4000000000", PRIMARY)).decode(), safe="")
    good = f"SharedAccessSignature sr={resource}&sig={sig}&se=4000000000" + ("&skn=registration" if named else "")
    assert outcome(register(hub, device, by=good))["status"] == "assigned"
    wrong = sig[:5] + ("A" if sig[5] != "A" else "B") + sig[6:]
    for old, new in ((resource, resource[:-1] + "x"), ("4000000000", "4000000001"), (sig, wrong)):
        refused = register(hub, device, by=good.replace(old, new, 1))
        assert (refused.status, refused.body["errorCode"]) == (401, 401002)


@pytest.mark.spec("P-10")
def test_a_token_for_something_else_is_refused(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    enrol_group(hub, f"g-{device_id}", {"type": "symmetricKey", "symmetricKey": GROUP_KEYS})
    now, path = int(hub.clock.now()), f"{hub.id_scope}/registrations/{device_id}"
    for resource, key, expiry in (
        (f"{hub.id_scope}/registrations/other", PRIMARY, now + 60),
        (f"{path}/more", PRIMARY, now + 60),
        (path, PRIMARY, now - 360),
    ):
        assert register(hub, device_id, by=sas.make(resource, key, expiry)).status == 401
    group_key = b64decode(GROUP_KEYS["primaryKey"])
    by_group_key = sas.make(f"{hub.id_scope}/registrations/member", group_key, now + 60)
    assert register(hub, "member", by=by_group_key).status == 401
    assert register(hub, device_id, by=sas.make(path, PRIMARY, now - 200)).status == 200


@pytest.mark.spec("P-11", "P-T26")
def test_devices_of_a_group_use_derived_keys(hub: HubInThread, device_id: str) -> None:
    group = f"g-{device_id}"
    enrol_group(hub, group)
    for which, slot in (("primaryKey", "one"), ("secondaryKey", "two")):
        name = f"{slot}-{device_id}"[:60]
        state = outcome(register(hub, name, derived(hub, group, name, which)))
        assert (state["deviceId"], state["symmetricKey"]) == (name, {"enrollmentGroupId": group})
        keys = identity(hub, name)["authentication"]["symmetricKey"]
        assert b64decode(keys["primaryKey"]) == derived(hub, group, name)
        assert b64decode(keys["secondaryKey"]) == derived(hub, group, name, "secondaryKey")


def test_the_spelling_of_the_first_registration_stays(hub: HubInThread) -> None:
    enrol_group(hub, "spelling")
    assert outcome(register(hub, "Press-A", derived(hub, "spelling", "Press-A")))["deviceId"] == "Press-A"
    again = outcome(register(hub, "PRESS-a", derived(hub, "spelling", "PRESS-a")))
    assert (again["deviceId"], identity(hub, "PRESS-a")) == ("Press-A", None)
    # a maker that derives for the lower-case spelling
    assert outcome(register(hub, "Press-B", derived(hub, "spelling", "press-b")))["deviceId"] == "Press-B"


@pytest.mark.spec("P-8")
def test_an_empty_body_registers_and_another_id_in_it_does_not(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    assert outcome(register(hub, device_id, PRIMARY, b""))["status"] == "assigned"
    assert outcome(register(hub, device_id, PRIMARY, {"registrationId": device_id.upper()}))["status"] == "assigned"
    assert register(hub, device_id, PRIMARY, {"registrationId": "another"}).status == 400
    assert register(hub, device_id, PRIMARY, {"payload": "x" * 20_000}).status == 400
    assert register(hub, device_id, PRIMARY, b"{").status == 400
    assert register(hub, device_id, PRIMARY, version="x=1").status == 400


def test_whatever_is_wrong_with_a_credential_the_answer_is_the_same(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    answers = {
        "unknown id": register(hub, "nobody", PRIMARY),
        "wrong key": register(hub, device_id, b"w" * 32),
        "wrong scope": register(hub, device_id, PRIMARY, scope="0ne00000000"),
        "another policy": register(hub, device_id, by=token(hub, device_id, PRIMARY, policy="iothubowner")),
        "nothing": register(hub, device_id),
        "a policy of the service": register(hub, device_id, by=hub.token(policy="provisioningserviceowner")),
        "a policy of the hub": register(hub, device_id, by=hub.token()),
    }
    told = set()
    for answer in answers.values():
        told.add((answer.status, answer.body["errorCode"], answer.body["message"]))
        assert set(answer.body) == {"errorCode", "trackingId", "message", "timestampUtc", "info"}
    assert told == {(401, 401002, "Unauthorized")}
    assert "there is no individual/nobody" in reason(hub, answers["unknown id"])
    assert "matches no enrolled key" in reason(hub, answers["wrong key"])
    assert "id scope" in reason(hub, answers["wrong scope"])


@pytest.mark.spec("P-13")
def test_a_disabled_individual_stops_a_device_of_a_group(hub: HubInThread, device_id: str) -> None:
    group = f"g-{device_id}"
    enrol_group(hub, group)
    key = derived(hub, group, device_id)
    assert outcome(register(hub, device_id, key))["status"] == "assigned"
    enrol(hub, device_id, {"type": "symmetricKey"}, provisioningStatus="disabled")
    state = outcome(register(hub, device_id, key))
    assert state["status"] == "disabled"
    assert "assignedHub" not in state
    assert "deviceId" not in state
    assert register(hub, device_id, b"w" * 32).status == 401
    enrol(hub, device_id, {"type": "symmetricKey"}, if_match="*", provisioningStatus="enabled")
    assert register(hub, device_id, key).status == 401  # an enabled one decides alone
    assert service(hub, "DELETE", f"/enrollments/{device_id}").status == 204
    assert outcome(register(hub, device_id, key))["status"] == "assigned"


@pytest.mark.spec("P-25", "P-T10")
def test_an_identity_that_somebody_else_made_is_not_taken_over(hub: HubInThread, device_id: str) -> None:
    hub.create_device(device_id)
    before = identity(hub, device_id)
    enrol(hub, device_id)
    answer = register(hub, device_id, PRIMARY)
    state = outcome(answer)
    assert (state["status"], state["errorCode"] // 1000) == ("failed", 409)
    assert "assignedHub" not in state
    assert identity(hub, device_id) == before
    assert "made by a person or a program" in hub.refusals(device_id)[0].reason


def test_an_identity_that_was_blocked_stays_blocked(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    outcome(register(hub, device_id, PRIMARY))
    blocked = identity(hub, device_id) | {"status": "disabled", "statusReason": "stolen"}
    assert request(hub, "PUT", f"/devices/{device_id}?{VERSION}", blocked, headers={"If-Match": "*"}).status == 200
    outcome(register(hub, device_id, PRIMARY))
    assert identity(hub, device_id)["status"] == "disabled"


def test_registering_again_changes_nothing(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    first = outcome(register(hub, device_id, PRIMARY))
    before = identity(hub, device_id)
    again = outcome(register(hub, device_id, PRIMARY))
    assert identity(hub, device_id) == before
    assert again["createdDateTimeUtc"] == first["createdDateTimeUtc"]
    assert again["etag"] != first["etag"]


def test_the_initial_twin_is_of_a_new_device_alone(hub: HubInThread, device_id: str) -> None:
    start = {"tags": {"hall": 3}, "properties": {"desired": {"rate": 5}}}
    enrol(hub, device_id, initialTwin=start)
    outcome(register(hub, device_id, PRIMARY))
    assert (twin(hub, device_id)["tags"], twin(hub, device_id)["properties"]["desired"]["rate"]) == ({"hall": 3}, 5)
    patch = {"tags": {"hall": 4}}
    assert request(hub, "PATCH", f"/twins/{device_id}?{VERSION}", patch).status == 200
    outcome(register(hub, device_id, PRIMARY))
    assert twin(hub, device_id)["tags"] == {"hall": 4}


def test_an_edge_device_gets_its_modules(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id, capabilities={"iotEdge": True})
    outcome(register(hub, device_id, PRIMARY))
    assert identity(hub, device_id)["capabilities"] == {"iotEdge": True}
    modules = request(hub, "GET", f"/devices/{device_id}/modules?{VERSION}").body
    assert sorted(each["moduleId"] for each in modules) == ["$edgeAgent", "$edgeHub"]


@pytest.mark.spec("P-T26")
def test_a_group_keeps_to_its_own_bounds(hub: HubInThread, device_id: str) -> None:
    group = f"g-{device_id}"
    bounds = {"allowedRegistrationIds": ["press-*"], "maxRegistrations": 1, "owner": "plant 3"}
    assert enrol_group(hub, group, hubkeep=bounds)["hubkeep"] == bounds | {
        "hubIdentity": "thumbprint",
        "approval": "auto",
    }
    states = [outcome(register(hub, name, derived(hub, group, name))) for name in ("mill-1", "press-1x", "press-2x")]
    assert [each["status"] for each in states] == ["failed", "assigned", "failed"]
    assert [each.get("errorCode", 0) // 1000 for each in states] == [403, 0, 403]
    hub.clock.move(1)
    past = {"expiresAtUtc": "2020-01-01T00:00:00Z"}
    enrol_group(hub, group, if_match="*", hubkeep=past)
    assert outcome(register(hub, "press-1x", derived(hub, group, "press-1x")))["status"] == "assigned"
    assert outcome(register(hub, "press-3x", derived(hub, group, "press-3x")))["status"] == "failed"


def test_an_operation_is_told_to_its_device_alone(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    enrol(hub, f"{device_id}-2")
    answer = register(hub, device_id, PRIMARY)
    operation_id = answer.body["operationId"]
    own, others = token(hub, device_id, PRIMARY), token(hub, f"{device_id}-2", PRIMARY)
    assert outcome(poll(hub, device_id, operation_id, own)) == outcome(answer)
    assert poll(hub, f"{device_id}-2", operation_id, others).status == 404
    assert poll(hub, device_id, operation_id, others).status == 401
    assert poll(hub, device_id, "5.0000000000000000.none", own).status == 404
    path = f"/{hub.id_scope}/registrations/{device_id}?{DEVICE_VERSION}"
    assert request(hub, "POST", path, {"registrationId": device_id}, token=own).body == outcome(answer)


def test_a_registration_outlives_the_hub(tmp_path: Path) -> None:
    with HubInThread(tmp_path) as first:
        enrol(first, "press-07")
        answer = register(first, "press-07", PRIMARY)
        assert answer.status == 202
        scope, address = first.id_scope, first.address
    with HubInThread(tmp_path, address) as second:
        assert second.id_scope == scope
        shown = token(second, "press-07", PRIMARY)
        assert outcome(poll(second, "press-07", answer.body["operationId"], shown))["status"] == "assigned"
        assert identity(second, "press-07")["status"] == "enabled"


@pytest.mark.spec("P-T46")
def test_too_many_registrations_are_told_when_to_come_again() -> None:
    limits = {"registrations_per_minute": 3}
    with HubInThread(limits=limits, provisioning={"answer_at_once": True}) as hub:
        enrol(hub, "press-07")
        answers = [register(hub, "press-07", PRIMARY) for _ in range(4)]
        assert [each.status for each in answers] == [200, 200, 200, 429]
        assert 0 < int(answers[3].headers["retry-after"]) <= 61
        hub.clock.move(61)
        last = register(hub, "press-07", PRIMARY)
        shown = token(hub, "press-07", PRIMARY)
        polls = [poll(hub, "press-07", last.body["operationId"], shown).status for _ in range(6)]
        assert polls == [200] * 5 + [429]


def test_guessing_at_a_registration_from_one_address_stops(device_id: str) -> None:
    with HubInThread(listeners={"count_loopback": True}, provisioning={"answer_at_once": True}) as hub:
        enrol(hub, device_id)
        enrol(hub, f"{device_id}-2")
        for _ in range(10):
            assert register(hub, device_id, b"w" * 32).status == 401
        refused = register(hub, device_id.upper(), PRIMARY)
        assert (refused.status, refused.body["message"]) == (401, "Unauthorized")
        assert reason(hub, refused) == "too many failed logins of this identity from this address"
        assert outcome(register(hub, f"{device_id}-2", PRIMARY))["status"] == "assigned"
        hub.clock.move(61)
        assert outcome(register(hub, device_id, PRIMARY))["status"] == "assigned"


# -- certificates -----------------------------------------------------------------------------------------------------


def by_certificate(primary: Certificate | str, secondary: Certificate | None = None, *, group: bool = False) -> Any:
    text = primary if isinstance(primary, str) else primary.pem
    other = None if secondary is None else {"certificate": secondary.pem}
    member = "signingCertificates" if group else "clientCertificates"
    return {"type": "x509", "x509": {member: {"primary": {"certificate": text}, "secondary": other}}}


def test_a_device_registers_by_its_own_certificate(hub: HubInThread, device_id: str, tmp_path: Path) -> None:
    device_id = device_id[:60]
    one, two, other = (Certificate.made(device_id, ca=ca) for ca in (None, True, None))
    enrol(hub, device_id, by_certificate(one, two))
    for shown in (one, two):
        state = outcome(register(hub, device_id, certificate=shown.file(tmp_path)))
        assert state["x509"]["certificateInfo"]["sha256Thumbprint"] == shown.sha256.upper()
        prints = identity(hub, device_id)["authentication"]["x509Thumbprint"]
        assert prints["primaryThumbprint"] == shown.sha256.upper()
    assert register(hub, device_id, certificate=other.file(tmp_path)).status == 401
    assert register(hub, device_id, PRIMARY, certificate=one.file(tmp_path)).status == 401
    named = Certificate.made("somebody-else")
    enrol(hub, f"{device_id}-2", by_certificate(named))
    refused = register(hub, f"{device_id}-2", certificate=named.file(tmp_path))
    assert reason(hub, refused).startswith("cn: ")
    old = Certificate.made(f"{device_id}-3", days=(-9, -1))
    enrol(hub, f"{device_id}-3", by_certificate(old))
    assert reason(hub, register(hub, f"{device_id}-3", certificate=old.file(tmp_path))).startswith("expired: ")


@pytest.mark.spec("P-17", "P-18")
def test_the_nearest_enrolled_authority_decides(hub: HubInThread, tmp_path: Path) -> None:
    root = Certificate.made("plant root", ca=True)
    between = Certificate.made("plant issuer", issuer=root, ca=True)
    foreign = Certificate.made("foreign issuer", issuer=root, ca=True)
    enrol_group(hub, "root-group", by_certificate(root, group=True))
    body = {"certificate": foreign.pem, "isVerified": True}
    assert request(hub, "PUT", "/api/cas/foreign", body).status == 200
    references = {"type": "x509", "x509": {"caReferences": {"primary": "foreign", "secondary": None}}}
    enrol_group(hub, "foreign-group", references)

    def group_of(name: str, chain: list[Certificate], issuer: Certificate = between) -> Any:
        leaf = Certificate.made(name, issuer=issuer)
        answer = register(hub, name, certificate=leaf.file(tmp_path, chain=chain))
        if answer.status != 200:
            return answer.status
        state = outcome(answer)
        return state["x509"]["enrollmentGroupId"] if state["status"] == "assigned" else state["status"]

    assert group_of("x-1", [between]) == "root-group"
    assert group_of("x-2", []) == 401  # nobody knows who issued it
    assert group_of("x-3", [between, foreign]) == "root-group"
    assert group_of("x-4", [], foreign) == "foreign-group"
    enrol_group(hub, "between-group", by_certificate(between, group=True), provisioningStatus="disabled")
    assert group_of("x-5", [between]) == "disabled"
    assert group_of("x-6", []) == "disabled"
    assert service(hub, "DELETE", "/enrollmentGroups/between-group").status == 204
    assert group_of("x-7", [between]) == "root-group"
    assert request(hub, "DELETE", "/api/cas/foreign").status == 204
    assert group_of("x-8", [], foreign) == 401


def test_a_group_may_ask_for_identities_of_its_authority(hub: HubInThread, tmp_path: Path) -> None:
    root = Certificate.made("line root", ca=True)
    enrol_group(hub, "line", by_certificate(root, group=True), hubkeep={"hubIdentity": "ca"})
    leaf = Certificate.made("line-1", issuer=root).file(tmp_path)
    outcome(register(hub, "line-1", certificate=leaf))
    assert identity(hub, "line-1")["authentication"]["type"] == "selfSigned"  # the hub does not know the authority
    body = {"certificate": root.pem, "isVerified": True}
    assert request(hub, "PUT", "/api/cas/line-root", body).status == 200
    outcome(register(hub, "LINE-1", certificate=leaf))
    assert identity(hub, "line-1")["authentication"]["type"] == "certificateAuthority"


# -- which hub --------------------------------------------------------------------------------------------------------

NEW_VERSION = "api-version=2021-06-01"
MIGRATE = {"updateHubAssignment": True, "migrateDeviceData": True}
RESET = {"updateHubAssignment": True, "migrateDeviceData": False}
NEVER = {"updateHubAssignment": False, "migrateDeviceData": False}


@pytest.fixture(scope="module")
def of_many_names() -> Iterator[HubInThread]:
    """Devices are assigned to three of its names; one is near to this machine, one takes nobody by itself."""
    own = free_address()
    names = (own, "north.hub.test", "south.hub.test", "test.hub.test")
    hubs = [{"host_name": own}, {"host_name": names[1], "weight": 3}, {"host_name": names[2]}]
    idle = {"host_name": names[3], "takes_part": False}
    networks = {"127.0.0.0/8": {names[1]: 90, names[2]: 5}}
    provisioning = {"answer_at_once": True, "hubs": [*hubs, idle], "networks": networks}
    with HubInThread(address=own, host_names=names, provisioning=provisioning) as running:
        yield running


def test_devices_spread_over_the_hubs(of_many_names: HubInThread) -> None:
    enrol_group(of_many_names, "spread")
    found = set()
    for number in range(20):
        name = f"spread-{number}"
        state = outcome(register(of_many_names, name, derived(of_many_names, "spread", name)))
        weighted = [
            LinkedHub(host_name=each["hostName"], weight=each["allocationWeight"])
            for each in request(of_many_names, "GET", "/api/provisioning").body["linkedHubs"]
            if each["applyAllocationPolicy"]
        ]
        assert state["assignedHub"] == hashed(name, weighted).host_name
        found.add(state["assignedHub"])
    assert len(found) > 1


def test_an_enrolment_may_say_which_hub(of_many_names: HubInThread) -> None:
    for name, members, hub in (
        ("near", {"allocationPolicy": "geoLatency"}, "south.hub.test"),
        (
            "near-of-two",
            {"allocationPolicy": "geoLatency", "iotHubs": ["north.hub.test", "test.hub.test"]},
            "north.hub.test",
        ),
        ("fixed", {"allocationPolicy": "static", "iotHubs": ["test.hub.test"]}, "test.hub.test"),
        ("legacy", {"iotHubHostName": "North.Hub.Test"}, "north.hub.test"),
    ):
        enrol(of_many_names, name, **members)
        assert outcome(register(of_many_names, name, PRIMARY))["assignedHub"] == hub, name


@pytest.mark.spec("P-14")
def test_a_device_that_no_hub_is_there_for(of_many_names: HubInThread) -> None:
    enrol(of_many_names, "nowhere", iotHubs=["test.hub.test"])  # which takes nobody by hashing
    answer = register(of_many_names, "nowhere", PRIMARY)
    state = outcome(answer)
    assert (answer.status, state["status"], state["errorCode"]) == (200, "failed", 400208)
    assert "assignedHub" not in state
    assert identity(of_many_names, "nowhere") is None


@pytest.mark.spec("P-26")
@pytest.mark.parametrize(
    ("policy", "hub", "substatus", "site"),
    [
        (MIGRATE, "south.hub.test", "deviceDataMigrated", "changed"),
        (RESET, "south.hub.test", "deviceDataReset", "first"),
        (NEVER, "north.hub.test", "reprovisionedToInitialAssignment", "changed"),
        (None, "south.hub.test", "deviceDataMigrated", "changed"),
    ],
    ids=["migrate", "reset", "never", "by default"],
)
def test_registering_again_when_the_hubs_have_changed(
    of_many_names: HubInThread, device_id: str, policy: Any, hub: str, substatus: str, site: str
) -> None:
    device = device_id.strip("-")
    members: Any = {"initialTwin": {"tags": {"site": "first"}}, "reprovisionPolicy": policy}
    enrol(of_many_names, device, iotHubs=["north.hub.test"], **members)
    first = outcome(register(of_many_names, device, PRIMARY, version=NEW_VERSION))
    assert (first["assignedHub"], first["substatus"]) == ("north.hub.test", "initialAssignment")
    patch = {"tags": {"site": "changed"}, "properties": {"desired": {"rate": 5}}}
    assert request(of_many_names, "PATCH", f"/twins/{device}?{VERSION}", patch).status == 200
    same = outcome(register(of_many_names, device, PRIMARY, version=NEW_VERSION))
    assert same["assignedHub"] == "north.hub.test"
    assert twin(of_many_names, device)["tags"] == {"site": "changed"}  # whatever the policy: the hub is the same
    enrol(of_many_names, device, if_match="*", iotHubs=["south.hub.test"], **members)
    moved = outcome(register(of_many_names, device, PRIMARY, version=NEW_VERSION))
    assert (moved["assignedHub"], moved["substatus"], moved["deviceId"]) == (hub, substatus, device)
    after = twin(of_many_names, device)
    assert (after["tags"], "rate" in after["properties"]["desired"]) == ({"site": site}, site == "changed")


def test_an_old_client_stays_where_it_is_unless_a_policy_says_otherwise(of_many_names: HubInThread) -> None:
    old = "api-version=2018-04-01"
    enrol(of_many_names, "old", iotHubs=["north.hub.test"])
    outcome(register(of_many_names, "old", PRIMARY, version=old))
    enrol(of_many_names, "old", if_match="*", iotHubs=["south.hub.test"])
    state = outcome(register(of_many_names, "old", PRIMARY, version=old))
    assert (state["assignedHub"], state["substatus"]) == ("north.hub.test", "initialAssignment")
    enrol(of_many_names, "old", if_match="*", iotHubs=["south.hub.test"], reprovisionPolicy=MIGRATE)
    assert outcome(register(of_many_names, "old", PRIMARY, version=old))["assignedHub"] == "south.hub.test"
