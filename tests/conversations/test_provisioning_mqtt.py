"""Devices that register themselves over MQTT: raw packets over a real TLS socket."""

import json
import struct
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from conversations.certificates import Certificate
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import MqttPeer, connect, publish, subscribe, text, tls_socket, unsubscribe
from conversations.provisioning_peer import enrol, enrol_group, service, token
from conversations.websocket_pipe import WebSocketPipe
from hubkeep.testing import HubInThread

PRIMARY = b"p" * 32
RESPONSES = "$dps/registrations/res/#"
REGISTER = "$dps/registrations/PUT/iotdps-register/?$rid={}"
STATUS = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid={}&operationId={}"
PUBACK = 0x40


def login(hub: HubInThread, name: str, password: str | None = None, **options: Any) -> bytes:
    user = options.pop("user", f"{hub.id_scope}/registrations/{name}/api-version=2019-03-31&ClientVersion=raw%2F1")
    shown = token(hub, name, PRIMARY) if password is None else password
    return connect(options.pop("client_id", name), user, shown or None, **options)


def connack(hub: HubInThread, packet: bytes, **options: Any) -> int:
    with MqttPeer(hub, tls_socket(hub, **options)) as peer:
        peer.send(packet)
        answer = peer.read()
        assert answer is not None
        assert answer[1][0] == 0, "a session is present"
        return answer[1][1]


def registering(hub: HubInThread, name: str, qos: int = 1, sock: Any = None, keep_alive: int = 60) -> MqttPeer:
    """Connected and subscribed."""
    peer = MqttPeer(hub, sock)
    peer.send(login(hub, name, clean=False, keep_alive=keep_alive))
    assert peer.read() == (0x20, b"\0\0")
    peer.send(subscribe([(RESPONSES, qos)], packet_id=7))
    assert peer.read() == (0x90, b"\0\x07" + bytes((qos,)))
    return peer


def answer(peer: MqttPeer) -> tuple[str, Any, int]:
    """Topic, JSON and packet id of the next publish; it is acknowledged."""
    got = peer.read()
    assert got is not None
    assert got[0] in {0x30, 0x32}, got
    size = struct.unpack(">H", got[1][:2])[0]
    topic, rest, packet_id = got[1][2 : 2 + size].decode(), got[1][2 + size :], 0
    if got[0] == 0x32:
        packet_id, rest = struct.unpack(">H", rest[:2])[0], rest[2:]
        peer.send(b"\x40\x02" + struct.pack(">H", packet_id))
    return topic, json.loads(rest), packet_id


def ask(peer: MqttPeer, topic: str, body: bytes = b" ", packet_id: int = 2) -> tuple[str, Any]:
    """A request; its PUBACK comes before its answer (P-5)."""
    peer.send(publish(topic, body, packet_id=packet_id))
    assert peer.read() == (PUBACK, struct.pack(">H", packet_id))
    return answer(peer)[:2]


def is_known(hub: HubInThread, device_id: str) -> bool:
    return request(hub, "GET", f"/devices/{device_id}?{VERSION}").status == 200


@pytest.mark.spec("P-5", "P-7")
@pytest.mark.parametrize("tunnelled", [False, True], ids=["mqtt", "websocket"])
def test_a_device_is_told_to_ask_again_and_then_its_hub(
    shared_hub: HubInThread, device_id: str, tunnelled: bool
) -> None:
    enrol(shared_hub, device_id)
    sock: Any = WebSocketPipe(shared_hub, "mqtt") if tunnelled else None
    with registering(shared_hub, device_id, sock=sock) as peer:
        body = json.dumps({"registrationId": device_id, "payload": None}).encode()
        topic, told = ask(peer, REGISTER.format("a81f"), body)
        assert topic == "$dps/registrations/res/202/?$rid=a81f&retry-after=3"
        assert told == {"operationId": told["operationId"], "status": "assigning"}
        topic, told = ask(peer, STATUS.format("b92e", told["operationId"]))
        assert topic == "$dps/registrations/res/200/?$rid=b92e"
        state = told["registrationState"]
        assert (told["status"], state["deviceId"], state["assignedHub"]) == (
            "assigned",
            device_id,
            shared_hub.host_name,
        )
    assert is_known(shared_hub, device_id)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    """One that tells the outcome at once."""
    with HubInThread(provisioning={"answer_at_once": True}) as running:
        yield running


