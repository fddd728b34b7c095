"""Messages that wait for somebody: an identity's cloud-to-device messages, and what waits for back ends."""

import enum
from typing import Literal, NamedTuple

import msgspec

from .message import Message

Outcome = Literal["completed", "abandoned", "rejected", "released"]
FeedbackStatus = Literal["Success", "Expired", "DeliveryCountExceeded", "Rejected", "Purged"]


class QueueName(NamedTuple):
    """Whose queue. An empty ``device_id``, which no device has, is a queue for back ends: ``module_id`` names it."""

    device_id: str
    module_id: str = ""


FEEDBACK = QueueName("", "feedback")
FILE_NOTIFICATIONS = QueueName("", "filenotifications")


class QueuedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """sequence: grows over all queues; 0 until it is stored. enqueued, expires: Unix milliseconds.

    deliveries: how often it was abandoned. generation_id: of the identity at the time of queueing.
    """

    queue: QueueName
    message: Message
    enqueued: int
    expires: int
    sequence: int = 0
    deliveries: int = 0
    generation_id: str = ""


class Locked(msgspec.Struct, frozen=True, kw_only=True):
    """A message that one receiver holds. lock_token: 32 hex digits. again: it was handed out before."""

    lock_token: str
    queued: QueuedMessage
    again: bool = False


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one message, for the back end that asked. at: Unix milliseconds."""

    message_id: str
    status: FeedbackStatus
    at: int
    device_id: str
    module_id: str
    generation_id: str


class MessageState(enum.Enum):
    ENQUEUED = enum.auto()
    LOCKED = enum.auto()  # invisible to others
    COMPLETED = enum.auto()
    DEAD = enum.auto()  # dead-lettered
