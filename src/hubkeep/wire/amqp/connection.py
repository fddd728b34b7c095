"""One AMQP 1.0 connection, seen from the hub: headers, SASL, open, sessions, idle time-outs. Pulled.

Source: AMQP 1.0 part 2, 2.2 to 2.4; part 5, 5.3 (SASL); service-protocols 4.7 (what keeps all client stacks happy).
"""

import enum
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from ..inbox import Inbox
from .events import (
    Closed,
    DeliveredRun,
    Event,
    LinkDetached,
    Opened,
    SaslInit,
    SaslResponse,
    SessionBegun,
    SessionEnded,
)
from .link import Link, LinkState
from .performatives import (
    AMQP_HEADER,
    EMPTY_FRAME,
    SASL_HEADER,
    Begin,
    Close,
    End,
    Open,
    SaslInitFrame,
    SaslResponseFrame,
    encode_performative,
    error,
    frame,
    parse,
)
from .session import Session
from .transfers import whole_transfer
from .types import AmqpError, Array, Described, Symbol, ULong, encode


class State(enum.Enum):
    HEADER = enum.auto()  # the first eight bytes: SASL or not
    SASL = enum.auto()  # sasl-init is due, or the response to a challenge
    ASKING = enum.auto()  # either was handed out
    SASL_DONE = enum.auto()  # the second header is due
    OPENING = enum.auto()  # open is due
    OPEN = enum.auto()
    CLOSED = enum.auto()  # close was sent, or the peer is gone


