"""AMQP from the first byte to an authorised connection, by raw frames over TLS."""

import socket
import ssl
import time
import uuid
from base64 import b64encode
from typing import Any

import pytest

from conversations.amqp_peer import (
    EMPTY,
    AmqpPeer,
    condition,
    data,
    details,
    device_key,
    device_token,
    events_token,
)
from conversations.mqtt_peer import eventually
from hubkeep.model import Identity
from hubkeep.testing import HubInThread
from hubkeep.wire import sas
from hubkeep.wire.amqp import Array, Described, Int, Symbol, UByte, ULong, encode, message
from hubkeep.wire.amqp.performatives import (
    AMQP_HEADER,
    EMPTY_FRAME,
    SASL_HEADER,
    Attach,
    Begin,
    Close,
    Detach,
    Disposition,
    End,
    Flow,
    Open,
    Transfer,
    frame,
)

TELEMETRY = "/devices/{}/messages/events"


# -- headers and SASL ------------------------------------------------------------------------------------------------


@pytest.mark.spec("L-A1")
@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", b"AMQP\x00\x00\x09\x01", b"AMQP\x02\x01\x00\x00", b"AMQP\x00\x02\x00\x00"]
)
def test_another_protocol_gets_the_hubs_header_and_a_close(shared_hub: HubInThread, first: bytes) -> None:
    with AmqpPeer(shared_hub) as peer:
        peer.send(first)
        assert peer.header() == SASL_HEADER
        assert peer.closes()


@pytest.mark.spec("D-80")
def test_a_bare_header_is_echoed(shared_hub: HubInThread, device_id: str) -> None:
    with AmqpPeer(shared_hub) as peer:
        answer = peer.open()  # checks the header
        assert answer.channel_max >= 8191
        assert 120_000 <= answer.idle_time_out <= 240_000  # S-R17
        assert answer.max_frame_size == 65536


def plain(user: str, password: str) -> bytes:
    return f"\0{user}\0{password}".encode()


@pytest.mark.spec("D-81", "S-R8")
@pytest.mark.parametrize("mechanism", ["ANONYMOUS", "MSSBCBS"])
@pytest.mark.parametrize("response", [None, b"", b"\0policy"])
def test_sasl_without_credentials_gives_no_right(
    shared_hub: HubInThread, device_id: str, mechanism: str, response: bytes | None
) -> None:
    shared_hub.create_device(device_id)
    with AmqpPeer(shared_hub) as peer:
        assert peer.sasl(mechanism, response) == 0
        assert peer.mechanisms[0] == "MSSBCBS"
        assert {"PLAIN", "ANONYMOUS"} <= set(peer.mechanisms)
        peer.opened()
        assert condition(peer.refused(TELEMETRY.format(device_id), handle=0)) == "amqp:unauthorized-access"


@pytest.mark.spec("D-82", "D-81")
@pytest.mark.parametrize("label", ["hub1", "{host}", "another"])
def test_sasl_plain_of_a_device(shared_hub: HubInThread, device_id: str, label: str) -> None:
    token = device_token(shared_hub, device_id)
    user = f"{device_id}@sas.{label.format(host=shared_hub.host_name.split('.')[0])}"
    with AmqpPeer(shared_hub) as peer:
        assert peer.sasl("PLAIN", plain(user, token)) == 0
        peer.opened().attached(TELEMETRY.format(device_id), handle=0)
        assert peer.outcome(peer.transfer(0, data(b"x"))) == ("accepted", "")
    with AmqpPeer(shared_hub) as peer:
        assert peer.sasl("PLAIN", plain(user, token.replace("sig=", "sig=AAAA"))) == 1
        assert peer.closes()


