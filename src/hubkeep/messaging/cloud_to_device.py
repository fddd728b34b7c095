"""Cloud-to-device messages: queued, locked, settled, expired, purged. Start at ``send``.

The same queue carries what waits for back ends (feedback, file notifications): receivers of both are served alike.
Source: device-protocols 7.3, service-protocols 2.14, limits-and-faults L-D6, L-D7.
"""

import enum
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from hubkeep.errors import BadRequest, LockLost, MessageTooLarge
from hubkeep.limits import CLOUD_TO_DEVICE_LOCK_MAX, CLOUD_TO_DEVICE_LOCK_MIN, Limits
from hubkeep.model import (
    FILE_NOTIFICATIONS,
    Feedback,
    FeedbackStatus,
    Locked,
    Message,
    MessageState,
    Outcome,
    QueuedMessage,
    QueueName,
)
from hubkeep.ports import Bus, Clock, Ended, MessageQueue

QUEUE_CHANGED: Final = "queue.changed"  # on the bus, with the QueueName: there may be something to receive
_ACKS: Final = {"none", "positive", "negative", "full"}
_SWEPT_AT_ONCE: Final = 100
_ENDS_OF_ONE: Final = 50
_QUEUES_REMEMBERED: Final = 1000


class MessageEnd(NamedTuple):
    """at: Unix milliseconds."""

    message_id: str
    status: FeedbackStatus
    at: int


class Move(enum.Enum):
    LOCK = enum.auto()
    COMPLETE = enum.auto()
    ABANDON = enum.auto()
    ABANDON_LAST = enum.auto()  # the count has reached its maximum
    RELEASE = enum.auto()  # the receiver is gone, or its lock lapsed
    REJECT = enum.auto()
    EXPIRE = enum.auto()
    PURGE = enum.auto()


# Every legal move. What is absent is illegal: a receiver's mistake, answered with LockLost.
MOVES: Final = {
    (MessageState.ENQUEUED, Move.LOCK): MessageState.LOCKED,
    (MessageState.ENQUEUED, Move.EXPIRE): MessageState.DEAD,
    (MessageState.ENQUEUED, Move.PURGE): MessageState.DEAD,
    (MessageState.LOCKED, Move.COMPLETE): MessageState.COMPLETED,
    (MessageState.LOCKED, Move.ABANDON): MessageState.ENQUEUED,
    (MessageState.LOCKED, Move.ABANDON_LAST): MessageState.DEAD,
    (MessageState.LOCKED, Move.RELEASE): MessageState.ENQUEUED,
    (MessageState.LOCKED, Move.REJECT): MessageState.DEAD,
    (MessageState.LOCKED, Move.PURGE): MessageState.DEAD,
}
# What the back end that asked is told of a message's end.
STATUS: Final[dict[Move, FeedbackStatus]] = {
    Move.COMPLETE: "Success",
    Move.ABANDON_LAST: "DeliveryCountExceeded",
    Move.REJECT: "Rejected",
    Move.EXPIRE: "Expired",
    Move.PURGE: "Purged",
}
_BY_OUTCOME: Final[dict[Outcome, Move]] = {
    "completed": Move.COMPLETE,
    "abandoned": Move.ABANDON,
    "rejected": Move.REJECT,
    "released": Move.RELEASE,
}


def after(state: MessageState, move: Move) -> MessageState:
    """The state after ``move``. Raises LockLost for a move that is illegal in ``state``."""
    if (state, move) not in MOVES:
        raise LockLost(reason=f"{move.name} in {state.name}")
    return MOVES[state, move]


