"""Who is let in as whom: one answer for every cause, and nobody stays who may not (limits-and-faults L-I)."""

import re
import time
from base64 import b64decode
from typing import Any

import msgspec
import pytest

from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, publish
from hubkeep.model import Identity
from hubkeep.testing import HubInThread
from hubkeep.wire import sas


def key_of(hub: HubInThread, device_id: str) -> bytes:
    return b64decode(hub.create_device(device_id).rpartition("SharedAccessKey=")[2])


def stored(hub: HubInThread, device_id: str) -> Identity:
    return hub.ask(hub.hub._identities.get(device_id))


def change(hub: HubInThread, device_id: str, **members: Any) -> None:
    hub.ask(hub.hub._identities.update(msgspec.structs.replace(stored(hub, device_id), **members), "*"))


def by_mqtt(hub: HubInThread, device_id: str, token: str | None) -> int:
    with MqttPeer(hub) as peer:
        peer.send(connect(device_id, USER_NAME.format(host=hub.host_name, client_id=device_id), token))
        answer = peer.read()
        assert answer is not None
        return answer[1][1]


def causes(hub: HubInThread, device_id: str) -> dict[str, tuple[str, str, str]]:
    """Cause to the identity claimed, the token, and a word of the recorded reason."""
    key, host, soon = key_of(hub, device_id), hub.host_name, int(time.time()) + 600
    other = key_of(hub, f"{device_id}-other")
    return {
        "unknown identity": ("nobody", sas.make(f"{host}/devices/nobody", key, soon), "not registered"),
        "wrong key": (device_id, sas.make(f"{host}/devices/{device_id}", b"x" * 32, soon), "neither key"),
        "key not decoded": (device_id, sas.make(f"{host}/devices/{device_id}", sas.key_text(key), soon), "decoded"),
        "malformed": (device_id, "SharedAccessSignature sr=a&sig=b", "no field se"),
        "no signature": (device_id, "Bearer abc", "does not begin"),
        "another hub": (device_id, sas.make(f"other.test/devices/{device_id}", key, soon), "not a name of this hub"),
        "another device": (device_id, sas.make(f"{host}/devices/{device_id}-other", other, soon), "neither key"),
        "wrong audience": (device_id, sas.make(f"{host}/devices/x", key, soon), "signed for 'devices/x'"),
        "expired": (device_id, sas.make(f"{host}/devices/{device_id}", key, soon - 3600), "expired"),
        "unknown policy": (device_id, sas.make(host, key, soon, "nobody"), "no policy 'nobody'"),
        "a policy's wrong key": (device_id, sas.make(host, key, soon, "device"), "neither key of policy"),
        "too few rights": (device_id, hub.token(policy="service"), "DeviceConnect"),
    }


@pytest.mark.spec("L-I1", "D-27", "P-T05")
def test_over_https_every_cause_has_one_answer_and_its_own_reason(shared_hub: HubInThread, device_id: str) -> None:
    answers = {}
    for cause, (claimed, token, reason) in causes(shared_hub, device_id).items():
        answer = request(shared_hub, "POST", f"/devices/{claimed}/messages/events?{VERSION}", b"x", token=token)
        tracking_id = answer.body["ExceptionMessage"].removeprefix("Tracking ID:").partition("-")[0]
        answers[cause] = (answer.status, answer.body["Message"], sorted(answer.headers))
        (refusal,) = shared_hub.refusals(tracking_id)
        assert reason in refusal.reason, cause
        assert claimed == refusal.identity
    assert len(set(map(str, answers.values()))) == 1, answers


@pytest.mark.spec("L-I1", "D-27", "P-T05")
def test_over_mqtt_every_cause_has_one_answer_and_its_own_reason(shared_hub: HubInThread, device_id: str) -> None:
    for cause, (claimed, token, reason) in causes(shared_hub, device_id).items():
        assert by_mqtt(shared_hub, claimed, token) == 5, cause
        assert reason in shared_hub.refusals(claimed)[0].reason, cause