@pytest.mark.spec("S-18", "D-82")
def test_sasl_plain_of_a_policy(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    token = shared_hub.token(policy="device")
    with AmqpPeer(shared_hub) as peer:
        assert peer.sasl("PLAIN", b"authzid" + plain("device@sas.root.hub1", token)) == 0
        peer.opened().attached(TELEMETRY.format(device_id), handle=0)
    wrong = sas.make(shared_hub.host_name, b"another key of a policy", 2_000_000_000, "iothubowner")
    for user, password in (("iothubowner@sas.root.hub1", wrong), ("service@sas.root.hub1", token)):
        with AmqpPeer(shared_hub) as peer:
            assert peer.sasl("PLAIN", plain(user, password)) == 1
            assert peer.closes()


def test_sasl_plain_with_the_bare_key_opens_the_event_endpoint_alone(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    key = b64encode(sas.parse_connection_string(shared_hub.connection_string).key).decode()
    with AmqpPeer(shared_hub) as peer:
        assert peer.sasl("PLAIN", plain("iothubowner", key)) == 0
        peer.opened().attached("hubkeep-events/ConsumerGroups/$Default/Partitions/0", handle=0, receiver=True)
        assert condition(peer.refused(TELEMETRY.format(device_id), handle=1)) == "amqp:unauthorized-access"


@pytest.mark.spec("L-A14")
@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("EXTERNAL", b""),
        ("TELEPATHY", b""),
        ("PLAIN", b"no nuls"),
        ("PLAIN", b"\0one"),
        ("PLAIN", b"\0a\0b\0c"),
        ("PLAIN", None),
        ("PLAIN", b"\0\xff\xfe\0\xff"),
    ],
)
def test_sasl_that_proves_nothing(shared_hub: HubInThread, mechanism: str, response: bytes | None) -> None:
    with AmqpPeer(shared_hub) as peer:
        assert peer.sasl(mechanism, response) == 1
        assert peer.closes()


@pytest.mark.spec("L-A14")
def test_a_second_init_and_a_long_response_end_the_connection(shared_hub: HubInThread) -> None:
    init = frame(0, encode(Described(ULong(0x41), [Symbol("ANONYMOUS")])), 1)
    long = frame(0, encode(Described(ULong(0x41), [Symbol("PLAIN"), b"x" * 8192])), 1)
    for tail in (init + init, long):
        with AmqpPeer(shared_hub) as peer:
            peer.send(SASL_HEADER + tail)
            assert peer.header() == SASL_HEADER
            while (got := peer.read()) is not None:  # mechanisms, and the outcome of the first
                assert isinstance(got.performative, list)
                if got.performative == [0, None]:
                    assert peer.header() == SASL_HEADER


@pytest.mark.spec("S-R23")
def test_a_client_that_names_no_host_in_its_handshake(shared_hub: HubInThread, device_id: str) -> None:
    context = ssl.create_default_context(cafile=str(shared_hub.trust_bundle))
    context.check_hostname = False
    raw = socket.create_connection((shared_hub.address, 5671), 10)
    with AmqpPeer(shared_hub, context.wrap_socket(raw)) as peer:
        peer.opened().authorised(device_token(shared_hub, device_id))


# -- open, sessions, idle time ---------------------------------------------------------------------------------------


@pytest.mark.spec("L-A2", "L-A3", "L-L5")
@pytest.mark.parametrize(
    "raw",
    [
        "00 00 20 01",
        "ff ff ff ff",
        "00 00 00 07 02 00 00 00",
        "00 00 00 00 02 00 00 00",
        "00 00 00 0c 01 00 00 00 00 00 00 00",
        "00 00 00 08 03 00 00 00",
        "00 00 00 08 02 02 00 00",
    ],
)
def test_a_frame_that_is_none(shared_hub: HubInThread, raw: str) -> None:
    with AmqpPeer(shared_hub) as peer:
        peer.send(AMQP_HEADER, bytes.fromhex(raw))
        assert peer.header() == AMQP_HEADER
        peer.expect(Open)
        assert condition(peer.expect(Close).error) == "amqp:framing-error"
        assert peer.closes()