class CloudToDevice:
    """Messages from back ends to identities, and back ends' own queues."""

    def __init__(
        self, queue: MessageQueue, bus: Bus, clock: Clock, limits: Limits, *, count_lapsed_locks: bool = False
    ) -> None:
        self._count_lapsed_locks = count_lapsed_locks
        self._queue, self._bus, self._clock, self._limits = queue, bus, clock, limits
        self._ends: OrderedDict[QueueName, deque[MessageEnd]] = OrderedDict()
        self.sent = 0

    async def send(self, to: QueueName, message: Message) -> QueuedMessage:
        """Queue a message for an identity; durable on return. An expiry in the past is taken, and feedback tells it.

        Raises BadRequest, MessageTooLarge, QueueFull, DeviceNotFound, ModuleNotFound: then nothing was queued.
        """
        _check(message)
        limits, system = self._limits, message.system
        size = msgspec.structs.replace(message, system=msgspec.structs.replace(system, to=None)).size()
        if size > limits.cloud_to_device_size:
            raise MessageTooLarge(
                reason=f"{size} bytes with properties; the limit is {limits.cloud_to_device_size}",
                remedy="send less at once, or a reference to a blob",
            )
        system = msgspec.structs.replace(
            system,
            to=address_of(to),
            ack=system.ack if system.ack != "none" else None,
            message_id=system.message_id or str(uuid.uuid4()),
        )
        now = int(self._clock.now() * 1000)
        expires = now + limits.cloud_to_device_ttl * 1000 if system.absolute_expiry is None else system.absolute_expiry
        message = msgspec.structs.replace(message, system=system)
        queued = QueuedMessage(queue=to, message=message, enqueued=now, expires=expires)
        queued = await self._queue.put(queued, limits.cloud_to_device_queue)
        self.sent += 1
        self._bus.publish(QUEUE_CHANGED, to)
        return queued

    async def receive(self, queue: QueueName, lock_seconds: float | None = None) -> Locked | None:
        """Lock the oldest message; None when there is none. lock_seconds: None for the default; 5 to 300 are given."""
        if lock_seconds is None:
            seconds: float = self._default_lock(queue)
        else:
            seconds = min(max(lock_seconds, CLOUD_TO_DEVICE_LOCK_MIN.value), CLOUD_TO_DEVICE_LOCK_MAX.value)
        now, wall = self._clock.monotonic(), int(self._clock.now() * 1000)
        return await self._queue.lock(
            queue, now=now, until=now + seconds, wall=wall, skip_lapsed=self._count_lapsed_locks
        )

    async def settle(self, queue: QueueName, lock_token: str, outcome: Outcome) -> None:
        """End a lock. abandoned: back with a higher count, or dead-lettered at the maximum. Raises LockLost."""
        if outcome == "released":
            await self._queue.release(lock_token)
            self._bus.publish(QUEUE_CHANGED, queue)
            return
        now = self._clock.monotonic()
        queued = (await self._queue.locked(queue, lock_token, now)).queued
        move = _BY_OUTCOME[outcome]
        if move is Move.ABANDON and queued.deliveries + 1 >= self._most_deliveries(queue):
            move = Move.ABANDON_LAST
        if after(MessageState.LOCKED, move) is MessageState.ENQUEUED:
            await self._queue.abandon(lock_token, now)
            self._bus.publish(QUEUE_CHANGED, queue)
        elif not await self._end([queued], move):
            raise LockLost(reason="the message was purged or deleted while it was being settled")

    async def purge(self, queue: QueueName) -> int:
        """Dead-letter everything that waits; how many messages that were."""
        return await self._end(await self._queue.waiting(queue), Move.PURGE)

    async def counts(self, device_ids: Sequence[str]) -> Mapping[str, int]:
        """How many messages wait for these devices or are held by them; a device without any is left out."""
        return await self._queue.counts(device_ids)

    async def peek(self, queue: QueueName) -> Sequence[QueuedMessage]:
        """Every message of a queue, oldest first, held by nobody for it."""
        return await self._queue.waiting(queue)

    def recent_ends(self, queue: QueueName) -> Sequence[MessageEnd]:
        """What became of the newest messages that ended since the hub started, for people who look; oldest first."""
        return tuple(self._ends.get(queue, ()))

    async def waiting(self, device_id: str, module_id: str = "") -> int:
        """How many messages wait for one device or module, or are held by it."""
        if module_id:
            return len(await self._queue.waiting(QueueName(device_id, module_id)))
        return (await self._queue.counts([device_id])).get(device_id, 0)

    async def tend(self) -> None:
        """The hub's call each second: wake receivers where locks lapsed, dead-letter what has expired."""
        now = self._clock.monotonic()
        if self._count_lapsed_locks:
            await self._count_lapsed(now)
        else:
            for queue in self._queue.lapsed(now):
                self._bus.publish(QUEUE_CHANGED, queue)
        wall = int(self._clock.now() * 1000)
        while expired := await self._queue.expired(now=now, wall=wall, most=_SWEPT_AT_ONCE):
            await self._end(expired, Move.EXPIRE)

    async def _count_lapsed(self, now: float) -> None:
        """The messages whose locks lapsed are taken for abandoned (device-protocols 7.3)."""
        messages = await self._queue.lapsed_messages(now)
        try:
            for each in messages:
                if each.deliveries + 1 >= self._most_deliveries(each.queue):
                    await self._end([each], Move.ABANDON_LAST)
                else:
                    await self._queue.count(each.sequence)
        finally:
            for each in messages:
                self._queue.show(each.sequence)
                self._bus.publish(QUEUE_CHANGED, each.queue)

    async def _end(self, messages: Iterable[QueuedMessage], move: Move) -> int:
        at, messages = int(self._clock.now() * 1000), list(messages)
        gone = await self._queue.end([Ended(each.sequence, _feedback(each, move, at)) for each in messages])
        self._remember([each for each in messages if each.sequence in gone and each.queue.device_id], move, at)
        return len(gone)

    def _remember(self, messages: Sequence[QueuedMessage], move: Move, at: int) -> None:
        for each in messages:
            ends = self._ends.setdefault(each.queue, deque(maxlen=_ENDS_OF_ONE))
            ends.append(MessageEnd(each.message.system.message_id or "", STATUS[move], at))
            self._ends.move_to_end(each.queue)
        while len(self._ends) > _QUEUES_REMEMBERED:
            self._ends.popitem(last=False)

    def _most_deliveries(self, queue: QueueName) -> int:
        if queue == FILE_NOTIFICATIONS:
            return self._limits.file_notification_deliveries
        return self._limits.cloud_to_device_deliveries if queue.device_id else self._limits.feedback_deliveries

    def _default_lock(self, queue: QueueName) -> int:
        """Seconds."""
        is_file = queue == FILE_NOTIFICATIONS
        return self._limits.file_notification_lock if is_file else self._limits.cloud_to_device_lock


