"""A raw AMQP 1.0 client over TLS: sends any frames, reads the hub's one by one. Ours, so that it can break every rule.

Every frame that the hub sends is checked against the rules that keep all clients happy (S-R1 to S-R8, S-R13).
"""

import socket
import ssl
import time
from typing import Any, NamedTuple, Self, TypeVar

from conversations.mqtt_peer import tls_socket
from hubkeep.testing import HubInThread
from hubkeep.wire import sas
from hubkeep.wire.amqp import ACCEPTED, AmqpMessage, Described, Symbol, ULong, decode_message, encode, message
from hubkeep.wire.amqp.performatives import (
    AMQP_HEADER,
    SASL_HEADER,
    Attach,
    Begin,
    Close,
    Detach,
    Disposition,
    Flow,
    Open,
    Performative,
    Transfer,
    encode_performative,
    frame,
    outcome_name,
    parse,
)
from hubkeep.wire.amqp.types import decode
from vectors import drivers

T = TypeVar("T")
EMPTY = "empty"
FILTER = "apache.org:selector-filter:string"


class Frame(NamedTuple):
    """performative: one of the engine's records; for SASL frames the list of fields; EMPTY for a heartbeat."""

    channel: int
    performative: Any
    payload: bytes = b""


class Reply(NamedTuple):
    """An answer of $cbs or $management."""

    status: Any
    correlation_id: Any
    message: AmqpMessage
    settled_before: bool  # the request was settled before the answer came


def condition(error: Any) -> str:
    """An error's condition; empty for no error."""
    return str(error.value[0]) if isinstance(error, Described) else ""


def details(error: Any) -> dict[str, Any]:
    """An error's info map."""
    return {str(key): value for key, value in (error.value[2] or {}).items()}


