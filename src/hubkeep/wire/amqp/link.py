"""Links: one direction of transfer between the hub and a peer, with credit and settlement.

Source: AMQP 1.0 part 2, 2.6. ``role`` is the hub's own: a ``SendingLink`` carries messages to the peer.
"""

import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .performatives import ACCEPTED, Attach, Detach, Disposition, Flow, error
from .types import AmqpError, Described, Symbol, UByte, ULong

if TYPE_CHECKING:
    from .session import Session


class LinkState(enum.Enum):
    ATTACH_RECEIVED = enum.auto()  # the caller has not answered yet
    ATTACHED = enum.auto()
    DETACH_SENT = enum.auto()
    DETACH_RECEIVED = enum.auto()
    DETACHED = enum.auto()


class Move(enum.Enum):
    SEND_ATTACH = enum.auto()
    RECV_TRANSFER = enum.auto()
    SEND_DETACH = enum.auto()
    RECV_DETACH = enum.auto()


_S, _M = LinkState, Move
# Every legal move. What is absent is illegal: the peer's fault on RECV, our bug on SEND.
MOVES = {
    (_S.ATTACH_RECEIVED, _M.SEND_ATTACH): _S.ATTACHED,
    (_S.ATTACH_RECEIVED, _M.RECV_DETACH): _S.DETACH_RECEIVED,
    (_S.ATTACHED, _M.RECV_TRANSFER): _S.ATTACHED,
    (_S.ATTACHED, _M.SEND_DETACH): _S.DETACH_SENT,
    (_S.ATTACHED, _M.RECV_DETACH): _S.DETACH_RECEIVED,
    (_S.DETACH_SENT, _M.RECV_TRANSFER): _S.DETACH_SENT,  # in flight when the hub detached: dropped
    (_S.DETACH_SENT, _M.RECV_DETACH): _S.DETACHED,
    (_S.DETACH_RECEIVED, _M.SEND_ATTACH): _S.DETACH_RECEIVED,
    (_S.DETACH_RECEIVED, _M.SEND_DETACH): _S.DETACHED,
}


def after(state: LinkState, move: Move) -> LinkState:
    """The state after ``move``. A peer's illegal move raises AmqpError; ours fails an assertion."""
    if (state, move) in MOVES:
        return MOVES[state, move]
    assert move.name.startswith("RECV"), f"{move.name} in {state.name}"
    raise AmqpError("amqp:illegal-state", f"{move.name} in {state.name}")


class Terminus:
    """A source or target as the peer gave it. address: empty when null. raw: what an answer echoes."""

    __slots__ = ("address", "dynamic", "filters", "raw")

    def __init__(self, raw: Any) -> None:
        self.raw = raw if isinstance(raw, Described) else None
        fields = raw.value if isinstance(raw, Described) and isinstance(raw.value, list) else []
        self.address = str(fields[0]) if fields and isinstance(fields[0], str) else ""
        self.dynamic = len(fields) > 4 and fields[4] is True
        filters = fields[7] if len(fields) > 7 else None
        self.filters: dict[Any, Any] = filters if isinstance(filters, dict) else {}


class Delivery:
    """One message from the peer, whole. oversized: passed the limit, payload dropped; ``size`` tells how much came."""

    __slots__ = ("delivery_id", "message_format", "oversized", "payload", "settled", "size", "tag")

    def __init__(self, delivery_id: int, tag: bytes, message_format: int, settled: bool) -> None:
        self.delivery_id, self.tag, self.message_format, self.settled = delivery_id, tag, message_format, settled
        self.payload = b""
        self.size = 0
        self.oversized = False


