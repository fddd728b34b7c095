"""What the SDKs that are not run here say over AMQP, step by step as they do, and what they need to hear.

Each conversation is one SDK's: its SASL, sessions, link names, settlement and ids, after device-protocols 4.11 and 8.
"""

import json
import time
import uuid
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from conversations.amqp_peer import AmqpPeer, condition, data, device_key, device_token
from conversations.back_end import send
from conversations.https_peer import VERSION, request
from conversations.test_amqp_telemetry import address, bodies
from conversations.test_amqp_twins import CORRELATION, DESIRED, REPORTED, Links, status
from conversations.test_mqtt_methods import invoke
from conversations.test_mqtt_twins import set_desired
from hubkeep.testing import HubInThread
from hubkeep.wire import sas
from hubkeep.wire.amqp import (
    ACCEPTED,
    BATCH_FORMAT,
    AmqpMessage,
    Described,
    Int,
    Symbol,
    Timestamp,
    UByte,
    ULong,
    decode_message,
    encode,
    message,
)
from hubkeep.wire.amqp.messages import encode_data_section
from hubkeep.wire.amqp.performatives import (
    AMQP_HEADER,
    Attach,
    Begin,
    Close,
    Detach,
    Disposition,
    Flow,
    Transfer,
    encode_performative,
    frame,
    outcome_name,
)

FIRST, SECOND, SETTLED, UNSETTLED = UByte(0), UByte(1), UByte(1), UByte(0)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def devicebound(peer: AmqpPeer, handle: int, channel: int = 0) -> tuple[Transfer, AmqpMessage]:
    """The next message to the device, not yet settled."""
    got = peer.expect_frame(Transfer)
    assert (got.channel, got.performative.handle) == (channel, handle)
    payload = got.payload
    while got.performative.more:
        got = peer.expect_frame(Transfer)
        payload += got.payload
    return got.performative, decode_message(payload)


@pytest.mark.spec("D-C11", "D-C12", "D-C13", "D-C14", "D-C15", "D-C16")
def test_the_c_sdk(shared_hub: HubInThread, device_id: str, pool: ThreadPoolExecutor) -> None:
    token = device_token(shared_hub, device_id)
    with AmqpPeer(shared_hub) as peer:
        assert peer.sasl("MSSBCBS") == 0  # the peer holds that the mechanisms are an array
        assert peer.mechanisms[0] == "MSSBCBS"
        peer.opened()
        peer.node()
        for number in range(2):
            reply = peer.put_token(token, name=f"{shared_hub.host_name}/devices/{device_id}", message_id=ULong(number))
            assert (type(reply.correlation_id), reply.correlation_id) == (ULong, number)
            assert (type(reply.status), reply.status, reply.settled_before) == (Int, 200, True)
        peer.attached(f"amqps://{shared_hub.host_name}{address(device_id)}", handle=0)
        one = encode_data_section(data(b"21", application_properties={"room": "4"}))
        assert peer.outcome(peer.transfer(0, one, message_format=BATCH_FORMAT)) == ("accepted", "")
        (event,) = shared_hub.wait_for_events(1, device=device_id)
        assert (event["body"], event["properties"]) == ("21", {"room": "4"})

        twin = Links.of(peer, f"/devices/{device_id}/twin", 2)
        for operation, resource, body in (("GET", None, b""), ("PATCH", REPORTED, b'{"a":1}'), ("PUT", DESIRED, b"")):
            answer = twin.ask(operation, resource, body, correlation_id="0")
            assert status(answer) in {200, 204}
            assert answer.properties["correlation_id"] == "0"
            assert answer.data is not None
            assert len(answer.data) == 1
            version = answer.annotations.get("version")
            assert version is None or type(version) is int  # a long, and no other width
        assert type(twin.ask("PATCH", REPORTED, b'{"a":2}').annotations["version"]) is int

        methods = Links.of(peer, f"/devices/{device_id}/methods/devicebound", 4)
        call = pool.submit(invoke, shared_hub, device_id)
        asked = methods.receive()
        assert isinstance(asked.properties["correlation_id"], uuid.UUID)
        answer_to(methods, asked.properties["correlation_id"])
        assert call.result(10).body == {"status": 200, "payload": {}}

        peer.attached(f"/devices/{device_id}/messages/devicebound", handle=6, receiver=True)
        peer.credit(6, 10)
        assert send(shared_hub, device_id, b"x", iothub_app_room="4", iothub_ack="full").status == 204
        transfer, received = devicebound(peer, 6)
        assert received.application_properties
        for name, value in received.application_properties.items():
            assert (type(name), type(value)) == (str, str)
        peer.send(Disposition(True, transfer.delivery_id, None, True, ACCEPTED))


