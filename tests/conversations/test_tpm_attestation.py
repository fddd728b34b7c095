"""Devices that a TPM proves, over HTTPS and AMQP: raw peers, and a TPM in Python that opens what the hub wraps."""

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from conversations.amqp_peer import AmqpPeer
from conversations.https_peer import VERSION, Answer, request
from conversations.provisioning_peer import DEVICE_VERSION, enrol, outcome, register, service, symmetric, token
from conversations.test_provisioning_amqp import ask, linked
from conversations.test_provisioning_mqtt import connack, login
from conversations.tpm_device import EK_ATTRIBUTES, EK_POLICY, SoftwareTpm, public
from hubkeep.testing import HubInThread
from hubkeep.wire import sas


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    """One that tells the outcome at once."""
    with HubInThread(provisioning={"answer_at_once": True}) as running:
        yield running


@pytest.fixture(scope="module")
def tpms() -> list[SoftwareTpm]:
    """Two: RSA keys take their time to make."""
    return [SoftwareTpm.made(), SoftwareTpm.made()]


def attestation(tpm: SoftwareTpm, *, with_root: bool = False) -> dict[str, Any]:
    root = b64encode(tpm.storage_root_key).decode() if with_root else None
    return {"type": "tpm", "tpm": {"endorsementKey": b64encode(tpm.endorsement_key).decode(), "storageRootKey": root}}


def enrolled(hub: HubInThread, name: str, tpm: SoftwareTpm, **members: Any) -> None:
    """An endorsement key belongs to one enrollment: whoever had it before is gone."""
    for each in service(hub, "POST", "/enrollments/query", {"query": "SELECT *"}).body:
        if each["attestation"]["type"] == "tpm":
            service(hub, "DELETE", f"/enrollments/{each['registrationId']}")
    enrol(hub, name, attestation(tpm), **members)


def shown(tpm: SoftwareTpm, name: str) -> dict[str, Any]:
    keys = {"endorsementKey": tpm.endorsement_key, "storageRootKey": tpm.storage_root_key}
    return {"registrationId": name, "tpm": {each: b64encode(key).decode() for each, key in keys.items()}}


def challenge(hub: HubInThread, name: str, tpm: SoftwareTpm, scope: str = "") -> bytes:
    answer = register(hub, name, body=shown(tpm, name), scope=scope)
    assert (answer.status, sorted(answer.body)) == (401, ["authenticationKey", "keyName", "message"])
    assert (answer.body["keyName"], answer.body["message"]) == ("registration", "Authorization required")
    return b64decode(answer.body["authenticationKey"])


def attested(hub: HubInThread, name: str, tpm: SoftwareTpm) -> tuple[str, Answer]:
    """The token that opened it, and the answer."""
    by = token(hub, name, tpm.imported(challenge(hub, name, tpm)))
    return by, register(hub, name, by=by, body=shown(tpm, name))


def opens(hub: HubInThread, name: str, key: bytes) -> bool:
    """Whether the hub takes a device's token that this key signed."""
    by = sas.make(f"{hub.host_name}/devices/{name}", key, int(hub.clock.now()) + 60)
    return request(hub, "GET", f"/devices/{name}/messages/devicebound?{VERSION}", token=by).status == 204


