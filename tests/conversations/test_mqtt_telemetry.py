"""PUBLISH, SUBSCRIBE and their refusals, by raw packets over TLS."""

import time

import pytest

from conversations.mqtt_peer import DISCONNECT, MqttPeer, packet, publish, subscribe, text, unsubscribe
from hubkeep.testing import HubInThread


def sent(hub: HubInThread, device_id: str, *packets: bytes) -> list[dict[str, object]]:
    """The events that these publishes of one connection became."""
    with MqttPeer.logged_in(hub, device_id) as peer:
        peer.send(b"".join(packets))
        acknowledged = [peer.read() for each in packets if each[0] & 6]
        assert all(answer is not None and answer[0] == 0x40 for answer in acknowledged)
        peer.send(DISCONNECT)
        assert peer.is_closed()
    return hub.wait_for_events(len(packets), device=device_id)


@pytest.mark.spec("D-37", "D-38", "D-C9")
def test_qos_1_is_acknowledged_and_qos_0_is_not(shared_hub: HubInThread, device_id: str) -> None:
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        topic = f"devices/{device_id}/messages/events"
        peer.send(publish(topic + "/", b"1", qos=0) + publish(topic, b"2", packet_id=515) + publish(topic + "/", b"3"))
        assert peer.read() == (0x40, b"\x02\x03")
        assert peer.read() == (0x40, b"\0\1")
        assert peer.is_open()
    assert [event["body"] for event in shared_hub.wait_for_events(3, device=device_id)] == ["1", "2", "3"]


BAGS = {
    "%24.mid=4711&%24.ct=application%2Fjson&%24.ce=utf-8&alarm=high%20temp": (
        {"message_id": "4711", "content_type": "application/json", "content_encoding": "utf-8"},
        {"alarm": "high temp"},
    ),
    "$.mid=4711&$.ct=application/json&$.ce=utf-8&alarm=high temp": (
        {"message_id": "4711", "content_type": "application/json", "content_encoding": "utf-8"},
        {"alarm": "high temp"},
    ),
    "a=1+1&b=1%2B1&c=1%201": ({}, {"a": "1+1", "b": "1+1", "c": "1 1"}),
    "a=x/": ({}, {"a": "x"}),
    "a=x/y/z": ({}, {"a": "x/y/z"}),
    "key&other=": ({}, {"key": None, "other": ""}),
    "?a=b": ({}, {"a": "b"}),
    "a%2Fb=c%26d%3De%2Bf%20g": ({}, {"a/b": "c&d=e+f g"}),
    "bad=%zz&also=%": ({}, {"bad": "%zz", "also": "%"}),
    "%24.cid=c&%24.uid=u&%24.exp=2026-11-24T10%3A11%3A12.123456": (
        {"correlation_id": "c", "user_id": "dQ==", "absolute_expiry_time": 1795515072123},
        {},
    ),
}


@pytest.mark.spec("D-39", "D-40", "D-41", "D-42", "D-43", "D-N1", "D-J4", "D-C7", "D-PY16", "L-M20")
@pytest.mark.parametrize("bag", BAGS)
def test_property_bags(shared_hub: HubInThread, device_id: str, bag: str) -> None:
    (event,) = sent(shared_hub, device_id, publish(f"devices/{device_id}/messages/events/{bag}"))
    system, properties = BAGS[bag]
    got = dict(event["system_properties"])  # type: ignore[call-overload]
    assert got.pop("to", f"/devices/{device_id}/messages/events") == f"/devices/{device_id}/messages/events"
    assert (got, event["properties"]) == (system, properties)


@pytest.mark.spec("L-M20")
def test_a_bag_of_four_thousand_pairs_costs_no_more_than_its_length(shared_hub: HubInThread, device_id: str) -> None:
    bag = "&".join(f"k{number}=v" for number in range(3000))
    (event,) = sent(shared_hub, device_id, publish(f"devices/{device_id}/messages/events/{bag}"))
    assert len(event["properties"]) == 3000  # type: ignore[arg-type]


@pytest.mark.spec("D-44", "D-45")
def test_retain_and_dup_become_properties(shared_hub: HubInThread, device_id: str) -> None:
    topic = f"devices/{device_id}/messages/events/"
    events = sent(shared_hub, device_id, publish(topic, flags=1), publish(topic, flags=8), publish(topic))
    assert [event["properties"] for event in events] == [{"mqtt-retain": "true"}, {"mqtt-dup": "true"}, {}]


@pytest.mark.spec("D-49", "L-D5")
def test_a_device_cannot_say_who_it_is(shared_hub: HubInThread, device_id: str) -> None:
    forged = "iothub-connection-device-id=root&x-opt-sequence-number=9&iothub-message-source=twin"
    (event,) = sent(shared_hub, device_id, publish(f"devices/{device_id}/messages/events/{forged}"))
    assert event["device"] == device_id
    assert event["annotations"]["iothub-connection-device-id"] == device_id  # type: ignore[index]
    assert event["annotations"]["iothub-message-source"] == "Telemetry"  # type: ignore[index]


def topic_of(device_id: str) -> str:
    return f"devices/{device_id}/messages/events/"


