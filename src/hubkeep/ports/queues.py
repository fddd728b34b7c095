"""Stores of messages to devices, and of the sessions that wait for them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from hubkeep.model import (
    Feedback,
    Locked,
    QueuedMessage,
    QueueName,
)


class Ended(NamedTuple):
    """A message that leaves its queue for good, and what is told of it (None: nobody asked)."""

    sequence: int
    feedback: Feedback | None


class MessageQueue(Protocol):
    """Messages that wait, by queue, oldest first. now, until: monotonic seconds; wall: Unix milliseconds.

    What is stored is durable when the call returns. A lock belongs to the running hub: none outlives it.
    """

    async def put(self, message: QueuedMessage, most: int) -> QueuedMessage:
        """Append; returned with sequence and generation id. Raises QueueFull, DeviceNotFound, ModuleNotFound.

        most: unexpired messages that the queue may hold with it; 0 for any number.
        """

    async def lock(
        self, queue: QueueName, *, now: float, until: float, wall: int, skip_lapsed: bool = False
    ) -> Locked | None:
        """Hide and return the oldest visible message that has not expired; None when there is none.

        skip_lapsed: those whose lock lapsed wait for ``lapsed_messages``.
        """

    async def locked(self, queue: QueueName, lock_token: str, now: float) -> Locked:
        """The message that this token holds in this queue. Raises LockLost."""

    async def release(self, lock_token: str) -> None:
        """Visible again, in its old place, its count the same. Harmless when the lock is gone."""

    async def abandon(self, lock_token: str, now: float) -> None:
        """Visible again, in its old place, its count one higher. Raises LockLost."""

    async def count(self, sequence: int) -> None:
        """One delivery more of a message of ``lapsed_messages``."""

    def show(self, sequence: int) -> None:
        """A message of ``lapsed_messages`` may be locked again. Harmless when it is gone."""

    async def end(self, messages: Sequence[Ended]) -> Sequence[int]:
        """Remove messages and store their feedback, in one transaction. The sequences that were still there."""

    async def waiting(self, queue: QueueName) -> Sequence[QueuedMessage]:
        """Every message, locked and expired ones included."""

    async def counts(self, device_ids: Sequence[str]) -> Mapping[str, int]:
        """Messages in the queues of these devices (not their modules'); a device without any is left out."""

    async def expired(self, *, now: float, wall: int, most: int) -> Sequence[QueuedMessage]:
        """Messages of any queue whose time is over and that nobody holds."""

    def lapsed(self, now: float) -> Sequence[QueueName]:
        """Queues in which locks lapsed since the last call; their messages are visible again."""

    async def lapsed_messages(self, now: float) -> Sequence[QueuedMessage]:
        """Instead of ``lapsed``: the messages whose locks lapsed, which nobody may lock before ``show``."""


class FeedbackStore(Protocol):
    """Feedback records that wait to be sent together."""

    async def feedback(self, most: int) -> Sequence[tuple[int, Feedback]]:
        """The oldest records with their numbers."""

    async def bundle(self, numbers: Sequence[int], message: QueuedMessage) -> None:
        """Replace these records by one queued message, in one transaction."""


class StoredSession(NamedTuple):
    """filters: to granted QoS. expiry: seconds that it outlives its connection; None for ever.

    ended: Unix seconds at which the identity's last connection went; None while it has one.
    """

    filters: Mapping[bytes, int]
    expiry: int | None
    ended: float | None

    def is_over(self, now: float) -> bool:
        """now: Unix seconds."""
        return self.expiry is not None and self.ended is not None and now >= self.ended + self.expiry


class SubscriptionStore(Protocol):
    """What MQTT clients have subscribed, for their next connection (device-protocols 3.3)."""

    def session(self, device_id: str, module_id: str) -> StoredSession | None:
        """None when nothing is stored."""

    async def keep(
        self, device_id: str, module_id: str, filters: Mapping[bytes, int], expiry: int | None = None
    ) -> None:
        """Store them instead of what was stored, durably; empty ones are forgotten."""
