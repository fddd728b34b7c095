"""Each wire's parser behind one question: what do these chunks of bytes mean? The fuzzers ask it too."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from hubkeep.wire import websocket
from hubkeep.wire.amqp import (
    ACCEPTED,
    AmqpError,
    Array,
    Bounds,
    Closed,
    Credited,
    Delivered,
    DeliveredRun,
    Described,
    Event,
    HubConnection,
    LinkAttached,
    LinkDetached,
    Opened,
    ReceivingLink,
    SaslInit,
    SendingLink,
    SessionBegun,
    SessionEnded,
    Settled,
    UByte,
    outcome_name,
    rejected,
)
from hubkeep.wire.amqp.types import decode
from hubkeep.wire.mqtt import Connect, Disconnect, MqttBounds, MqttError, PubAck, Publish, Subscribe, Unsubscribe
from hubkeep.wire.mqtt import HubConnection as MqttConnection

# performatives and the number of their fields: none is left out (S-R3)
FIELDS = {
    0x10: 10, 0x11: 8, 0x12: 14, 0x13: 11, 0x14: 11, 0x15: 6, 0x16: 3, 0x17: 1, 0x18: 1, 0x40: 1, 0x42: 1, 0x44: 2,
}  # fmt: skip


class Outcome(NamedTuple):
    """events in the form of the vectors. hub: what it sent. refused: rule, condition or close code; None for none."""

    events: list[Any]
    hub: Any
    refused: Any
    connack: int | None = None


def cuts(data: bytes, at: Iterable[int]) -> list[bytes]:
    """``data`` in pieces that begin at 0 and at each of ``at``."""
    edges = [0, *sorted({each for each in at if 0 < each < len(data)}), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


# -- MQTT ------------------------------------------------------------------------------------------------------------


def mqtt_event(event: Any) -> list[Any]:
    match event:
        case Connect():
            password = None if event.password is None else event.password.hex()
            will = event.will and [
                event.will.topic.decode(),
                event.will.payload.hex(),
                event.will.qos,
                event.will.retain,
            ]
            return ["connect", event.client_id, event.clean_session, event.keep_alive, event.username, password, will]
        case Publish():
            assert event.qos == event.flags >> 1 & 3
            assert (event.dup, event.retain) == (event.flags & 8 > 0, event.flags & 1 > 0)
            return ["publish", event.topic.decode(), event.payload.hex(), event.flags, event.packet_id.hex()]
        case PubAck():
            return ["puback", event.packet_id]
        case Subscribe():
            return ["subscribe", event.packet_id, [[each.decode(), qos] for each, qos in event.filters]]
        case Unsubscribe():
            return ["unsubscribe", event.packet_id, [each.decode() for each in event.filters]]
        case Disconnect():
            return ["disconnect"]
    raise AssertionError(event)


def mqtt(chunks: Iterable[bytes], *, accept: bool = True, bounds: MqttBounds | None = None) -> Outcome:
    connection = MqttConnection(0.0, bounds) if bounds else MqttConnection(0.0)
    events, hub = [], b""
    refused, connack = None, None
    for chunk in chunks:
        connection.receive_data(chunk, 0.0)
        try:
            while (event := connection.next_event()) is not None:
                events.append(mqtt_event(event))
                if isinstance(event, Connect):
                    if accept:
                        connection.accept(event.keep_alive)
                    else:
                        connection.refuse()
        except MqttError as error:
            assert connection.next_event() is None
            refused, connack = error.rule, error.connack
            hub += connection.data_to_send()
            break
        hub += connection.data_to_send()
    return Outcome(events, hub, refused, connack)


# -- AMQP ------------------------------------------------------------------------------------------------------------


def amqp(
    chunks: Iterable[bytes], *, skip: int = 0, runs: bool = False, as_frames: bool = True, **bounds: int
) -> Outcome:
    """A hub that takes every link (but to ``refused``), gives credit 10, accepts what comes, and sends COUNT messages
    of SIZE bytes from the address ``send:SIZE:COUNT``. skip: chunks whose events and answers are left out. runs: its
    links take runs, which must make no difference. as_frames: what it sent is taken apart, and not left as bytes."""
    connection = HubConnection(0.0, container_id="h", mechanisms=["ANONYMOUS", "PLAIN"], bounds=Bounds(**bounds))
    events: list[Any] = []
    refused, sent = None, b""
    for index, chunk in enumerate(chunks):
        if index == skip:
            events, sent = [], b""
        connection.receive_data(chunk, 0.0)
        try:
            while (event := connection.next_event()) is not None:
                events += _amqp_event(event)
                _answer(connection, event, runs=runs)
        except AmqpError as error:
            refused = error.condition
        sent += connection.data_to_send()
        if refused:
            break
    return Outcome(events, hub_frames(sent, connection.peer_max_frame) if as_frames else sent, refused)


def _condition(error: Any) -> str | None:
    fields = error.value if isinstance(error, Described) else None
    return str(fields[0]) if isinstance(fields, list) and fields else None


def _amqp_event(event: Event) -> list[Any]:
    match event:
        case SaslInit():
            return [["sasl", str(event.mechanism), event.response.hex()]]
        case Opened():
            return [["opened", event.container_id, event.hostname]]
        case SessionBegun():
            return [["begun", event.session.channel]]
        case SessionEnded():
            return [["ended", event.session.channel]]
        case LinkAttached():
            link = event.link
            address = link.source.address if link.is_sender else link.target.address
            return [["attached", link.name, "sender" if link.is_sender else "receiver", address]]
        case LinkDetached():
            return [["detached", event.link.name, _condition(event.error)]]
        case Credited():
            return [["credited", event.link.name, event.link.sendable]] if event.link.sendable else []
        case Delivered():
            delivery = event.delivery
            if delivery.oversized:
                return [["oversized", event.link.name, delivery.delivery_id, delivery.size]]
            return [["delivered", event.link.name, delivery.delivery_id, delivery.payload.hex()]]
        case DeliveredRun():
            return [
                ["delivered", event.link.name, delivery_id, payload.hex()]
                for delivery_id, payload in enumerate(event.payloads, event.first)
            ]
        case Settled():
            return [["settled", event.link.name, list(event.delivery_ids), outcome_name(event.state)]]
        case Closed():
            return [["closed", _condition(event.error)]]
    raise AssertionError(event)


def _answer(connection: HubConnection, event: Event, *, runs: bool) -> None:
    if isinstance(event, SaslInit):
        connection.sasl_outcome(ok=event.mechanism in {"ANONYMOUS", "PLAIN"})
    elif isinstance(event, LinkAttached):
        link = event.link
        if "refused" in (link.source.address, link.target.address):
            link.refuse("amqp:not-found", "nothing here")
            return
        link.accept()
        if isinstance(link, ReceivingLink):
            link.grant(10)
            if runs:
                link.take_runs()
    elif isinstance(event, Delivered):
        delivery = event.delivery
        if not delivery.settled:
            too_large = rejected("amqp:link:message-size-exceeded", "too large")
            event.link.settle(delivery.delivery_id, delivery.delivery_id, too_large if delivery.oversized else ACCEPTED)
    elif isinstance(event, DeliveredRun):
        if not event.settled:
            for delivery_id in range(event.first, event.first + len(event.payloads)):
                event.link.settle(delivery_id, delivery_id, ACCEPTED)
    elif isinstance(event, Credited):
        _send(event.link)
    elif isinstance(event, Settled) and not event.settled:
        event.link.settle(event.delivery_ids, event.state)


def _send(link: SendingLink) -> None:
    name, _, rest = link.source.address.partition(":")
    size, _, number = rest.partition(":")
    if name == "send" and size.isascii() and size.isdigit() and number.isascii() and number.isdigit():
        if link.context is None:
            link.context = min(int(number[:2]), 10)
        while link.sendable and link.context:
            link.context -= 1
            link.send(b"m" * min(int(size[:4]), 2000), tag=b"tag")
    link.drained()


def hub_frames(sent: bytes, max_frame: int) -> list[Any]:
    """What the hub sent, in the form of the vectors, each frame checked against S-R1 to S-R8, S-R13."""
    frames: list[Any] = []
    at = 0
    while at < len(sent):
        if sent[at : at + 4] == b"AMQP":
            frames.append(["header", {0: "amqp", 3: "sasl"}[sent[at + 4]]])
            at += 8
            continue
        size = int.from_bytes(sent[at : at + 4])
        frames.append(_hub_frame(sent[at : at + size], max_frame))
        at += size
    assert at == len(sent)
    return frames


def _hub_frame(raw: bytes, max_frame: int) -> list[Any]:
    channel, body = int.from_bytes(raw[6:8]), raw[8:]
    assert raw[4] == 2
    if not body:
        return ["empty"]
    code = body[2]
    assert body[:2] == b"\x00\x53", "a descriptor that is no small ulong (S-R1)"
    assert body[3] in {0xC0, 0xD0}, "a list of another form (S-R2)"
    assert raw[5] == (1 if code >= 0x40 else 0)
    value, at = decode(body, 0, len(body))
    fields = value.value
    assert len(fields) == FIELDS[code], "fields are missing (S-R3)"
    assert at == len(body) or code == 0x14
    assert len(raw) <= max(max_frame, 512), "longer than the client's frames may be (S-R13)"
    return _hub_performative(code, channel, fields, body[at:])


def _hub_performative(code: int, channel: int, fields: Sequence[Any], payload: bytes) -> list[Any]:
    def failure(error: Any) -> str | None:
        assert error is None or len(error.value) == 3, "an error with fields missing (S-R6)"
        return _condition(error)

    match code:
        case 0x10:
            return ["open", fields[1] or ""]
        case 0x11:
            assert fields[0] == channel
            return ["begin", channel]
        case 0x12:
            if fields[5] is not None or fields[6] is not None:
                assert fields[5] is not None, "an accepting attach without a source (S-R5)"
                assert fields[6] is not None, "an accepting attach without a target (S-R5)"
                assert fields[2] or fields[9] is not None, "a sender's attach without initial-delivery-count (S-R5)"
            return ["attach", int(fields[1]), fields[0]]
        case 0x13:
            return [
                "flow",
                None if fields[4] is None else int(fields[4]),
                None if fields[6] is None else int(fields[6]),
            ]
        case 0x14:
            return ["transfer", int(fields[0]), int(fields[1]), fields[5], payload.hex()]
        case 0x15:
            return ["disposition", int(fields[1]), int(fields[2]), fields[3], outcome_name(fields[4])]
        case 0x16:
            return ["detach", int(fields[0]), failure(fields[2])]
        case 0x17:
            return ["end", channel, failure(fields[0])]
        case 0x18:
            return ["close", failure(fields[0])]
        case 0x40:
            assert isinstance(fields[0], Array)
            return ["mechanisms", list(fields[0])]
        case 0x42:
            assert isinstance(fields[0], bytes)
            return ["challenge", fields[0].hex()]
    assert isinstance(fields[0], UByte), "an outcome of another type (S-R8)"
    return ["outcome", int(fields[0])]


# -- WebSocket -------------------------------------------------------------------------------------------------------


def frames(chunks: Iterable[bytes], max_frame: int = 320 * 1024) -> Outcome:
    """Payload that follows payload is one event, however it was cut."""
    reader = websocket.FrameReader(max_frame)
    events: list[Any] = []
    for chunk in chunks:
        try:
            for event in reader.receive_data(chunk):
                if isinstance(event, websocket.Ping):
                    events.append(["ping", event.payload.hex()])
                elif isinstance(event, websocket.Close):
                    return Outcome([*events, ["close", event.code]], None, None)
                elif not event:
                    events.append(["empty"])
                elif events and events[-1][0] == "data":
                    events[-1][1] += event.hex()
                else:
                    events.append(["data", event.hex()])
        except websocket.WebSocketError as error:
            return Outcome(events, None, error.code)
    return Outcome(events, None, None)