class Link:
    """What both directions share. Made by the engine; answer its LinkAttached with ``accept`` or ``refuse``."""

    __slots__ = (
        "__weakref__",
        "context",
        "delivery_count",
        "desired_capabilities",
        "handle",
        "initiated",
        "max_message_size",
        "name",
        "properties",
        "rcv_settle_mode",
        "session",
        "size",
        "snd_settle_mode",
        "source",
        "state",
        "target",
    )

    is_sender = False

    def __init__(self, session: "Session", attach: Attach) -> None:
        self.session = session
        self.name, self.handle = attach.name, attach.handle
        self.source, self.target = Terminus(attach.source), Terminus(attach.target)
        self.properties = attach.properties or {}
        self.desired_capabilities = attach.desired_capabilities
        self.snd_settle_mode = 2 if attach.snd_settle_mode is None else attach.snd_settle_mode
        self.rcv_settle_mode = attach.rcv_settle_mode or 0
        self.max_message_size = attach.max_message_size or 0
        self.delivery_count = 0
        self.size = 0  # bytes that the session counts for it
        self.state = LinkState.ATTACH_RECEIVED
        self.initiated = False  # whether our attach went out
        self.context: Any = None  # the caller's own

    @property
    def is_attached(self) -> bool:
        return self.state is LinkState.ATTACHED

    def accept(self, *, max_message_size: int | None = None, properties: dict[str, Any] | None = None) -> None:
        """Answer the attach, echoing source and target (S-R5). An unsettled map of the peer is answered with none."""
        self._answer(
            self.source.raw or _terminus(0x28), self.target.raw or _terminus(0x29), max_message_size, properties
        )

    def refuse(self, condition: str, description: str, info: dict[str, Any] | None = None) -> None:
        """Attach with null terminus, then detach with the error: what all stacks report rightly (4.6)."""
        self._answer(None, None, None, None)
        self.detach(condition, description, info)

    def detach(self, condition: str | None = None, description: str = "", info: dict[str, Any] | None = None) -> None:
        """Close the link. Does nothing when it is detached or on its way (S-R10)."""
        if self.state is not LinkState.ATTACHED:
            return
        self.state = after(self.state, Move.SEND_DETACH)
        self.session.send(Detach(self.handle, True, error(condition, description, info) if condition else None))

    def _answer(
        self, source: Any, target: Any, max_message_size: int | None, properties: dict[str, Any] | None
    ) -> None:
        if self.initiated or self.state not in {LinkState.ATTACH_RECEIVED, LinkState.DETACH_RECEIVED}:
            return
        self.initiated = True
        self.source.raw = self.target.raw = None  # kept for the answer alone
        was = self.state
        self.state = after(self.state, Move.SEND_ATTACH)
        self.session.send(
            Attach(
                self.name,
                self.handle,
                not self.is_sender,
                UByte(self.snd_settle_mode),
                UByte(self.rcv_settle_mode),
                source,
                target,
                None,
                None,
                0 if self.is_sender else None,
                ULong(max_message_size) if max_message_size is not None else None,
                None,
                None,
                {Symbol(key): value for key, value in properties.items()} if properties else None,
            )
        )
        if was is LinkState.DETACH_RECEIVED:
            self.state = after(self.state, Move.SEND_DETACH)
            self.session.send(Detach(self.handle, True, None))
            self.session.drop(self)


class SendingLink(Link):
    """The hub sends: ``send`` while ``sendable`` is positive."""

    __slots__ = ("credit", "drain", "unsettled")

    is_sender = True

    def __init__(self, session: "Session", attach: Attach) -> None:
        super().__init__(session, attach)
        self.credit = 0
        self.drain = False
        self.unsettled: set[int] = set()  # ids of its deliveries that the peer has not settled

    @property
    def sendable(self) -> int:
        """Messages that may be sent now: credit, or none while the session's window is used up."""
        return self.credit if self.state is LinkState.ATTACHED and not self.session.blocked else 0

    def send(self, payload: bytes, *, tag: bytes, settled: bool = False, message_format: int = 0) -> int:
        """One message, in as many frames as the peer's limit wants. Returns its delivery id. Needs credit."""
        assert self.credit > 0, "send without credit"
        self.credit -= 1
        self.delivery_count = self.delivery_count + 1 & 0xFFFFFFFF
        settled = settled or self.snd_settle_mode == 1
        return self.session.transfer(self, payload, tag, settled, message_format)

    def drained(self) -> None:
        """Nothing more to send now: give the drained credit back."""
        if self.drain and self.state is LinkState.ATTACHED:
            self.delivery_count = self.delivery_count + self.credit & 0xFFFFFFFF
            self.credit = 0
            self.session.send_flow(self)  # says drain: without it, rhea does not take it for the answer
            self.drain = False

    def settle(self, delivery_ids: Iterable[int], state: Any) -> None:
        """Answer a disposition of the peer that was not settled (rcv-settle-mode second)."""
        first = last = -2
        for delivery_id in delivery_ids:
            self.session.unsettled.pop(delivery_id, None)
            self.unsettled.discard(delivery_id)
            if delivery_id == last + 1:
                last = delivery_id
                continue
            if first >= 0:
                self.session.send(Disposition(False, first, last, True, state))
            first = last = delivery_id
        if first >= 0:
            self.session.send(Disposition(False, first, last, True, state))

    def take_flow(self, flow: Flow) -> None:
        if flow.link_credit is not None:
            base = flow.delivery_count if flow.delivery_count is not None else 0
            credit = base + flow.link_credit - self.delivery_count & 0xFFFFFFFF
            # more than half of the range is a peer that counted behind us
            self.credit = 0 if credit > 0x7FFFFFFF else credit
        self.drain = bool(flow.drain)


