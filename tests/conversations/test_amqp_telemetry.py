"""Telemetry over AMQP, by raw frames over TLS: what is taken, what is refused, and what is stored."""

import uuid
from typing import Any

import pytest

from conversations.amqp_peer import AmqpPeer, condition, data, details, device_token
from conversations.mqtt_peer import eventually
from hubkeep.testing import HubInThread
from hubkeep.wire.amqp import BATCH_FORMAT, Described, Symbol, Timestamp, UByte, ULong, encode, message
from hubkeep.wire.amqp.messages import encode_data_section
from hubkeep.wire.amqp.performatives import (
    Close,
    Detach,
    Disposition,
    End,
    Flow,
    Transfer,
    encode_performative,
    frame,
    outcome_name,
)

KEPT = 262_144
OVER = KEPT + 16_384 + 1


def address(device_id: str) -> str:
    return f"/devices/{device_id}/messages/events"


def sender(hub: HubInThread, device_id: str, **options: Any) -> AmqpPeer:
    peer = AmqpPeer.device(hub, device_id)
    answer = peer.attached(address(device_id), handle=0, **options)
    assert answer.max_message_size == KEPT
    return peer


def stored(hub: HubInThread, device_id: str, count: int = 1) -> list[dict[str, Any]]:
    return hub.wait_for_events(count, device=device_id)


def bodies(hub: HubInThread, device_id: str, count: int) -> list[str]:
    return [each["body"] for each in stored(hub, device_id, count)]


@pytest.mark.spec("D-92", "D-94")
def test_credit_comes_at_once_and_the_outcome_is_accepted(shared_hub: HubInThread, device_id: str) -> None:
    with sender(shared_hub, device_id) as peer:
        numbers = [peer.transfer(0, data(b"%d" % number)) for number in range(20)]
        first = peer.seen[-1] if peer.seen else None
        while True:
            got = peer.expect(Disposition)
            assert (got.role, got.settled, outcome_name(got.state)) == (True, True, "accepted")
            if got.last == numbers[-1]:
                break
        flows = [each.performative for each in peer.seen if isinstance(each.performative, Flow)]
        assert first is None or flows
        assert any(flow.handle == 0 and flow.link_credit == 1000 for flow in flows)  # L-L17
    assert bodies(shared_hub, device_id, 20) == [str(number) for number in range(20)]


@pytest.mark.spec("D-90")
@pytest.mark.parametrize(
    "form",
    [
        "/devices/{id}/messages/events",
        "devices/{id}/messages/events",
        "/devices/{id}/messages/events/",
        "/Devices/{id}/Messages/Events",
        "amqps://{host}/devices/{id}/messages/events",
        "amqps://{host}:5671/devices/{id}/messages/events",
        "amqp://anything/devices/{id}/messages/events",
    ],
)
def test_spellings_of_the_address(shared_hub: HubInThread, device_id: str, form: str) -> None:
    with AmqpPeer.device(shared_hub, device_id) as peer:
        peer.attached(form.format(id=device_id, host=shared_hub.host_name), handle=0)
        assert peer.outcome(peer.transfer(0, data(b"x"))) == ("accepted", "")


@pytest.mark.spec("D-90")
def test_an_id_may_be_percent_encoded_in_the_address(shared_hub: HubInThread) -> None:
    device_id = "a:b(c)'e+f@g"
    token = device_token(shared_hub, device_id)
    with AmqpPeer(shared_hub).opened() as peer:
        peer.authorised(token)
        for number, form in enumerate(("a%3Ab(c)'e+f@g", "a%3ab%28c%29%27e%2Bf%40g", device_id)):
            peer.attached(address(form), handle=number)


@pytest.mark.spec("D-92")
def test_a_delivery_of_many_frames(shared_hub: HubInThread, device_id: str) -> None:
    body = "0123456789" * 10_000
    payload = data(body.encode())
    with sender(shared_hub, device_id) as peer:
        pieces = [payload[at : at + 4000] for at in range(0, len(payload), 4000)]
        for index, piece in enumerate(pieces):
            first = {"delivery_id": 0, "delivery_tag": b"t", "message_format": 0} if index == 0 else {}
            peer.send(Transfer(0, more=index < len(pieces) - 1, **first), payload=piece)
        assert peer.outcome(0) == ("accepted", "")
    assert bodies(shared_hub, device_id, 1) == [body]


@pytest.mark.spec("S-R21")
def test_a_settled_delivery_gets_no_answer(shared_hub: HubInThread, device_id: str) -> None:
    with sender(shared_hub, device_id, snd_settle_mode=UByte(1)) as peer:
        peer.transfer(0, data(b"settled"), settled=True)
        last = peer.transfer(0, data(b"unsettled"))
        got = peer.expect(Disposition)
        assert (got.first, got.last) == (last, last)
    assert bodies(shared_hub, device_id, 2) == ["settled", "unsettled"]