def address_of(queue: QueueName) -> str:
    """What a message for this identity says in ``to``."""
    module = f"/modules/{queue.module_id}" if queue.module_id else ""
    return f"/devices/{queue.device_id}{module}/messages/devicebound"


def _feedback(queued: QueuedMessage, move: Move, at: int) -> Feedback | None:
    """The record that the sender asked for: positive of a success, negative of every other end, full of all."""
    ack, success = queued.message.system.ack, move is Move.COMPLETE
    if ack not in {"full", "positive" if success else "negative"}:
        return None
    return Feedback(
        message_id=queued.message.system.message_id or "",
        status=STATUS[move],
        at=at,
        device_id=queued.queue.device_id,
        module_id=queued.queue.module_id,
        generation_id=queued.generation_id,
    )


def _check(message: Message) -> None:
    """Raises BadRequest for what some receiver could not be told: a header line cannot hold a line break (5.2)."""
    if message.system.ack is not None and message.system.ack not in _ACKS:
        raise BadRequest(f"iothub-ack is one of {', '.join(sorted(_ACKS))}.")
    texts = [value for value in msgspec.structs.astuple(message.system) if isinstance(value, str)]
    for name, value in message.properties.items():
        if not name:
            raise BadRequest("A property has no name.")
        texts += [name, value or ""]
    for text in texts:
        if any(each in text for each in "\r\n\0") or not _is_unicode(text):
            raise BadRequest("A property holds a line break or a null character.")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
