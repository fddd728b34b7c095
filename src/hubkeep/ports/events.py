"""The event log and what is kept about reading it."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from hubkeep.errors import HubError
from hubkeep.model import (
    ConsumerGroup,
    Principal,
    RetentionChange,
    SystemProperties,
)


class RetentionStore(Protocol):
    """What the event log retains, where that was changed while the hub ran. Durable when ``put`` returns."""

    async def get(self) -> RetentionChange: ...

    async def put(self, chosen: RetentionChange) -> None: ...


class ConsumerGroupStore(Protocol):
    """Those that were made while the hub ran. What is stored is durable when the call returns."""

    async def all(self) -> Sequence[ConsumerGroup]: ...

    async def add(self, group: ConsumerGroup) -> None: ...

    async def remove(self, name: str) -> None: ...


class Event(NamedTuple):
    """One stored event. head and tail: see EventEncoding."""

    sequence: int
    offset: int
    enqueued: int  # Unix milliseconds, never going down within a partition
    head: bytes
    tail: bytes


class PartitionState(NamedTuple):
    """first_sequence: of the oldest retained event. last_*: of the newest; -1 and 0 when nothing was ever stored."""

    first_sequence: int
    last_sequence: int
    last_offset: int
    last_enqueued: int

    @property
    def is_empty(self) -> bool:
        return self.last_sequence < self.first_sequence


class EventLog(Protocol):
    """Telemetry, by partition, in order, durable before it is acknowledged.

    All methods run on the hub's event loop.
    """

    partitions: int
    pending_bytes: int  # appended and not yet durable

    def append(
        self,
        partition: int,
        head: bytes,
        tails: Sequence[bytes],
        on_durable: Callable[[HubError | None], None] | None,
    ) -> None:
        """Put events into the open batch; ``on_durable(None)`` runs once they are on disk, or with the refusal.

        Raises StoreUnavailable when nothing can be stored now: then nothing was stored, nothing is acknowledged.
        """

    def state(self, partition: int) -> PartitionState: ...

    async def read(self, partition: int, sequence: int, max_bytes: int) -> Sequence[Event]:
        """Events from ``sequence`` on (the oldest retained if that is gone); empty when there is none yet.

        Raises EventLogDamaged naming the range that does not match its checksum or is missing.
        """

    def read_cached(self, partition: int, sequence: int, max_bytes: int) -> Sequence[Event] | None:
        """The same without waiting, from memory; None when they are not there and ``read`` must be asked."""

    async def sequence_at_offset(self, partition: int, offset: int) -> int:
        """The sequence number of the first event whose offset is at least ``offset``."""

    async def sequence_after_time(self, partition: int, milliseconds: int) -> int:
        """The sequence number of the first event enqueued after ``milliseconds``."""

    def on_commit(self, partition: int, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` after each commit to the partition. Returns what ends that."""


class FlowControlledLog(EventLog, Protocol):
    """A log that tells its writers when to wait."""

    @property
    def congested(self) -> bool:
        """More is waiting for the disk than the hub wants to hold: leave sockets unread until ``when_relieved``."""

    def when_relieved(self, call: Callable[[], None]) -> None:
        """Call once when ``congested`` has become false."""


class EventEncoding(Protocol):
    """The stored form of an event, encoded once.

    head: what is the same for all events of one sender (identity annotations); it is stored once per batch.
    sections: what depends on the properties alone; senders repeat themselves, so callers may keep it.
    tail: ingress time, sections and body, ready for readers.
    """

    def head(self, sender: Principal, *, source: str = "Telemetry", model_id: str | None = None) -> bytes: ...

    def sections(self, sender: Principal, system: SystemProperties, properties: Mapping[str, str | None]) -> bytes: ...

    def tail(self, ingress: int, sections: bytes, body: bytes) -> bytes:
        """ingress: Unix milliseconds."""

    def hub_head(self, device_id: str, module_id: str, source: str) -> bytes:
        """Of an event that the hub tells by itself: no credential stands behind it."""

    def hub_sections(self, system: SystemProperties, properties: Mapping[str, str | None]) -> bytes: ...