class Bounds:
    """Sizes in bytes, idle_time_out in seconds; defaults: limits-and-faults L-L5, L-L15 to L-L17.

    link_bytes: what the attaches of all living links may take, each counted with a kibibyte besides its frame.
    partial_bytes: what the unfinished deliveries of all links may take.
    """

    __slots__ = (
        "channel_max",
        "delivery_counted",
        "delivery_kept",
        "idle_time_out",
        "incoming_window",
        "link_bytes",
        "links",
        "max_frame",
        "max_frame_before_open",
        "partial_bytes",
        "sessions",
    )

    def __init__(
        self,
        *,
        max_frame_before_open: int = 8192,
        max_frame: int = 65_536,
        channel_max: int = 8191,
        sessions: int = 1100,
        links: int = 8191,
        idle_time_out: float = 240,
        incoming_window: int = 2048,
        delivery_kept: int = 262_144 + 16_384,
        delivery_counted: int = 1024 * 1024,
        link_bytes: int = 16 * 1024 * 1024,
        partial_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        self.max_frame_before_open, self.max_frame = max_frame_before_open, max_frame
        self.channel_max, self.sessions, self.links = channel_max, sessions, links
        self.idle_time_out, self.incoming_window = idle_time_out, incoming_window
        self.delivery_kept, self.delivery_counted = delivery_kept, delivery_counted
        self.link_bytes, self.partial_bytes = link_bytes, partial_bytes


_DEFAULT_BOUNDS: Final = Bounds()
_EMPTY_FRAMES_PER_SECOND: Final = 100
_FLOWS_PER_SECOND: Final = 100  # answers to echo; what is asked beyond is answered once (L-A11)
_SMALLEST_FRAME: Final = 512


class HubConnection(Inbox):
    """Call receive_data, then next_event until None, then send data_to_send; handle_timer when ``deadline`` is due.

    Times are monotonic seconds from the caller. No clock, socket or task inside.
    """

    __slots__ = (
        "_empty_frames",
        "_empty_since",
        "_ended",
        "_events",
        "_flows",
        "_flows_owed",
        "_flows_since",
        "_heartbeat",
        "_is_challenged",
        "_last_received",
        "_last_sent",
        "_now",
        "_out",
        "_sessions",
        "bounds",
        "container_id",
        "frame_size",
        "hostname",
        "link_bytes",
        "links",
        "mechanisms",
        "partial_bytes",
        "peer_max_frame",
        "state",
        "takes_runs",
    )

    def __init__(
        self, now: float, *, container_id: str, mechanisms: Sequence[str], bounds: Bounds = _DEFAULT_BOUNDS
    ) -> None:
        super().__init__()
        self.bounds, self.container_id = bounds, container_id
        self.links = self.link_bytes = self.partial_bytes = 0  # in use now; see Bounds
        self.frame_size = 0  # of the frame under way
        self.takes_runs = False  # whether some link does
        self.hostname = ""
        self.peer_max_frame = _SMALLEST_FRAME
        self.state = State.HEADER
        self._is_challenged = False  # and a sasl-response is due
        self.mechanisms = tuple(mechanisms)  # may be set anew before the peer's header is there
        self._now = self._last_received = self._last_sent = self._empty_since = now
        self._empty_frames = 0
        self._heartbeat: float | None = None
        self._flows, self._flows_since = 0, now
        self._flows_owed: dict[tuple[Session, Link | None], None] = {}
        self._out: list[bytes] = []
        self._events: deque[Event] = deque()
        self._sessions: dict[int, Session] = {}
        self._ended: set[int] = set()  # channels whose last session has ended

    # -- bytes in, bytes out -----------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        """Take what came from the socket at ``now``."""
        self._now = self._last_received = now
        self._put(data)

    def data_to_send(self) -> bytes:
        """What must go out now; empty for nothing."""
        if not self._out:
            return b""
        out, self._out = self._out, []
        self._last_sent = self._now
        return out[0] if len(out) == 1 else b"".join(out)

    @property
    def sessions(self) -> Sequence[Session]:
        return tuple(self._sessions.values())

    @property
    def _reads_nothing(self) -> bool:
        return self.state is State.ASKING or self.state is State.CLOSED

    def next_event(self) -> Event | None:
        """The next event; None: read more, or answer the SaslInit first.

        Raises AmqpError when the peer broke the protocol: send what data_to_send holds (a close frame with the
        condition where the peer can understand one), then close.
        """
        if self._events:
            return self._events.popleft()
        if self._reads_nothing:
            return None  # before what came is gathered: looking at it again for each byte would be quadratic
        if self._held is not None and not self._is_worth_parsing():
            return None
        try:
            # an open connection first, and no sets: the hash of an enum's member is a call
            while (state := self.state) is State.OPEN or (state is not State.ASKING and state is not State.CLOSED):
                if state is State.HEADER or state is State.SASL_DONE:
                    if not self._take_header():
                        return None
                    continue
                if self.takes_runs and (run := self._take_run()) is not None:
                    return run
                if not self._take_frame():
                    return None
                if self._events:
                    return self._events.popleft()
        except AmqpError as failure:
            if self.state in {State.OPENING, State.OPEN}:
                self.close(failure.condition, failure.description)
            self.state = State.CLOSED
            raise
        return None

    # -- time --------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When handle_timer wants to be called."""
        due = self._last_received + self.bounds.idle_time_out
        if self._heartbeat is not None:
            due = min(due, self._last_sent + self._heartbeat)
        return min(due, self._flows_since + 1) if self._flows_owed else due

    def handle_timer(self, now: float) -> bool:
        """Queue a heartbeat if one is due. False: the peer was silent for too long; the connection is closed."""
        self._now = now
        if now >= self._last_received + self.bounds.idle_time_out:
            if self.state in {State.OPENING, State.OPEN}:
                self.close("amqp:resource-limit-exceeded", "idle for too long")
            self.state = State.CLOSED
            return False
        if self._heartbeat is not None and now >= self._last_sent + self._heartbeat and self.state is State.OPEN:
            self._out.append(EMPTY_FRAME)
        self._send_owed_flows()
        return True

    # -- what the caller answers -------------------------------------------------------------------------------------

    def sasl_challenge(self, challenge: bytes) -> None:
        """Answer a SaslInit or SaslResponse: the peer is to say more."""
        assert self.state is State.ASKING
        self.send_frame(frame(0, encode(Described(ULong(0x42), [challenge])), 1))
        self._is_challenged, self.state = True, State.SASL

    def sasl_outcome(self, *, ok: bool) -> None:
        """Answer a SaslInit or SaslResponse: code 0 (ok) or 1 (auth), both fields there (S-R8).

        After code 1: send, close.
        """
        assert self.state is State.ASKING
        body = b"\x00\x53\x44\xd0\x00\x00\x00\x07\x00\x00\x00\x02\x50%c\x40" % (0 if ok else 1)
        self.send_frame(frame(0, body, 1))
        self.state = State.SASL_DONE if ok else State.CLOSED

    def close(self, condition: str | None = None, description: str = "", info: dict[str, Any] | None = None) -> None:
        """Close the connection, with an error if there is a condition. Does nothing when it is closed."""
        if self.state is State.OPENING:
            self._answer_open()
        if self.state is State.OPEN:
            self.send_frame(
                frame(0, encode_performative(Close(error(condition, description, info) if condition else None)))
            )
        self.state = State.CLOSED

    def send_frame(self, raw: bytes) -> None:
        """Queue an encoded frame (links and sessions call this)."""
        if self.state is not State.CLOSED:
            self._out.append(raw)

    def answer_flow(self, session: Session, link: Link | None) -> None:
        """The peer asked for our view of the session or link."""
        self._send_owed_flows()
        self._flows += 1
        if self._flows > _FLOWS_PER_SECOND:
            self._flows_owed[session, link] = None
        else:
            session.send_flow(link)

    def _send_owed_flows(self) -> None:
        if self._now - self._flows_since < 1:
            return
        self._flows_since, self._flows = self._now, len(self._flows_owed)
        owed, self._flows_owed = self._flows_owed, {}
        for session, link in owed:
            if link is None or link.is_attached:
                session.send_flow(link)

    def session_over(self, session: Session) -> None:
        """Whoever ended it: its links are gone."""
        for link in tuple(session.links.values()):
            is_told = link.state is LinkState.DETACH_RECEIVED  # the peer detached it before the caller answered
            session.drop(link)
            if not is_told:
                self._events.append(LinkDetached(link, None))
        self._events.append(SessionEnded(session))

    # -- parsing -----------------------------------------------------------------------------------------------------

    def _take_header(self) -> bool:
        if self.unread < 8:
            start = self._data[self._at : self._at + 4]
            if not b"AMQP".startswith(start):
                self._out.append(SASL_HEADER)
                raise AmqpError("amqp:framing-error", "not an AMQP header")
            return False
        header = self._data[self._at : self._at + 8]
        self._at += 8
        if header == AMQP_HEADER:
            self._out.append(AMQP_HEADER)
            self.state = State.OPENING
        elif header == SASL_HEADER and self.state is State.HEADER:
            offer = encode(Described(ULong(0x40), [Array(Symbol(name) for name in self.mechanisms)]))
            self._out += (SASL_HEADER, frame(0, offer, 1))
            self.state = State.SASL
        else:
            self._out.append(SASL_HEADER)
            raise AmqpError("amqp:framing-error", "an AMQP header of another protocol or version")
        return True

    def _take_frame(self) -> bool:
        data, at = self._data, self._at
        have = len(data) - at
        if have < 8:
            # the size field alone may already be refused
            if have >= 4:
                self._check_size(int.from_bytes(data[at : at + 4]))
            self._wait(8 if have >= 4 else 4)
            return False
        size = int.from_bytes(data[at : at + 4])
        self._check_size(size)
        if have < size:
            self._wait(size)
            return False
        self._at = at + size
        body, kind = at + 4 * data[at + 4], data[at + 5]
        end = at + size
        if data[at + 4] < 2 or body > end or kind != (1 if self.state is State.SASL else 0):
            raise AmqpError("amqp:framing-error", "data offset or frame type")
        if body == end:
            self._take_empty()
            return True
        self.frame_size = size
        performative, payload_at = parse(data, body, end)
        self._handle(int.from_bytes(data[at + 6 : at + 8]), performative, data[payload_at:end])
        return True

    def _take_run(self) -> DeliveredRun | None:
        """Deliveries that follow one another on a link that takes runs; None: look at the next frame as ever."""
        data = self._data
        transfer = whole_transfer(data, self._at)
        if transfer is None or self.state is not State.OPEN:
            return None
        channel, handle, first, message_format, settled, _, _ = transfer
        session = self._sessions.get(channel)
        found = session.link_for_runs(handle) if session is not None else None
        if session is None or found is None:
            return None
        link, most = found
        kept, largest = self.bounds.delivery_kept, self.bounds.max_frame
        payloads: list[bytes] = []
        at, due = self._at, (channel, handle, first, message_format, settled)
        while transfer is not None and transfer[:5] == due and len(payloads) < most:
            payload_at, end = transfer[5:]
            if end - payload_at > kept or end - at > largest:
                break
            payloads.append(data[payload_at:end])
            at = end
            due = (channel, handle, first + len(payloads), message_format, settled)
            transfer = whole_transfer(data, at)
        if not payloads:
            return None
        self._at = at
        session.count_run(link, len(payloads))
        return DeliveredRun(link, first, payloads, message_format, settled)

    def _check_size(self, size: int) -> None:
        limit = self.bounds.max_frame if self.state is State.OPEN else self.bounds.max_frame_before_open
        if size < 8 or size > limit:
            raise AmqpError("amqp:framing-error", f"a frame of {size} bytes")

    def _take_empty(self) -> None:
        if self._now - self._empty_since >= 1:
            self._empty_since, self._empty_frames = self._now, 0
        self._empty_frames += 1
        if self._empty_frames > _EMPTY_FRAMES_PER_SECOND:
            raise AmqpError("amqp:resource-limit-exceeded", "too many empty frames")

    def _handle(self, channel: int, performative: Any, payload: bytes) -> None:
        if isinstance(performative, SaslInitFrame | SaslResponseFrame):
            self._take_sasl(performative)
            return
        if self.state is State.SASL:
            raise AmqpError("amqp:illegal-state", "no sasl-init")
        if isinstance(performative, Open):
            self._take_open(performative)
        elif self.state is not State.OPEN:
            raise AmqpError("amqp:illegal-state", f"{type(performative).__name__.lower()} before open")
        elif isinstance(performative, Close):
            self._end_all()
            self.send_frame(frame(0, encode_performative(Close())))
            self.state = State.CLOSED
            self._events.append(Closed(performative.error))
        elif isinstance(performative, Begin):
            self._take_begin(channel, performative)
        else:
            session = self._sessions.get(channel)
            if session is None and channel in self._ended:
                return  # azure-eventhub detaches its links after it has ended their session
            if session is None:
                raise AmqpError("amqp:illegal-state", f"{type(performative).__name__.lower()} without a session")
            if isinstance(performative, End):
                session.end()
                del self._sessions[channel]
                self._ended.add(channel)
            else:
                self._events.extend(session.handle(performative, payload))

    def _take_sasl(self, said: SaslInitFrame | SaslResponseFrame) -> None:
        is_init = isinstance(said, SaslInitFrame)
        if self.state is not State.SASL or is_init is self._is_challenged:
            raise AmqpError("amqp:illegal-state", f"sasl-{'init' if is_init else 'response'} out of place")
        response = (said.initial_response if isinstance(said, SaslInitFrame) else said.response) or b""
        if len(response) > 8192:
            raise AmqpError("amqp:not-allowed", "a SASL response of this size")
        self.state = State.ASKING
        if isinstance(said, SaslInitFrame):
            self._events.append(SaslInit(said.mechanism, response, said.hostname or ""))
        else:
            self._events.append(SaslResponse(response))

    def _take_open(self, opened: Open) -> None:
        if self.state is not State.OPENING:
            raise AmqpError("amqp:illegal-state", "a second open")
        self.hostname = opened.hostname or ""
        if opened.max_frame_size is not None and opened.max_frame_size < _SMALLEST_FRAME:
            raise AmqpError("amqp:invalid-field", "max-frame-size below 512")
        self.peer_max_frame = min(opened.max_frame_size or 0xFFFFFFFF, self.bounds.max_frame)
        if opened.idle_time_out:
            # well before the peer's patience ends, however late the caller's timer runs
            self._heartbeat = max(opened.idle_time_out / 1000 / 2 - 1, opened.idle_time_out / 1000 / 4)
        self._answer_open()
        self._events.append(Opened(opened.container_id, self.hostname, opened.properties or {}))

    def _answer_open(self) -> None:
        bounds = self.bounds
        idle = int(bounds.idle_time_out * 1000)
        answer = Open(self.container_id, self.hostname or None, bounds.max_frame, bounds.channel_max, idle)
        raw = encode_performative(answer)
        self._out.append(frame(0, raw))
        self.state = State.OPEN

    def _take_begin(self, channel: int, begin: Begin) -> None:
        if channel > self.bounds.channel_max:
            raise AmqpError("amqp:not-allowed", "a channel above channel-max")
        if channel in self._sessions:
            raise AmqpError("amqp:illegal-state", "begin on a channel that has a session")
        session = Session(self, channel, begin)
        self._sessions[channel] = session
        self._ended.discard(channel)
        if len(self._sessions) > self.bounds.sessions:
            session.refuse("amqp:resource-limit-exceeded", "too many sessions")
            return
        self._events.append(SessionBegun(session))

    def _end_all(self) -> None:
        for session in self._sessions.values():
            if not session.ended:
                session.ended = True
                self.session_over(session)
        self._sessions.clear()
