"""Devices that register themselves over AMQP: raw frames over a real TLS socket."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conversations.amqp_peer import AmqpPeer, condition, details
from conversations.certificates import Certificate
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import tls_socket
from conversations.provisioning_peer import enrol, enrol_group, service, token
from conversations.websocket_pipe import WebSocketPipe
from hubkeep.testing import HubInThread
from hubkeep.wire.amqp import ACCEPTED, AmqpMessage, ULong, decode_message, message
from hubkeep.wire.amqp.performatives import Close, Disposition, Transfer, outcome_name

PRIMARY = b"p" * 32
ASK, ANSWERS = 0, 1
PENDING = {"retry-after": 3, "Retry-After": 3}


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    """One that tells the outcome at once."""
    with HubInThread(provisioning={"answer_at_once": True}) as running:
        yield running


class Told(NamedTuple):
    """error: of the rejected request, empty where it was accepted before the answer came."""

    body: Any
    properties: dict[str, Any]
    error: str = ""
    correlation_id: Any = None


def address(hub: HubInThread, name: str) -> str:
    return f"{hub.id_scope}/registrations/{name}"


def sasl(hub: HubInThread, name: str, password: str, sock: Any = None, scope: str = "") -> tuple[AmqpPeer, int]:
    peer = AmqpPeer(hub, sock)
    user = f"{scope or hub.id_scope}/registrations/{name}"
    return peer, peer.sasl("PLAIN", f"\0{user}\0{password}".encode())


def proved(hub: HubInThread, name: str, sock: Any = None) -> AmqpPeer:
    peer, code = sasl(hub, name, token(hub, name, PRIMARY), sock)
    assert code == 0
    return peer.opened()


def registering(hub: HubInThread, name: str, sock: Any = None) -> AmqpPeer:
    """Proved by SASL PLAIN, both links attached."""
    peer = proved(hub, name, sock)
    linked(peer, address(hub, name))
    return peer


def linked(peer: AmqpPeer, where: str) -> None:
    properties = {"com.microsoft:api-version": "2019-03-31", "com.microsoft:client-version": "raw/1"}
    peer.attached(where, handle=ANSWERS, receiver=True, properties=properties)
    peer.attached(where, handle=ASK, properties=properties)
    peer.credit(ANSWERS, 100)


def ask(peer: AmqpPeer, kind: str, body: bytes | None = None, correlation_id: Any = "c1", **asked: Any) -> Told:
    properties = {"iotdps-operation-type": kind, **{name.replace("_", "-"): value for name, value in asked.items()}}
    raw = message(properties={"correlation_id": correlation_id}, application_properties=properties, data=body)
    number = peer.transfer(ASK, raw)
    settled = peer.expect(Disposition)
    assert (settled.first, settled.settled) == (number, True)
    if outcome_name(settled.state) == "rejected":
        error = settled.state.value[0]
        return Told(json.loads(error.value[1]), details(error), condition(error))
    assert outcome_name(settled.state) == "accepted"
    got = peer.expect_frame(Transfer)
    assert got.performative.handle == ANSWERS
    peer.send(Disposition(True, got.performative.delivery_id, None, True, ACCEPTED))
    answer: AmqpMessage = decode_message(got.payload)
    assert answer.data is not None
    return Told(json.loads(answer.body()), answer.application_properties, "", answer.properties.get("correlation_id"))


@pytest.mark.spec("P-7")
@pytest.mark.parametrize("tunnelled", [False, True], ids=["amqp", "websocket"])
def test_a_device_is_told_to_ask_again_and_then_its_hub(
    shared_hub: HubInThread, device_id: str, tunnelled: bool
) -> None:
    enrol(shared_hub, device_id)
    sock: Any = WebSocketPipe(shared_hub, "AMQPWSB10") if tunnelled else None
    with registering(shared_hub, device_id, sock) as peer:
        body = json.dumps({"registrationId": device_id}).encode()
        told = ask(peer, "iotdps-register", body, iotdps_forceRegistration=True)
        assert told.body == {"operationId": told.body["operationId"], "status": "assigning"}
        assert (told.properties, told.correlation_id) == (PENDING, "c1")
        done = ask(peer, "iotdps-get-operationstatus", iotdps_operation_id=told.body["operationId"])
        state = done.body["registrationState"]
        assert (state["status"], state["deviceId"], state["assignedHub"]) == (
            "assigned",
            device_id,
            shared_hub.host_name,
        )
        assert done.properties == {}
        assert ask(peer, "iotdps-get-registration").body["etag"] == state["etag"]
    assert request(shared_hub, "GET", f"/devices/{device_id}?{VERSION}").status == 200


def test_requests_are_taken_as_every_client_writes_them(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    peer = proved(hub, device_id)
    with peer:
        linked(peer, f"amqps://{hub.host_name}/{address(hub, device_id.upper())}")
        for correlation_id in ("text", ULong(7), uuid.uuid4(), b"bytes", None):
            told = ask(peer, "iotdps-register", b"", correlation_id)
            assert (told.body["status"], told.correlation_id) == ("assigned", correlation_id)
        value = json.dumps({"payload": {"a": 1}})
        raw = message(application_properties={"iotdps-operation-type": "iotdps-register"}, value=value)
        peer.transfer(ASK, raw)
        assert outcome_name(peer.expect(Disposition).state) == "accepted"
        assert json.loads(peer.event(ANSWERS).body())["status"] == "assigned"


def test_what_is_wrong_with_a_request_is_told_by_its_rejection(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    with registering(hub, device_id) as peer:
        for kind, body, code, error in (
            ("iotdps-register", {"registrationId": "another"}, 400, "com.microsoft:argument-error"),
            ("iotdps-register", {"payload": "x" * 20_000}, 400, "com.microsoft:argument-error"),
            ("iotdps-register", [], 400, "com.microsoft:argument-error"),
            ("iotdps-anything", {}, 400, "com.microsoft:argument-error"),
        ):
            told = ask(peer, kind, json.dumps(body).encode())
            assert (told.body["errorCode"] // 1000, told.error) == (code, error)
            assert hub.refusals(told.body["trackingId"])
        told = ask(peer, "iotdps-get-operationstatus", iotdps_operation_id="5.0.0")
        assert (told.body["errorCode"] // 1000, told.error) == (404, "amqp:not-found")
        for _ in range(5):
            told = ask(peer, "iotdps-get-operationstatus", iotdps_operation_id="5.0.0")
        assert told.body["errorCode"] == 429001
        assert 0 < told.properties["retry-after"] == told.properties["Retry-After"] <= 11
        service(hub, "DELETE", f"/enrollments/{device_id}")
        told = ask(peer, "iotdps-register", b"")
        assert (told.body["errorCode"], told.error) == (401002, "amqp:unauthorized-access")


def test_whatever_is_wrong_with_a_credential_the_outcome_is_the_same(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    good = token(hub, device_id, PRIMARY)
    for name, password, scope in (
        ("nobody", good, ""),
        (device_id, token(hub, device_id, b"w" * 32), ""),
        (device_id, "", ""),
        (device_id, hub.token(f"devices/{device_id}", key=PRIMARY), ""),
        (device_id, hub.token(), ""),
        (device_id, good, "0ne00000000"),
    ):
        peer, code = sasl(hub, name, password, scope=scope)
        with peer:
            assert code == 1
            assert peer.closes()


def test_a_certificate_of_the_handshake_registers_without_sasl(
    hub: HubInThread, device_id: str, tmp_path: Path
) -> None:
    root, name = Certificate.made("amqp root", ca=True), device_id[:60]
    attestation = {"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": root.pem}}}}
    enrol_group(hub, f"g-{device_id}", attestation)
    file = Certificate.made(name, issuer=root).file(tmp_path)
    with AmqpPeer(hub, tls_socket(hub, 5671, file)).opened() as peer:
        assert condition(peer.refused(address(hub, "another"), handle=9)) == "amqp:unauthorized-access"
        linked(peer, address(hub, name))
        assert ask(peer, "iotdps-register").body["registrationState"]["deviceId"] == name
    # PLAIN without a token is refused, whatever the certificate
    peer, code = sasl(hub, name, "", tls_socket(hub, 5671, file))
    with peer:
        assert code == 1


def test_a_device_that_registers_has_no_other_link(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    own = f"devices/{device_id}"
    addresses = [("$cbs", False), ("$cbs", True), ("$management", False), (address(hub, "another"), False)]
    addresses += [(f"{own}/messages/events", False), (f"{own}/twin", False), (f"{own}/messages/devicebound", True)]
    addresses += [("messages/devicebound", False), ("messages/servicebound/feedback", True)]
    addresses += [("messages/events/$management", True), (f"{hub.id_scope}/registrations", False)]
    addresses += [("hubkeep-events/ConsumerGroups/$Default/Partitions/0", True)]
    with registering(hub, device_id) as peer:
        assert ask(peer, "iotdps-register").body["status"] == "assigned"  # also once it is a device of the hub
        for handle, (where, receiver) in enumerate(addresses, 20):
            assert condition(peer.refused(where, handle=handle, receiver=receiver)) == "amqp:unauthorized-access", where
        assert ask(peer, "iotdps-register").body["status"] == "assigned"


def test_whoever_is_a_device_of_the_hub_has_no_link_to_register(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    with AmqpPeer.device(hub, device_id) as peer:
        for handle, receiver in ((20, False), (21, True)):
            error = peer.refused(address(hub, device_id), handle=handle, receiver=receiver)
            assert condition(error) == "amqp:unauthorized-access"


def test_a_device_of_the_hub_may_be_called_registrations(hub: HubInThread) -> None:
    with AmqpPeer.device(hub, "registrations") as peer:
        peer.attached("devices/registrations/twin", handle=20)


def test_it_may_take_ten_minutes(device_id: str) -> None:
    with HubInThread() as hub:
        enrol(hub, device_id)
        with registering(hub, device_id) as peer:
            for _ in range(6):  # in steps that the connection's own silence allows
                hub.clock.move(95)
                assert ask(peer, "iotdps-register").body["status"] == "assigning"
            hub.clock.move(40)
            assert condition(peer.expect(Close).error) == "amqp:connection:forced"