@pytest.mark.spec("L-A2")
def test_a_frame_over_the_advertised_size(shared_hub: HubInThread) -> None:
    with AmqpPeer(shared_hub) as peer:
        peer.open()
        peer.send((65537).to_bytes(4))
        assert condition(peer.expect(Close).error) == "amqp:framing-error"
        assert peer.closes()


@pytest.mark.spec("L-A4")
@pytest.mark.parametrize(
    "body",
    [
        "00 53 10 c0 ff 01",
        "00 53 10 d0 00 00 00 06 ff ff ff ff 41 41",
        "00 53 10 e0 04 ff 41 00 00",
        "00 53 10 " + "c0 7f 01 " * 20,
        "00 00 00 00 00 53 10 45",
        "00 53 10 c0 03 01 01 01",
        "00 53 99 45",
    ],
)
def test_a_frame_that_cannot_be_decoded(shared_hub: HubInThread, body: str) -> None:
    with AmqpPeer(shared_hub) as peer:
        peer.open()
        peer.send(frame(0, bytes.fromhex(body)))
        assert condition(peer.expect(Close).error) == "amqp:decode-error"
        assert peer.closes()


@pytest.mark.spec("L-A5", "S-R16")
def test_channels_and_too_many_sessions(shared_hub: HubInThread) -> None:
    with AmqpPeer(shared_hub) as peer:
        peer.open()
        for channel in (1, 7, 8191):
            peer.begin(channel)
        for channel in range(100, 100 + 1097):
            peer.send(Begin(None, 0, 100, 100), channel=channel)
            peer.expect(Begin)
        peer.send(Begin(None, 0, 100, 100), channel=5000)
        peer.expect(Begin)
        ended = peer.expect_frame(End)
        assert (ended.channel, condition(ended.performative.error)) == (5000, "amqp:resource-limit-exceeded")
        peer.send(End(), channel=1)  # the others are as they were
        assert peer.expect_frame(End).channel == 1
        peer.send(Begin(None, 0, 100, 100), channel=8192)
        assert condition(peer.expect(Close).error) == "amqp:not-allowed"


@pytest.mark.spec("L-A7")
@pytest.mark.parametrize(
    ("send", "expected"),
    [
        ([Begin(None, 0, 1, 1), Begin(None, 0, 1, 1)], "amqp:illegal-state"),
        ([Open("again", "hub")], "amqp:illegal-state"),
        ([Attach("a", 0, False)], "amqp:illegal-state"),
        ([frame(0, encode(Described(ULong(0x41), [Symbol("ANONYMOUS")])))], "amqp:illegal-state"),
    ],
)
def test_a_frame_out_of_place(shared_hub: HubInThread, send: list[Any], expected: str) -> None:
    with AmqpPeer(shared_hub) as peer:
        peer.open()
        peer.send(*send)
        got = peer.expect_frame((Close, Begin)).performative
        if isinstance(got, Begin):
            got = peer.expect(Close)
        assert condition(got.error) == expected


@pytest.mark.spec("L-A7")
def test_begin_before_open_and_a_transfer_before_attach(shared_hub: HubInThread) -> None:
    with AmqpPeer(shared_hub) as peer:
        peer.send(AMQP_HEADER, Begin(None, 0, 1, 1))
        peer.header()
        peer.expect(Open)
        assert condition(peer.expect(Close).error) == "amqp:illegal-state"
    with AmqpPeer(shared_hub) as peer:
        peer.opened().send(Transfer(5, 0, b"t"), payload=data(b"x"))
        assert condition(peer.expect(End).error) == "amqp:session:unattached-handle"


@pytest.mark.spec("S-R14", "S-116", "S-R10", "S-R15")
def test_detach_end_and_close_are_answered_once(shared_hub: HubInThread, device_id: str) -> None:
    with AmqpPeer.device(shared_hub, device_id) as peer:
        peer.attached(TELEMETRY.format(device_id), handle=0)
        peer.send(Detach(0, True))
        assert peer.expect(Detach).closed
        peer.refused("/nowhere/at/all", handle=1)  # answers the hub's detach: no second one comes
        peer.send(End(), Detach(100, True), Detach(101, True))  # late detaches
        peer.expect(End)
        peer.send(Close())
        peer.expect(Close)
        assert peer.closes()


