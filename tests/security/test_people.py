"""People: what their roles let them do, at which devices, and that it ends when the role or the token does."""

from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest

from conversations.amqp_peer import AmqpPeer, condition, data
from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import eventually, tls_socket
from hubkeep.testing import HubInThread
from hubkeep.wire.amqp.performatives import Detach
from sign_in import KeyServer

HALL_3: Final = "tags.hall = 3"
MINE, OTHERS, NONE = "press-07", "oven-01", "no-such-device"
FEEDBACK: Final = "/messages/servicebound/feedback"
READER: Final = "hubkeep-events/ConsumerGroups/$Default/Partitions/0"
Ask = Callable[..., Answer]


@pytest.fixture(scope="module")
def provider() -> Iterator[KeyServer]:
    with KeyServer() as server:
        yield server


@pytest.fixture(scope="module")
def hub(provider: KeyServer) -> Iterator[HubInThread]:
    roles = [{"role": "reader", "claim": "groups", "value": "readers"}]
    with HubInThread(people=provider.settings(roles=roles)) as hub:
        for device_id, hall in ((MINE, 3), (OTHERS, 4)):
            hub.create_device(device_id)
            assert tag(hub, device_id, hall).status == 200
        yield hub


def tag(hub: HubInThread, device_id: str, hall: int) -> Answer:
    return request(hub, "PATCH", f"/twins/{device_id}?{VERSION}", {"tags": {"hall": hall}}, headers={"If-Match": "*"})


def assign(hub: HubInThread, name: str, role: str, value: str, **more: Any) -> Answer:
    return request(hub, "PUT", f"/api/roles/{name}", {"role": role, "value": value, **more})


@pytest.fixture
def asked_by(hub: HubInThread, provider: KeyServer) -> Callable[..., Ask]:
    def person(subject: str, **claims: Any) -> Ask:
        token = f"Bearer {provider.signed(sub=subject, **claims)}"

        def ask(method: str, path: str, body: Any = None, **headers: str) -> Answer:
            return request(hub, method, f"{path}?{VERSION}", body, token=token, headers=headers)

        return ask

    return person


@pytest.mark.spec("S-16")
@pytest.mark.explains("role-missing", "closed-to-people")
def test_a_reader_sees_a_device_and_writes_none(hub: HubInThread, asked_by: Callable[..., Ask]) -> None:
    ask = asked_by("ann", groups=["everybody", "readers"])
    assert ask("GET", f"/devices/{MINE}").body["deviceId"] == MINE
    refused = ask("PUT", f"/devices/{MINE}", {"deviceId": MINE}, **{"If-Match": "*"})
    assert (refused.status, refused.code) == (401, "IotHubUnauthorizedAccess")
    assert ask("GET", f"/twins/{MINE}").status == 200
    assert ask("PATCH", f"/twins/{MINE}", {"tags": {}}, **{"If-Match": "*"}).status == 401
    newest = hub.refusals(most=1)[0]
    assert newest.identity == "person ann"
    assert newest.reason == "twins/patch needs twins/write; person ann has reader"
    assert newest.cause == "role-missing"
    assert newest.remedy.startswith("hubkeep access role assign")
    assert ask("POST", f"/devices/{MINE}/tokens", {}).status == 401
    assert hub.refusals(most=1)[0].cause == "closed-to-people"


def test_roles_come_by_any_claim_and_say_who_is_asking(hub: HubInThread, asked_by: Callable[..., Ask]) -> None:
    assert assign(hub, "by-scope", "twin-contributor", "hub.twins", claim="scope").status == 200
    assert assign(hub, "nested", "registry-contributor", "registrar", claim="realm_access.roles").status == 200
    claims = {
        "scope": "openid hub.twins",
        "realm_access": {"roles": ["registrar"]},
        "preferred_username": "ben@example.com",
    }
    told = asked_by("b-17", **claims)("GET", "/api/self").body
    assert (told["kind"], told["name"], told["subject"]) == ("person", "ben@example.com", "b-17")
    assert [each["role"] for each in told["roles"]] == ["twin-contributor", "registry-contributor"]
    assert set(told["actions"]) == {"twins/read", "twins/write", "devices/read", "devices/write", "devices/delete"}
    nobody = asked_by("eve", name="hub.twins", groups="readersX", realm_access=["registrar"])
    assert nobody("GET", "/api/self").body["roles"] == []
    assert nobody("GET", f"/devices/{MINE}").status == 401
    policy = request(hub, "GET", "/api/self", policy="service").body
    assert (policy["kind"], policy["name"], policy["permissions"]) == ("policy", "service", "ServiceConnect")


