"""Every case of every file beside this one: in the chunks that it gives, in one piece, and byte by byte."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hubkeep.connection.admission import FailedLogins, FailedPairs
from hubkeep.connection.authentication import Authentication
from hubkeep.connection.changes import Changes
from hubkeep.connection.people import People
from hubkeep.errors import Unauthorized
from hubkeep.limits import Limits
from hubkeep.messaging import partitions
from hubkeep.model import Identity, LinkInfo, Permission, Policy
from hubkeep.store.memory import MemoryIdentities
from hubkeep.wire import mqtt as mqtt_wire
from hubkeep.wire import sas
from hubkeep.wire.amqp import OWN, AmqpError, decode_message, message
from hubkeep.wire.amqp.types import decode, encode
from hubkeep.wire.mqtt import MqttBounds
from vectors import drivers
from vectors.reading import exactly, load, octets, typed

NOW = 1_800_000_000.0  # after D-V14's expiry, before the others'


def cases(name: str, part: str = "cases") -> list[Any]:
    """A file's cases as parameters, each with the statements that it covers."""
    return [
        pytest.param(case, id=case["name"], marks=[pytest.mark.spec(*case["spec"])] if case.get("spec") else [])
        for case in load(name)[part]
    ]


def refused(name: str, part: str = "refused") -> list[Any]:
    return [pytest.param(text, id=label) for label, text in load(name)[part]]


def ways(chunks: list[bytes]) -> Iterator[list[bytes]]:
    """As given, in one piece, byte by byte."""
    whole = b"".join(chunks)
    yield chunks
    yield [whole]
    yield [whole[at : at + 1] for at in range(len(whole))]


# -- MQTT ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("mqtt"))
def test_mqtt(case: dict[str, Any]) -> None:
    before = [octets(load("mqtt")["connect"])] if case.get("after_connect") else []
    bounds = MqttBounds(**case["bounds"]) if "bounds" in case else None
    expected = drivers.Outcome(
        case["events"], bytes.fromhex(case.get("hub", "")), case.get("refused"), case.get("connack")
    )
    for chunks in ways([octets(each) for each in case["client"]]):
        seen = drivers.mqtt([*before, *chunks], bounds=bounds)
        assert seen._replace(events=seen.events[len(before) :]) == expected


@pytest.mark.parametrize("case", load("mqtt")["built"], ids=lambda case: f"{case[0]} {case[3][:11]}")
def test_mqtt_packets_of_the_hub(case: list[Any]) -> None:
    name, arguments, options, expected = case
    build: Callable[..., bytes] = getattr(mqtt_wire, name)
    values = [bytes.fromhex(each["hex"]) if isinstance(each, dict) else each for each in arguments]
    assert build(*values, **options) == octets(expected)


# -- AMQP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("amqp_types"))
def test_amqp_types(case: dict[str, Any]) -> None:
    raw = octets(case["hex"])
    value, at = decode(raw, 0, len(raw))
    assert (exactly(value), at) == (exactly(typed(case["value"])), len(raw))
    if case.get("canonical"):
        assert encode(value) == raw
    again = encode(value)
    # an empty list in its short form is no level of nesting, in the hub's own form it is one
    assert exactly(decode(again, 0, len(again), OWN)[0]) == exactly(value)


@pytest.mark.spec("L-A4")
@pytest.mark.parametrize("text", refused("amqp_types"))
def test_amqp_types_refused(text: str) -> None:
    raw = octets(text)
    with pytest.raises(AmqpError) as failure:
        decode(raw, 0, len(raw))
    assert failure.value.condition == "amqp:decode-error"


