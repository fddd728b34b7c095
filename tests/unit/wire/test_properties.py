"""What holds for any input: however bytes are cut they mean the same, one error type escapes, encoding turns back."""

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubkeep.connection.mqtt.topics import parse_bag
from hubkeep.errors import BadRequest
from hubkeep.wire import mqtt as mqtt_wire
from hubkeep.wire import sas
from hubkeep.wire.amqp import (
    OWN,
    AmqpError,
    Array,
    Bounds,
    Described,
    HubConnection,
    Symbol,
    Timestamp,
    UInt,
    ULong,
    decode_message,
    message,
)
from hubkeep.wire.amqp.messages import PROPERTY_NAMES, encode_data_section, unbatched
from hubkeep.wire.amqp.performatives import (
    AMQP_HEADER,
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
    encode_performative,
    frame,
    parse,
)
from hubkeep.wire.amqp.types import Byte, Char, Float, Int, Short, UByte, UShort, decode, encode
from hubkeep.wire.mqtt import HubConnection as MqttConnection
from vectors import drivers
from vectors.reading import corpus, exactly, load, octets

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))


@st.composite
def cut(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    data = draw(source)
    at = draw(st.lists(st.integers(0, max(len(data), 1)), max_size=8))
    return data, drivers.cuts(data, at)


# -- any cut means the same ------------------------------------------------------------------------------------------

CONNECT = octets(load("mqtt")["connect"])
BEFORE = {name: octets(text) for name, text in load("amqp_frames")["before"].items()}
mqtt_input = st.one_of(
    st.binary(max_size=64),
    st.binary(max_size=64).map(CONNECT.__add__),
    st.lists(st.sampled_from(corpus("mqtt")), max_size=3).map(b"".join),
)
amqp_input = st.one_of(
    st.binary(max_size=64),
    st.sampled_from([SASL_HEADER, AMQP_HEADER]).flatmap(lambda head: st.binary(max_size=64).map(head.__add__)),
    st.tuples(st.sampled_from(list(BEFORE.values())), st.binary(max_size=64)).map(b"".join),
    st.sampled_from(corpus("amqp_frames")),
)


@few
@given(cut(mqtt_input))
def test_mqtt_however_cut(given_: tuple[bytes, list[bytes]]) -> None:
    data, pieces = given_
    assert drivers.mqtt(pieces) == drivers.mqtt([data])


@few
@given(cut(amqp_input))
def test_amqp_however_cut(given_: tuple[bytes, list[bytes]]) -> None:
    data, pieces = given_
    assert drivers.amqp(pieces, runs=True) == drivers.amqp([data], runs=True) == drivers.amqp([data])


@few
@given(cut(st.one_of(st.binary(max_size=64), st.lists(st.sampled_from(corpus("websocket")), max_size=3).map(b"".join))))
def test_websocket_however_cut(given_: tuple[bytes, list[bytes]]) -> None:
    data, pieces = given_
    assert drivers.frames(pieces) == drivers.frames([data])


# -- one error type --------------------------------------------------------------------------------------------------


@few
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_decode_error(data: bytes) -> None:
    for read in (lambda: decode(data, 0, len(data)), lambda: decode_message(data), lambda: unbatched(data)):
        try:
            read()
        except AmqpError as error:
            assert error.condition == "amqp:decode-error"  # noqa: PT017  # a value is right as well


@few
@given(st.binary(max_size=200))
def test_any_bytes_are_a_performative_or_an_amqp_error(data: bytes) -> None:
    try:
        _, end = parse(data, 0, len(data))
        assert end <= len(data)
    except AmqpError:
        pass


@few
@given(st.one_of(st.text(), st.text().map("SharedAccessSignature ".__add__)))
def test_any_text_is_a_token_or_is_refused(text: str) -> None:
    try:
        token = sas.parse(text)
    except sas.TokenRefused:
        return
    assert token.expiry >= 0
    sas.is_signed_by(token, b"key")


@few
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_is_a_property_bag_or_is_refused(text: str) -> None:
    try:
        _, properties = parse_bag(text.encode())
    except BadRequest:
        return
    assert len(properties) <= text.count("&") + 1


# -- encoding turns back ---------------------------------------------------------------------------------------------

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300)
symbols = st.text(alphabet=st.characters(max_codepoint=127), max_size=300).map(Symbol)
numbers = st.one_of(
    st.integers(0, 255).map(UByte),
    U16.map(UShort),
    U32.map(UInt),
    U64.map(ULong),
    st.integers(-128, 127).map(Byte),
    st.integers(-(2**15), 2**15 - 1).map(Short),
    st.integers(-(2**31), 2**31 - 1).map(Int),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Timestamp),
    st.floats(),
    st.floats(width=32).map(Float),
)
characters = st.characters(exclude_categories=["Cs"]).map(Char)
simple = st.one_of(st.none(), st.booleans(), numbers, characters, st.uuids(), st.binary(max_size=300), texts, symbols)
arrays = st.one_of(
    *(st.lists(each, min_size=1, max_size=5).map(Array) for each in (texts, symbols, U32.map(UInt), st.booleans()))
)
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(simple, arrays),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.one_of(texts, symbols, U32.map(UInt)), inner, max_size=5),
        st.builds(Described, st.one_of(symbols, U64.map(ULong)), inner),
    ),
    max_leaves=12,
)


