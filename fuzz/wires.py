"""What each wire promises for any input. A ``check`` that raises has found something; it becomes a vector."""

import contextlib
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hubkeep.connection.amqp import addresses
from hubkeep.connection.mqtt import topics
from hubkeep.errors import HubError
from hubkeep.wire import sas
from hubkeep.wire.amqp import OWN, AmqpError, data_section_start, decode_message, unbatched
from hubkeep.wire.amqp.types import decode, encode
from vectors import drivers
from vectors.reading import corpus, exactly, load, octets

Check = Callable[[bytes, random.Random], None]


class Wire(NamedTuple):
    """prefixes: what may stand before an input unchanged, so that mutations reach behind the first packets."""

    corpus: Sequence[bytes]
    check: Check
    prefixes: Sequence[bytes] = (b"",)


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    """``data`` in a few pieces, or, if it is short, byte by byte."""
    if len(data) < 200 and chance.random() < 0.3:
        return [data[at : at + 1] for at in range(len(data))]
    return drivers.cuts(data, [chance.randrange(len(data) + 1) for _ in range(chance.randrange(1, 6))])


def mqtt(data: bytes, chance: random.Random) -> None:
    accept = chance.random() < 0.9
    assert drivers.mqtt([data], accept=accept) == drivers.mqtt(cut(data, chance), accept=accept)


def amqp(data: bytes, chance: random.Random) -> None:
    small = chance.random() < 0.5
    bounds = {"delivery_kept": 20, "delivery_counted": 40, "links": 3, "sessions": 2, "partial_bytes": 30}
    some = bounds if small else {}
    one_by_one = drivers.amqp([data], **some)
    assert one_by_one == drivers.amqp(cut(data, chance), **some)
    assert one_by_one == drivers.amqp([data], runs=True, **some)


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
    for parse in (
        lambda: topics.parse_bag(text.encode()),
        lambda: topics.parse_user_name(user_name, client_id),
        lambda: addresses.position({"apache.org:selector-filter:string": text}),
    ):
        with contextlib.suppress(HubError):
            parse()
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


WIRES: dict[str, Wire] = {
    "mqtt": Wire(corpus("mqtt"), mqtt, (b"", octets(load("mqtt")["connect"]))),
    "amqp": Wire(corpus("amqp_frames"), amqp, (b"", *map(octets, load("amqp_frames")["before"].values()))),
    "amqp-values": Wire(corpus("amqp_types"), amqp_values),
    "amqp-messages": Wire(corpus("amqp_messages"), amqp_messages),
    "amqp-sections": Wire([each + b"\x00\x53\x75\xa0\x01x" for each in corpus("amqp_messages")], amqp_sections),
    "websocket": Wire(corpus("websocket"), frames),
    "sas": Wire(_tokens(), tokens),
    "names": Wire([each.encode() for each in _NAMES], names),
}