def test_every_refused_login_takes_the_time_that_hides_its_cause(shared_hub: HubInThread, device_id: str) -> None:
    """No cause is answered sooner than the time that all are answered after."""
    for cause, (claimed, token, _) in causes(shared_hub, device_id).items():
        began = time.monotonic()
        request(shared_hub, "POST", f"/devices/{claimed}/messages/events?{VERSION}", b"x", token=token)
        assert time.monotonic() - began >= 0.009, cause


@pytest.mark.spec("L-I3")
@pytest.mark.parametrize("how", ["deleted", "other key"])
def test_links_of_an_identity_that_is_no_more_are_cut(shared_hub: HubInThread, device_id: str, how: str) -> None:
    with MqttPeer.logged_in(shared_hub, device_id) as peer, MqttPeer.logged_in(shared_hub, "bystander") as other:
        if how == "deleted":
            shared_hub.ask(shared_hub.hub._identities.delete(device_id))
        else:
            change(shared_hub, device_id, primary_key=b"n" * 32)
        assert peer.is_closed(5)
        assert other.is_open()


@pytest.mark.spec("L-I2", "L-I3", "L-R6")
def test_who_is_disabled_while_waiting_for_a_take_over_does_not_get_in() -> None:
    with HubInThread(limits={"takeovers": 1}) as hub:
        first, second = MqttPeer.logged_in(hub, "twin"), MqttPeer.logged_in(hub, "twin")
        with first, second, MqttPeer(hub) as third:
            third.send(third.login("twin"))
            change(hub, "twin", status="disabled")
            answer = third.read()
            assert answer in {None, (0x20, b"\0\3")}
            assert second.is_closed()


@pytest.mark.spec("L-I4", "D-18", "D-19")
def test_a_token_opens_its_own_identity_alone(shared_hub: HubInThread, device_id: str) -> None:
    hub, host, soon = shared_hub, shared_hub.host_name, int(time.time()) + 600
    key = key_of(hub, device_id)
    module = Identity(device_id=device_id, module_id="cam", primary_key=b"m" * 32, secondary_key=b"n" * 32)
    sibling = Identity(device_id=device_id, module_id="mic", primary_key=b"o" * 32, secondary_key=b"p" * 32)
    for each in (module, sibling):
        hub.ask(hub.hub._identities._store.create(each))
    own = sas.make(f"{host}/devices/{device_id}", key, soon)
    of_module = sas.make(f"{host}/devices/{device_id}/modules/cam", b"m" * 32, soon)
    assert by_mqtt(hub, f"{device_id}/cam", of_module) == 0
    assert by_mqtt(hub, f"{device_id}/cam", own) == 5
    assert by_mqtt(hub, device_id, of_module) == 5
    assert by_mqtt(hub, f"{device_id}/mic", of_module) == 5
    for token in (own, of_module):
        assert request(hub, "GET", f"/devices/{device_id}?{VERSION}", token=token).status == 401
        assert request(hub, "GET", "/api/status", token=token).status == 401


def test_a_token_for_a_part_of_an_identity_opens_that_part_alone(shared_hub: HubInThread, device_id: str) -> None:
    hub, soon = shared_hub, int(time.time()) + 600
    key = key_of(hub, device_id)
    path = f"/devices/{device_id}/messages/events?{VERSION}"

    def token(below: str) -> str:
        return sas.make(f"{hub.host_name}/devices/{device_id}{below}", key, soon)

    assert request(hub, "POST", path, b"x", token=token("/messages/events")).status == 204
    assert request(hub, "POST", path, b"x", token=token("/messages/devicebound")).status == 401
    assert request(hub, "POST", path, b"x", token=token("/api-version=2016-11-14")).status == 204
    assert by_mqtt(hub, device_id, token("/messages/events")) == 5
    assert by_mqtt(hub, device_id, token("")) == 0


@pytest.mark.spec("L-I8")
def test_an_identity_is_opened_by_its_own_kind_of_proof_alone(shared_hub: HubInThread, device_id: str) -> None:
    key = key_of(shared_hub, device_id)
    assert by_mqtt(shared_hub, device_id, None) == 5
    assert by_mqtt(shared_hub, device_id, "") == 5
    token = shared_hub.token(f"devices/{device_id}", key=key)
    assert by_mqtt(shared_hub, device_id, token) == 0
    change(shared_hub, device_id, authentication="selfSigned", primary_thumbprint="A" * 40)
    assert by_mqtt(shared_hub, device_id, token) == 5
    assert "authenticates by selfSigned" in shared_hub.refusals(device_id)[0].reason
    assert (
        request(shared_hub, "POST", f"/devices/{device_id}/messages/events?{VERSION}", b"x", token=token).status == 401
    )