@pytest.mark.spec("P-21")
@pytest.mark.explains("tpm-key-used")
def test_a_tpm_proves_itself_and_is_given_the_hubs_key(
    hub: HubInThread, device_id: str, tpms: list[SoftwareTpm]
) -> None:
    tpm = tpms[0]
    enrolled(hub, device_id, tpm, deviceId=f"{device_id}-hub")
    blob = challenge(hub, device_id, tpm)
    assert len(blob) == 766
    key = tpm.imported(blob)
    assert not opens(hub, f"{device_id}-hub", key)
    answer = register(hub, device_id, by=token(hub, device_id, key), body=shown(tpm, device_id))
    state = outcome(answer)
    assert (state["status"], state["deviceId"]) == ("assigned", f"{device_id}-hub")
    hub_key = tpm.imported(b64decode(state["tpm"]["authenticationKey"]))
    assert opens(hub, f"{device_id}-hub", hub_key)
    assert not opens(hub, f"{device_id}-hub", key)
    # once, and not after five minutes
    again = register(hub, device_id, by=token(hub, device_id, key), body=shown(tpm, device_id))
    assert again.status == 401
    (refusal,) = hub.refusals(again.body["trackingId"])
    assert refusal.cause == "tpm-key-used"
    path = f"/{hub.id_scope}/registrations/{device_id}/operations/{answer.body['operationId']}?{DEVICE_VERSION}"
    polled = request(hub, "GET", path, token=token(hub, device_id, key))
    assert outcome(polled)["tpm"] == state["tpm"]
    assert "authenticationKey" not in json.dumps(service(hub, "GET", f"/registrations/{device_id}").body)
    late = tpm.imported(challenge(hub, device_id, tpm))
    hub.clock.move(300)
    assert register(hub, device_id, by=token(hub, device_id, late), body=shown(tpm, device_id)).status == 401


def test_each_registration_gives_another_key(hub: HubInThread, device_id: str, tpms: list[SoftwareTpm]) -> None:
    tpm = tpms[0]
    enrolled(hub, device_id, tpm)
    keys = []
    for _ in range(2):
        state = outcome(attested(hub, device_id, tpm)[1])
        keys.append(tpm.imported(b64decode(state["tpm"]["authenticationKey"])))
    assert [opens(hub, device_id, key) for key in keys] == [False, True]


def test_a_tpm_that_is_not_enrolled_gets_a_challenge_that_proves_nothing(
    hub: HubInThread, device_id: str, tpms: list[SoftwareTpm]
) -> None:
    tpm, other = tpms
    enrolled(hub, device_id, tpm)
    enrol(hub, f"{device_id}-key")
    for name, whose, scope in (
        (device_id, other, ""),  # another TPM
        (f"{device_id}-nobody", tpm, ""),  # no such enrollment
        (f"{device_id}-key", tpm, ""),  # one with a symmetric key
        (device_id, tpm, "0ne00000000"),  # of another service
    ):
        key = whose.imported(challenge(hub, name, whose, scope))
        refused = register(hub, name, by=token(hub, name, key), body=shown(whose, name), scope=scope)
        assert (refused.status, refused.body["message"]) == (401, "Unauthorized")
    reasons = [each.reason for each in hub.refusals() if each.identity.startswith(device_id)]
    assert any("endorsement key is not the enrolled one" in each for each in reasons)
    # the right TPM is not hindered, with the right storage root key only
    service(hub, "DELETE", f"/enrollments/{device_id}")
    enrol(hub, device_id, attestation(tpm, with_root=True))
    mixed = SoftwareTpm(tpm.endorsement, other.storage_root)
    key = mixed.imported(challenge(hub, device_id, mixed))
    assert register(hub, device_id, by=token(hub, device_id, key), body=shown(mixed, device_id)).status == 401
    assert outcome(attested(hub, device_id, tpm)[1])["status"] == "assigned"


@pytest.mark.spec("P-12")
def test_refusals_cannot_be_told_apart(hub: HubInThread, device_id: str, tpms: list[SoftwareTpm]) -> None:
    enrolled(hub, device_id, tpms[0])
    enrol(hub, f"{device_id}-key")
    wrong = [
        register(hub, f"{device_id}-nobody", b"x" * 32),  # an unknown id
        register(hub, f"{device_id}-key", b"x" * 32),  # a wrong key
        register(hub, f"{device_id}-key", b"p" * 32, scope="0ne00000000"),  # a wrong scope
        register(hub, device_id, b"x" * 32, shown(tpms[1], device_id)),  # an unknown endorsement key, and a token
    ]
    for each in wrong:
        told = {name: value for name, value in each.body.items() if name not in {"trackingId", "timestampUtc"}}
        assert (each.status, told) == (401, {"errorCode": 401002, "message": "Unauthorized", "info": {}})
    for name, tpm in ((device_id, tpms[0]), (device_id, tpms[1]), (f"{device_id}-nobody", tpms[1])):
        began = time.monotonic()
        assert len(challenge(hub, name, tpm)) == 766
        assert time.monotonic() - began >= 0.01  # whatever was wrong, the answer comes after the same time