def test_an_administrator_gives_roles_and_the_audit_tells_who(hub: HubInThread, asked_by: Callable[..., Ask]) -> None:
    assert assign(hub, "chief", "administrator", "cleo", reason="runs the plant").status == 200
    cleo = asked_by("cleo", preferred_username="cleo@example.com")
    made = cleo("PUT", "/api/roles/helper", {"role": "reader", "value": "dan"}).body
    assert made["createdBy"] == "person cleo@example.com (cleo)"
    assert asked_by("dan")("GET", f"/devices/{MINE}").status == 200
    assert asked_by("dan")("PUT", "/api/roles/helper", {"role": "administrator", "value": "dan"}).status == 401
    assert cleo("DELETE", "/api/roles/helper").status == 204
    assert asked_by("dan")("GET", f"/devices/{MINE}").status == 401
    gone, put = request(hub, "GET", "/api/audit?target=helper&chain=changes").body
    assert (gone["actor"], gone["credential"], gone["operation"]) == (put["actor"], "jwt", "admin/roles/delete")
    assert gone["actor"] == "person cleo@example.com (cleo)"
    assert "reader" in gone["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"role": "owner", "value": "x"},
        {"role": "reader", "value": ""},
        {"role": "reader", "value": "x", "claim": ""},
        {"role": "reader", "value": "x" * 300},
        {"role": "reader", "value": "x\n"},
        {"role": "administrator", "value": "x", "devices": HALL_3},
        {"role": "reader", "value": "x", "devices": "tags.hall ="},
        {"role": "reader", "value": "x", "devices": "connectionState = 'Connected'"},
        {"role": "reader"},
    ],
)
def test_an_assignment_that_means_nothing_is_refused(hub: HubInThread, body: dict[str, str]) -> None:
    assert request(hub, "PUT", "/api/roles/wrong", body).status == 400
    assert "wrong" not in {each["name"] for each in request(hub, "GET", "/api/roles").body}


def test_what_stands_in_the_settings_is_changed_there(hub: HubInThread) -> None:
    (fixed,) = [each for each in request(hub, "GET", "/api/roles").body if each["isFixed"]]
    assert (fixed["name"], fixed["claim"], fixed["value"]) == ("settings.1", "groups", "readers")
    assert assign(hub, "settings.1", "administrator", "eve").status == 400
    assert request(hub, "DELETE", "/api/roles/settings.1").status == 400
    assert request(hub, "DELETE", "/api/roles/none").status == 404


@pytest.mark.explains("role-for-other-devices", "role-for-some-devices")
def test_a_role_for_some_devices_shows_no_others(hub: HubInThread, asked_by: Callable[..., Ask]) -> None:
    assert assign(hub, "hall-3", "contributor", "fay", devices=HALL_3).status == 200
    ask = asked_by("fay")
    assert ask("GET", f"/twins/{MINE}").status == 200
    others, none = ask("GET", f"/twins/{OTHERS}"), ask("GET", f"/twins/{NONE}")
    assert (others.status, others.body["Message"]) == (none.status, none.body["Message"])
    assert others.status == 401
    assert hub.refusals(most=1)[0].cause == "role-for-other-devices"
    assert [each["deviceId"] for each in ask("GET", "/devices").body] == [MINE]
    queries = {
        "SELECT deviceId FROM devices": [{"deviceId": MINE}],
        f"SELECT deviceId FROM devices WHERE deviceId = '{OTHERS}' OR tags.hall > 0": [{"deviceId": MINE}],
        "SELECT COUNT() AS n FROM devices": [{"n": 1}],
        "SELECT tags.hall, COUNT() AS n FROM devices GROUP BY tags.hall": [{"hall": 3, "n": 1}],
    }
    for text, rows in queries.items():
        assert ask("POST", "/devices/query", {"query": text}).body == rows, text
    for text in ("SELECT * FROM devices.modules", "SELECT * FROM devices.jobs"):
        assert ask("POST", "/devices/query", {"query": text}).status == 401, text
    for method, path in (("GET", "/statistics/devices"), ("GET", "/jobs/v2/query"), ("GET", "/configurations")):
        assert ask(method, path).status == 401, path
        assert hub.refusals(most=1)[0].cause == "role-for-some-devices"