@pytest.mark.spec("L-I9")
def test_ids_that_differ_by_case_or_look_like_paths_are_their_own(shared_hub: HubInThread) -> None:
    keys = {each: key_of(shared_hub, each) for each in ("Press", "press", "..", ".", "a'b;c")}
    for one, key in keys.items():
        token = shared_hub.token(f"devices/{one}", key=key)
        assert by_mqtt(shared_hub, one, token) == 0
        for other in keys:
            if other != one:
                assert by_mqtt(shared_hub, other, token) == 5
    for path in ("/devices/..", "/devices/.", "/devices/%2e%2e"):
        assert request(shared_hub, "GET", f"{path}?{VERSION}").status == 404
    for bad in ("i" * 129, "a b", "a/b", "a\u00e9", "a\n"):
        assert by_mqtt(shared_hub, bad, None) in {2, 5}


@pytest.mark.spec("D-50", "D-55", "D-ND6")
def test_a_modules_output_and_its_filters(shared_hub: HubInThread, device_id: str) -> None:
    from conversations.mqtt_peer import subscribe

    hub = shared_hub
    hub.create_device(device_id)
    hub.ask(
        hub.hub._identities._store.create(
            Identity(device_id=device_id, module_id="cam", primary_key=b"m" * 32, secondary_key=b"n" * 32)
        )
    )
    client_id, base = f"{device_id}/cam", f"devices/{device_id}/modules/cam"
    token = sas.make(f"{hub.host_name}/devices/{device_id}/modules/cam", b"m" * 32, int(time.time()) + 600)
    with MqttPeer(hub) as peer:
        peer.send(connect(client_id, USER_NAME.format(host=hub.host_name, client_id=client_id), token))
        assert peer.read() == (0x20, b"\0\0")
        peer.send(subscribe([(f"{base}/messages/devicebound/#", 1), (f"{base}/inputs/#", 0), (f"{base}/#", 1)]))
        assert peer.read() == (0x90, b"\0\1\1\0\1")
        peer.send(publish(f"{base}/messages/events/%24.on=alarms&a=b/", b"out"))
        assert peer.read() == (0x40, b"\0\1")
    (event,) = hub.wait_for_events(1, device=device_id)
    assert (event["device"], event["module"], event["properties"]) == (device_id, "cam", {"a": "b"})
    assert event["annotations"]["iothub-outputname"] == "alarms"


@pytest.mark.spec("D-C2", "D-ND17", "D-PY17", "D-N3")
def test_tokens_and_user_names_as_other_clients_write_them(shared_hub: HubInThread, device_id: str) -> None:
    """Plain sr, lower-case hex in sig (C); lower-case hex in sr (Node); a host in the user name not as dialled."""
    import base64
    from urllib.parse import quote

    hub, soon = shared_hub, str(int(time.time()) + 600)
    odd = f"{device_id}!'()*"
    key = key_of(hub, odd)

    def token(sr: str, *, lower: bool = False) -> str:
        sig = quote(base64.b64encode(sas.signature(sr, soon, key)), safe="")
        if lower:
            sig = re.sub("%..", lambda found: found[0].lower(), sig)
        return f"SharedAccessSignature sr={sr}&sig={sig}&se={soon}" + ("&skn=" if lower else "")

    assert by_mqtt(hub, odd, token(f"{hub.host_name}/devices/{odd}", lower=True)) == 0
    node = f"{hub.host_name}%2Fdevices%2F{quote(device_id, safe='')}%21%27%28%29%2a"
    assert by_mqtt(hub, odd, token(node)) == 0
    with MqttPeer(hub) as peer:
        name = USER_NAME.format(host=hub.host_name.upper(), client_id=odd)
        peer.send(connect(odd, name, token(node)))
        assert peer.read() == (0x20, b"\0\0")