def answer_to(methods: Links, correlation_id: Any, *, settled: bool = True) -> int:
    reply = message(
        properties={"correlation_id": correlation_id}, application_properties={"IoThub-status": Int(200)}, data=b"{}"
    )
    return methods.peer.transfer(methods.handle, reply, settled=settled)


@pytest.mark.spec("D-N10", "D-N11", "D-N12", "D-N13", "D-N14")
def test_the_net_sdk(shared_hub: HubInThread, device_id: str) -> None:
    """Two devices of its pool on one connection: a session for $cbs, one for each, link names the same in all."""
    devices = [device_id, f"{device_id}-2"]
    with AmqpPeer(shared_hub).opened() as peer:
        peer.node()
        for number, each in enumerate(devices):
            reply_of_net(peer, number, device_token(shared_hub, each), f"{shared_hub.host_name}/devices/{each}")
        for channel, each in enumerate(devices, 1):
            peer.begin(channel)
            peer.attached(address(each), handle=0, channel=channel, name="TelemetrySenderLink")
            assert peer.outcome(peer.transfer(0, data(each.encode()), channel=channel)) == ("accepted", "")
            answer = peer.attached(
                f"/devices/{each}/messages/devicebound",
                handle=1,
                receiver=True,
                channel=channel,
                name="TelemetryReceiverLink",
                rcv_settle_mode=SECOND,
            )
            assert answer.rcv_settle_mode == SECOND
            peer.credit(1, 50, channel=channel)
        for channel, each in enumerate(devices, 1):
            assert send(shared_hub, each, each.encode()).status == 204
            transfer, received = devicebound(peer, 1, channel)
            assert received.body() == each.encode()
            assert len(transfer.delivery_tag or b"") == 16
            peer.send(Disposition(True, transfer.delivery_id, None, False, ACCEPTED), channel=channel)
            told = peer.expect_frame(Disposition)
            settled = told.performative
            assert (told.channel, settled.role, settled.first, settled.settled) == (
                channel,
                False,
                transfer.delivery_id,
                True,
            )
            assert outcome_name(settled.state) == "accepted"
        for each in devices:
            assert bodies(shared_hub, each, 1) == [each]
        twin = Links.of(peer, f"/devices/{device_id}/twin", 2)
        for correlation_id, operation, resource in (("Get7", "GET", ""), ("Patch8", "PATCH", REPORTED)):
            wanted = {Symbol("operation"): operation, Symbol("resource"): resource, Symbol("version"): None}
            body = b'{"a":1}' if resource else b""
            peer.transfer(2, message(annotations=wanted, properties={"correlation_id": correlation_id}, data=body))
            answer_of_twin = None
            while answer_of_twin is None:
                got = peer.expect_frame((Disposition, Transfer))
                if isinstance(got.performative, Transfer):
                    answer_of_twin = decode_message(got.payload)
            assert answer_of_twin.properties["correlation_id"] == correlation_id
            assert status(answer_of_twin) in {200, 204}
        set_desired(shared_hub, device_id, {"unheard": 1})
        assert status(twin.ask("GET", correlation_id="Get9")) == 200