def test_a_role_for_some_devices_changes_no_others(hub: HubInThread, asked_by: Callable[..., Ask]) -> None:
    assert assign(hub, "hall-3-bulk", "contributor", "gus", devices=HALL_3).status == 200
    ask = asked_by("gus")
    records = [{"id": each, "importMode": "updateTwin", "tags": {"hall": 3, "seen": True}} for each in (MINE, OTHERS)]
    answer = ask("POST", "/devices", [*records, {"id": NONE, "importMode": "createOrUpdate"}])
    assert answer.status == 400
    assert {(each["deviceId"], each["errorCode"]) for each in answer.body["errors"]} == {
        (OTHERS, "IotHubUnauthorizedAccess"),
        (NONE, "IotHubUnauthorizedAccess"),
    }
    assert ask("GET", f"/twins/{MINE}").body["tags"] == {"hall": 3, "seen": True}
    assert request(hub, "GET", f"/twins/{OTHERS}?{VERSION}").body["tags"] == {"hall": 4}
    wanted = {"policyKey": "secondary", "devices": [{"id": OTHERS}, {"id": MINE}]}
    rotated = ask("POST", "/devices/keys/regenerate", wanted)
    assert [each["id"] for each in rotated.body["rotatedKeys"]] == [MINE]
    assert [each["id"] for each in rotated.body["errors"]] == [OTHERS]
    assert ask("DELETE", f"/devices/{OTHERS}").status == 401
    assert ask("PUT", f"/devices/{NONE}", {"deviceId": NONE}).status == 401
    # a device that comes to the hall is within reach at once, and one that leaves it no longer
    tag(hub, OTHERS, 3)
    assert ask("GET", f"/twins/{OTHERS}").status == 200
    tag(hub, OTHERS, 4)
    assert ask("GET", f"/twins/{OTHERS}").status == 401


def test_two_halves_at_different_devices_make_no_whole(hub: HubInThread, asked_by: Callable[..., Ask]) -> None:
    assert assign(hub, "hal-a", "reader", "hal", devices=HALL_3).status == 200
    assert assign(hub, "hal-b", "twin-contributor", "hal", devices="tags.hall = 4").status == 200
    ask = asked_by("hal")
    assert ask("GET", f"/devices/{MINE}").status == 200
    assert ask("GET", f"/devices/{OTHERS}").status == 401
    for device, status in ((MINE, 401), (OTHERS, 200)):
        assert ask("PATCH", f"/twins/{device}", {"tags": {}}, **{"If-Match": "*"}).status == status
    rows = ask("POST", "/devices/query", {"query": "SELECT deviceId FROM devices"}).body
    assert rows == [{"deviceId": OTHERS}, {"deviceId": MINE}]


def test_assignments_are_kept_over_a_restart(tmp_path: Any, provider: KeyServer) -> None:
    for _ in range(2):
        with HubInThread(tmp_path, people=provider.settings()) as hub:
            hub.create_device(MINE)
            if not (found := request(hub, "GET", "/api/roles").body):
                assign(hub, "kept", "reader", "ida", devices="deviceId = 'press-07'", reason="audit")
    assert [(each["name"], each["devices"], each["reason"]) for each in found] == [
        ("kept", "deviceId = 'press-07'", "audit")
    ]


# -- AMQP --------------------------------------------------------------------------------------------------------------


def connected(hub: HubInThread, token: str = "") -> AmqpPeer:
    peer = AmqpPeer(hub, tls_socket(hub, 5671)).opened()
    peer.node()
    if token:
        assert peer.put_token(token).status == 200
    return peer


@pytest.mark.spec("S-17")
def test_every_way_to_put_a_web_token_is_taken(hub: HubInThread, provider: KeyServer) -> None:
    token = provider.signed(groups=["readers"])
    scope = "https://iothubs.azure.net/.default"
    for kind in ("bearer", "Bearer", "servicebus.windows.net:sastoken", "jwt"):
        for text in (f"Bearer {token}", f"bearer {token}", token):
            with connected(hub) as peer:
                ask = {"operation": "put-token", "type": kind, "name": scope}
                assert peer.request(ask, text).status == 200, (kind, text[:7])
                assert peer.attached(READER, handle=1, receiver=True)


def test_a_role_that_is_taken_away_ends_its_links_at_once(hub: HubInThread, provider: KeyServer) -> None:
    assert assign(hub, "short", "contributor", "jon").status == 200
    with connected(hub, provider.signed(sub="jon")) as peer, connected(hub, hub.token()) as other:
        peer.attached(FEEDBACK, handle=1, receiver=True)
        peer.attached(READER, handle=2, receiver=True)
        other.attached(FEEDBACK, handle=1, receiver=True)
        assert assign(hub, "short", "reader", "jon").status == 200
        ended = peer.expect(Detach)
        assert (ended.handle, condition(ended.error)) == (1, "amqp:unauthorized-access")
        assert request(hub, "DELETE", "/api/roles/short").status == 204
        assert peer.expect(Detach).handle == 2
        other.attached(READER, handle=2, receiver=True)