@few
@given(values)
def test_amqp_values_turn_back(value: Any) -> None:
    raw = encode(value)
    read, end = decode(raw, 0, len(raw), OWN)
    assert (exactly(read), end) == (exactly(value), len(raw))


optional_texts = st.one_of(st.none(), texts.map(lambda text: text[:40]))
flags = st.one_of(st.none(), st.booleans())
u32s = st.one_of(st.none(), U32)
maps = st.one_of(st.none(), st.dictionaries(symbols, texts, max_size=3))


def built(kind: Any, *fields: Any, **named: Any) -> st.SearchStrategy[Any]:
    """As st.builds, which would fill the fields with defaults of a NamedTuple too."""
    return st.builds(lambda *values, **others: kind(*values, **others), *fields, **named)  # noqa: PLW0108


performatives = st.one_of(
    built(Open, texts, optional_texts, u32s, st.one_of(st.none(), U16), u32s, properties=maps),
    built(Begin, st.one_of(st.none(), U16), U32, U32, U32, u32s, properties=maps),
    built(
        Attach,
        texts,
        U32,
        st.booleans(),
        st.sampled_from([None, UByte(0), UByte(1), UByte(2)]),
        st.sampled_from([None, UByte(0), UByte(1)]),
        initial_delivery_count=u32s,
        max_message_size=st.one_of(st.none(), U64.map(ULong)),
        properties=maps,
    ),
    built(Flow, u32s, U32, U32, U32, u32s, u32s, u32s, u32s, flags, flags),
    built(Transfer, U32, u32s, st.one_of(st.none(), st.binary(max_size=32)), u32s, flags, flags),
    built(Disposition, st.booleans(), U32, u32s, flags),
    built(Detach, U32, flags),
    st.just(End()),
    st.just(Close()),
)


@few
@given(performatives)
def test_performatives_turn_back(performative: Any) -> None:
    raw = encode_performative(performative)
    read, end = parse(raw, 0, len(raw))
    assert (read, end) == (performative, len(raw))
    assert raw[:2] == b"\x00\x53"
    assert len(decode(raw, 0, len(raw))[0].value) == len(performative)  # no field is left out


@few
@given(
    st.dictionaries(symbols, simple, max_size=4),
    st.dictionaries(st.sampled_from(PROPERTY_NAMES), texts, max_size=5),
    st.dictionaries(texts, texts, max_size=4),
    st.binary(max_size=400),
)
def test_messages_turn_back(
    annotations: dict[Any, Any], properties: dict[str, Any], application: dict[str, Any], data: bytes
) -> None:
    raw = message(annotations=annotations, properties=properties, application_properties=application, data=data)
    read = decode_message(raw)
    assert exactly(read.annotations) == exactly(annotations)
    assert read.properties == properties
    assert read.application_properties == application
    assert read.body() == data
    assert unbatched(encode_data_section(raw) * 2) == [raw, raw]