@pytest.mark.spec("P-6")
def test_the_request_id_comes_back_byte_for_byte_as_the_first_key(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    with registering(hub, device_id) as peer:
        for rid in ("a b", "%41", "x-1", "ü=1", "?"):
            topic, told = ask(peer, REGISTER.format(rid), b"")  # an empty body registers
            assert (topic, told["status"]) == (f"$dps/registrations/res/200/?$rid={rid}", "assigned")
        topic, _ = ask(peer, "$dps/registrations/PUT/iotdps-register/?x=y&$rid=late&z")
        assert topic == "$dps/registrations/res/200/?$rid=late"


def test_answers_come_as_they_were_subscribed_and_wait_for_the_subscription(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    with registering(hub, device_id, qos=0) as peer:
        peer.send(publish(REGISTER.format("1"), b"", qos=0))
        assert answer(peer)[2] == 0
        peer.send(unsubscribe([RESPONSES], packet_id=3))
        assert peer.read() == (0xB0, b"\0\x03")
        peer.send(publish(REGISTER.format("2"), b"", packet_id=4))
        assert peer.read() == (PUBACK, b"\0\x04")
        assert peer.is_open()  # nothing came before the answer to a ping
        peer.send(subscribe([(RESPONSES, 2)], packet_id=5))
        assert peer.read() == (0x90, b"\0\x05\x01")
        topic, _, packet_id = answer(peer)
        assert (topic.endswith("$rid=2"), packet_id > 0) == (True, True)
        peer.send(unsubscribe([RESPONSES], packet_id=6))
        assert peer.read() == (0xB0, b"\0\x06")
        peer.send(publish(REGISTER.format("3"), b"", packet_id=7))
        assert peer.read() == (PUBACK, b"\0\x07")
        assert peer.is_open()
        hub.clock.move(11)
        peer.send(subscribe([(RESPONSES, 1)], packet_id=8))
        assert peer.read() == (0x90, b"\0\x08\x01")
        assert peer.is_open()


def test_what_is_wrong_with_a_request_is_its_answer(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    with registering(hub, device_id) as peer:
        for number, (topic, body, status, code) in enumerate(
            (
                (REGISTER, {"registrationId": "another"}, 400, 400),
                (REGISTER, {"payload": "x" * 20_000}, 400, 400),
                (REGISTER, {"payload": "x" * 100_000}, 400, 400),
                (REGISTER, [], 400, 400),
                (STATUS.format("{}", f"5.0.{uuid.uuid4()}"), {}, 404, 404),
                (STATUS.format("{}", ""), {}, 404, 404),
            ),
            10,
        ):
            got, told = ask(peer, topic.format(number), json.dumps(body).encode(), packet_id=number)
            assert got == f"$dps/registrations/res/{status}/?$rid={number}"
            assert told["errorCode"] // 1000 == code
            assert hub.refusals(told["trackingId"])
        got, told = ask(peer, REGISTER.format("good"), b"")
        assert told["status"] == "assigned"
        for number in range(6):
            got, told = ask(peer, STATUS.format(f"p{number}", told.get("operationId", "-")), packet_id=50)
        assert got.startswith("$dps/registrations/res/429/?$rid=p5&retry-after=")
        assert told["errorCode"] == 429001


def test_a_disabled_enrolment_is_an_outcome_and_a_change_counts_on_a_link_that_is_older(
    hub: HubInThread, device_id: str
) -> None:
    enrol(hub, device_id, provisioningStatus="disabled")
    with registering(hub, device_id) as peer:
        _, told = ask(peer, REGISTER.format("1"), b"")
        assert (told["status"], told["registrationState"]["status"]) == ("disabled", "disabled")
        enrol(hub, device_id, if_match="*")
        assert ask(peer, REGISTER.format("2"), b"")[1]["status"] == "assigned"
        assert service(hub, "DELETE", f"/enrollments/{device_id}").status == 204
        topic, told = ask(peer, REGISTER.format("3"), b"")
        assert (topic, told["errorCode"]) == ("$dps/registrations/res/401/?$rid=3", 401002)


def test_whatever_is_wrong_with_a_credential_the_answer_is_5(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    scope, good = hub.id_scope, token(hub, device_id, PRIMARY)
    user = "{}/registrations/{}/api-version=2019-03-31"
    refused = {
        "unknown id": login(hub, "nobody"),
        "wrong key": login(hub, device_id, token(hub, device_id, b"w" * 32)),
        "no token": login(hub, device_id, ""),
        "a device's token": login(hub, device_id, hub.token(f"devices/{device_id}", key=PRIMARY)),
        "a policy's token": login(hub, device_id, hub.token()),
        "another scope": login(hub, device_id, good, user=user.format("0ne00000000", device_id)),
        "another client id": login(hub, device_id, good, client_id="other"),
        "no version": login(hub, device_id, good, user=f"{scope}/registrations/{device_id}"),
        "an empty version": login(hub, device_id, good, user=f"{scope}/registrations/{device_id}/api-version="),
        "a name too long": login(hub, "x" * 200),
        "a will": login(hub, device_id, good, will=(f"devices/{device_id}/messages/events/", b"x", 0, False)),
        "its token as a device of the hub": login(
            hub, device_id, good, user=f"{hub.host_name}/{device_id}/?api-version=2021-04-12"
        ),
    }
    assert {name: connack(hub, packet) for name, packet in refused.items()} == dict.fromkeys(refused, 5)
    assert connack(hub, login(hub, device_id, good, user=user.format(scope.upper(), device_id.upper()))) == 0
    assert connack(hub, login(hub, device_id, good, user=f"{scope}/registrations/{device_id}/?api-version=1")) == 0


def test_a_certificate_of_the_handshake_registers(hub: HubInThread, device_id: str, tmp_path: Any) -> None:
    root, name = Certificate.made("mqtt root", ca=True), device_id[:60]
    attestation = {"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": root.pem}}}}
    enrol_group(hub, f"g-{device_id}", attestation)
    file = Certificate.made(name, issuer=root).file(tmp_path)
    with MqttPeer(hub, tls_socket(hub, certificate=file)) as peer:
        peer.send(login(hub, name, "") + subscribe([(RESPONSES, 1)]))
        assert (peer.read(), peer.read()) == ((0x20, b"\0\0"), (0x90, b"\0\x01\x01"))
        assert ask(peer, REGISTER.format("1"), b"")[1]["registrationState"]["deviceId"] == name
    assert connack(hub, login(hub, "another", ""), certificate=file) == 5


@pytest.mark.parametrize(
    "topic",
    [
        *("devices/{}/messages/events/", "$iothub/twin/GET/?$rid=1", "$iothub/methods/res/200/?$rid=1", "anything"),
        *("$dps/registrations/PUT/iotdps-unregister/?$rid=1", "$dps/registrations/res/200/?$rid=1", "$dps/#x"[:5]),
        "$dps/registrations/PUT/iotdps-register/",
    ],
)
def test_a_device_that_registers_may_publish_nothing_else(hub: HubInThread, topic: str) -> None:
    name = "publishes"
    enrol(hub, name, if_match="*")
    with registering(hub, name) as peer:
        peer.send(publish(topic.format(name)))
        assert peer.is_closed()


@pytest.mark.spec("L-M15")
def test_a_device_that_registers_may_hear_nothing_else(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    filters = ("#", "+/#", "$dps/#", "$dps/registrations/#", "$iothub/twin/res/#", "$share/g/" + RESPONSES)
    filters = (*filters, "$iothub/methods/POST/#", f"devices/{device_id}/messages/devicebound/#")
    with registering(hub, device_id) as peer:
        peer.send(subscribe([(each, 1) for each in filters], packet_id=9))
        assert peer.read() == (0x90, b"\0\x09" + b"\x80" * len(filters))
        assert peer.is_open()


def test_it_is_no_device_of_the_hub_and_leaves_no_session(hub: HubInThread, device_id: str) -> None:
    """Registering does not count as being connected, and a newer link of the same id takes over."""
    enrol(hub, device_id)
    with registering(hub, device_id) as peer, registering(hub, device_id.upper()) as newer:
        assert peer.is_closed()
        assert newer.is_open()
        assert not is_known(hub, device_id)
    with MqttPeer(hub) as peer:
        peer.send(login(hub, device_id, clean=False))
        assert peer.read() == (0x20, b"\0\0")


def test_it_may_take_ten_minutes(device_id: str) -> None:
    with HubInThread() as hub:
        enrol(hub, device_id)
        with registering(hub, device_id, keep_alive=0) as peer:
            hub.clock.move(590)
            assert peer.is_open()
            hub.clock.move(20)
            assert peer.is_closed()


def test_in_mqtt_5_it_is_told_why(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    user = f"{hub.id_scope}/registrations/{device_id}/api-version=2019-03-31"

    def connect5(password: str) -> bytes:
        payload = text(device_id) + text(user) + text(password)
        body = text("MQTT") + struct.pack(">BBHB", 5, 0xC2, 60, 0) + payload
        return b"\x10" + (bytes((len(body) % 128 | 128, len(body) // 128))) + body

    with MqttPeer(hub) as peer:
        peer.send(connect5(token(hub, device_id, b"w" * 32)))
        answer = peer.read()
        assert answer is not None
        assert answer[1][1] == 0x87
    with MqttPeer(hub) as peer:
        peer.send(connect5(token(hub, device_id, PRIMARY)))
        answer = peer.read()
        assert answer is not None
        assert answer[1][1] == 0


def test_a_device_of_the_hub_may_be_called_registrations(hub: HubInThread) -> None:
    with MqttPeer.logged_in(hub, "registrations") as peer:
        peer.send(publish("devices/registrations/messages/events/"))
        assert peer.read() == (PUBACK, b"\0\x01")