def reply_of_net(peer: AmqpPeer, number: int, token: str, name: str) -> None:
    """Its put-token: sent settled, ids counted, a type of its own, with the time at which the token ends."""
    properties = {
        "operation": "put-token",
        "type": "azure-devices.net:sastoken",
        "name": name,
        "expiration": Timestamp(int(time.time() + 3600) * 1000),
    }
    raw = message(properties={"message_id": ULong(number)}, application_properties=properties, value=token)
    peer.transfer(100, raw, settled=True)
    got = peer.expect_frame(Transfer)
    answer = decode_message(got.payload)
    peer.send(Disposition(True, got.performative.delivery_id, None, True, ACCEPTED))
    assert answer.application_properties["status-code"] in {200, 202}
    assert (type(answer.properties["correlation_id"]), answer.properties["correlation_id"]) == (ULong, number)


@pytest.mark.spec("D-N15", "D-N18")
def test_the_net_sdk_encodes_twice_and_shows_a_policy_once(shared_hub: HubInThread) -> None:
    device_id = "press:7+(b)#1"
    key = device_key(shared_hub, device_id)
    once = quote(device_id, safe="")
    sr = quote(f"{shared_hub.host_name}/devices/{once}", safe="")
    expiry = str(int(time.time()) + 3600)
    signature = quote(encoded(sas.signature(sr, expiry, key)), safe="")
    token = f"SharedAccessSignature sr={sr}&sig={signature}&se={expiry}"
    with AmqpPeer(shared_hub).opened() as peer:
        peer.node()
        assert peer.put_token(token, name=f"{shared_hub.host_name}/devices/{quote(once, safe='')}").status == 200
        for handle, written in enumerate((device_id.replace("#", "%23"), once, quote(once, safe=""))):
            peer.attached(f"/devices/{written}/messages/events", handle=handle)
            assert peer.outcome(peer.transfer(handle, data(b"x"))) == ("accepted", "")
    others = [f"{each}-of-the-pool" for each in "ab"]
    for each in others:
        shared_hub.create_device(each)
    with AmqpPeer(shared_hub).opened() as peer:
        peer.authorised(shared_hub.token(policy="device"))
        for channel, each in enumerate(others, 1):
            peer.begin(channel)
            peer.attached(address(each), handle=0, channel=channel, name="TelemetrySenderLink")
            assert peer.outcome(peer.transfer(0, data(b"x"), channel=channel)) == ("accepted", "")


def encoded(signature: bytes) -> str:
    return sas.key_text(signature).decode()


@pytest.mark.spec("D-J8", "D-J9", "D-J10", "D-J11", "D-J12", "D-J13", "D-J14")
def test_the_java_sdk(shared_hub: HubInThread, device_id: str, pool: ThreadPoolExecutor) -> None:
    token = device_token(shared_hub, device_id)
    set_desired(shared_hub, device_id, {f"k{number}": "x" * 2000 for number in range(6)})
    with AmqpPeer(shared_hub, max_frame=4096) as peer:  # which holds that no frame is larger
        assert peer.sasl("ANONYMOUS") == 0
        peer.opened()
        peer.node()
        reply = peer.put_token(token, name=f"gateway.example/devices/{device_id}", message_id=uuid.uuid4())
        assert (reply.status, type(reply.correlation_id)) == (200, uuid.UUID)
        peer.send(Begin(None, 0, 2048, 0x7FFFFFFF), channel=1)
        peer.expect(Begin)
        both_at_once(peer, device_id)
        assert peer.outcome(peer.transfer(0, data(b"21"), channel=1)) == ("accepted", "")

        twin = Links.of(peer, f"/devices/{device_id}/twin", 2)
        correlation_id = uuid.uuid4()
        sent = twin.send("GET", None, b"", settled=False, correlation_id=correlation_id)
        assert peer.outcome(sent) == ("accepted", "")
        _, answer = devicebound(peer, 3)  # in as many frames as it takes
        assert (answer.properties["correlation_id"], len(answer.body()) > 12_000) == (correlation_id, True)
        assert answer.data is not None
        correlation_id = uuid.uuid4()
        sent = twin.send("PATCH", REPORTED, b'{"a":1}', settled=False, correlation_id=correlation_id)
        assert peer.outcome(sent) == ("accepted", "")
        answer = twin.receive()
        assert (answer.properties["correlation_id"], answer.data is not None) == (correlation_id, True)
        assert int(str(answer.annotations["version"])) < 2**31

        methods = Links.of(peer, f"/devices/{device_id}/methods/devicebound", 4)
        call = pool.submit(invoke, shared_hub, device_id, payload={"a": 1})
        asked = methods.receive()
        assert (asked.data is not None, json.loads(asked.body())) == (True, {"a": 1})
        assert peer.outcome(answer_to(methods, asked.properties["correlation_id"], settled=False)) == ("accepted", "")
        assert call.result(10).status == 200

        assert send(shared_hub, device_id, b"y" * 10_000).status == 204
        transfer, received = devicebound(peer, 1, 1)
        assert (received.data is not None, len(received.body())) == (True, 10_000)
        peer.send(Disposition(True, transfer.delivery_id, None, True, ACCEPTED), channel=1)