class AmqpPeer:
    """One connection. What is not asked for (flows, heartbeats) is kept in ``seen``."""

    def __init__(self, hub: HubInThread, sock: ssl.SSLSocket | None = None, max_frame: int = 65536) -> None:
        self.hub = hub
        self.sock: Any = sock or tls_socket(hub, 5671)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.max_frame = max_frame
        self.seen: list[Frame] = []
        self._held = b""
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    # -- bytes and frames --------------------------------------------------------------------------------------------

    def send(self, *items: bytes | Performative, channel: int = 0, payload: bytes = b"") -> None:
        """Bytes as they are, performatives in a frame each; the payload goes into the last one."""
        out = b""
        for item in items:
            body = b"" if isinstance(item, bytes) else encode_performative(item)
            last = payload if item is items[-1] else b""
            out += item if isinstance(item, bytes) else frame(channel, body + last)
        self.sock.sendall(out)

    def header(self, within: float = 20) -> bytes:
        return self._take(8, within)

    def read(self, within: float = 20) -> Frame | None:
        """The next frame; None when the hub has closed."""
        head = self._take(4, within)
        if len(head) < 4:
            return None
        raw = head + self._take(int.from_bytes(head) - 4, within)
        drivers._hub_frame(raw, self.max_frame)
        channel = int.from_bytes(raw[6:8])
        if len(raw) == 8:
            return Frame(channel, EMPTY)
        if raw[5] == 1:
            return Frame(channel, decode(raw, 8, len(raw))[0].value)
        performative, at = parse(raw, 8, len(raw))
        return Frame(channel, performative, raw[at:])

    def expect(self, kind: type[T], within: float = 20) -> T:
        """The next performative of this kind; flows and heartbeats before it are kept, anything else is a failure."""
        return self.expect_frame(kind, within).performative  # type: ignore[no-any-return]

    def expect_frame(self, kind: Any, within: float = 20) -> Frame:
        while (got := self.read(within)) is not None:
            if isinstance(got.performative, kind):
                return got
            self.seen.append(got)
            assert got.performative == EMPTY or isinstance(got.performative, Flow), got
        raise AssertionError(f"the hub closed instead of sending {kind.__name__}")

    def closes(self, within: float = 20) -> bool:
        """Whether the hub closes, sending no more frames but flows, heartbeats and a close."""
        while (got := self.read(within)) is not None:
            if got.performative != EMPTY and not isinstance(got.performative, (Flow, Close)):
                return False
        return True

    def _take(self, size: int, within: float) -> bytes:
        deadline = time.monotonic() + within
        while len(self._held) < size:
            self.sock.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                got = self.sock.recv(65536)
            except (ConnectionError, ssl.SSLError) as error:
                if isinstance(error, TimeoutError):
                    raise
                got = b""
            if not got:
                break
            self._held += got
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    # -- the connection ----------------------------------------------------------------------------------------------

    def sasl(self, mechanism: str, response: bytes | None = None) -> int:
        """The SASL layer; the outcome's code."""
        outcome = self.sasl_begun(mechanism, response)
        return int(outcome[0])

    def sasl_begun(self, mechanism: str, response: bytes | None = None) -> list[Any]:
        """The fields of the outcome, or of the first challenge (bytes)."""
        self.send(SASL_HEADER)
        assert self.header() == SASL_HEADER
        offered = self.read()
        assert offered is not None
        assert isinstance(offered.performative[0], list)
        self.mechanisms = [str(each) for each in offered.performative[0]]
        fields = [Symbol(mechanism), response, self.hub.host_name]
        self.send(frame(0, encode(Described(ULong(0x41), fields)), 1))
        return self._sasl_frame()

    def sasl_response(self, response: bytes) -> list[Any]:
        """The fields of the outcome, or of the next challenge."""
        self.send(frame(0, encode(Described(ULong(0x43), [response])), 1))
        return self._sasl_frame()

    def _sasl_frame(self) -> list[Any]:
        got = self.read()
        assert got is not None
        fields: list[Any] = got.performative
        return fields

    def open(self, *, idle: int | None = None, **fields: Any) -> Open:
        """AMQP header (after ``sasl``, or with no SASL layer) and open."""
        self.send(AMQP_HEADER)
        assert self.header() == AMQP_HEADER
        self.send(Open("peer", self.hub.host_name, self.max_frame, 65535, idle, **fields))
        return self.expect(Open)

    def begin(self, channel: int = 0, window: int = 2048) -> Begin:
        self.send(Begin(None, 0, window, 0x7FFFFFFF), channel=channel)
        got = self.expect_frame(Begin)
        assert (got.channel, got.performative.remote_channel) == (channel, channel)
        return got.performative  # type: ignore[no-any-return]

    def opened(self, channel: int = 0) -> Self:
        """Open without SASL, and a session."""
        self.open()
        self.begin(channel)
        return self

    # -- links -------------------------------------------------------------------------------------------------------

    def attach(
        self,
        address: str,
        *,
        handle: int,
        receiver: bool = False,
        channel: int = 0,
        name: str = "",
        filters: dict[Any, Any] | None = None,
        **fields: Any,
    ) -> Attach:
        """Ask for a link; the hub's attach, which tells nothing yet of a refusal that may follow."""
        here = Described(ULong(0x28 if receiver else 0x29), [address])
        if filters is not None:
            here = Described(ULong(0x28), [address, None, None, None, None, None, None, filters])
        ends = {"source": here, "target": None} if receiver else {"source": None, "target": here}
        self.send(Attach(name or f"link-{handle}", handle, receiver, **ends, **fields), channel=channel)
        got = self.expect_frame(Attach)
        assert got.channel == channel
        return got.performative  # type: ignore[no-any-return]

    def attached(self, address: str, **options: Any) -> Attach:
        """A link that the hub accepts."""
        answer = self.attach(address, **options)
        assert answer.source is not None, condition(self.expect(Detach).error)
        return answer

    def refused(self, address: str, **options: Any) -> Any:
        """A link that the hub refuses: attach with null source and target, then detach with this error (4.6)."""
        answer = self.attach(address, **options)
        assert (answer.source, answer.target) == (None, None)
        detach = self.expect(Detach)
        assert (detach.handle, detach.closed) == (options["handle"], True)
        self.send(Detach(options["handle"], True), channel=options.get("channel", 0))
        return detach.error

    def credit(self, handle: int, credit: int, *, channel: int = 0, count: int = 0, **fields: Any) -> None:
        """Give the hub credit on a link where it sends."""
        self.send(Flow(0, 2048, 0, 2048, handle, count, credit, **fields), channel=channel)

    def transfer(
        self, handle: int, payload: bytes, *, number: int | None = None, channel: int = 0, **fields: Any
    ) -> int:
        """One delivery in one frame; its id."""
        if number is None:
            number, self._number = self._number, self._number + 1
        self.send(Transfer(handle, number, b"%d" % number, **fields), channel=channel, payload=payload)
        return number

    def outcome(self, number: int) -> tuple[str, str]:
        """What becomes of a delivery: outcome, and the condition if it was rejected."""
        while True:
            got = self.expect(Disposition)
            assert got.role
            assert got.settled
            if got.first <= number <= (got.last if got.last is not None else got.first):
                name = outcome_name(got.state)
                return name, condition(got.state.value[0]) if name == "rejected" else ""

    # -- requests ----------------------------------------------------------------------------------------------------

    def node(self, address: str = "$cbs", *, channel: int = 0, handle: int = 100, credit: int = 100) -> None:
        """Both links to a request node: sender ``handle``, receiver ``handle + 1``."""
        self.attached(address, handle=handle, channel=channel)
        self.attached(address, handle=handle + 1, receiver=True, channel=channel)
        if credit:
            self.credit(handle + 1, credit, channel=channel)

    def request(
        self,
        properties: dict[str, Any],
        body: Any = None,
        *,
        message_id: Any = "1",
        handle: int = 100,
        channel: int = 0,
        **sent: Any,
    ) -> Reply:
        """One request and its reply."""
        raw = message(properties={"message_id": message_id, **sent}, application_properties=properties, value=body)
        number = self.transfer(handle, raw, channel=channel)
        settled = False
        while True:
            got = self.expect_frame((Disposition, Transfer))
            if isinstance(got.performative, Disposition):
                assert got.performative.first == number
                settled = outcome_name(got.performative.state) == "accepted" and got.performative.settled is True
                continue
            assert got.performative.handle == handle + 1
            self.send(Disposition(True, got.performative.delivery_id, None, True, ACCEPTED), channel=channel)
            answer = decode_message(got.payload)
            status = answer.application_properties["status-code"]
            return Reply(status, answer.properties.get("correlation_id"), answer, settled)

    def put_token(
        self, token: str, *, name: str = "", kind: str = "servicebus.windows.net:sastoken", **rest: Any
    ) -> Reply:
        properties = {"operation": "put-token", "type": kind, "name": name or self.hub.host_name}
        return self.request(properties, token, **rest)

    def authorised(self, token: str, *, channel: int = 0, handle: int = 100) -> Self:
        """A good token on $cbs links of this session."""
        self.node(channel=channel, handle=handle)
        assert self.put_token(token, channel=channel, handle=handle).status == 200
        return self

    @classmethod
    def device(cls, hub: HubInThread, device_id: str, **options: Any) -> Self:
        """A registered device, connected without SASL and authorised through $cbs."""
        return cls(hub, **options).opened().authorised(device_token(hub, device_id))

    @classmethod
    def reader(cls, hub: HubInThread, policy: str = "iothubowner") -> Self:
        """A back end that may read events."""
        return cls(hub).opened().authorised(events_token(hub, policy))

    def event(self, handle: int, within: float = 20) -> AmqpMessage:
        """The next event on a receiver link, in as many frames as it comes; it is accepted."""
        payload = b""
        while True:
            got = self.expect_frame(Transfer, within)
            assert got.performative.handle == handle
            payload += got.payload
            if not got.performative.more:
                break
        self.send(Disposition(True, got.performative.delivery_id, None, True, ACCEPTED))
        return decode_message(payload)


def device_key(hub: HubInThread, device_id: str) -> bytes:
    return sas.parse_connection_string(hub.create_device(device_id)).key


def device_token(hub: HubInThread, device_id: str, seconds: int = 3600) -> str:
    """A device's own token; the device is registered if it is not yet."""
    return hub.token(f"devices/{device_id}", key=device_key(hub, device_id), seconds=seconds)


def events_token(hub: HubInThread, policy: str = "iothubowner", seconds: int = 3600) -> str:
    """As Event Hubs clients sign: with the text of the key."""
    parsed = sas.parse_connection_string(hub.policy_connection_string(policy))
    expiry = int(hub.clock.now()) + seconds
    return sas.make(f"sb://{hub.host_name}/hubkeep-events", sas.key_text(parsed.key), expiry, policy)


def selector(text: str, *, by_code: bool = False) -> dict[Any, Any]:
    """A receiver's filter, described by its symbol or its number."""
    return {Symbol(FILTER): Described(ULong(77567109365764) if by_code else Symbol(FILTER), text)}


def data(body: bytes, **parts: Any) -> bytes:
    """A message with a data section."""
    return message(data=body, **parts)