@pytest.mark.spec("D-93", "S-R17")
def test_heartbeats_for_a_client_with_little_patience(shared_hub: HubInThread) -> None:
    with AmqpPeer(shared_hub) as peer:
        peer.open(idle=2000)
        for _ in range(3):
            got = peer.read(within=5)
            assert got is not None
            assert got.performative == EMPTY


@pytest.mark.spec("L-A18")
def test_silence_and_floods_of_empty_frames() -> None:
    with HubInThread() as hub:
        with AmqpPeer(hub) as peer, AmqpPeer.device(hub, "other") as other:
            peer.opened()
            hub.clock.move(150)
            other.send(EMPTY_FRAME)
            eventually(lambda: not hub.refusals("no such key"))
            other.transfer(100, message(application_properties={"operation": "nothing"}, value=None))
            other.expect(Disposition)
            hub.clock.move(150)
            assert condition(peer.expect(Close).error) in {"amqp:resource-limit-exceeded", "amqp:unauthorized-access"}
            other.send(EMPTY_FRAME)
        with AmqpPeer(hub) as peer:
            peer.open()
            peer.send(EMPTY_FRAME * 300)
            assert condition(peer.expect(Close).error) == "amqp:resource-limit-exceeded"


@pytest.mark.spec("L-L4")
def test_a_connection_that_does_not_authorise_itself_is_closed() -> None:
    with HubInThread() as hub, AmqpPeer(hub) as peer:
        peer.opened()
        hub.clock.move(61)
        assert condition(peer.expect(Close).error) == "amqp:unauthorized-access"
        assert peer.closes()


def test_a_hub_that_stops_asks_to_come_back() -> None:
    with HubInThread() as hub, AmqpPeer.device(hub, "press") as peer:
        hub.stop()
        assert condition(peer.expect(Close).error) == "amqp:connection:forced"


# -- $cbs ------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("D-83", "D-84", "D-85")
@pytest.mark.parametrize("message_id", ["text", ULong(0), ULong(1), ULong(2**40), uuid.UUID(int=7), b"\0\1"], ids=repr)
def test_cbs_answers_with_the_request_id_of_its_own_type(
    shared_hub: HubInThread, device_id: str, message_id: Any
) -> None:
    token = device_token(shared_hub, device_id)
    with AmqpPeer(shared_hub).opened() as peer:
        peer.node()
        for sent, status in ((token, 200), (token + "0", 401)):
            reply = peer.put_token(sent, message_id=message_id)
            assert (type(reply.status), reply.status) == (Int, status)
            assert (type(reply.correlation_id), reply.correlation_id) == (type(message_id), message_id)
            assert reply.settled_before
            assert reply.message.value is None
            assert isinstance(reply.message.application_properties["status-description"], str)


@pytest.mark.spec("D-86")
@pytest.mark.parametrize("kind", ["servicebus.windows.net:sastoken", "azure-devices.net:sastoken", "jwt", "bearer"])
@pytest.mark.parametrize("name", ["{host}", "https://{host}", "{host}%2Fdevices%2F{id}", "sb://{host}/x", "nonsense"])
def test_type_and_name_of_a_token_do_not_matter(shared_hub: HubInThread, device_id: str, kind: str, name: str) -> None:
    token = device_token(shared_hub, device_id)
    with AmqpPeer(shared_hub).opened() as peer:
        peer.node()
        name = name.format(host=shared_hub.host_name, id=device_id)
        assert peer.put_token(token, kind=kind, name=name).status == 200
        peer.attached(TELEMETRY.format(device_id), handle=0)