def both_at_once(peer: AmqpPeer, device_id: str) -> None:
    """Telemetry sender and receiver in one write, each with the device's id as its channel-correlation-id."""
    correlation = {CORRELATION: device_id}
    here = Described(ULong(0x29), [address(device_id)])
    there = Described(ULong(0x28), [f"/devices/{device_id}/messages/devicebound"])
    attaches = (
        Attach("sender", 0, False, snd_settle_mode=UNSETTLED, source=None, target=here, properties=correlation),
        Attach("receiver", 1, True, rcv_settle_mode=FIRST, source=there, target=None, properties=correlation),
    )
    peer.send(b"".join(frame(1, encode_performative(each)) for each in attaches))
    answers = [peer.expect_frame(Attach) for _ in attaches]
    assert sorted(each.performative.name for each in answers) == ["receiver", "sender"]
    assert all(each.performative.source is not None for each in answers)
    peer.credit(1, 10, channel=1)


@pytest.mark.spec("D-J9")
def test_a_module_of_the_java_sdk(shared_hub: HubInThread, device_id: str) -> None:
    """It names its device where it means the module: the token tells who it is."""
    shared_hub.create_device(device_id)
    path = f"/devices/{device_id}/modules/m?{VERSION}"
    module = request(shared_hub, "PUT", path, {"deviceId": device_id, "moduleId": "m"}).body
    key = b64decode(module["authentication"]["symmetricKey"]["primaryKey"])
    token = shared_hub.token(f"devices/{device_id}/modules/m", key=key)
    with AmqpPeer(shared_hub).opened() as peer:
        peer.node()
        reply = peer.put_token(token, name=f"gateway.example/devices/{device_id}", message_id=uuid.uuid4())
        assert reply.status == 200
        peer.attached(f"/devices/{device_id}/modules/m/messages/events", handle=0)
        assert peer.outcome(peer.transfer(0, data(b"21"))) == ("accepted", "")
        peer.refused(address(device_id), handle=1)


@pytest.mark.spec("D-ND9", "D-ND11")
def test_the_node_sdk(shared_hub: HubInThread, device_id: str) -> None:
    token = device_token(shared_hub, device_id)
    with AmqpPeer(shared_hub).opened() as peer:  # no SASL at all
        peer.node()
        reply = peer.put_token(token, name=sas.parse(token).sr, message_id=str(uuid.uuid4()))
        assert (reply.status, type(reply.correlation_id)) == (200, str)
        twin = Links.of(peer, f"/devices/{device_id}/twin")
        for operation, resource, body in (("GET", None, b" "), ("PATCH", REPORTED, b'{"a":1}'), ("PATCH", None, b"{}")):
            correlation_id = str(uuid.uuid4())
            sent = twin.ask(operation, resource, body, correlation_id=correlation_id).properties["correlation_id"]
            assert (type(sent), sent) == (str, correlation_id)