@few
@given(texts.map(lambda text: text[:60]), st.binary(max_size=400), st.integers(0, 0xFFFF), st.booleans())
def test_mqtt_publishes_turn_back(topic: str, payload: bytes, packet_id: int, dup: bool) -> None:
    topic = topic.replace("\0", "")
    raw = mqtt_wire.publish(topic.encode(), payload, packet_id=packet_id, dup=dup and packet_id > 0)
    seen = drivers.mqtt([CONNECT, raw])
    number = packet_id.to_bytes(2) if packet_id else b""
    assert seen.events[1:] == [["publish", topic, payload.hex(), raw[0] & 15, number.hex()]]


@few
@given(texts.map(lambda text: text[:60]), st.binary(min_size=1, max_size=64), st.integers(0, 2**63))
def test_tokens_turn_back(resource: str, key: bytes, expiry: int) -> None:
    token = sas.parse(sas.make(f"hub/{resource}", key, expiry, "policy"))
    assert sas.percent_decoded(token.sr) == f"hub/{resource}"
    assert (token.expiry, token.skn) == (expiry, "policy")
    assert sas.is_signed_by(token, key)
    assert not sas.is_signed_by(token, key + b"x")


@few
@given(st.dictionaries(texts.filter(lambda name: name and name[0] not in "$/?" and name != "iothub-ack"), texts))
def test_property_bags_turn_back(properties: dict[str, str]) -> None:
    bag = "&".join(f"{sas.quote(name, safe='')}={sas.quote(value, safe='')}" for name, value in properties.items())
    assert parse_bag(f"/{bag}".encode())[1] == properties


@few
@given(st.lists(st.binary(max_size=300), max_size=5), st.binary(min_size=4, max_size=4))
def test_websocket_frames_turn_back(payloads: list[bytes], mask: bytes) -> None:
    def masked(payload: bytes) -> bytes:
        head = bytes([0x82, 0xFE]) + len(payload).to_bytes(2) + mask
        return head + bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))

    seen = drivers.frames([b"".join(map(masked, payloads))])
    assert seen.refused is None
    assert "".join(each[1] for each in seen.events if each[0] == "data") == b"".join(payloads).hex()


# -- work is bounded -------------------------------------------------------------------------------------------------


def cpu_of(work: Any) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def byte_by_byte(connection: Any, data: bytes) -> None:
    for at in range(len(data)):
        connection.receive_data(data[at : at + 1], 0.0)
        while connection.next_event() is not None:
            pass


def mqtt_packet(size: int) -> None:
    connection = MqttConnection(0.0)
    connection.receive_data(CONNECT, 0.0)
    connection.next_event()
    connection.accept(60)
    byte_by_byte(connection, mqtt_wire.publish(b"t", bytes(size), packet_id=1))


def amqp_frame(size: int) -> None:
    connection = HubConnection(0.0, container_id="h", mechanisms=["PLAIN"], bounds=Bounds(max_frame=10**9))
    connection.receive_data(BEFORE["open"], 0.0)
    connection.next_event()
    byte_by_byte(connection, frame(0, encode_performative(Close()) + bytes(size)))


@pytest.mark.spec("L-R5")
@pytest.mark.parametrize("read", [mqtt_packet, amqp_frame])
def test_byte_by_byte_is_linear(read: Any) -> None:
    """Eight times the bytes is about eight times the work, and far from sixty-four times."""
    small = min(cpu_of(lambda: read(25_000)) for _ in range(3))
    assert min(cpu_of(lambda: read(200_000)) for _ in range(2)) < 30 * small


@pytest.mark.spec("L-R5")
def test_what_waits_for_an_answer_is_gathered_in_linear_time() -> None:
    def work(size: int) -> None:
        connection = HubConnection(0.0, container_id="h", mechanisms=["PLAIN"])
        init = frame(0, b"\x00\x53\x41\xc0\x08\x01\xa3\x05PLAIN", 1)
        connection.receive_data(SASL_HEADER + init + AMQP_HEADER, 0.0)
        connection.next_event()
        byte_by_byte(connection, bytes(size))

    small = min(cpu_of(lambda: work(25_000)) for _ in range(3))
    assert min(cpu_of(lambda: work(200_000)) for _ in range(2)) < 30 * small
