"""What each wire promises for any input. A ``check`` that raises has found something; it becomes a vector."""

import contextlib
import random
from pathlib import Path

from target import Target

from hubkeep.connection.amqp import addresses
from hubkeep.connection.mqtt import topics
from hubkeep.errors import HubError
from hubkeep.wire import sas
from hubkeep.wire.amqp import OWN, AmqpError, data_section_start, decode_message, unbatched
from hubkeep.wire.amqp.performatives import encode_performative, parse
from hubkeep.wire.amqp.types import decode, encode
from vectors import drivers
from vectors.reading import apart, exactly, load, octets

_SELDOM = 0.06  # how often an input is read in the dearer ways as well


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    """``data`` in a few pieces, or, if it is short, byte by byte."""
    if len(data) < 200 and chance.random() < 0.3:
        return [data[at : at + 1] for at in range(len(data))]
    return drivers.cuts(data, [chance.randrange(len(data) + 1) for _ in range(chance.randrange(1, 6))])


def mqtt(data: bytes, chance: random.Random) -> None:
    accept = chance.random() < 0.9
    whole = drivers.mqtt([data], accept=accept)
    if chance.random() < 0.4:
        assert whole == drivers.mqtt(cut(data, chance), accept=accept)


def amqp(data: bytes, chance: random.Random) -> None:
    """Whole, in pieces and with runs it means the same; what the hub sends is made of whole, complete frames."""
    small = chance.random() < 0.5
    bounds = {"delivery_kept": 20, "delivery_counted": 40, "links": 3, "sessions": 2, "partial_bytes": 30}
    some = bounds if small else {}
    whole = drivers.amqp([data], as_frames=False, **some)
    if chance.random() < _SELDOM:
        assert whole == drivers.amqp(cut(data, chance), as_frames=False, **some)
    if chance.random() < _SELDOM:
        assert drivers.amqp([data], **some) == drivers.amqp([data], runs=True, **some)


def performatives(data: bytes, _: random.Random) -> None:
    """What is read can be written, and that reads as the same."""
    try:
        value, end = parse(data, 0, len(data))
    except AmqpError as error:
        assert error.condition in {"amqp:decode-error", "amqp:invalid-field"}
        return
    assert end <= len(data)
    again = encode_performative(value)
    read = parse(again, 0, len(again))[0]
    assert read == value
    assert encode_performative(read) == again


def amqp_values(data: bytes, _: random.Random) -> None:
    try:
        value, end = decode(data, 0, len(data))
    except AmqpError as error:
        assert error.condition == "amqp:decode-error"
        return
    assert end <= len(data)
    again = encode(value)
    assert exactly(decode(again, 0, len(again), OWN)[0]) == exactly(value)


def amqp_messages(data: bytes, _: random.Random) -> None:
    for read in (unbatched, decode_message):
        try:
            read(data)
        except AmqpError as error:
            assert error.condition == "amqp:decode-error"
            return
    try:
        decode_message(data).body()
    except AmqpError as error:
        assert error.condition == "amqp:not-implemented"


def amqp_sections(data: bytes, _: random.Random) -> None:
    """What stands before a body means the same whatever the body is: its stored form may be kept."""
    start = data_section_start(data)
    if start < 0:
        return
    try:
        before = decode_message(data[:start])
    except AmqpError:
        before = None
    try:
        whole = decode_message(data)
    except AmqpError:
        assert before is None
        return
    assert before is not None
    assert whole.data == [data[start + (5 if data[start + 3] == 0xA0 else 8) :]]
    for name in ("annotations", "properties", "application_properties", "value", "has_value"):
        assert exactly(getattr(whole, name)) == exactly(getattr(before, name))


def frames(data: bytes, chance: random.Random) -> None:
    most = chance.choice([4, 320 * 1024])
    assert drivers.frames([data], most) == drivers.frames(cut(data, chance), most)


def tokens(data: bytes, _: random.Random) -> None:
    try:
        token = sas.parse(data.decode(errors="surrogateescape"))
    except sas.TokenRefused:
        return
    sas.is_signed_by(token, b"key")
    for resource in sas.resources(token.sr):
        assert sas.covers(resource.segments, resource.segments)
    assert token.expiry >= 0
    assert "sig" not in repr(token) or "sig" in token.sr + token.skn