def test_a_key_of_one_device_registers_no_other(hub: HubInThread, device_id: str, tpms: list[SoftwareTpm]) -> None:
    enrolled(hub, device_id, tpms[0])
    enrol(hub, f"{device_id}-b", attestation(tpms[1]))
    key = tpms[0].imported(challenge(hub, device_id, tpms[0]))
    assert register(hub, f"{device_id}-b", by=token(hub, f"{device_id}-b", key)).status == 401
    by, answer = attested(hub, device_id, tpms[0])
    assert answer.status == 200
    foreign = register(hub, device_id, by=by, body=shown(tpms[1], device_id))
    assert foreign.status == 400


def test_a_disabled_tpm_is_told_so(hub: HubInThread, device_id: str, tpms: list[SoftwareTpm]) -> None:
    enrolled(hub, device_id, tpms[0], provisioningStatus="disabled")
    assert outcome(attested(hub, device_id, tpms[0])[1])["status"] == "disabled"


def test_mqtt_knows_no_tpms(hub: HubInThread, device_id: str, tpms: list[SoftwareTpm]) -> None:
    enrolled(hub, device_id, tpms[0])
    key = b64encode(tpms[0].endorsement_key).decode()
    assert [connack(hub, login(hub, device_id, password)) for password in (None, key)] == [5, 5]


def test_keys_that_could_leave_a_tpm_are_refused(hub: HubInThread, device_id: str, tpms: list[SoftwareTpm]) -> None:
    key, small = tpms[0].endorsement, rsa.generate_private_key(65537, 1024)
    good = public(key, EK_ATTRIBUTES, EK_POLICY)
    wrong = {
        "short": good[:-1],
        "ecc": public(key, EK_ATTRIBUTES, EK_POLICY, algorithms=bytes.fromhex("0023000b")),
        "sha-1": public(key, EK_ATTRIBUTES, EK_POLICY, algorithms=bytes.fromhex("00010004")),
        "not fixed": public(key, EK_ATTRIBUTES & ~2, EK_POLICY),
        "imported": public(key, EK_ATTRIBUTES & ~0x20, EK_POLICY),
        "unrestricted": public(key, EK_ATTRIBUTES & ~0x10000, EK_POLICY),
        "signs": public(key, EK_ATTRIBUTES | 0x40000, EK_POLICY),
        "exponent 3": public(key, EK_ATTRIBUTES, EK_POLICY, exponent=(3).to_bytes(4)),
        "1024 bits": public(small, EK_ATTRIBUTES, EK_POLICY),
        "policy longer than all": good[:10] + b"\xff\xff" + good[12:],
    }
    for what, each in wrong.items():
        keys = {"endorsementKey": b64encode(each).decode()}
        body = {"registrationId": device_id, "attestation": {"type": "tpm", "tpm": keys}}
        assert service(hub, "PUT", f"/enrollments/{device_id}", body).status == 400, what
        told = {"registrationId": device_id, "tpm": {**keys, "storageRootKey": keys["endorsementKey"]}}
        assert register(hub, device_id, body=told).status == 400, what
    assert register(hub, device_id, body={"registrationId": device_id}).status == 401
    assert register(hub, device_id, body={"tpm": {"endorsementKey": "no base64!"}}).status == 400
    enrol(hub, device_id, symmetric())


# -- AMQP -------------------------------------------------------------------------------------------------------------


def introduced(hub: HubInThread, name: str, tpm: SoftwareTpm) -> bytes:
    return b"\0" + b"\0".join((hub.id_scope.encode(), name.encode(), tpm.endorsement_key))