@pytest.mark.parametrize("address", ["$cbs", "/$cbs", "amqps://{host}/$cbs", "amqps://{host}:5671/$CBS"])
def test_spellings_of_the_cbs_node(shared_hub: HubInThread, device_id: str, address: str) -> None:
    with AmqpPeer(shared_hub).opened() as peer:
        peer.node(address.format(host=shared_hub.host_name))
        assert peer.put_token(device_token(shared_hub, device_id)).status == 200


def test_an_answer_waits_for_credit_and_goes_to_the_receiver_that_is_named(
    shared_hub: HubInThread, device_id: str
) -> None:
    token = device_token(shared_hub, device_id)
    put = {"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": "n"}
    with AmqpPeer(shared_hub).opened() as peer:
        peer.node(credit=0)
        here = Described(ULong(0x28), ["$cbs"])
        peer.send(Attach("mine", 102, True, source=here, target=Described(ULong(0x29), ["my-replies"])))
        assert peer.expect(Attach).target.value[0] == "my-replies"
        properties = {"message_id": "1", "reply_to": "my-replies"}
        peer.transfer(100, message(properties=properties, application_properties=put, value=token))
        peer.expect(Disposition)
        peer.credit(102, 0)  # credit 0 first (S-R18)
        peer.credit(102, 1)
        got = peer.expect_frame(Transfer)
        assert got.performative.handle == 102


@pytest.mark.spec("L-A16", "D-84", "L-I1")
def test_tokens_that_cbs_refuses_alike(shared_hub: HubInThread, device_id: str) -> None:
    key = device_key(shared_hub, device_id)
    host = shared_hub.host_name
    now = int(shared_hub.clock.now())
    disabled = f"{device_id}-off"
    off = device_token(shared_hub, disabled)
    shared_hub.ask(shared_hub.hub.ensure_device(disabled))
    refused = {
        "audience": sas.make(f"other.example/devices/{device_id}", key, now + 600),
        "another device": sas.make(f"{host}/devices/{device_id}x", key, now + 600),
        "expired": sas.make(f"{host}/devices/{device_id}", key, now - 301),
        "signature": sas.make(f"{host}/devices/{device_id}", b"another key", now + 600),
        "unknown": sas.make(f"{host}/devices/{device_id}-unknown", key, now + 600),
        "policy": sas.make(host, key, now + 600, "nobody"),
        "text": "not a token",
        "nothing": "",
        "web token": "aaaa.bbbb.cccc",
    }
    with AmqpPeer(shared_hub).opened() as peer:
        peer.node()
        texts = set()
        for name, token in refused.items():
            reply = peer.put_token(token)
            assert reply.status == 401, name
            text = reply.message.application_properties["status-description"]
            texts.add(text.partition(" Tracking id ")[0])
        assert len(texts) == 1  # nothing can be told apart
        assert peer.put_token(off).status == 200
        # the connection lives, and a good token is still taken
        assert peer.put_token(sas.make(f"{host}/devices/{device_id}", key, now - 200)).status == 200
        peer.attached(TELEMETRY.format(device_id), handle=0)


@pytest.mark.parametrize(
    ("properties", "body", "status"),
    [
        ({"operation": "PUT-TOKEN"}, "t", 400),
        ({}, None, 400),
        ({"operation": "put-token"}, None, 401),
        ({"operation": "put-token"}, [1, 2], 401),
    ],
)
def test_requests_that_cbs_cannot_serve(
    shared_hub: HubInThread, properties: dict[str, Any], body: Any, status: int
) -> None:
    with AmqpPeer(shared_hub).opened() as peer:
        peer.node()
        assert peer.request(properties, body).status == status