@pytest.mark.spec("D-95")
def test_a_batch_is_its_messages_in_order(shared_hub: HubInThread, device_id: str) -> None:
    inner = [
        data(b"one", properties={"message_id": "m1"}, application_properties={"n": "1"}),
        data(b"two"),
        encode_data_section(b""),
        data(b"four", annotations={Symbol("x"): 1}),
    ]
    with sender(shared_hub, device_id) as peer:
        payload = b"".join(encode_data_section(each) for each in inner)
        assert peer.outcome(peer.transfer(0, payload, message_format=BATCH_FORMAT)) == ("accepted", "")
        one = encode_data_section(data(b"five"))
        assert peer.outcome(peer.transfer(0, one, message_format=BATCH_FORMAT)) == ("accepted", "")
    events = stored(shared_hub, device_id, 5)
    assert [event["body"] or "" for event in events] == ["one", "two", "", "four", "five"]


def test_a_batch_with_one_bad_message_is_refused_whole(shared_hub: HubInThread, device_id: str) -> None:
    with sender(shared_hub, device_id) as peer:
        for bad in (b"\x00\x53\x75\xa0\x05x", encode_data_section(bytes(KEPT + 1))[:100], b"\x41"):
            payload = encode_data_section(data(b"good")) + encode_data_section(bad)
            outcome, _ = peer.outcome(peer.transfer(0, payload, message_format=BATCH_FORMAT))
            assert outcome == "rejected"
        assert peer.outcome(peer.transfer(0, b"", message_format=BATCH_FORMAT))[0] in {"accepted", "rejected"}
        assert peer.outcome(peer.transfer(0, data(b"last"))) == ("accepted", "")
    assert bodies(shared_hub, device_id, 1) == ["last"]


def burst(payloads: list[tuple[bytes, int, bool]], first: int) -> bytes:
    """One write: payload, message format and whether it is settled, of each."""
    out = b""
    for number, (payload, message_format, settled) in enumerate(payloads, first):
        transfer = Transfer(0, number, b"%d" % number, message_format, settled, False)
        out += frame(0, encode_performative(transfer) + payload)
    return out