def opens(hub: HubInThread, properties: dict[Any, Any]) -> bool:
    """Whether the hub takes an open with these properties; else it closes for a decode-error."""
    with AmqpPeer(hub) as peer:
        peer.send(AMQP_HEADER)
        assert peer.header() == AMQP_HEADER
        fields = ["peer", hub.host_name, 65536, 65535, None, None, None, None, None, properties]
        peer.send(frame(0, encode(Described(ULong(0x10), fields))), Begin(None, 0, 2048, 2048))
        while (got := peer.read()) is not None:
            if isinstance(got.performative, Begin):
                return True
            if isinstance(got.performative, Close):
                assert condition(got.performative.error) == "amqp:decode-error"
                return False
        raise AssertionError("neither a session nor a close")


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.spec("L-L16")
def test_values_within_the_bounds_are_read_and_those_beyond_end_the_connection(
    shared_hub: HubInThread, device_id: str
) -> None:
    around = 3  # the description of open, the list of its fields, the map
    assert opens(shared_hub, {Symbol("a"): nested(16 - around)})
    assert not opens(shared_hub, {Symbol("a"): nested(17 - around)})
    assert opens(shared_hub, {Symbol("a"): [None] * 4096})
    assert not opens(shared_hub, {Symbol("a"): [None] * 4097})
    with AmqpPeer.device(shared_hub, device_id) as peer:
        peer.attached(address(device_id), handle=0)
        whole = data(b"x" * 262_144)
        assert peer.outcome(in_pieces(peer, whole)) == ("accepted", "")
        annotated = message(annotations={Symbol("a"): "y" * 16_000}, data=b"x" * 262_000)
        assert peer.outcome(in_pieces(peer, annotated)) == ("accepted", "")
        assert peer.outcome(in_pieces(peer, data(b"x" * 1_000_000))) == (
            "rejected",
            "amqp:link:message-size-exceeded",
        )
        assert peer.outcome(peer.transfer(0, data(b"x"))) == ("accepted", "")
        sent = in_pieces(peer, data(b"x" * 1_100_000), number=9)
        assert sent == 9
        while (got := peer.read()) is not None and not isinstance(got.performative, Detach):
            pass
        assert got is not None
        assert condition(got.performative.error) == "amqp:link:message-size-exceeded"


def in_pieces(peer: AmqpPeer, payload: bytes, *, number: int | None = None) -> int:
    """One delivery in as many transfers as it takes; its id."""
    if number is None:
        number, peer._number = peer._number, peer._number + 1
    pieces = [payload[at : at + 60_000] for at in range(0, len(payload), 60_000)]
    for at, piece in enumerate(pieces):
        peer.send(Transfer(0, number, b"t%d" % number, more=at < len(pieces) - 1), payload=piece)
    return number


@pytest.mark.spec("L-L17")
def test_the_window_and_the_credit_that_the_hub_gives(shared_hub: HubInThread, device_id: str) -> None:
    with AmqpPeer.device(shared_hub, device_id) as peer:
        assert peer.begin(1).incoming_window == 2048
        peer.attached(address(device_id), handle=0, channel=1)
        flow = next((each.performative for each in peer.seen if each.channel == 1), None) or peer.expect(Flow)
        assert (flow.handle, flow.link_credit) == (0, 1000)
        for _ in range(3):  # and it goes on giving
            for _ in range(500):
                last = peer.transfer(0, data(b"x"), channel=1)
            assert peer.outcome(last) == ("accepted", "")
        credited = [each.performative.link_credit for each in peer.seen if isinstance(each.performative, Flow)]
        assert max(each for each in credited if each is not None) <= 1000
