"""The Event Hubs-compatible endpoint by raw frames over TLS: management, positions, owner levels, redirect."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from conversations.amqp_peer import (
    FILTER,
    AmqpPeer,
    condition,
    data,
    details,
    device_token,
    events_token,
    selector,
)
from hubkeep.testing import HubInThread
from hubkeep.wire import sas
from hubkeep.wire.amqp import Array, Described, Int, Symbol, Timestamp, UByte, UInt, ULong, message
from hubkeep.wire.amqp.performatives import ACCEPTED, Detach, Disposition, Flow, Transfer

COUNT = 12
READER = "hubkeep-events/ConsumerGroups/{}/Partitions/{}"
MANAGEMENT = "hubkeep-events/$management"
EVENTHUB = {"operation": "READ", "type": "com.microsoft:eventhub", "name": "hubkeep-events"}
EPOCH = Symbol("com.microsoft:epoch")


class Filled:
    """A hub with COUNT events of one device in one partition. events: as read from the oldest on."""

    def __init__(self, hub: HubInThread) -> None:
        self.hub = hub
        with AmqpPeer.device(hub, "press") as peer:
            peer.attached("/devices/press/messages/events", handle=0)
            for number in range(COUNT):
                properties = {"message_id": "m0", "content_type": Symbol("text/plain")} if number == 0 else {}
                application = {"n": str(number)}
                payload = data(b"m%d" % number, properties=properties, application_properties=application)
                assert peer.outcome(peer.transfer(0, payload)) == ("accepted", "")
        with AmqpPeer.reader(hub) as peer:
            peer.node(MANAGEMENT, handle=50)
            full = [n for n in ("0", "1") if not partition_of(peer, n)["is_partition_empty"]]
            assert len(full) == 1
            self.partition, self.empty = full[0], "1" if full[0] == "0" else "0"
            peer.attached(self.address(), handle=0, receiver=True)
            peer.credit(0, COUNT)
            self.events = [peer.event(0) for _ in range(COUNT)]

    def address(self, group: str = "$Default") -> str:
        return READER.format(group, self.partition)


def partition_of(peer: AmqpPeer, number: str) -> dict[str, Any]:
    asked = {**EVENTHUB, "type": "com.microsoft:partition", "partition": number}
    reply = peer.request(asked, handle=50)
    assert reply.status == 200
    return reply.message.value  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def filled() -> Iterator[Filled]:
    with HubInThread(events={"partitions": 2, "consumer_groups": ("analytics",)}) as hub:
        yield Filled(hub)


# -- $management -----------------------------------------------------------------------------------------------------


@pytest.mark.spec("S-105", "S-106")
@pytest.mark.parametrize("address", [MANAGEMENT, "$management", "/HubKeep-Events/$management"])
def test_management_reads(filled: Filled, address: str) -> None:
    with AmqpPeer.reader(filled.hub) as peer:
        peer.node(address, handle=50)
        reply = peer.request(EVENTHUB, [], handle=50, message_id=ULong(0))
        assert (type(reply.status), reply.status, reply.settled_before) == (Int, 200, True)
        assert (type(reply.correlation_id), reply.correlation_id) == (ULong, 0)
        hub = reply.message.value
        assert {key: type(value) for key, value in hub.items()} == {
            "name": str,
            "type": str,
            "created_at": Timestamp,
            "partition_count": Int,
            "partition_ids": Array,
        }
        assert (hub["partition_count"], hub["partition_ids"]) == (2, ["0", "1"])
        assert hub["partition_ids"].code == 0xB1
        partition = partition_of(peer, filled.partition)
        assert {key: type(value) for key, value in partition.items()} == {
            "name": str,
            "type": str,
            "partition": str,
            "begin_sequence_number": int,
            "last_enqueued_sequence_number": int,
            "last_enqueued_offset": str,
            "last_enqueued_time_utc": Timestamp,
            "is_partition_empty": bool,
        }
        assert (partition["begin_sequence_number"], partition["last_enqueued_sequence_number"]) == (0, COUNT - 1)
        assert partition["last_enqueued_offset"] == filled.events[-1].annotations["x-opt-offset"]
        empty = partition_of(peer, filled.empty)
        assert (empty["begin_sequence_number"], empty["last_enqueued_sequence_number"]) == (0, -1)
        assert (empty["last_enqueued_offset"], empty["is_partition_empty"]) == ("-1", True)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({**EVENTHUB, "name": "others"}, 404),
        ({**EVENTHUB, "type": "com.microsoft:partition", "partition": "2"}, 404),
        ({**EVENTHUB, "type": "com.microsoft:partition", "partition": "x"}, 404),
        ({**EVENTHUB, "type": "com.microsoft:partition"}, 404),
        ({**EVENTHUB, "type": "com.microsoft:queue"}, 400),
        ({**EVENTHUB, "operation": "WRITE"}, 400),
        ({}, 400),
        ({**EVENTHUB, "security_token": "SharedAccessSignature sr=x&sig=AAAA&se=1"}, 401),
    ],
)
def test_management_refuses(filled: Filled, asked: dict[str, Any], status: int) -> None:
    with AmqpPeer.reader(filled.hub) as peer:
        peer.node(MANAGEMENT, handle=50)
        reply = peer.request(asked, handle=50)
        assert (type(reply.status), reply.status) == (Int, status)
        if status == 404:
            assert reply.message.application_properties["error-condition"] == "amqp:not-found"


@pytest.mark.spec("S-12")
def test_management_wants_a_token_in_the_request_or_on_the_connection(filled: Filled) -> None:
    with AmqpPeer(filled.hub).opened() as peer:
        peer.node(MANAGEMENT, handle=50)
        assert peer.request(EVENTHUB, handle=50).status == 401
        good = {**EVENTHUB, "security_token": events_token(filled.hub, "service")}
        assert peer.request(good, handle=50).status == 200
        assert peer.request({**EVENTHUB, "security_token": events_token(filled.hub, "device")}, handle=50).status == 401
        assert peer.request(EVENTHUB, handle=50).status == 401  # it was for that one request


def test_a_request_that_cannot_be_read(filled: Filled) -> None:
    with AmqpPeer.reader(filled.hub) as peer:
        peer.node(MANAGEMENT, handle=50)
        peer.transfer(50, b"\x41")
        peer.expect(Disposition)
        got = peer.expect_frame(Transfer)
        assert b"status-code" in got.payload


# -- where reading begins --------------------------------------------------------------------------------------------


def first(filled: Filled, text: str | None, *, by_code: bool = False) -> int:
    """The sequence number of the first event that this selector lets through."""
    with AmqpPeer.reader(filled.hub) as peer:
        filters = selector(text, by_code=by_code) if text is not None else None
        peer.attached(filled.address(), handle=0, receiver=True, filters=filters)
        peer.credit(0, 1)
        return int(peer.event(0).annotations["x-opt-sequence-number"])


@pytest.mark.spec("S-107", "S-113")
@pytest.mark.parametrize("by_code", [False, True])
@pytest.mark.parametrize("quote", ["'", ""])
def test_every_form_of_selector(filled: Filled, by_code: bool, quote: str) -> None:
    offset = filled.events[5].annotations["x-opt-offset"]
    for text, expected in (
        (f"x-opt-offset > {quote}-1{quote}", 0),
        (f"x-opt-offset > {quote}{offset}{quote}", 6),
        (f"x-opt-offset >= {quote}{offset}{quote}", 5),
        (f"x-opt-sequence-number > {quote}7{quote}", 8),
        (f"x-opt-sequence-number >= {quote}7{quote}", 7),
        (f"x-opt-sequence-number > {quote}-1{quote}", 0),
        (f"x-opt-enqueued-time > {quote}0{quote}", 0),
        (f"x-opt-offset>{quote}-1{quote}", 0),
    ):
        assert first(filled, f"amqp.annotation.{text}", by_code=by_code) == expected, text


@pytest.mark.spec("S-108")
def test_times(filled: Filled) -> None:
    times = [int(event.annotations["x-opt-enqueued-time"]) for event in filled.events]
    for name in ("x-opt-enqueued-time", "x-opt-enqueuedtimeutc"):
        for form in ("{}", "'{}'"):
            text = f"amqp.annotation.{name} > " + form
            expected = next(number for number, time in enumerate(times) if time > times[0] - 1)
            assert first(filled, text.format(times[0] - 1)) == expected
            last = next(number for number, time in enumerate(times) if time > times[-1] - 1)
            assert first(filled, text.format(times[-1] - 1)) == last


@pytest.mark.spec("S-107")
def test_no_filter_is_from_the_oldest(filled: Filled) -> None:
    assert first(filled, None) == 0


@pytest.mark.spec("S-107")
def test_the_latest_is_what_comes_after_the_attach(filled: Filled) -> None:
    hub = filled.hub
    with AmqpPeer.reader(hub) as peer, AmqpPeer.device(hub, "press") as device:
        latest = selector("amqp.annotation.x-opt-offset > '@latest'")
        peer.attached(READER.format("analytics", filled.partition), handle=0, receiver=True, filters=latest)
        peer.credit(0, 10)
        device.attached("/devices/press/messages/events", handle=0)
        assert device.outcome(device.transfer(0, data(b"new"))) == ("accepted", "")
        event = peer.event(0)
        assert event.data == [b"new"]
        assert event.annotations["x-opt-sequence-number"] >= COUNT


@pytest.mark.spec("L-R5")
@pytest.mark.parametrize("name", ["x-opt-offset", "x-opt-sequence-number", "x-opt-enqueued-time"])
@pytest.mark.parametrize("number", ["9" * 19, "-" + "9" * 19, "0" * 19])
def test_positions_beyond_any_log(filled: Filled, name: str, number: str) -> None:
    with AmqpPeer.reader(filled.hub) as peer:
        for handle, operator in enumerate((">", ">=")):
            filters = selector(f"amqp.annotation.{name} {operator} '{number}'")
            peer.attached(filled.address(), handle=handle, receiver=True, filters=filters)
        assert peer.put_token(events_token(filled.hub)).status == 200


@pytest.mark.spec("L-A19", "S-110")
@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (READER.format("$Default", "2"), "amqp:not-found"),
        (READER.format("$Default", "99999999999999999999"), "amqp:not-found"),
        (READER.format("$Default", "-1"), "amqp:not-found"),
        (READER.format("$Default", "\u0661"), "amqp:not-found"),
        (READER.format("nobodys", "0"), "amqp:not-found"),
        ("others/ConsumerGroups/$Default/Partitions/0", "amqp:not-found"),
        ("hubkeep-events/ConsumerGroups/$Default", "amqp:not-found"),
        ("hubkeep-events", "amqp:not-found"),
    ],
)
def test_addresses_where_nothing_is(filled: Filled, address: str, expected: str) -> None:
    with AmqpPeer.reader(filled.hub) as peer:
        assert condition(peer.refused(address, handle=0, receiver=True)) == expected


@pytest.mark.spec("L-A19")
@pytest.mark.parametrize(
    "filters",
    [
        selector("amqp.annotation.x-opt-offset > 'x'"),
        selector("amqp.annotation.x-opt-offset < '1'"),
        selector("amqp.annotation.x-opt-other > '1'"),
        selector("amqp.annotation.x-opt-offset > '1' AND amqp.annotation.x-opt-offset > '2'"),
        selector("amqp.annotation.x-opt-offset > '" + "1" * 21 + "'"),
        selector(""),
        selector("x" * 10_000),
        {Symbol(FILTER): Described(Symbol("other:filter"), "amqp.annotation.x-opt-offset > '1'")},
        {Symbol(FILTER): Described(Symbol(FILTER), 5)},
        {Symbol("other:filter"): Described(Symbol("other:filter"), "x")},
    ],
    ids=lambda filters: str(filters)[:60],
)
def test_filters_that_are_none(filled: Filled, filters: dict[Any, Any]) -> None:
    with AmqpPeer.reader(filled.hub) as peer:
        error = peer.refused(filled.address(), handle=0, receiver=True, filters=filters)
        assert condition(error) == "amqp:invalid-field"


# -- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("S-109", "S-R7")
def test_annotations_and_sections(filled: Filled) -> None:
    event = filled.events[0]
    kinds = {str(key): type(value) for key, value in event.annotations.items()}
    assert {
        "x-opt-sequence-number": int,
        "x-opt-offset": str,
        "x-opt-enqueued-time": Timestamp,
        "iothub-connection-device-id": str,
        "iothub-connection-auth-generation-id": str,
        "iothub-connection-auth-method": str,
        "iothub-enqueuedtime": Timestamp,
        "iothub-message-source": str,
    }.items() <= kinds.items()
    assert all(isinstance(key, Symbol) for key in event.annotations)
    auth = json.loads(event.annotations["iothub-connection-auth-method"])
    assert auth == {"scope": "device", "type": "sas", "issuer": "iothub", "acceptingIpFilterRule": None}
    assert event.annotations["iothub-connection-device-id"] == "press"
    assert event.properties["message_id"] == "m0"
    assert event.properties["to"] == "/devices/press/messages/events"
    assert isinstance(event.properties["content_type"], Symbol)
    assert event.application_properties == {"n": "0"}
    assert event.data == [b"m0"]
    assert filled.events[1].properties == {}  # no section at all
    assert not any(each.delivery_annotations for each in filled.events)
    sequences = [each.annotations["x-opt-sequence-number"] for each in filled.events]
    assert sequences == list(range(COUNT))


@pytest.mark.spec("S-120")
@pytest.mark.parametrize("as_array", [True, False])
def test_runtime_metrics_are_for_those_who_ask(filled: Filled, as_array: bool) -> None:
    wanted: Any = Symbol("com.microsoft:enable-receiver-runtime-metric")
    with AmqpPeer.reader(filled.hub) as peer:
        peer.attached(
            filled.address(),
            handle=0,
            receiver=True,
            desired_capabilities=Array([Symbol("com.microsoft:georeplication"), wanted]) if as_array else wanted,
        )
        peer.credit(0, 1)
        told = {str(key): type(value) for key, value in peer.event(0).delivery_annotations.items()}
        assert told == {
            "last_enqueued_sequence_number": int,
            "last_enqueued_offset": str,
            "last_enqueued_time_utc": Timestamp,
            "runtime_info_retrieval_time_utc": Timestamp,
        }


@pytest.mark.spec("S-R11", "S-R18", "S-R19")
def test_credit_is_kept_to(filled: Filled) -> None:
    with AmqpPeer.reader(filled.hub) as peer:
        peer.attached(filled.address(), handle=0, receiver=True)
        peer.credit(0, 0)
        peer.credit(0, 3)
        assert [peer.event(0).annotations["x-opt-sequence-number"] for _ in range(3)] == [0, 1, 2]
        peer.credit(0, 2, count=3)
        assert [peer.event(0).annotations["x-opt-sequence-number"] for _ in range(2)] == [3, 4]
        peer.credit(0, 1, count=4)  # counted behind: the one was used already
        peer.send(Flow(0, 2048, 0, 2048, 0, 5, 0, echo=True))
        flow = peer.expect(Flow)
        assert (flow.handle, flow.delivery_count, flow.link_credit) == (0, 5, 0)


def test_drain_sends_what_there_is_and_gives_the_rest_back(filled: Filled) -> None:
    with AmqpPeer.reader(filled.hub) as peer:
        filters = selector(f"amqp.annotation.x-opt-sequence-number > '{COUNT - 3}'")
        peer.attached(READER.format("analytics", filled.partition), handle=0, receiver=True, filters=filters)
        peer.send(Flow(0, 2048, 0, 2048, 0, 0, 50, drain=True))
        while not isinstance((got := peer.read()).performative, Flow):  # type: ignore[union-attr]
            assert isinstance(got.performative, Transfer)  # type: ignore[union-attr]
        flow = got.performative  # type: ignore[union-attr]
        assert (flow.handle, flow.delivery_count, flow.link_credit, flow.drain) == (0, 50, 0, True)


@pytest.mark.spec("S-R11", "D-92", "S-R12", "S-R13")
def test_small_frames_and_a_small_window(filled: Filled) -> None:
    hub = filled.hub
    with AmqpPeer.device(hub, "press") as device:
        device.attached("/devices/press/messages/events", handle=0)
        assert device.outcome(device.transfer(0, data(b"y" * 20_000))) == ("accepted", "")
    with AmqpPeer(hub, max_frame=4096) as peer:
        peer.open()
        peer.begin(0, window=2)
        peer.authorised(events_token(hub))
        peer.attached(filled.address(), handle=0, receiver=True)
        peer.send(Flow(1, 2, 0, 2048, 0, 0, 1000))
        frames, body = 0, b""
        while not body.endswith(b"y" * 1000):
            got = peer.expect_frame(Transfer)
            frames += 1
            body += got.payload
            if frames % 2 == 0:  # the window of two is used up: nothing more comes before this
                peer.send(Flow(1 + frames, 2, 0, 2048))
        assert frames > 5


@pytest.mark.spec("S-115", "S-R9")
def test_delivery_ids_count_per_session(filled: Filled) -> None:
    with AmqpPeer(filled.hub) as peer:
        peer.open()
        for channel in (0, 1, 2):
            peer.begin(channel)
        peer.authorised(events_token(filled.hub), channel=0)
        peer.node(MANAGEMENT, handle=50, channel=1)
        assert peer.request(EVENTHUB, handle=50, channel=1).status == 200
        peer.attached(filled.address(), handle=0, receiver=True, channel=2)
        peer.credit(0, 3, channel=2)
        ids = []
        for _ in range(3):
            got = peer.expect_frame(Transfer)
            assert got.channel == 2
            ids.append(got.performative.delivery_id)
            peer.send(Disposition(True, ids[-1], None, True, ACCEPTED), channel=2)
        assert ids == [0, 1, 2]


@pytest.mark.spec("S-R22")
def test_rcv_settle_mode_second_is_settled_in_return(filled: Filled) -> None:
    with AmqpPeer.reader(filled.hub) as peer:
        answer = peer.attached(filled.address(), handle=0, receiver=True, rcv_settle_mode=UByte(1))
        assert answer.rcv_settle_mode == 1
        peer.credit(0, 2)
        ids = [peer.expect_frame(Transfer).performative.delivery_id for _ in range(2)]
        peer.send(Disposition(True, ids[0], ids[1], False, ACCEPTED))
        got = peer.expect(Disposition)
        assert (got.role, got.first, got.last, got.settled) == (False, ids[0], ids[1], True)


def test_a_reader_that_wants_settled_events(filled: Filled) -> None:
    with AmqpPeer.reader(filled.hub) as peer:
        peer.attached(filled.address(), handle=0, receiver=True, snd_settle_mode=UByte(1))
        peer.credit(0, 1)
        assert peer.expect_frame(Transfer).performative.settled is True


# -- owner levels and rights -----------------------------------------------------------------------------------------


@pytest.mark.spec("S-111")
def test_owner_levels(filled: Filled) -> None:
    with AmqpPeer.reader(filled.hub) as low, AmqpPeer.reader(filled.hub) as high:
        where = {"handle": 0, "receiver": True}
        address = READER.format("$Default", filled.empty)
        low.attached(address, **where, properties={EPOCH: 1})
        high.attached(address, **where, properties={EPOCH: 5})
        detach = low.expect(Detach)
        assert condition(detach.error) == "amqp:link:stolen"
        low.send(Detach(0, True))
        assert condition(low.refused(address, handle=1, receiver=True, properties={EPOCH: 4})) == "amqp:link:stolen"
        assert condition(low.refused(address, handle=1, receiver=True)) == "amqp:link:stolen"
        low.attached(address, handle=1, receiver=True, properties={EPOCH: 5})  # an equal one wins
        assert condition(high.expect(Detach).error) == "amqp:link:stolen"
        high.send(Detach(0, True))
        other = READER.format("analytics", filled.empty)
        high.attached(other, handle=2, receiver=True, properties={EPOCH: 0})


@pytest.mark.spec("S-112")
def test_a_sixth_plain_receiver_is_refused(filled: Filled) -> None:
    address = READER.format("$Default", filled.empty)
    with AmqpPeer.reader(filled.hub) as peer:
        for handle in range(5):
            peer.attached(address, handle=handle, receiver=True)
        assert condition(peer.refused(address, handle=5, receiver=True)) == "amqp:resource-limit-exceeded"
        peer.send(Detach(0, True))
        peer.expect(Detach)
        peer.attached(address, handle=6, receiver=True)


@pytest.mark.spec("S-12", "S-13")
def test_who_may_read(filled: Filled) -> None:
    hub = filled.hub
    with AmqpPeer(hub).opened() as peer:
        peer.authorised(events_token(hub, "service"))
        peer.attached(filled.address(), handle=0, receiver=True)
    for policy in ("device", "registryRead", "registryReadWrite"):
        with AmqpPeer(hub).opened() as peer:
            peer.node()
            peer.put_token(events_token(hub, policy))
            error = peer.refused(filled.address(), handle=0, receiver=True)
            assert condition(error) == "amqp:unauthorized-access"
    with AmqpPeer.reader(hub) as peer:
        error = peer.refused("hubkeep-events/ConsumerGroups/$Default/Partitions/0", handle=0)  # a producer
        assert condition(error) == "amqp:unauthorized-access"
        assert condition(peer.refused("hubkeep-events", handle=0)) == "amqp:unauthorized-access"


def test_both_rules_for_the_key_are_taken(filled: Filled) -> None:
    hub = filled.hub
    with AmqpPeer(hub).opened() as peer:
        peer.authorised(hub.token("hubkeep-events", policy="service"))  # by the decoded key
        peer.attached(filled.address(), handle=0, receiver=True)
    with AmqpPeer(hub).opened() as peer:
        # a token that is signed by the key's text opens the event endpoint and nothing else
        peer.authorised(events_token(hub))
        hub.create_device("press")
        error = peer.refused("/devices/press/messages/events", handle=0)
        assert condition(error) == "amqp:unauthorized-access"


def test_a_token_for_one_partition_opens_that_one(filled: Filled) -> None:
    hub = filled.hub
    parsed = sas.parse_connection_string(hub.policy_connection_string("service"))
    resource = f"sb://{hub.host_name}/hubkeep-events/ConsumerGroups/$Default/Partitions/{filled.partition}"
    token = sas.make(resource, sas.key_text(parsed.key), int(hub.clock.now()) + 600, "service")
    with AmqpPeer(hub).opened() as peer:
        peer.authorised(token)
        peer.attached(filled.address(), handle=0, receiver=True)
        error = peer.refused(READER.format("$Default", filled.empty), handle=1, receiver=True)
        assert condition(error) == "amqp:unauthorized-access"


# -- redirect --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("S-118", "S-114")  # the peer checks every frame of the hub
@pytest.mark.parametrize("form", ["amqps://{host}/messages/events/$management", "/messages/events/$management"])
def test_a_hub_connection_string_finds_its_events(filled: Filled, form: str) -> None:
    hub = filled.hub
    user, token = f"iothubowner@sas.root.{hub.host_name}", hub.token()
    with AmqpPeer(hub) as peer:
        assert peer.sasl("PLAIN", f"\0{user}\0{token}".encode()) == 0
        peer.opened()
        error = peer.refused(form.format(host=hub.host_name), handle=0, receiver=True)
        assert condition(error) == "amqp:link:redirect"
        info = error.value[2]
        assert all(isinstance(key, Symbol) for key in info)
        assert details(error) == {
            "hostname": hub.host_name,
            "network-host": hub.host_name,
            "port": 5671,
            "address": f"amqps://{hub.host_name}:5671/hubkeep-events/$management",
        }
        assert isinstance(info["port"], UInt)
    # then what the az command does: read the properties, one receiver per partition, the legacy time filter
    with AmqpPeer.reader(hub) as peer:
        peer.node(details(error)["address"], handle=50)
        assert peer.request(EVENTHUB, handle=50, message_id=ULong(0)).status == 200
        legacy = selector("amqp.annotation.x-opt-enqueuedtimeutc > 0")
        address = f"amqps://{hub.host_name}:5671/{filled.address()}"
        peer.attached(address, handle=0, receiver=True, filters=legacy, rcv_settle_mode=UByte(1))
        peer.credit(0, 1)
        assert peer.event(0).data == [b"m0"]


@pytest.mark.spec("L-A15")
def test_redirect_is_for_those_who_may_read(filled: Filled) -> None:
    with AmqpPeer(filled.hub).opened() as peer:
        error = peer.refused("/messages/events/$management", handle=0, receiver=True)
        assert condition(error) == "amqp:unauthorized-access"
        peer.authorised(device_token(filled.hub, "press"))
        error = peer.refused("/messages/events/$management", handle=0, receiver=True)
        assert condition(error) == "amqp:unauthorized-access"


def test_the_alias_of_the_entity_is_read_directly(filled: Filled) -> None:
    with AmqpPeer(filled.hub).opened() as peer:
        peer.authorised(filled.hub.token())
        address = f"/messages/events/ConsumerGroups/$default/Partitions/{filled.partition}"
        peer.attached(address, handle=0, receiver=True)
        peer.credit(0, 1)
        assert peer.event(0).data == [b"m0"]


@pytest.mark.spec("L-A17")
def test_a_reader_whose_token_lapses_is_detached() -> None:
    with HubInThread() as hub, AmqpPeer(hub).opened() as peer:
        peer.authorised(events_token(hub, seconds=60))
        assert peer.put_token(device_token(hub, "press", seconds=7200)).status == 200
        peer.attached(READER.format("$Default", "0"), handle=0, receiver=True)
        hub.clock.move(200)
        peer.send(Flow(0, 2048, 0, 2048, 0, 0, 1))
        hub.clock.move(170)
        assert condition(peer.expect(Detach).error) == "amqp:unauthorized-access"


def test_a_peer_that_asks_and_gives_no_credit_is_stopped(filled: Filled) -> None:
    with AmqpPeer.reader(filled.hub) as peer:
        peer.node(MANAGEMENT, handle=50, credit=0)
        raw = message(properties={"message_id": "1"}, application_properties=EVENTHUB, value=None)
        sent = 0
        while sent < 1200:
            for _ in range(40):
                peer.transfer(50, raw)
            sent += 40
            for _ in range(40):
                got = peer.expect_frame((Disposition, Detach))
                if isinstance(got.performative, Detach):
                    assert condition(got.performative.error) == "amqp:resource-limit-exceeded"
                    return
        raise AssertionError("the hub keeps answers without end")
