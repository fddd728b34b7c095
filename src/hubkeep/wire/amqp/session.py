"""Sessions: windows, delivery ids, and the links on them. Source: AMQP 1.0 part 2, 2.5."""

import struct
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from .events import Credited, Delivered, Event, LinkAttached, LinkDetached, Settled
from .link import Delivery, Link, LinkState, Move, ReceivingLink, SendingLink, after
from .performatives import (
    Attach,
    Begin,
    Detach,
    Disposition,
    End,
    Flow,
    Performative,
    Transfer,
    encode_performative,
    error,
    frame,
)
from .types import AmqpError

if TYPE_CHECKING:
    from .connection import HubConnection

_UINT: Final = struct.Struct(">I")
_LINK_BYTES: Final = 1024  # what a link takes besides its attach, about
_FRAMES: Final = 16  # of one delivery, besides one for each 64 bytes: a peer may send empty ones without end
# all six fields of a disposition: a receiver's, first and last, settled, accepted, no word of batchable
_ACCEPTED_HEAD: Final = b"\x00\x00\x00\x27\x02\x00%b\x00\x53\x15\xd0\x00\x00\x00\x17\x00\x00\x00\x06\x41"
_ACCEPTED_END: Final = b"\x41\x00\x53\x24\xc0\x01\x00\x40"
_IDS: Final = struct.Struct(">BIBI")
_TRANSFER_END: Final = b"\x40\x40\x42\x42\x42"  # rcv-settle-mode, state, resume, aborted, batchable


