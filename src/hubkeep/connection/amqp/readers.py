"""Readers of the Event Hubs-compatible endpoint: owner levels, positions, feeding (service-protocols 5.5 to 5.7)."""

import asyncio
import struct
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from hubkeep.errors import HubError, LinkStolen, NotFound, ResourceLimit
from hubkeep.limits import Limits
from hubkeep.ports import Event
from hubkeep.wire.amqp import Link, SendingLink, Settled, Timestamp
from hubkeep.wire.amqp.messages import delivery_annotations_section

from ..event_encoding import delivered
from .addresses import Position
from .endpoint import LinkEndpoint

if TYPE_CHECKING:
    from .link import AmqpLink

_STEP_BYTES: Final = 128 * 1024  # read at once
_TURN_EVENTS: Final = 256  # sent before other links of the loop get their turn
_UNSETTLED: Final = 20_000  # sent and not settled by the peer: no more are kept
_TAG: Final = struct.Struct(">Q")


class Readers:
    """Who reads what: receivers per consumer group and partition, with their owner levels."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._readers: dict[tuple[str, int], list[Reader]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._readers.values()))

    def admit(self, reader: "Reader") -> None:
        """Let a reader in, detaching the ones it outranks. Raises LinkStolen, ResourceLimit (5.7)."""
        present = self._readers.setdefault((reader.group, reader.partition), [])
        owner = max((each.epoch for each in present if each.epoch is not None), default=None)
        if owner is not None and (reader.epoch is None or reader.epoch < owner):
            raise LinkStolen(
                "A receiver with a higher owner level is connected.",
                cause="owner-level",
                reason=f"partition {reader.partition} of {reader.group} is read with owner level {owner}",
                remedy="read with a higher owner level, or another consumer group",
            )
        if reader.epoch is None and len(present) >= self._limits.receivers_without_epoch:
            raise ResourceLimit(
                cause="receivers-too-many",
                reason=f"{len(present)} receivers read partition {reader.partition} of {reader.group}",
            )
        if reader.epoch is not None:
            for older in tuple(present):
                older.end(LinkStolen("A receiver with a higher owner level took over.", cause="owner-level"))
        present.append(reader)

    def end_group(self, group: str) -> None:
        """Detach all readers of a consumer group that is no more."""
        for (of_group, _), present in tuple(self._readers.items()):
            if of_group == group:
                for each in tuple(present):
                    each.end(NotFound("The consumer group was deleted."))

    def forget(self, reader: "Reader") -> None:
        present = self._readers.get((reader.group, reader.partition), [])
        if reader in present:
            present.remove(reader)


class Reader(LinkEndpoint):
    """One receiver link of a back end. ``wake`` whenever there may be something to send."""

    __slots__ = (
        "_connection",
        "_end_wakes",
        "_gone",
        "_link",
        "_log",
        "_number",
        "_position",
        "_reading",
        "_sequence",
        "_starting",
        "_tell_runtime",
        "_turn",
        "epoch",
        "group",
        "partition",
    )

    def __init__(
        self,
        connection: "AmqpLink",
        link: SendingLink,
        *,
        group: str,
        partition: int,
        position: Position,
        epoch: int | None,
        tell_runtime: bool,
    ) -> None:
        self._connection, self._link, self._log = connection, link, connection.listener.log
        self._position = position
        self.group, self.partition, self.epoch = group, partition, epoch
        self._tell_runtime = tell_runtime
        self._sequence = 0
        self._number = 0
        self._starting, self._gone = True, False
        self._reading: asyncio.Task[None] | None = None
        self._turn: asyncio.Handle | None = None
        self._end_wakes: Any = None

    async def start(self) -> None:
        """Find the first event to send, then accept the link. ``@latest`` is what comes after now."""
        log, partition, position = self._log, self.partition, self._position
        state = log.state(partition)
        if position.value is None:
            self._sequence = state.last_sequence + 1
        elif position.kind == "sequence":
            self._sequence = max(position.value if position.inclusive else position.value + 1, 0)
        elif position.kind == "time":
            self._sequence = await log.sequence_after_time(partition, position.value - int(position.inclusive))
        elif position.value < 0:
            self._sequence = state.first_sequence
        else:
            self._sequence = await log.sequence_at_offset(partition, position.value + int(not position.inclusive))
        if self._gone:
            return  # outranked, or its connection lost, while the log was asked
        self._end_wakes = log.on_commit(partition, self.wake)
        self._starting = False
        self._link.accept()
        self.wake()

    def credited(self, link: SendingLink) -> None:
        self.wake()

    def settled(self, event: Settled) -> None:
        self.wake()

    def writable(self) -> None:
        self.wake()

    def detached(self, link: Link) -> None:
        self._gone = True
        self._connection.listener.readers.forget(self)
        if self._end_wakes is not None:
            self._end_wakes()
        if self._reading is not None:
            self._reading.cancel()
        if self._turn is not None:
            self._turn.cancel()

    def end(self, error: HubError) -> None:
        """Detach the peer with ``error``."""
        self._connection.end_link(self._link, error)

    def wake(self) -> None:
        """Send what may be sent."""
        if self._starting or self._reading is not None or self._turn is not None or self._connection.is_clogged:
            return
        link, sent = self._link, 0
        while link.sendable and len(link.session.unsettled) < _UNSETTLED:
            events = self._log.read_cached(self.partition, self._sequence, _STEP_BYTES)
            if events is None:
                self._reading = asyncio.get_running_loop().create_task(self._read())
                break
            if not events:
                if link.drain:
                    link.drained()
                break
            sent += self._send(events)
            if sent >= _TURN_EVENTS:
                self._turn = asyncio.get_running_loop().call_soon(self._next_turn)
                break
        self._connection.flush()

    def _next_turn(self) -> None:
        self._turn = None
        self.wake()

    async def _read(self) -> None:
        try:
            events = await self._log.read(self.partition, self._sequence, _STEP_BYTES)
            self._send(events)
        except HubError as error:
            self.end(error)
            return
        finally:
            self._reading = None
        if events:
            self.wake()
        elif self._link.drain:
            self._link.drained()
        self._connection.flush()

    def _send(self, events: Sequence[Event]) -> int:
        link, sent = self._link, 0
        prefix = self._runtime() if self._tell_runtime else b""
        for event in events:
            if not link.sendable:
                break
            if event.sequence < self._sequence:
                continue
            self._number += 1
            link.send(prefix + delivered(event), tag=_TAG.pack(self._number))
            self._sequence = event.sequence + 1
            sent += 1
        return sent

    def _runtime(self) -> bytes:
        """What the peer asked to be told with every event: where the partition ends now."""
        state = self._log.state(self.partition)
        return delivery_annotations_section(
            {
                "last_enqueued_sequence_number": state.last_sequence,
                "last_enqueued_offset": str(state.last_offset),
                "last_enqueued_time_utc": Timestamp(state.last_enqueued),
                "runtime_info_retrieval_time_utc": Timestamp(int(time.time() * 1000)),
            }
        )
