"""Life cycles of the wires' engines under any order of what a peer and the hub may do; ``run.py`` runs it for long.

One machine plays a client of MQTT, one a peer of AMQP with sessions and links. The peer keeps to the protocol as it
sees it, frames of both sides crossing, until one rule breaks it. What must hold is taken from MQTT 3.1.1 and AMQP 1.0.
"""

from collections import deque
from typing import Any, NamedTuple

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hubkeep.wire.amqp import (
    ACCEPTED,
    AmqpError,
    Bounds,
    Closed,
    Credited,
    Delivered,
    Described,
    HubConnection,
    LinkAttached,
    LinkDetached,
    ReceivingLink,
    SendingLink,
    SessionBegun,
    SessionEnded,
    Settled,
    UInt,
    ULong,
)
from hubkeep.wire.amqp.performatives import (
    AMQP_HEADER,
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
from hubkeep.wire.mqtt import Connect, Disconnect, MqttBounds, MqttError, Publish, Subscribe
from hubkeep.wire.mqtt import HubConnection as MqttConnection
from hubkeep.wire.mqtt import State as MqttState

_CONNECT = bytes.fromhex("100d 0004 4d515454 04 02 003c 0001 61")
_PINGREQ, _PINGRESP, _DISCONNECT = b"\xc0\x00", b"\xd0\x00", b"\xe0\x00"
_BOUNDS = MqttBounds(connect_within=30, keep_alive_cap=1767)


class MqttLifeCycle(RuleBasedStateMachine):
    """sent: whole packets that the engine has, not handed out yet. Sent in any pieces: ``_unsent`` waits for more."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.heard = 0.0  # heard: when bytes came last
        self.engine = MqttConnection(0.0, _BOUNDS)
        self.sent: deque[str] = deque()
        self._unsent = b""
        self._parts: deque[tuple[str, int]] = deque()  # packets that are not whole at the engine yet: name, size
        self.state, self.due = MqttState.FRESH, 30.0
        self.is_broken = False

    def _send(self, name: str, data: bytes) -> None:
        self._unsent += data
        self._parts.append((name, len(data)))

    @rule(size=st.integers(1, 40))
    def some_bytes_arrive(self, size: int) -> None:
        data, self._unsent = self._unsent[:size], self._unsent[size:]
        if not data:
            return
        self.engine.receive_data(data, self.now)
        self.heard = self.now
        left = len(data)
        while self._parts and left >= self._parts[0][1]:
            name, whole = self._parts.popleft()
            left -= whole
            self.sent.append(name)
        if left:
            name, whole = self._parts.popleft()
            self._parts.appendleft((name, whole - left))
        self._pull()

    def _pull(self) -> None:
        """Hand out all that the state allows, and compare."""
        pongs = 0
        while True:
            try:
                event = self.engine.next_event()
            except MqttError:
                pongs += self._pings_answered()
                assert self._next_breaks(), "a legal packet was refused"
                self.state, self.is_broken = MqttState.CLOSED, True
                assert self.engine.next_event() is None
                break
            pongs += self._pings_answered()
            if event is None:
                break
            assert self.state in {MqttState.FRESH, MqttState.OPEN}, f"{event} in {self.state}"
            name = self.sent.popleft()
            assert {"connect": Connect, "publish": Publish, "subscribe": Subscribe, "disconnect": Disconnect}[
                name
            ] is type(event)
            self.due = self.heard + 90 if self.state is MqttState.OPEN else self.due
            if name == "connect":
                self.state = MqttState.ASKING
            elif name == "disconnect":
                self.state = MqttState.CLOSED
        if self.state is MqttState.OPEN:
            assert not self.sent, f"{self.sent} was not handed out"
        assert self.engine.data_to_send() == _PINGRESP * pongs

    def _pings_answered(self) -> int:
        count = 0
        while self.state is MqttState.OPEN and self.sent and self.sent[0] == "ping":
            self.sent.popleft()
            self.due, count = self.heard + 90, count + 1
        return count

    def _next_breaks(self) -> bool:
        wanted = self.state is MqttState.FRESH
        # half of a packet of the wrong kind may be refused already
        name = self.sent[0] if self.sent else self._parts[0][0]
        return (name == "connect") != wanted or name == "bad"

    @initialize()
    def connects_first(self) -> None:
        self._send("connect", _CONNECT)

    @rule(name=st.sampled_from(["ping", "publish", "subscribe", "ping", "publish", "disconnect"]))
    def sends(self, name: str) -> None:
        self._send(
            name,
            {
                "ping": _PINGREQ,
                "publish": bytes.fromhex("320a 0003 612f62 0001 78797a"),
                "subscribe": bytes.fromhex("8206 0001 0001 61 01"),
                "disconnect": _DISCONNECT,
            }[name],
        )

    @rule(name=st.sampled_from(["connect", "bad"]))
    def breaks_the_protocol(self, name: str) -> None:
        self._send(name, _CONNECT if name == "connect" else b"\xf0\x00")

    @precondition(lambda self: self.state is MqttState.ASKING)
    @rule(accepted=st.sampled_from([True, True, True, False]))
    def the_hub_answers(self, accepted: bool) -> None:
        if accepted:
            self.engine.accept(60)
            # counted from the newest bytes: the engine is told no other time
            self.state, self.due = MqttState.OPEN, self.heard + 90
        else:
            self.engine.refuse()
            self.state = MqttState.CLOSED
        self._pull()

    @precondition(lambda self: self.state in {MqttState.OPEN, MqttState.HELD})
    @rule()
    def the_hub_holds_or_goes_on(self) -> None:
        if self.state is MqttState.OPEN:
            self.engine.hold()
            self.state = MqttState.HELD
        else:
            self.engine.go_on()
            self.state = MqttState.OPEN
            self._pull()

    @rule(seconds=st.floats(0, 50))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def it_is_where_it_should_be(self) -> None:
        assert self.engine.state is self.state
        if self.state is not MqttState.CLOSED:
            assert self.engine.deadline == self.due  # MQTT-3.1.2-24


class PeerLink(NamedTuple):
    """As the peer sees it. is_receiver: the peer receives."""

    name: str
    is_receiver: bool


class PeerSession:
    """The peer's side of one session; ``handle`` is the same on both."""

    def __init__(self) -> None:
        self.links: dict[int, PeerLink] = {}  # from the peer's attach to the peer's detach
        self.detached: set[int] = set()  # by the peer, with or without the hub's answer
        self.answered: set[int] = set()  # links whose attach has come from the hub
        self.detached_by_hub: set[int] = set()
        self.credit: dict[int, int] = {}  # that the hub may use, or that the hub gave
        self.count: dict[int, int] = {}  # deliveries on each link
        self.next_outgoing = self.next_incoming = 0
        self.partial: dict[int, int | None] = {}  # deliveries of which more is to come
        self.window = 0  # frames that the hub may send
        self.received: set[int] = set()  # unsettled
        self.sent: set[int] = set()
        self.is_begun = self.is_ended_by_hub = False

    def let_go(self, handle: int) -> None:
        """Once both sides have detached."""
        if handle in self.detached and handle in self.detached_by_hub:
            del self.links[handle]
            self.detached.discard(handle)

    def can_use(self, handle: int) -> bool:
        return handle in self.links and handle in self.answered and handle not in self.detached


_WINDOW = 8
_TERMINI = {"source": Described(ULong(0x28), ["a"]), "target": Described(ULong(0x29), ["b"])}
_CHANNELS, _HANDLES = st.sampled_from([0, 0, 0, 1]), st.sampled_from([0, 0, 1])
_SELDOM = 17  # of 30: not what is tried first, or most lives would end at once
_CHANCE = st.integers(0, 1 << 16)


class AmqpLifeCycle(RuleBasedStateMachine):
    """A peer and the caller of the engine act in turns, without waiting for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.engine = HubConnection(
            0.0, container_id="hub", mechanisms=["PLAIN"], bounds=Bounds(sessions=2, links=4, incoming_window=_WINDOW)
        )
        self.sessions: dict[int, PeerSession] = {}
        self.is_over = self.is_broken = False  # broken: by a rule of this machine, so that a refusal is right
        self.hub_closed = self.refused = False
        self.is_slow = False  # whether the hub answers an attach at some later time
        self.links: list[Any] = []  # that were handed out and not detached
        self.hub_sessions: list[Any] = []
        self.inbound: dict[Any, set[int]] = {}  # unsettled deliveries of each receiving link

    # -- what the peer sends, and what it gets ---------------------------------------------------------------------

    def _send(self, channel: int, performative: Any, payload: bytes = b"") -> None:
        self._feed(frame(channel, encode_performative(performative) + payload))

    def _feed(self, data: bytes) -> None:
        if self.is_over:
            return
        self.engine.receive_data(data, self.now)
        try:
            while (event := self.engine.next_event()) is not None:
                self._take(event)
        except AmqpError as error:
            assert self.is_broken, f"a legal frame was refused: {error.condition} {error.description}"
            self.is_over = self.refused = True
            assert self.engine.next_event() is None
        self._read()

    def _take(self, event: Any) -> None:
        if isinstance(event, SessionBegun):
            self.hub_sessions.append(event.session)
        elif isinstance(event, SessionEnded):
            self.hub_sessions.remove(event.session)  # once
            assert not any(each.session is event.session for each in self.links), "a link outlives its session"
        elif isinstance(event, LinkAttached):
            self.links.append(event.link)
            self.inbound[event.link] = set()
            if not self.is_slow:
                event.link.accept()
                if isinstance(event.link, ReceivingLink):
                    event.link.grant(3)
        elif isinstance(event, LinkDetached):
            self.links.remove(event.link)  # once
        elif isinstance(event, Delivered):
            assert event.link in self.links
            if not event.delivery.settled:
                self.inbound[event.link].add(event.delivery.delivery_id)
        elif isinstance(event, Credited | Settled):
            assert event.link in self.links
        elif isinstance(event, Closed):
            self.is_over = True

    def _read(self) -> None:
        data = self.engine.data_to_send()
        at = 8 if data.startswith(b"AMQP") else 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 4])
            assert not self.hub_closed, "a frame behind close"
            if size > 8:
                performative, _ = parse(data, at + 8, at + size)
                self._got(int.from_bytes(data[at + 6 : at + 8]), performative)
            at += size
        assert at == len(data)
        assert self.hub_closed or not self.refused, "a refusal without close"

    def _got(self, channel: int, performative: Any) -> None:
        if isinstance(performative, Open):
            return
        if isinstance(performative, Close):
            self.hub_closed = self.is_over = True
            assert self.refused or performative.error is None or self.is_broken
            return
        session = self.sessions.get(channel)
        if session is None:
            # the peer has ended it; until the hub has read that, it may say what it likes, but no begin
            assert not isinstance(performative, Begin)
            assert isinstance(performative, End)
            return
        if isinstance(performative, Begin):
            assert not session.is_begun, "a second begin"
            assert performative.remote_channel == channel
            session.is_begun = True
            return
        assert session.is_begun, f"{performative} before begin"
        assert not session.is_ended_by_hub, f"{performative} behind end"
        if isinstance(performative, End):
            session.is_ended_by_hub = True
        elif isinstance(performative, Flow):
            self._got_flow(session, performative)
        elif isinstance(performative, Disposition):
            last = performative.first if performative.last is None else performative.last
            ids = set(range(performative.first, last + 1))
            known = session.sent if performative.role else session.received
            assert ids <= known, f"a disposition of {ids - known}, which are settled or were never sent"
            if performative.settled:
                known -= ids
        else:
            self._got_of_link(session, performative)

    @staticmethod
    def _got_flow(session: PeerSession, flow: Flow) -> None:
        assert flow.next_incoming_id is not None
        assert flow.next_incoming_id <= session.next_outgoing
        assert flow.next_outgoing_id == session.next_incoming
        if flow.handle is None:
            return
        assert flow.handle in session.answered
        assert flow.handle not in session.detached_by_hub
        if flow.handle in session.links and not session.links[flow.handle].is_receiver:
            assert flow.delivery_count is not None
            passed = session.count[flow.handle] - flow.delivery_count
            session.credit[flow.handle] = max((flow.link_credit or 0) - passed, 0)
        elif flow.drain:
            session.count[flow.handle] += session.credit[flow.handle]
            assert session.count[flow.handle] == flow.delivery_count
            session.credit[flow.handle] = 0

    @staticmethod
    def _got_of_link(session: PeerSession, performative: Any) -> None:
        handle = performative.handle
        assert handle in session.links, f"{performative} on no link"
        if isinstance(performative, Attach):
            assert handle not in session.answered, "a second attach"
            assert performative.name == session.links[handle].name
            assert performative.role is not session.links[handle].is_receiver
            session.answered.add(handle)
            return
        assert handle in session.answered, f"{performative} before attach"
        assert handle not in session.detached_by_hub, f"{performative} behind detach"
        if isinstance(performative, Detach):
            session.detached_by_hub.add(handle)
            session.let_go(handle)
            return
        assert isinstance(performative, Transfer)
        assert session.links[handle].is_receiver
        session.window -= 1
        assert session.window >= 0, "more frames than the peer's window"
        session.next_incoming += 1
        if session.partial.pop(handle, None) is not None:
            if performative.more:
                session.partial[handle] = performative.delivery_id
            return
        if performative.more:
            session.partial[handle] = performative.delivery_id
        session.credit[handle] -= 1
        session.count[handle] += 1
        assert session.credit[handle] >= 0, "more deliveries than credit"
        assert performative.delivery_id is not None
        if not performative.settled:
            session.received.add(performative.delivery_id)

    @initialize(is_slow=st.booleans())
    def opens(self, is_slow: bool) -> None:
        self.is_slow = is_slow
        self._feed(AMQP_HEADER + frame(0, encode_performative(Open("peer", "hub", UInt(512)))))
        self.begins(0, 4)
        for handle, is_receiver in ((0, True), (1, False)):
            self.attaches(0, handle, is_receiver)
        self.gives_credit(0, 0, 1, 6, False)

    @precondition(lambda self: not self.is_over)
    @rule(channel=_CHANNELS, window=st.integers(0, 6))
    def begins(self, channel: int, window: int) -> None:
        if channel not in self.sessions:
            session = self.sessions[channel] = PeerSession()
            session.window = window
            self._send(channel, Begin(None, UInt(0), UInt(window), UInt(100)))

    def _session(self, channel: int) -> PeerSession | None:
        """One on which the peer may send."""
        session = self.sessions.get(channel)
        return None if session is None or self.is_over or session.is_ended_by_hub else session

    @rule(channel=_CHANNELS, handle=_HANDLES, is_receiver=st.booleans())
    def attaches(self, channel: int, handle: int, is_receiver: bool) -> None:
        session = self._session(channel)
        if session is None or handle in session.links:
            return
        name = f"{channel}-{handle}"
        session.links[handle] = PeerLink(name, is_receiver)
        session.answered.discard(handle)
        session.detached_by_hub.discard(handle)
        session.credit[handle] = session.count[handle] = 0
        session.partial.pop(handle, None)
        count = None if is_receiver else UInt(0)
        attach = Attach(name, UInt(handle), is_receiver, initial_delivery_count=count, **_TERMINI)
        self._send(channel, attach)

    @rule(channel=_CHANNELS, handle=_HANDLES)
    def detaches(self, channel: int, handle: int) -> None:
        session = self._session(channel)
        if session is None or handle not in session.links or handle in session.detached:
            return
        session.detached.add(handle)
        was_detached = handle in session.detached_by_hub
        was_answered = handle in session.answered
        self._send(channel, Detach(UInt(handle), closed=True))
        if was_answered and not session.is_ended_by_hub and not self.is_over:
            assert was_detached or handle not in session.links, "a detach without answer"
        session.let_go(handle)

    @rule(channel=_CHANNELS)
    def ends(self, channel: int) -> None:
        session = self.sessions.get(channel)
        if session is None or self.is_over:
            return
        self._send(channel, End())
        assert session.is_ended_by_hub or self.is_over, "an end without answer"
        del self.sessions[channel]

    @rule(channel=_CHANNELS, handle=_HANDLES, credit=st.integers(0, 5), window=st.integers(0, 6), drain=st.booleans())
    def gives_credit(self, channel: int, handle: int, credit: int, window: int, drain: bool) -> None:
        session = self._session(channel)
        if session is None or not session.can_use(handle):
            return
        common = (UInt(session.next_incoming), UInt(window), UInt(session.next_outgoing), UInt(100))
        session.window = window
        if not session.links[handle].is_receiver:
            self._send(channel, Flow(*common))
            return
        session.credit[handle] = credit
        flow = Flow(*common, UInt(handle), UInt(session.count[handle]), UInt(credit), drain=drain)
        self._send(channel, flow)

    @rule(channel=_CHANNELS, handle=_HANDLES, settled=st.booleans(), pieces=st.integers(1, 3))
    def transfers(self, channel: int, handle: int, settled: bool, pieces: int) -> None:
        session = self._session(channel)
        if session is None or not session.can_use(handle):
            return
        if session.links[handle].is_receiver or session.credit[handle] < 1:
            return
        delivery_id = session.next_outgoing
        session.credit[handle] -= 1
        session.count[handle] += 1
        if not settled:
            session.sent.add(delivery_id)
        for piece in range(pieces):
            session.next_outgoing += 1
            more = piece < pieces - 1
            transfer = Transfer(UInt(handle), UInt(delivery_id), b"t", UInt(0), settled, more)
            self._send(channel, transfer, b"payload")

    @rule(channel=_CHANNELS, settled=st.booleans())
    def settles(self, channel: int, settled: bool) -> None:
        session = self._session(channel)
        if session is None or not session.received:
            return
        delivery_id = min(session.received)
        if settled:
            session.received.discard(delivery_id)
        self._send(channel, Disposition(True, UInt(delivery_id), UInt(delivery_id), settled, ACCEPTED))

    @rule(kind=st.sampled_from(range(30)), channel=_CHANNELS, handle=_HANDLES)
    @precondition(lambda self: not self.is_broken)
    def breaks_the_protocol(self, kind: int, channel: int, handle: int) -> None:
        if kind != _SELDOM or self.is_over:
            return  # seldom: nothing comes behind it
        self.is_broken = True
        broken = (Open("again"), Transfer(UInt(handle)), Flow(UInt(0), UInt(1), UInt(0), UInt(1), UInt(7)))
        self._send(7, broken[channel])

    @rule(kind=st.sampled_from(range(30)))
    def closes(self, kind: int) -> None:
        if kind == _SELDOM and not self.is_over:
            self._send(0, Close())
            assert self.hub_closed
            assert not self.links
            assert not self.hub_sessions

    # -- what the hub does of itself -------------------------------------------------------------------------------

    def _act(self) -> None:
        """What the hub's acts made of events, and of frames."""
        if not self.is_over:
            self._feed(b"")

    @rule(which=_CHANCE, kind=st.sampled_from(["accept"] * 5 + ["refuse", "detach", "end"]))
    def the_hub_answers_or_ends(self, which: int, kind: str) -> None:
        if not self.links or self.is_over:
            return
        link = self.links[which % len(self.links)]
        if kind == "accept":
            link.accept()
            if isinstance(link, ReceivingLink):
                link.grant(3)
        elif kind == "refuse":
            link.refuse("amqp:not-found", "nothing here")
        elif kind == "detach":
            link.detach("amqp:internal-error", "a fault")
        elif which % 4 == 0:
            link.session.end("amqp:internal-error", "a fault")
        self._act()

    @rule(which=_CHANCE, settled=st.booleans(), size=st.sampled_from([1, 1, 1200]))
    def the_hub_sends(self, which: int, settled: bool, size: int) -> None:
        sending = [each for each in self.links if isinstance(each, SendingLink) and each.sendable]
        if sending and not self.is_over:
            sending[which % len(sending)].send(b"x" * size, tag=b"t", settled=settled)
            self._act()

    @rule(which=_CHANCE)
    def the_hub_drains(self, which: int) -> None:
        sending = [each for each in self.links if isinstance(each, SendingLink)]
        if sending and not self.is_over:
            sending[which % len(sending)].drained()
            self._act()

    @rule(which=_CHANCE, credit=st.integers(1, 4))
    def the_hub_grants_and_settles(self, which: int, credit: int) -> None:
        receiving = [each for each in self.links if isinstance(each, ReceivingLink)]
        if not receiving or self.is_over:
            return
        link = receiving[which % len(receiving)]
        for delivery_id in sorted(self.inbound[link]):
            link.settle(delivery_id, delivery_id, ACCEPTED)
        self.inbound[link].clear()
        link.grant(credit)
        self._act()

    # -- what always holds -----------------------------------------------------------------------------------------

    @invariant()
    def what_the_engine_counts_is_there(self) -> None:
        links = [link for session in self.engine.sessions for link in session.links.values()]
        assert self.engine.links == len(links)
        assert self.engine.link_bytes == sum(link.size for link in links)
        assert self.engine.partial_bytes >= 0
        for session in self.engine.sessions:
            own = {each: link for link in session.links.values() if isinstance(link, SendingLink)
                   for each in link.unsettled}  # fmt: skip
            assert session.unsettled == own
        if not self.engine.sessions:
            assert self.engine.partial_bytes == 0


MACHINES = {"mqtt": MqttLifeCycle, "amqp": AmqpLifeCycle}


def live(name: str, lives: int, seed: int, steps: int = 50) -> None:
    """Play so many lives; the same seed plays the same. Raises what broke, with the steps that lead there."""
    machine = hypothesis.seed(seed)(type(name, (MACHINES[name],), {}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=lives,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
