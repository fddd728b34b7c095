"""MQTT 5 on the wire: properties, reasons, aliases; and that any cut of the bytes means the same."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubkeep.wire.mqtt import (
    HAS_PROPERTIES,
    Connect,
    Disconnect,
    HubConnection,
    MqttError,
    Properties,
    PubAck,
    Publish,
    State,
    Subscribe,
    Unsubscribe,
    packets5,
)
from hubkeep.wire.mqtt.fields import varint
from hubkeep.wire.mqtt.properties import encode_properties


def packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + varint(len(body)) + body


def text(value: str) -> bytes:
    return len(value.encode()).to_bytes(2) + value.encode()


def connect(properties: bytes = b"\0", rest: bytes = text("dev-1") + text("u") + text("p"), flags: int = 0xC2) -> bytes:
    return packet(0x10, text("MQTT") + bytes((5, flags)) + b"\0\x3c" + properties + rest)


def talk(chunks: list[bytes]) -> tuple[list[Any], MqttError | None]:
    connection = HubConnection(0.0)
    events: list[Any] = []
    for chunk in chunks:
        connection.receive_data(chunk, 0.0)
        try:
            while (event := connection.next_event()) is not None:
                events.append(event)
                if isinstance(event, Connect):
                    connection.accept(event.keep_alive)
        except MqttError as error:
            assert connection.state is State.CLOSED
            assert connection.next_event() is None
            return events, error
    return events, None


def behind_connect(data: bytes) -> list[Any]:
    events, error = talk([connect() + data])
    if error is not None:
        raise error
    return events[1:]


def test_connect_with_everything() -> None:
    properties = encode_properties(
        (("a", "1"), ("a", "2")), session_expiry=60, receive_maximum=5, maximum_packet_size=99
    )
    will = encode_properties((), will_delay=3, content_type="text/plain")
    rest = text("dev-1") + will + text("t") + text("bye") + text("u") + text("p")
    (event,), error = talk([connect(properties, rest, 0xC2 | 0x0C)])
    assert error is None
    assert (event.level, event.clean_session, event.username, event.password) == (5, True, "u", b"p")
    assert event.properties == Properties(
        {"session_expiry": 60, "receive_maximum": 5, "maximum_packet_size": 99}, (("a", "1"), ("a", "2"))
    )
    assert event.will.properties.values == {"will_delay": 3, "content_type": "text/plain"}
    assert (event.will.topic, event.will.payload, event.will.qos) == (b"t", b"bye", 1)


def test_packets_behind_connect() -> None:
    properties = Properties({"content_type": "application/json", "message_expiry": 60}, (("k", "v"), ("k", "w")))
    assert behind_connect(packets5.publish(b"t", b"x", packet_id=7, properties=properties)) == [
        Publish(b"t", b"x", 2 | HAS_PROPERTIES, b"\0\7", properties)
    ]
    assert behind_connect(b"\x40\x02\0\7" + b"\x40\x03\0\7\x83" + b"\x40\x04\0\7\x10\0") == [
        PubAck(7), PubAck(7, 0x83), PubAck(7, 0x10),
    ]  # fmt: skip
    assert behind_connect(packet(0x82, b"\0\7\0" + text("f") + b"\x2d")) == [Subscribe(7, ((b"f", 1),))]
    assert behind_connect(packet(0xA2, b"\0\7\0" + text("f"))) == [Unsubscribe(7, (b"f",))]
    assert behind_connect(b"\xe0\0") == [Disconnect()]
    (event,) = behind_connect(packet(0xE0, b"\x04" + encode_properties(session_expiry=9)))
    assert (event.reason, event.properties.values) == (4, {"session_expiry": 9})
    assert behind_connect(b"\xc0\0") == []


WRONG = {
    "will QoS 3": (connect(flags=0xDE), 0x81),
    "password alone is legal, a reserved flag is not": (connect(flags=0xC3), 0x81),
    "unknown property": (connect(b"\x02\x05\x01"), 0x81),
    "property of another packet": (connect(b"\x02\x01\x01"), 0x82),
    "property twice": (connect(b"\x06\x21\0\1\x21\0\1"), 0x82),
    "receive maximum 0": (connect(b"\x03\x21\0\0"), 0x82),
    "properties past the packet": (connect(b"\x7f"), 0x81),
    "a property past the properties": (connect(b"\x02\x21\0" + b"\1"), 0x81),
    "length of properties in five bytes": (connect(b"\x80\x80\x80\x80\x01"), 0x81),
    "length of properties with a needless byte": (connect(b"\x80\0"), 0x81),
    "second CONNECT": (connect() + connect(), 0x82),
    "QoS 2": (connect() + packet(0x34, text("t") + b"\0\1\0"), 0x9B),
    "QoS 3": (connect() + packet(0x36, text("t") + b"\0\1\0"), 0x9B),
    "packet id 0": (connect() + packet(0x32, text("t") + b"\0\0\0"), 0x81),
    "empty topic without alias": (connect() + packet(0x30, text("") + b"\0"), 0x82),
    "alias 0": (connect() + packet(0x30, text("t") + b"\x03\x23\0\0"), 0x94),
    "alias over the maximum": (connect() + packet(0x30, text("t") + b"\x03\x23\0\x0b"), 0x94),
    "unknown alias": (connect() + packet(0x30, text("") + b"\x03\x23\0\x01"), 0x94),
    "subscription identifier": (connect() + packet(0x82, b"\0\1\x02\x0b\x01" + text("f") + b"\0"), 0xA1),
    "reserved subscription options": (connect() + packet(0x82, b"\0\1\0" + text("f") + b"\x40"), 0x82),
    "retain handling 3": (connect() + packet(0x82, b"\0\1\0" + text("f") + b"\x30"), 0x82),
    "SUBSCRIBE without filter": (connect() + packet(0x82, b"\0\1\0"), 0x82),
    "UNSUBSCRIBE without filter": (connect() + packet(0xA2, b"\0\1\0"), 0x82),
    "AUTH": (connect() + b"\xf0\0", 0x82),
    "packet type 0": (connect() + b"\0\0", 0x81),
    "PUBREC": (connect() + b"\x50\x02\0\1", 0x82),
    "flags of PINGREQ": (connect() + b"\xc1\0", 0x81),
    "too large": (connect() + b"\x30\xff\xff\xff\x7f", 0x95),
    "bytes left over": (connect() + b"\x40\x05\0\1\0\0\0", 0x81),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_breaks_the_protocol_has_its_reason(name: str) -> None:
    data, reason = WRONG[name]
    _, error = talk([data])
    assert error is not None
    assert error.reason == reason


def test_aliases_stand_for_topics_and_can_be_set_anew() -> None:
    def alias(topic: str, number: int) -> bytes:
        return packet(0x30, text(topic) + b"\x03\x23" + number.to_bytes(2) + b"x")

    topics = [each.topic for each in behind_connect(alias("a", 1) + alias("", 1) + alias("b", 1) + alias("", 1))]
    assert topics == [b"a", b"a", b"b", b"b"]


def test_later_versions_and_other_protocols_are_told() -> None:
    later = packet(0x10, text("MQTT") + bytes((6, 2)) + b"\0\0\0" + text("d"))
    for data, connack in ((later, 0x84), (packet(0x10, text("MQIsdp") + bytes((3, 2))), 1)):
        _, error = talk([data])
        assert error is not None
        assert error.connack == connack


PACKETS = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=30).map(lambda body: packet(0x30, text("t") + body)),
    st.sampled_from([data for data, _ in WRONG.values()] + [connect(), b"\xc0\0", b"\xe0\0"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PACKETS, max_size=4).map(b"".join))
def test_any_bytes_mean_the_same_however_they_are_cut(data: bytes) -> None:
    data = connect() + data
    whole, apart = talk([data]), talk([data[at : at + 1] for at in range(len(data))])
    assert whole[0] == apart[0]
    assert (whole[1] and whole[1].rule) == (apart[1] and apart[1].rule)