@pytest.mark.parametrize("case", cases("amqp_types"))
def test_amqp_types_cut_short(case: dict[str, Any]) -> None:
    raw = octets(case["hex"])
    for end in range(len(raw)) if len(raw) < 600 else (0, 1, 2, len(raw) // 2, len(raw) - 1):
        with pytest.raises(AmqpError):
            decode(raw[:end], 0, end)


# the driver checks every frame that the hub sends
@pytest.mark.spec("S-R1", "S-R2", "S-R3", "S-R4", "S-R5", "S-R6")
@pytest.mark.parametrize("case", cases("amqp_frames"))
def test_amqp_frames(case: dict[str, Any]) -> None:
    before = [octets(load("amqp_frames")["before"][case["before"]])] if "before" in case else []
    expected = drivers.Outcome(case["events"], case["hub"], case.get("refused"))
    for chunks in ways([octets(each) for each in case["client"]]):
        for runs in (False, True):
            seen = drivers.amqp([*before, *chunks], skip=len(before), runs=runs, **case.get("bounds", {}))
            assert seen == expected


@pytest.mark.parametrize("case", cases("amqp_messages"))
def test_amqp_messages(case: dict[str, Any]) -> None:
    raw = octets(case["hex"])
    read = decode_message(raw)
    expected = {
        "annotations": typed(case.get("annotations", ["map", [[]]])) if "annotations" in case else {},
        "properties": {name: typed(each) for name, each in case.get("properties", {}).items()},
        "application_properties": typed(case["application_properties"]) if "application_properties" in case else {},
        "data": [bytes.fromhex(each) for each in case["data"]] if "data" in case else None,
        "value": typed(case["value"]) if "value" in case else None,
    }
    for name, value in expected.items():
        assert exactly(getattr(read, name)) == exactly(value), name
    if case.get("canonical"):
        body = {"data": read.data[0]} if read.data is not None else {"value": read.value}
        parts = {name: getattr(read, name) for name in ("annotations", "properties", "application_properties")}
        assert message(**parts, **body) == raw


@pytest.mark.parametrize("text", refused("amqp_messages"))
def test_amqp_messages_refused(text: str) -> None:
    with pytest.raises(AmqpError) as failure:
        decode_message(octets(text))
    assert failure.value.condition == "amqp:decode-error"


# -- WebSocket -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("websocket"))
def test_websocket(case: dict[str, Any]) -> None:
    for chunks in ways([octets(each) for each in case["client"]]):
        assert drivers.frames(chunks) == drivers.Outcome(case["events"], None, case.get("closed"))


# -- tokens ----------------------------------------------------------------------------------------------------------


class _Clock:
    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return NOW


def _authentication() -> Authentication:
    """A hub whose identities hold the keys of the vectors."""
    vectors = load("sas")
    keys = {name: sas.b64decode(text) for name, text in vectors["keys"].items()}
    identities = MemoryIdentities()

    async def fill() -> None:
        for device in ("dev-1", "dev-10", "a:b%c(d)'e+f@g", "a+b"):
            await identities.create(Identity(device_id=device, primary_key=keys["K1"], secondary_key=keys["K2"]))
        for device in ("dev-2", "a b", "edge-1"):
            other = b"another key of %s" % device.encode()
            await identities.create(Identity(device_id=device, primary_key=other, secondary_key=other))
        for device, module, key in (
            ("edge-1", "cam", keys["KM"]),
            ("edge-1", "mic", b"the key of a microphone"),
            ("dev-1", "cam", b"the key of a camera"),
        ):
            await identities.create(Identity(device_id=device, module_id=module, primary_key=key, secondary_key=key))

    asyncio.run(fill())
    policy = Policy(
        name="device", permissions=Permission.DEVICE_CONNECT, primary_key=keys["KP"], secondary_key=b"another key"
    )
    return Authentication(
        identities,
        {"device": policy}.get,
        list,
        people=People(None, None),
        host_names=vectors["hosts"],
        events_name="hubkeep-events",
        clock=_Clock(),
        limits=Limits(),
        changes=Changes(_Clock()),
        access=lambda *_: None,
        used=lambda *_: None,
        accepted=lambda *_: None,
        used_right=lambda *_: None,
        failed=FailedLogins(Limits(), _Clock()),
        failed_pairs=FailedPairs(_Clock()),
        refuse=lambda *_, **__: None,
    )


@pytest.mark.parametrize("case", cases("sas"))
def test_tokens(case: dict[str, Any]) -> None:
    vectors = load("sas")
    key = sas.b64decode(vectors["keys"][case["key"]])
    try:
        token = sas.parse(case["token"])
        assert token.sr == case["sr"]
        signed = sas.is_signed_by(token, key)
    except sas.TokenRefused:
        signed = False
    genuine = sas.b64encode(sas.signature(case["sr"], "1500000000" if case["name"] == "D-V14" else "1900000000", key))
    assert signed == (genuine.decode() == case["sig"])
    authentication = _authentication()

    async def accepted(name: str) -> bool:
        device, _, module = name.partition("/")
        try:
            who = await authentication.device(device, module, case["token"], LinkInfo("mqtt"), operation="test")
        except Unauthorized:
            return False
        assert (who.device_id, who.module_id) == (device, module)
        return True

    assert {name: asyncio.run(accepted(name)) for name in case["valid_for"]} == dict.fromkeys(case["valid_for"], True)
    assert {name: asyncio.run(accepted(name)) for name in case["refused_for"]} == dict.fromkeys(
        case["refused_for"], False
    )


@pytest.mark.spec("D-15")
@pytest.mark.parametrize("text", refused("sas", "malformed"))
def test_tokens_malformed(text: str) -> None:
    with pytest.raises(sas.TokenRefused):
        sas.parse(text)


# -- partitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", load("partitions")["cases"], ids=lambda case: case["device"])
def test_partitions(case: dict[str, Any]) -> None:
    for count, partition in case["partitions"].items():
        assert partitions.partition_of(case["device"], int(count)) == partition


@pytest.mark.parametrize(("text", "first", "second"), load("partitions")["lookup3"])
def test_lookup3(text: str, first: int, second: int) -> None:
    assert partitions._lookup3(text.encode()) == (first, second)