@pytest.mark.spec("D-88", "L-A17")
def test_a_renewed_token_keeps_its_links_and_a_lapsed_one_loses_them() -> None:
    with HubInThread() as hub, AmqpPeer(hub) as peer:
        peer.opened().authorised(device_token(hub, "short", seconds=60))
        assert peer.put_token(device_token(hub, "long", seconds=7200)).status == 200
        peer.attached(TELEMETRY.format("short"), handle=0)
        peer.attached(TELEMETRY.format("long"), handle=1)
        assert peer.put_token(device_token(hub, "short", seconds=120)).status == 200  # while the first still lives
        hub.clock.move(60 + 290)
        assert peer.outcome(peer.transfer(0, data(b"still here"))) == ("accepted", "")
        peer.send(EMPTY_FRAME)
        hub.clock.move(80)  # past 120 s and the grace of 300 s
        detach = peer.expect(Detach)
        assert (detach.handle, condition(detach.error)) == (0, "amqp:unauthorized-access")
        peer.send(Detach(0, True))
        assert peer.outcome(peer.transfer(1, data(b"another identity"))) == ("accepted", "")
        assert peer.put_token(device_token(hub, "short")).status == 200
        peer.attached(TELEMETRY.format("short"), handle=2)


@pytest.mark.spec("D-88")
def test_a_refused_renewal_leaves_the_old_authorisation() -> None:
    with HubInThread() as hub, AmqpPeer.device(hub, "press") as peer:
        peer.attached(TELEMETRY.format("press"), handle=0)
        assert peer.put_token("SharedAccessSignature sr=x&sig=AAAA&se=1").status == 401
        assert peer.outcome(peer.transfer(0, data(b"x"))) == ("accepted", "")


def test_a_plain_login_is_closed_when_its_token_lapses() -> None:
    with HubInThread() as hub, AmqpPeer(hub) as peer:
        assert peer.sasl("PLAIN", plain("press@sas.hub", device_token(hub, "press", seconds=60))) == 0
        peer.opened()
        hub.clock.move(120)
        peer.send(EMPTY_FRAME)
        hub.clock.move(239)
        assert condition(peer.expect(Close).error) == "amqp:unauthorized-access"


@pytest.mark.spec("L-A15", "D-91", "L-I4")
def test_links_outside_the_authorisation(shared_hub: HubInThread, device_id: str) -> None:
    other = f"{device_id}-other"
    shared_hub.create_device(other)
    with AmqpPeer(shared_hub).opened() as peer:
        for address in (TELEMETRY.format(device_id), "/nothing", "hubkeep-events/ConsumerGroups/$Default/Partitions/0"):
            assert (
                condition(peer.refused(address, handle=0, receiver="Groups" in address)) == "amqp:unauthorized-access"
            )
        peer.authorised(device_token(shared_hub, device_id))
        for address, receiver in (
            (TELEMETRY.format(other), False),
            (TELEMETRY.format(f"{device_id}/modules/cam"), False),
            ("hubkeep-events/ConsumerGroups/$Default/Partitions/0", True),
            ("messages/events/$management", True),
        ):
            error = peer.refused(address, handle=0, receiver=receiver)
            assert condition(error) == "amqp:unauthorized-access"
            assert details(error)["com.microsoft:tracking-id"]
        assert condition(peer.refused("/nothing", handle=0)) == "amqp:not-found"


@pytest.mark.spec("D-87", "D-82")
def test_a_modules_token_is_for_the_module_that_it_names(shared_hub: HubInThread, device_id: str) -> None:
    device, key = device_key(shared_hub, device_id), b"k" * 32
    module = Identity(device_id=device_id, module_id="cam", generation_id="1", primary_key=key, secondary_key=key)
    shared_hub.ask(shared_hub.hub._identities._store.create(module))
    address = TELEMETRY.format(f"{device_id}/modules/cam")
    token = shared_hub.token(f"devices/{device_id}/modules/cam", key=key)
    with AmqpPeer(shared_hub).opened() as peer:
        peer.node()
        assert peer.put_token(token, name=f"{shared_hub.host_name}/devices/{device_id}").status == 200
        peer.attached(address, handle=0)
        assert condition(peer.refused(TELEMETRY.format(device_id), handle=1)) == "amqp:unauthorized-access"
    for user in (f"{device_id}/modules/cam@sas.hub1", f"{device_id}/cam@sas.hub1"):
        with AmqpPeer(shared_hub) as peer:
            assert peer.sasl("PLAIN", plain(user, token)) == 0
            peer.opened().attached(address, handle=0)
            assert peer.outcome(peer.transfer(0, data(b"x"))) == ("accepted", "")
    with AmqpPeer(shared_hub).opened() as peer:
        peer.authorised(shared_hub.token(f"devices/{device_id}", key=device))
        assert condition(peer.refused(address, handle=0)) == "amqp:unauthorized-access"