@pytest.mark.spec("P-22")
def test_sasl_tpm_sends_the_challenge_in_two_parts(hub: HubInThread, device_id: str, tpms: list[SoftwareTpm]) -> None:
    tpm = tpms[0]
    enrolled(hub, device_id, tpm)
    with AmqpPeer(hub) as peer:
        assert peer.sasl_begun("TPM", introduced(hub, device_id, tpm)) == [b"\0"]
        assert "TPM" in peer.mechanisms
        (first,) = peer.sasl_response(b"\0" + tpm.storage_root_key)
        (last,) = peer.sasl_response(b"\0")
        assert (first[0], last[0], len(first) <= 471, len(last) <= 471) == (0x80, 0xC1, True, True)
        by = token(hub, device_id, tpm.imported(first[1:] + last[1:]))
        assert peer.sasl_response(b"\0" + by.encode())[0] == 0
        peer.opened()
        linked(peer, f"{hub.id_scope}/registrations/{device_id}")
        told = ask(peer, "iotdps-register", b"{}")
        blob = b64decode(told.body["registrationState"]["tpm"]["authenticationKey"])
        assert opens(hub, device_id, tpm.imported(blob))
        assert ask(peer, "iotdps-register", b"{}").error == "amqp:unauthorized-access"


def test_sasl_tpm_takes_what_comes_in_parts(hub: HubInThread, device_id: str, tpms: list[SoftwareTpm]) -> None:
    tpm = tpms[0]
    enrolled(hub, device_id, tpm)
    with AmqpPeer(hub) as peer:
        said = introduced(hub, device_id, tpm)[1:]
        assert peer.sasl_begun("TPM", b"\x80" + said[:200]) == [b"\0"]
        assert peer.sasl_response(b"\xc1" + said[200:]) == [b"\0"]
        root = tpm.storage_root_key
        assert peer.sasl_response(b"\x80" + root[:100]) == [b"\0"]
        assert peer.sasl_response(b"\x81" + root[100:200]) == [b"\0"]
        (first,) = peer.sasl_response(b"\xc2" + root[200:])
        (last,) = peer.sasl_response(b"\0")
        by = token(hub, device_id, tpm.imported(first[1:] + last[1:])).encode()
        assert peer.sasl_response(b"\x80" + by[:50]) == [b"\0"]
        assert peer.sasl_response(b"\xc1" + by[50:])[0] == 0


def test_sasl_tpm_refuses_what_proves_nothing(hub: HubInThread, device_id: str, tpms: list[SoftwareTpm]) -> None:
    tpm, other = tpms
    enrolled(hub, device_id, tpm)
    with AmqpPeer(hub) as peer:
        assert peer.sasl_begun("TPM", introduced(hub, device_id, other)) == [b"\0"]
        (first,) = peer.sasl_response(b"\0" + other.storage_root_key)
        (last,) = peer.sasl_response(b"\0")
        by = token(hub, device_id, other.imported(first[1:] + last[1:]))
        assert peer.sasl_response(b"\0" + by.encode())[0] == 1
    with AmqpPeer(hub) as peer:  # no token at all
        peer.sasl_begun("TPM", introduced(hub, device_id, tpm))
        peer.sasl_response(b"\0" + tpm.storage_root_key)
        peer.sasl_response(b"\0")
        assert peer.sasl_response(b"\0")[0] == 1
    for begin in (b"", b"\0scope", b"\x81out of order", b"\0a\0b\0no key"):
        with AmqpPeer(hub) as peer:
            told = peer.sasl_begun("TPM", begin)
            if told == [b"\0"]:
                told = peer.sasl_response(b"\0" + tpm.storage_root_key)
            assert told[0] == 1
    with AmqpPeer(hub) as peer:  # parts without end
        told = peer.sasl_begun("TPM", b"\x80")
        for number in range(1, 40):
            if told != [b"\0"]:
                break
            told = peer.sasl_response(bytes([0x80 | number % 4]))
        assert told[0] == 1