def names(data: bytes, _: random.Random) -> None:
    """Property bags, user names, link addresses and selectors: text that a parser above the wire takes apart."""
    text = data.decode(errors="replace").replace("\0", "")
    client_id, _, user_name = text.partition("|")
    for read in (
        lambda: topics.parse_bag(text.encode()),
        lambda: topics.parse_user_name(user_name, client_id),
        lambda: addresses.position({"apache.org:selector-filter:string": text}),
    ):
        with contextlib.suppress(HubError):
            read()
    path = addresses.segments(text)
    assert all("/" not in each for each in path)
    addresses.device_address(path)
    addresses.reader_address(path)


_NAMES = (
    "/%24.mid=m1&%24.ct=text%2Fplain&room=4%2B5&flag&a=%zz&%24.exp=2026-01-01T00%3A00%3A00Z",
    "/?$.cid=c&iothub-ack=full&&=x&b=%E2%82%AC/",
    "dev-1|hub.example.test/dev-1/?api-version=2021-04-12&DeviceClientType=py%2F2&model-id=dtmi%3Aa%3Bb%3B1",
    "edge-1/cam|hub/edge-1/cam/extra/api-version=2018-06-30",
    "amqps://hub.example.test/devices/a%3Ab/modules/cam/messages/events",
    "hubkeep-events/ConsumerGroups/%24Default/Partitions/3",
    "amqp.annotation.x-opt-offset > '@latest'",
    "amqp.annotation.x-opt-enqueuedtimeutc >= 1760000000000",
    "amqp.annotation.x-opt-sequence-number > '-1'",
)


def _tokens() -> list[bytes]:
    vectors = load("sas")
    texts = [case["token"] for case in vectors["cases"]] + [text for _, text in vectors["malformed"]]
    return [text.encode(errors="surrogateescape") for text in texts]


def _mqtt5() -> list[tuple[bytes, bytes]]:
    """The packets of the corpus behind its first one, a CONNECT, or each alone."""
    lines = [line.split() for line in (Path(__file__).parent / "corpus" / "mqtt5.txt").read_text().splitlines()]
    read = [(state, bytes.fromhex(octet)) for state, octet, *_ in lines]
    return [(read[0][1] if state == "connected" else b"", data) for state, data in read]


def _bodies(frames: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What the frames among these hold."""
    found = {}
    for before, data in frames:
        raw, at = before + data, 0
        while at + 8 < len(raw):
            if raw[at : at + 4] == b"AMQP":
                at += 8
                continue
            size = int.from_bytes(raw[at : at + 4])
            found[raw[at + 8 : at + max(size, 8)][:300]] = None
            at += max(size, 8)
    return [(b"", each) for each in found if each]


_AMQP = apart("amqp_frames")
_SASL = b"AMQP\x03\x01\x00\x00"

WIRES: dict[str, Target] = {
    "mqtt": Target(apart("mqtt"), mqtt, (b"", octets(load("mqtt")["connect"]))),
    "mqtt5": Target(_mqtt5(), mqtt),
    "amqp": Target(_AMQP, amqp, (b"", *map(octets, load("amqp_frames")["before"].values()))),
    "amqp-sasl": Target([(_SASL, data.removeprefix(_SASL)) for _, data in _AMQP if data.startswith(_SASL)], amqp),
    "amqp-performatives": Target(_bodies(_AMQP), performatives),
    "amqp-values": Target(apart("amqp_types"), amqp_values),
    "amqp-messages": Target(apart("amqp_messages"), amqp_messages),
    "amqp-sections": Target(
        [(b"", each + b"\x00\x53\x75\xa0\x01x") for _, each in apart("amqp_messages")], amqp_sections
    ),
    "websocket": Target(apart("websocket"), frames),
    "sas": Target([(b"", each) for each in _tokens()], tokens),
    "names": Target([(b"", each.encode()) for each in _NAMES], names),
}