@pytest.mark.spec("S-R20")
def test_property_maps_with_string_keys(shared_hub: HubInThread, device_id: str) -> None:
    with AmqpPeer(shared_hub) as peer:
        peer.open(properties={"product": "x", Symbol("version"): "1"})
        peer.begin()
        peer.authorised(device_token(shared_hub, device_id))
        properties = {"com.microsoft:client-version": "x", Symbol("com.microsoft:api-version"): "2021-04-12"}
        peer.attached(TELEMETRY.format(device_id), handle=0, properties=properties)


@pytest.mark.spec("L-R9")
def test_what_a_refusal_tells_the_operator_and_not_the_peer(shared_hub: HubInThread, device_id: str) -> None:
    token = device_token(shared_hub, device_id).replace("sig=", "sig=AAAA")
    with AmqpPeer(shared_hub).opened() as peer:
        peer.node()
        text = peer.put_token(token).message.application_properties["status-description"]
        tracking_id = text.rpartition(" ")[2]
        assert "signature" not in text.lower()
    assert eventually(lambda: shared_hub.refusals(tracking_id))
    assert "AAAA" not in repr(shared_hub.refusals(tracking_id))


# -- many on one connection ------------------------------------------------------------------------------------------


@pytest.mark.spec("D-89")
def test_two_devices_in_two_sessions_with_equal_link_names(shared_hub: HubInThread, device_id: str) -> None:
    first, second = f"{device_id}-1", f"{device_id}-2"
    with AmqpPeer(shared_hub).opened() as peer:
        peer.authorised(device_token(shared_hub, first))
        assert peer.put_token(device_token(shared_hub, second)).status == 200
        peer.begin(1)
        peer.begin(2)
        for channel, name in ((1, first), (2, second)):
            peer.attached(TELEMETRY.format(name), handle=0, channel=channel, name="TelemetrySenderLink")
        assert peer.outcome(peer.transfer(0, data(b"1"), number=0, channel=1)) == ("accepted", "")
        peer.send(End(), channel=1)
        peer.expect(End)
        assert peer.outcome(peer.transfer(0, data(b"2"), number=0, channel=2)) == ("accepted", "")


@pytest.mark.spec("L-A6")
def test_handles(shared_hub: HubInThread, device_id: str) -> None:
    for handle, expected in (
        (8191, "amqp:not-allowed"),
        (2**32 - 1, "amqp:not-allowed"),
        (0, "amqp:session:handle-in-use"),
    ):
        with AmqpPeer.device(shared_hub, device_id) as peer:
            peer.attached("$management", handle=0)
            peer.begin(1)
            peer.send(Attach("x", handle, False, target=Described(ULong(0x29), ["$cbs"])))
            ended = peer.expect_frame(End)
            assert (ended.channel, condition(ended.performative.error)) == (0, expected)
            peer.attached("$management", handle=0, channel=1)  # other sessions go on


def test_an_unauthorised_peer_gets_little_memory(shared_hub: HubInThread) -> None:
    with AmqpPeer(shared_hub).opened() as peer:
        target = Described(ULong(0x29), ["$cbs"])
        peer.send(*[Attach(f"{number}" + "x" * 1000, number, False, target=target) for number in range(400)])
        got = peer.expect_frame((Attach, End))
        attached = 0
        while isinstance(got.performative, Attach):
            attached += 1
            got = peer.expect_frame((Attach, End))
        assert 100 < attached < 300
        assert condition(got.performative.error) == "amqp:not-allowed"