class ReceivingLink(Link):
    """The peer sends: ``grant`` credit, ``settle`` what came.

    takes_runs: deliveries in the usual form come as DeliveredRun, others as Delivered as ever. Set it by ``take_runs``.
    """

    __slots__ = ("_pieces", "credit", "frames", "partial", "takes_runs")

    def __init__(self, session: "Session", attach: Attach) -> None:
        super().__init__(session, attach)
        self.credit = 0
        self.delivery_count = attach.initial_delivery_count or 0
        self.partial: Delivery | None = None  # the delivery of which more is to come
        self.frames = 0  # of which it came so far
        self._pieces = bytearray()
        self.takes_runs = False

    def take_runs(self) -> None:
        """From now on."""
        self.takes_runs = self.session.connection.takes_runs = True

    def grant(self, credit: int) -> None:
        """The peer may send ``credit`` messages from now on (not in addition to what it had)."""
        if self.state is LinkState.ATTACHED:
            self.credit = credit
            self.session.send_flow(self)

    def settle(self, first: int, last: int, state: Any, *, settled: bool = True) -> None:
        """One disposition for the deliveries ``first`` to ``last``."""
        if self.state is not LinkState.ATTACHED:
            return
        if state is ACCEPTED and settled:
            self.session.accept(first, last)
        else:
            self.session.send(Disposition(True, first, last, settled, state))

    def take_flow(self, flow: Flow) -> None:
        if flow.delivery_count is None:
            return
        # a sender that gives up credit counts it as delivered
        passed = flow.delivery_count - self.delivery_count & 0xFFFFFFFF
        self.credit = max(self.credit - passed, 0) if passed < 0x7FFFFFFF else self.credit
        self.delivery_count = flow.delivery_count

    def detach(self, condition: str | None = None, description: str = "", info: dict[str, Any] | None = None) -> None:
        self.drop_partial()
        super().detach(condition, description, info)

    def begin_partial(self, delivery: Delivery) -> None:
        self.partial, self.frames = delivery, 0

    def add_to_partial(self, payload: bytes) -> None:
        """One more frame; an oversized delivery is only counted."""
        assert self.partial is not None
        self.frames += 1
        self.partial.size += len(payload)
        if not self.partial.oversized:
            self._pieces += payload
            self.session.connection.partial_bytes += len(payload)

    def overflow_partial(self) -> None:
        """It passed the limit: what came of it is given up."""
        assert self.partial is not None
        self.partial.oversized = True
        self._give_up_pieces()

    def finish_partial(self) -> None:
        assert self.partial is not None
        self.partial.payload = bytes(self._pieces)
        self.drop_partial()

    def drop_partial(self) -> None:
        self.partial = None
        self._give_up_pieces()

    def _give_up_pieces(self) -> None:
        if self._pieces:
            self.session.connection.partial_bytes -= len(self._pieces)
            self._pieces = bytearray()


def _terminus(code: int) -> Described:
    return Described(ULong(code), [None])