class Session:
    """One session. Made by the engine at the peer's begin."""

    __slots__ = (
        "_by_name",
        "_delivery_id",
        "_incoming_window",
        "_next_incoming_id",
        "_next_outgoing_id",
        "_queue",
        "_remote_window",
        "channel",
        "connection",
        "ended",
        "handle_max",
        "links",
        "unsettled",
    )

    def __init__(self, connection: "HubConnection", channel: int, begin: Begin) -> None:
        self.connection, self.channel = connection, channel
        self.links: dict[int, Link] = {}
        self._by_name: dict[str, SendingLink] = {}
        self.unsettled: dict[int, SendingLink] = {}
        self.ended = False
        self.handle_max = min(
            connection.bounds.links - 1, begin.handle_max if begin.handle_max is not None else 0xFFFFFFFF
        )
        self._next_incoming_id = begin.next_outgoing_id
        self._incoming_window = connection.bounds.incoming_window
        self._remote_window = begin.incoming_window
        self._next_outgoing_id = self._delivery_id = 0
        self._queue: deque[bytes] = deque()
        self.send(Begin(channel, 0, self._incoming_window, 0x7FFFFFFF, connection.bounds.links - 1))

    @property
    def blocked(self) -> bool:
        """The peer's incoming window is used up, or the session over: nothing can be sent until it opens."""
        return self.ended or self._remote_window <= 0 or bool(self._queue)

    def end(self, condition: str | None = None, description: str = "") -> None:
        """End the session. Does nothing when it has ended."""
        if not self.ended:
            self.send(End(error(condition, description) if condition else None))
            self.ended = True
            self.connection.session_over(self)

    def refuse(self, condition: str, description: str) -> None:
        """End it before anybody was told that it began."""
        self.send(End(error(condition, description)))
        self.ended = True

    def drop(self, link: Link) -> None:
        """The link is over on both sides, or its session is: nothing of it is kept."""
        if self.links.get(link.handle) is not link:
            return
        del self.links[link.handle]
        connection = self.connection
        connection.links -= 1
        connection.link_bytes -= link.size
        if isinstance(link, SendingLink):
            if self._by_name.get(link.name) is link:
                del self._by_name[link.name]
            for delivery_id in link.unsettled:
                self.unsettled.pop(delivery_id, None)
            link.unsettled.clear()
        elif isinstance(link, ReceivingLink):
            link.drop_partial()

    def send(self, performative: Performative) -> None:
        if self.ended:
            return  # a late answer to an attach: nothing may follow an end
        self.connection.send_frame(frame(self.channel, encode_performative(performative)))

    def accept(self, first: int, last: int) -> None:
        """A disposition of the one kind that is sent for each run of telemetry."""
        if not self.ended:
            self.connection.send_frame(
                _ACCEPTED_HEAD % self.channel.to_bytes(2) + _IDS.pack(0x70, first, 0x70, last) + _ACCEPTED_END
            )

    def send_flow(self, link: Link | None = None) -> None:
        """Tell the session's window, and with a link its credit."""
        common = (self._next_incoming_id & 0xFFFFFFFF, self._incoming_window, self._next_outgoing_id, 0x7FFFFFFF)
        if link is None:
            self.send(Flow(*common))
            return
        credit = link.credit if isinstance(link, (SendingLink, ReceivingLink)) else 0
        drain = link.drain if isinstance(link, SendingLink) else False
        self.send(Flow(*common, link.handle, link.delivery_count, credit, 0, drain, False))

    # -- sending -----------------------------------------------------------------------------------------------------

    def transfer(self, link: SendingLink, payload: bytes, tag: bytes, settled: bool, message_format: int) -> int:
        """Frames of one delivery, within the peer's frame size; what its window does not admit waits."""
        delivery_id = self._delivery_id
        self._delivery_id = delivery_id + 1 & 0xFFFFFFFF
        if not settled:
            self.unsettled[delivery_id] = link
            link.unsettled.add(delivery_id)
        if message_format or len(tag) > 32:
            fields = b"\x70%b\x70%b\xa0%c%b\x70%b" % (
                _UINT.pack(link.handle),
                _UINT.pack(delivery_id),
                len(tag),
                tag,
                _UINT.pack(message_format),
            )
        else:
            fields = b"\x70%b\x70%b\xa0%c%b\x43" % (_UINT.pack(link.handle), _UINT.pack(delivery_id), len(tag), tag)
        fields += b"\x41" if settled else b"\x42"
        room = self.connection.peer_max_frame - 26 - len(fields)
        if len(payload) <= room:
            self._transfer_frame(fields + b"\x42" + _TRANSFER_END, payload)
        else:
            for at in range(0, len(payload), room):
                more = b"\x41" if at + room < len(payload) else b"\x42"
                self._transfer_frame(fields + more + _TRANSFER_END, payload[at : at + room])
        return delivery_id

    def _transfer_frame(self, fields: bytes, payload: bytes) -> None:
        size = len(fields)
        raw = b"%b\x02\x00%b\x00\x53\x14\xd0%b\x00\x00\x00\x0b%b%b" % (
            _UINT.pack(20 + size + len(payload)),
            self.channel.to_bytes(2),
            _UINT.pack(size + 4),
            fields,
            payload,
        )
        if self._remote_window > 0 and not self._queue:
            self._remote_window -= 1
            self._next_outgoing_id = self._next_outgoing_id + 1 & 0xFFFFFFFF
            self.connection.send_frame(raw)
        else:
            self._queue.append(raw)

    # -- receiving ---------------------------------------------------------------------------------------------------

    def handle(self, performative: Any, payload: bytes) -> Iterator[Event]:
        """Events of one frame on this session. Raises AmqpError for what ends the connection."""
        if self.ended and not isinstance(performative, End):
            return  # frames in flight when the hub ended it (S-R15)
        if isinstance(performative, Transfer):
            yield from self._take_transfer(performative, payload)
        elif isinstance(performative, Flow):
            yield from self._take_flow(performative)
        elif isinstance(performative, Disposition):
            yield from self._take_disposition(performative)
        elif isinstance(performative, Attach):
            yield from self._take_attach(performative)
        elif isinstance(performative, Detach):
            yield from self._take_detach(performative)

    def _take_attach(self, attach: Attach) -> Iterator[Event]:
        connection = self.connection
        size = _LINK_BYTES + connection.frame_size
        if (
            attach.handle > self.handle_max
            or connection.links >= connection.bounds.links
            or connection.link_bytes + size > connection.bounds.link_bytes
        ):
            self.end("amqp:not-allowed", "too many links")
            return
        if attach.handle in self.links:
            self.end("amqp:session:handle-in-use", "the handle is in use")
            return
        link: Link
        if attach.role:
            namesake = self._by_name.get(attach.name)
            if namesake is not None and namesake.state is LinkState.ATTACHED:
                self.end("amqp:not-allowed", "the link name is in use")
                return
            link = self._by_name[attach.name] = SendingLink(self, attach)
        else:
            link = ReceivingLink(self, attach)
        link.size = size
        self.links[attach.handle] = link
        connection.links += 1
        connection.link_bytes += size
        yield LinkAttached(link)

    def _take_detach(self, detach: Detach) -> Iterator[Event]:
        link = self.links.get(detach.handle)
        if link is None:
            return
        link.state = after(link.state, Move.RECV_DETACH)
        if link.state is LinkState.DETACH_RECEIVED:
            if link.initiated:
                link.state = after(link.state, Move.SEND_DETACH)
                self.send(Detach(link.handle, True if detach.closed is None else detach.closed, None))
                self.drop(link)
        else:
            self.drop(link)
        yield LinkDetached(link, detach.error)

    def _take_flow(self, flow: Flow) -> Iterator[Event]:
        was_blocked = self.blocked
        base = flow.next_incoming_id if flow.next_incoming_id is not None else 0
        window = base + flow.incoming_window - self._next_outgoing_id & 0xFFFFFFFF
        self._remote_window = 0 if window > 0x7FFFFFFF else window
        while self._queue and self._remote_window > 0:
            self._remote_window -= 1
            self._next_outgoing_id = self._next_outgoing_id + 1 & 0xFFFFFFFF
            self.connection.send_frame(self._queue.popleft())
        if was_blocked and not self.blocked:
            for link in tuple(self.links.values()):
                if isinstance(link, SendingLink) and link.sendable and link.handle != flow.handle:
                    yield Credited(link)
        if flow.handle is None:
            if flow.echo:
                self.connection.answer_flow(self, None)
            return
        link_of = self.links.get(flow.handle)
        if link_of is None:
            self.end("amqp:session:unattached-handle", "flow for a handle without a link")
            return
        if isinstance(link_of, SendingLink):
            link_of.take_flow(flow)
            if link_of.credit or link_of.drain:
                yield Credited(link_of)
        elif isinstance(link_of, ReceivingLink):
            link_of.take_flow(flow)
        if flow.echo and link_of.is_attached:
            self.connection.answer_flow(self, link_of)

    def _take_disposition(self, disposition: Disposition) -> Iterator[Event]:
        if not disposition.role:
            return  # the peer settles what it sent: nothing is kept of that
        unsettled = self.unsettled
        ids = self._unsettled_between(disposition.first, disposition.last)
        by_link: dict[SendingLink, list[int]] = {}
        for delivery_id in ids:
            link = unsettled[delivery_id]
            by_link.setdefault(link, []).append(delivery_id)
            if disposition.settled:
                del unsettled[delivery_id]
                link.unsettled.discard(delivery_id)
        for link, of_link in by_link.items():
            yield Settled(link, tuple(of_link), disposition.state, bool(disposition.settled))

    def _unsettled_between(self, first: int, last: int | None) -> list[int]:
        """Ids are serial numbers of 32 bits: a range may pass their end, and one that runs backwards is empty."""
        unsettled = self.unsettled
        span = 0 if last is None else last - first
        if span < 0:
            span &= 0xFFFFFFFF
            if span > 0x7FFFFFFF:
                return []
        if not unsettled or (self._delivery_id - 1 - first & 0xFFFFFFFF) > 0x7FFFFFFF:
            return []  # not sent yet
        if span < len(unsettled):
            ids = (first + step & 0xFFFFFFFF for step in range(span + 1))
            return [each for each in ids if each in unsettled]
        return [each for each in unsettled if (each - first & 0xFFFFFFFF) <= span]

    def link_for_runs(self, handle: int) -> tuple[ReceivingLink, int] | None:
        """The link of a transfer that may begin a run, and how many deliveries the run may have."""
        link = self.links.get(handle)
        if (
            not isinstance(link, ReceivingLink)
            or not link.takes_runs
            or link.state is not LinkState.ATTACHED
            or link.partial is not None
            or link.credit <= 0
            or self.ended
        ):
            return None
        return link, min(link.credit, self._incoming_window)

    def count_run(self, link: ReceivingLink, count: int) -> None:
        """The deliveries of a run have come."""
        self._next_incoming_id = self._next_incoming_id + count & 0xFFFFFFFF
        self._incoming_window -= count
        if self._incoming_window <= self.connection.bounds.incoming_window // 2:
            self._incoming_window = self.connection.bounds.incoming_window
            self.send_flow()
        link.credit -= count
        link.delivery_count = link.delivery_count + count & 0xFFFFFFFF

    def _take_transfer(self, transfer: Transfer, payload: bytes) -> Iterator[Event]:
        self._next_incoming_id = self._next_incoming_id + 1 & 0xFFFFFFFF
        self._incoming_window -= 1
        if self._incoming_window < 0:
            self.end("amqp:session:window-violation", "more transfers than the window")
            return
        if self._incoming_window <= self.connection.bounds.incoming_window // 2:
            self._incoming_window = self.connection.bounds.incoming_window
            self.send_flow()
        link = self.links.get(transfer.handle)
        if not isinstance(link, ReceivingLink) or link.state is LinkState.ATTACH_RECEIVED:
            self.end("amqp:session:unattached-handle", "transfer on a handle without a link")
            return
        if link.state is not LinkState.ATTACHED:
            link.state = after(link.state, Move.RECV_TRANSFER)
            return
        delivery = link.partial
        if delivery is None:
            if link.credit <= 0:
                link.detach("amqp:link:transfer-limit-exceeded", "transfer without credit")
                return
            if transfer.delivery_id is None or transfer.delivery_tag is None or len(transfer.delivery_tag) > 32:
                raise AmqpError("amqp:decode-error", "a first transfer without delivery id or tag")
            link.credit -= 1
            link.delivery_count = link.delivery_count + 1 & 0xFFFFFFFF
            delivery = Delivery(
                transfer.delivery_id, transfer.delivery_tag, transfer.message_format or 0, bool(transfer.settled)
            )
            if not transfer.more and not transfer.aborted:
                delivery.size = len(payload)
                delivery.oversized = delivery.size > self.connection.bounds.delivery_kept
                delivery.payload = b"" if delivery.oversized else payload
                yield Delivered(link, delivery)
                return
            link.begin_partial(delivery)
        elif transfer.delivery_id is not None and transfer.delivery_id != delivery.delivery_id:
            link.detach("amqp:not-allowed", "deliveries on one link are interleaved")
            return
        delivery.settled = delivery.settled or bool(transfer.settled)
        if transfer.aborted:
            link.drop_partial()
            return
        bounds = self.connection.bounds
        link.add_to_partial(payload)
        if delivery.size > bounds.delivery_counted or link.frames > _FRAMES + bounds.delivery_counted // 64:
            link.detach("amqp:link:message-size-exceeded", "the delivery is too large")
            return
        if delivery.size > bounds.delivery_kept:
            link.overflow_partial()
        elif self.connection.partial_bytes > bounds.partial_bytes:
            link.detach("amqp:resource-limit-exceeded", "too much of unfinished deliveries")
            return
        if not transfer.more:
            link.finish_partial()
            yield Delivered(link, delivery)