@pytest.mark.spec("D-98")
def test_a_second_connection_of_a_device_takes_over(shared_hub: HubInThread, device_id: str) -> None:
    with AmqpPeer.device(shared_hub, device_id) as old:
        old.attached(TELEMETRY.format(device_id), handle=0)
        with AmqpPeer.device(shared_hub, device_id) as new:
            new.attached(TELEMETRY.format(device_id), handle=0)
            detach = old.expect(Detach)
            assert condition(detach.error) == "amqp:link:stolen"
            assert new.outcome(new.transfer(0, data(b"x"))) == ("accepted", "")


@pytest.mark.spec("L-I2", "L-I3")
@pytest.mark.parametrize("change", ["disable", "delete"])
def test_a_disabled_or_deleted_device_is_cut_off(shared_hub: HubInThread, device_id: str, change: str) -> None:
    from conversations.https_peer import VERSION, request

    with AmqpPeer.device(shared_hub, device_id) as peer, AmqpPeer.device(shared_hub, f"{device_id}-2") as other:
        peer.attached(TELEMETRY.format(device_id), handle=0)
        other.attached(TELEMETRY.format(f"{device_id}-2"), handle=0)
        path = f"/devices/{device_id}?{VERSION}"
        began = time.monotonic()
        if change == "delete":
            request(shared_hub, "DELETE", path, headers={"If-Match": "*"})
        else:
            identity = {"deviceId": device_id, "status": "disabled"}
            assert request(shared_hub, "PUT", path, identity, headers={"If-Match": "*"}).status == 200
        assert condition(peer.expect(Detach).error) == "amqp:unauthorized-access"
        assert peer.closes()
        assert time.monotonic() - began < 10
        assert other.outcome(other.transfer(0, data(b"x"))) == ("accepted", "")


@pytest.mark.spec("L-I2", "L-R6")
def test_a_token_put_before_its_device_was_disabled_opens_nothing(shared_hub: HubInThread, device_id: str) -> None:
    from conversations.https_peer import VERSION, request

    with AmqpPeer.device(shared_hub, device_id) as peer:
        identity = {"deviceId": device_id, "status": "disabled"}
        path = f"/devices/{device_id}?{VERSION}"
        assert request(shared_hub, "PUT", path, identity, headers={"If-Match": "*"}).status == 200
        assert condition(peer.refused(TELEMETRY.format(device_id), handle=0)) == "amqp:unauthorized-access"
        policy = shared_hub.token(policy="device")
        assert peer.put_token(policy).status == 200
        assert condition(peer.refused(TELEMETRY.format(device_id), handle=1)) == "amqp:unauthorized-access"


@pytest.mark.spec("L-A11")
def test_flows_without_end_and_credit_without_end(shared_hub: HubInThread) -> None:
    with AmqpPeer.reader(shared_hub) as peer:
        address = "hubkeep-events/ConsumerGroups/$Default/Partitions/0"
        peer.attached(address, handle=0, receiver=True)
        peer.send(*[Flow(0, 2**31, 0, 2**31, 0, 0, 2**32 - 1, echo=True)] * 2000)
        reply = peer.put_token(events_token(shared_hub))
        assert reply.status == 200
        answered = [each for each in peer.seen if isinstance(each.performative, Flow) and each.performative.handle == 0]
        assert len(answered) < 500


def test_arrays_and_odd_capabilities_do_not_disturb(shared_hub: HubInThread, device_id: str) -> None:
    with AmqpPeer.device(shared_hub, device_id) as peer:
        peer.attached(
            TELEMETRY.format(device_id),
            handle=0,
            desired_capabilities=Array([Symbol("a"), Symbol("b")]),
            snd_settle_mode=UByte(0),
            rcv_settle_mode=UByte(0),
        )
        assert peer.outcome(peer.transfer(0, data(b"x"))) == ("accepted", "")