REFUSED = {
    "D-46 QoS 2": lambda own: publish(own, qos=2),
    "L-M13 QoS 3": lambda own: packet(0x36, text(own) + b"\0\1x"),
    "D-47 another device": lambda own: publish("devices/somebody/messages/events/"),
    "D-47 an unknown topic": lambda own: publish("telemetry"),
    "L-M14 a $ topic": lambda own: publish("$SYS/broker"),
    "D-47 a longer id": lambda own: publish(own.replace("/messages", "x/messages")),
    "D-47 eventsx": lambda own: publish(own.rstrip("/") + "x/"),
    "D-48 a payload over the limit": lambda own: publish(own, b"x" * (256 * 1024 + 1)),
    "L-M12 a packet far over the limit": lambda own: b"\x32\xff\xff\xff\x7f",
    "L-M11 packet id 0": lambda own: publish(own, packet_id=0),
    "L-M11 CONNACK from a client": lambda own: b"\x20\x02\0\0",
    "L-M11 PUBREL": lambda own: b"\x62\x02\0\1",
    "L-M6 a topic that is no UTF-8": lambda own: publish(b"devices/\xff"),
    "L-M5 wrong flags of SUBSCRIBE": lambda own: packet(0x80, b"\0\1" + text("a") + b"\0"),
    "L-M15 everything": lambda own: subscribe([("#", 1)]),
    "L-M15 a level of everything": lambda own: subscribe([("+/+/messages/devicebound/#", 1)]),
    "L-M15 another's": lambda own: subscribe([("devices/somebody/messages/devicebound/#", 1)]),
    "L-M15 shared": lambda own: subscribe([("$share/g/devices/somebody/#", 1)]),
    "D-53 unknown": lambda own: subscribe([("events", 0)]),
    "L-M16 no filter": lambda own: subscribe([]),
    "L-M16 reserved bits": lambda own: packet(0x82, b"\0\1" + text("a") + b"\x04"),
    "L-M16 over 50 filters": lambda own: subscribe([(f"$iothub/methods/POST/{n}/#", 0) for n in range(51)]),
}


@pytest.mark.spec("D-46", "D-47", "D-48", "D-53", "D-E4")
@pytest.mark.spec("L-M5", "L-M6", "L-M11", "L-M12", "L-M13", "L-M14", "L-M15", "L-M16")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_allowed_closes_without_an_acknowledgement(
    shared_hub: HubInThread, device_id: str, name: str
) -> None:
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        peer.send(publish(topic_of(device_id), b"good"))
        assert peer.read() == (0x40, b"\0\1")
        peer.send(REFUSED[name](topic_of(device_id)))
        assert peer.is_closed()
    refusals = shared_hub.refusals(device_id)
    assert refusals
    assert refusals[0].reason
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        peer.send(publish(topic_of(device_id), b"after"))
        assert peer.read() == (0x40, b"\0\1")
    assert [event["body"] for event in shared_hub.wait_for_events(2, device=device_id)] == ["good", "after"]


@pytest.mark.spec("D-51", "D-52", "D-C3", "D-PY7", "D-J2")
def test_the_filters_of_a_device(shared_hub: HubInThread, device_id: str) -> None:
    filters = [
        (f"devices/{device_id}/messages/devicebound/#", 2),
        ("$iothub/methods/POST/#", 0),
        ("$iothub/twin/res/#", 1),
        ("$iothub/twin/PATCH/properties/desired/#", 2),
        ("$iothub/methods/POST/reboot/#", 1),
    ]
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        for _ in range(2):
            peer.send(subscribe(filters, packet_id=9))
            assert peer.read() == (0x90, b"\0\x09\1\0\1\1\1")


@pytest.mark.spec("D-54")
def test_unsubscribe_is_always_answered(shared_hub: HubInThread, device_id: str) -> None:
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        peer.send(unsubscribe(["never/subscribed", "$iothub/twin/res/#"], packet_id=77))
        assert peer.read() == (0xB0, b"\0\x4d")


@pytest.mark.spec("D-53")
def test_lenient_mode_answers_unknown_filters() -> None:
    with HubInThread(lenient_subscriptions=True) as hub, MqttPeer.logged_in(hub, "lenient") as peer:
        peer.send(subscribe([("#", 1), ("$iothub/twin/res/#", 0)]))
        assert peer.read() == (0x90, b"\0\1\x80\0")
        assert peer.is_open()


@pytest.mark.spec("L-M17")
def test_an_acknowledgement_of_nothing_is_ignored(shared_hub: HubInThread, device_id: str) -> None:
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        peer.send(b"\x40\x02\x12\x34")
        assert peer.is_open()


def test_messages_of_one_device_keep_their_order_under_load(shared_hub: HubInThread, device_id: str) -> None:
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        for start in range(0, 5000, 500):
            numbers = range(start, start + 500)
            peer.send(
                b"".join(publish(topic_of(device_id), b"%d" % each, packet_id=each % 60000 + 1) for each in numbers)
            )
        acknowledged = [peer.read() for _ in range(5000)]
    assert acknowledged == [(0x40, (each % 60000 + 1).to_bytes(2)) for each in range(5000)]
    events = shared_hub.wait_for_events(5000, device=device_id, within=30)
    assert [event["body"] for event in events] == [str(each) for each in range(5000)]
    numbers = [event["sequence_number"] for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + 5000))
    offsets = [int(event["offset"]) for event in events]
    assert offsets == sorted(set(offsets))


def test_one_byte_at_a_time_means_the_same(shared_hub: HubInThread, device_id: str) -> None:
    with MqttPeer(shared_hub) as peer:
        for byte in peer.login(device_id) + publish(topic_of(device_id) + "a=b", b"slow"):
            peer.send(bytes((byte,)))
        assert peer.read() == (0x20, b"\0\0")
        assert peer.read() == (0x40, b"\0\1")
    (event,) = shared_hub.wait_for_events(1, device=device_id)
    assert (event["body"], event["properties"]) == ("slow", {"a": "b"})
    assert abs(event["enqueued"] / 1000 - time.time()) < 60