def test_a_token_that_ends_ends_its_links_after_the_grace(hub: HubInThread, provider: KeyServer) -> None:
    ends = hub.clock.now() + 5
    with connected(hub, provider.signed(groups=["readers"], exp=ends)) as peer:
        peer.attached(READER, handle=1, receiver=True)
        hub.clock.move(5 + 299)
        try:
            # still good, and the link is still there
            assert peer.put_token(provider.signed(groups=["readers"], exp=ends)).status == 200
            hub.clock.move(3)
            assert condition(peer.expect(Detach).error) == "amqp:unauthorized-access"
        finally:
            hub.clock.jump(-307)


def test_messages_go_to_devices_within_reach_alone(hub: HubInThread, provider: KeyServer) -> None:
    assert assign(hub, "sender", "contributor", "kim", devices=HALL_3).status == 200
    with connected(hub, provider.signed(sub="kim")) as peer:
        peer.attached("/messages/devicebound", handle=1)
        for device, outcome in ((MINE, "accepted"), (OTHERS, "rejected"), (NONE, "rejected")):
            number = peer.transfer(1, data(b"x", properties={"to": f"/devices/{device}/messages/devicebound"}))
            assert peer.outcome(number)[0] == outcome, device
        assert peer.refused(READER, handle=2, receiver=True)
        assert peer.refused(FEEDBACK, handle=3, receiver=True)
    assert request(hub, "GET", f"/api/devices/{MINE}/messages").body["waiting"]


def test_live_events_end_with_the_role(hub: HubInThread, provider: KeyServer) -> None:
    assert assign(hub, "watcher", "reader", "lea").status == 200
    token = f"Bearer {provider.signed(sub='lea')}"
    with tls_socket(hub, 443) as sock:
        sock.sendall(f"GET /api/events HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n\r\n".encode())
        assert b" 200 " in sock.recv(4096)
        assert request(hub, "DELETE", "/api/roles/watcher").status == 204
        seen = b""

        def ended() -> bool:
            nonlocal seen
            seen += sock.recv(4096)
            return b"the authorisation has expired" in seen

        assert eventually(ended)


def test_one_proof_for_a_second_gives_no_right_that_is_gone(hub: HubInThread, provider: KeyServer) -> None:
    """Requests on one connection: the token is not proved anew with each, what the person may is asked anew."""
    assert assign(hub, "brief", "reader", "mia").status == 200
    token = provider.signed(sub="mia")
    head = f"GET /devices/{MINE}?{VERSION} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
    with tls_socket(hub, 443) as sock:
        sock.sendall(head.encode())
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        assert request(hub, "DELETE", "/api/roles/brief").status == 204
        sock.sendall(head.encode())
        assert sock.recv(65536).startswith(b"HTTP/1.1 401")


# -- browsers ----------------------------------------------------------------------------------------------------------


@pytest.mark.explains("web-token-nonce")
def test_a_browser_is_let_in_by_tokens_of_its_own_sign_in_alone(hub: HubInThread, provider: KeyServer) -> None:
    def back_with(access: dict[str, Any], **identity: Any) -> Answer:
        """What becomes of a browser that comes back, where the provider gives these tokens."""
        begun = request(hub, "GET", "/auth/login", token="")
        asked = parse_qs(urlsplit(begun.headers["location"]).query)
        assert asked["code_challenge_method"] == ["S256"]
        claims = {"aud": "hubkeep", "nonce": asked["nonce"][0], "client_id": None, "sub": "ann", **identity}
        provider.tokens = {
            "id_token": provider.signed({"typ": "JWT"}, **claims),
            "access_token": provider.signed(**{"sub": "ann", **access}),
        }
        cookie = begun.headers["set-cookie"].partition(";")[0]
        target = f"/auth/callback?code=x&state={asked['state'][0]}"
        return request(hub, "GET", target, token="", headers={"Cookie": cookie})

    good = back_with({})
    assert (good.status, good.headers["location"]) == (303, "/auth")
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({}, {"nonce": "of another sign-in"}, "web-token-nonce"),
        ({}, {"nonce": None}, "web-token-nonce"),
        ({}, {"aud": "https://iothubs.azure.net"}, "web-token-nonce"),
        ({}, {"aud": ["hubkeep", "other"]}, "web-token-nonce"),
        ({}, {"exp": 1}, "web-token-expired"),
        ({"aud": "hubkeep"}, {}, "web-token-audience"),
        ({"sub": "eve"}, {}, "sign-in-refused"),
    ]
    for access, identity, cause in cases:
        refused = back_with(access, **identity)
        assert refused.status == 401, cause
        assert "set-cookie" not in refused.headers
        assert hub.refusals(most=1)[0].cause == cause