@pytest.mark.parametrize("pieces", [1, 7])
def test_what_comes_in_one_write_is_taken_one_by_one(shared_hub: HubInThread, device_id: str, pieces: int) -> None:
    """Runs of messages that are alike are taken together: the odd ones among them have their own outcomes."""
    properties = {"application_properties": {"room": "4"}, "properties": {"content_type": Symbol("text/plain")}}
    sent = [
        (data(b"0"), 0, False),
        (data(b"1", **properties), 0, False),
        (b"\x00\x53\x75\xa0\x05x", 0, False),  # 2: cut short
        (data(b"3", **properties), 0, False),
        (encode_data_section(data(b"4")) + encode_data_section(data(b"4b")), BATCH_FORMAT, False),
        (data(b"5"), 0, True),
        (message(value="6"), 0, False),
        (data(b"7" * 300, **properties), 0, False),
        (b"\x00\x53\x74\xc1\x03\x02\xa1\x00" + data(b"8"), 0, False),  # properties cut short
        (data(b"9"), 0, False),
    ]
    with sender(shared_hub, device_id) as peer:
        raw = burst(sent, 0)
        for at in range(0, len(raw), len(raw) // pieces + 1):
            peer.send(raw[at : at + len(raw) // pieces + 1])
        outcomes: dict[int, str] = {}
        while len(outcomes) < len(sent) - 1:
            got = peer.expect(Disposition)
            for number in range(got.first, (got.first if got.last is None else got.last) + 1):
                assert number not in outcomes
                outcomes[number] = outcome_name(got.state)
    assert [number for number, outcome in outcomes.items() if outcome == "rejected"] == [2, 8]
    assert 5 not in outcomes
    events = stored(shared_hub, device_id, 9)
    assert [event["body"][:2] for event in events] == ["0", "1", "3", "4", "4b", "5", "6", "77", "9"]
    with_properties = [event for event in events if event["properties"]]
    assert [event["body"][:1] for event in with_properties] == ["1", "3", "7"]
    for event in with_properties:
        assert event["properties"] == {"room": "4"}
        assert event["system_properties"]["content_type"] == "text/plain"


def test_runs_of_two_links_on_one_connection_go_to_their_own_devices(shared_hub: HubInThread) -> None:
    names = [f"run-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    for name in names:
        shared_hub.create_device(name)
    with AmqpPeer(shared_hub).opened() as peer:
        peer.node()
        for handle, name in enumerate(names):
            assert peer.put_token(device_token(shared_hub, name)).status == 200
            peer.attached(address(name), handle=handle)
        raw = b""
        for number in range(40):
            transfer = Transfer(number // 2 % 2, number, b"t", 0, False, False)
            raw += frame(0, encode_performative(transfer) + data(b"%d" % number))
        peer.send(raw)
        settled: set[int] = set()
        while len(settled) < 40:
            got = peer.expect(Disposition)
            settled |= set(range(got.first, (got.first if got.last is None else got.last) + 1))
    for handle, name in enumerate(names):
        assert bodies(shared_hub, name, 20) == [str(each) for each in range(40) if each // 2 % 2 == handle]


@pytest.mark.spec("L-A9", "D-94")
def test_what_is_too_large_is_rejected_and_the_link_kept(shared_hub: HubInThread, device_id: str) -> None:
    with sender(shared_hub, device_id) as peer:
        for size in (OVER, 700_000):
            left = size
            first = {"delivery_id": size, "delivery_tag": b"t"}
            while left:
                piece = min(left, 60_000)
                left -= piece
                peer.send(Transfer(0, more=left > 0, **first), payload=bytes(piece))
                first = {}
            assert peer.outcome(size) == ("rejected", "amqp:link:message-size-exceeded")
        # a message over its own limit that fits into what is kept
        big = data(bytes(KEPT + 1))
        for at in range(0, len(big), 60_000):
            first = {"delivery_id": 5, "delivery_tag": b"t"} if at == 0 else {}
            peer.send(Transfer(0, more=at + 60_000 < len(big), **first), payload=big[at : at + 60_000])
        assert peer.outcome(5) == ("rejected", "amqp:link:message-size-exceeded")
        assert peer.outcome(peer.transfer(0, data(b"next"), number=6)) == ("accepted", "")
    assert bodies(shared_hub, device_id, 1) == ["next"]


@pytest.mark.spec("L-A9")
def test_a_delivery_without_end_loses_its_link(shared_hub: HubInThread, device_id: str) -> None:
    with sender(shared_hub, device_id) as peer:
        peer.send(Transfer(0, 0, b"t", more=True), payload=bytes(60_000))
        for _ in range(20):
            peer.send(Transfer(0, more=True), payload=bytes(60_000))
        assert condition(peer.expect(Detach).error) == "amqp:link:message-size-exceeded"
        peer.send(Detach(0, True))
        peer.attached(address(device_id), handle=0)
        peer.send(Transfer(0, 1, b"t", more=True), *[Transfer(0, more=True)] * 1500)  # nothing in them
        peer.send(Transfer(0, more=True, aborted=True))
        assert peer.outcome(peer.transfer(0, data(b"x"), number=2)) == ("accepted", "")


@pytest.mark.spec("L-A10")
def test_interleaved_deliveries_and_first_transfers_without_id_or_tag(shared_hub: HubInThread, device_id: str) -> None:
    with sender(shared_hub, device_id) as peer:
        peer.send(Transfer(0, 0, b"a", more=True), Transfer(0, 1, b"b"), payload=b"x")
        assert condition(peer.expect(Detach).error) == "amqp:not-allowed"
    for transfer in (Transfer(0, None, b"t"), Transfer(0, 0, None), Transfer(0, 0, b"t" * 33)):
        with sender(shared_hub, device_id) as peer:
            peer.send(transfer, payload=data(b"x"))
            assert condition(peer.expect(Close).error) == "amqp:decode-error"


@pytest.mark.spec("L-A8")
def test_more_than_the_window(shared_hub: HubInThread, device_id: str) -> None:
    """The window is refilled by the hub long before a client of one frame at a time could use it up."""
    with sender(shared_hub, device_id) as peer:
        last = 0
        for _ in range(30):
            numbers = [peer.transfer(0, data(b"x"), settled=True) for _ in range(100)]
            last = numbers[-1]
        assert peer.outcome(peer.transfer(0, data(b"end"), number=last + 1)) == ("accepted", "")


@pytest.mark.spec("L-A8")
def test_a_transfer_without_credit(shared_hub: HubInThread, device_id: str) -> None:
    with AmqpPeer.device(shared_hub, device_id) as peer:
        peer.attached(address(device_id), handle=0)
        # the sender gives all its credit up, then sends all the same
        peer.send(Flow(0, 2048, 0, 2048, 0, 1000, 0), Transfer(0, 0, b"t"), payload=data(b"x"))
        assert condition(peer.expect(Detach).error) == "amqp:link:transfer-limit-exceeded"
        peer.send(Detach(0, True))
        peer.attached(address(device_id), handle=0)
        assert peer.outcome(peer.transfer(0, data(b"y"), number=1)) == ("accepted", "")
    assert bodies(shared_hub, device_id, 1) == ["y"]


@pytest.mark.spec("L-A13")
def test_dispositions_for_nothing_are_ignored(shared_hub: HubInThread, device_id: str) -> None:
    with sender(shared_hub, device_id) as peer:
        for first, last in ((0, 2**32 - 1), (7, None), (5, 3), (2**32 - 1, 2)):
            for role in (True, False):
                peer.send(Disposition(role, first, last, True))
        assert peer.outcome(peer.transfer(0, data(b"x"))) == ("accepted", "")


def test_every_property_is_stored(shared_hub: HubInThread, device_id: str) -> None:
    identifier = uuid.UUID(int=9)
    properties = {
        "message_id": identifier,
        "correlation_id": ULong(7),
        "user_id": b"someone",
        "content_type": Symbol("application/json"),
        "content_encoding": Symbol("utf-8"),
        "absolute_expiry_time": Timestamp(1_900_000_000_000),
    }
    application = {
        "flag": True,
        "number": 5,
        "text": "\u20ac",
        "iothub-creation-time-utc": "2026-01-01T00:00:00Z",
        "iothub-connection-device-id": "forged",
    }
    with sender(shared_hub, device_id) as peer:
        payload = data(
            b'{"t":1}',
            properties=properties,
            application_properties=application,
            annotations={Symbol("dt-subject"): "thermostat", Symbol("iothub-connection-device-id"): "forged"},
        )
        assert peer.outcome(peer.transfer(0, payload)) == ("accepted", "")
    (event,) = stored(shared_hub, device_id)
    text = repr(event)
    for part in (str(identifier), "'7'", "application/json", "thermostat", "\u20ac", "true"):
        assert part in text
    assert "forged" not in text


@pytest.mark.parametrize(
    ("payload", "ok"),
    [
        (message(value="text"), True),
        (message(value=b"binary"), True),
        (message(value=None), True),
        (message(value={"a": 1}), False),
        (b"\x00\x53\x76\xc0\x02\x01\x41", False),
        (b"\x00\x53\x75\xa0\x05x", False),
        (b"\x41", False),
        (encode(Described(ULong(0x74), {"a": [1]})) + encode_data_section(b"x"), False),
    ],
)
def test_bodies_of_other_kinds(shared_hub: HubInThread, device_id: str, payload: bytes, ok: bool) -> None:
    with sender(shared_hub, device_id) as peer:
        outcome, _ = peer.outcome(peer.transfer(0, payload))
        assert outcome == ("accepted" if ok else "rejected")
        assert peer.outcome(peer.transfer(0, data(b"next"))) == ("accepted", "")


def test_a_rejection_names_a_tracking_id_that_explains_it(shared_hub: HubInThread, device_id: str) -> None:
    with sender(shared_hub, device_id) as peer:
        peer.transfer(0, b"\x41")
        got = peer.expect(Disposition)
        tracking_id = details(got.state.value[0])["com.microsoft:tracking-id"]
    assert eventually(lambda: shared_hub.refusals(tracking_id))


def test_a_detached_link_drops_what_was_in_flight(shared_hub: HubInThread, device_id: str) -> None:
    with sender(shared_hub, device_id) as peer:
        peer.send(Transfer(0, 0, b"t", more=True), Detach(0, True), payload=b"")
        peer.expect(Detach)
        peer.send(End())
        peer.expect(End)
        peer.begin()
        peer.authorised(device_token(shared_hub, device_id))
        peer.attached(address(device_id), handle=0)
        assert peer.outcome(peer.transfer(0, data(b"x"))) == ("accepted", "")
    assert bodies(shared_hub, device_id, 1) == ["x"]


@pytest.mark.spec("D-92", "D-10")
def test_one_byte_at_a_time(shared_hub: HubInThread, device_id: str) -> None:
    from hubkeep.wire.amqp.performatives import encode_performative, frame

    with sender(shared_hub, device_id) as peer:
        for byte in frame(0, encode_performative(Transfer(0, 0, b"t")) + data(b"slow")):
            peer.send(bytes([byte]))
        assert peer.outcome(0) == ("accepted", "")


@pytest.mark.spec("L-D5")
def test_names_of_the_hub_are_not_taken_from_a_device(shared_hub: HubInThread, device_id: str) -> None:
    forged = {"iothub-connection-device-id": "x", "iothub-connection-module-id": "y", "iothub-enqueuedtime": "z"}
    with sender(shared_hub, device_id) as peer:
        assert peer.outcome(peer.transfer(0, data(b"x", application_properties=forged))) == ("accepted", "")
    (event,) = stored(shared_hub, device_id)
    assert not set(forged) & set(event.get("properties") or {})
