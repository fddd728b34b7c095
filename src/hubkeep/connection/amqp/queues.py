"""Receivers of queued messages: a device's own, and back ends' of feedback and file notifications.

A delivery's tag is its lock token; the peer's outcome settles the lock. What a link that ends has not settled is
visible again at once. Source: device-protocols 4.7, service-protocols 4.4.
"""

import asyncio
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from hubkeep.errors import HubError, on_wire
from hubkeep.model import FEEDBACK, FILE_NOTIFICATIONS, Locked, Outcome, Principal, QueuedMessage, QueueName
from hubkeep.wire.amqp import (
    Link,
    SendingLink,
    Settled,
    Symbol,
    Timestamp,
    UByte,
    ULong,
    message,
    outcome_name,
    rejected,
)

from ..deliveries import Feed
from .endpoint import LinkEndpoint

if TYPE_CHECKING:
    from .link import AmqpLink

_UNSETTLED: Final = 100  # sent and not settled by the peer: no more are kept
_OUTCOMES: Final[dict[str, Outcome]] = {
    "accepted": "completed",
    "released": "abandoned",
    "modified": "abandoned",
    "rejected": "rejected",
}


class QueueLink(LinkEndpoint):
    """One receiver link on one queue. Also a deliveries.Receiver."""

    __slots__ = ("_connection", "_encode", "_feed", "_identity", "_link", "_operation", "_queue", "_sent")

    settles = True

    def __init__(
        self,
        connection: "AmqpLink",
        link: SendingLink,
        queue: QueueName,
        operation: str,
        encode: Callable[[Locked], bytes],
    ) -> None:
        self._connection, self._link, self._queue, self._encode = connection, link, queue, encode
        self._operation, self._identity = operation, "/".join(filter(None, queue)) if queue.device_id else ""
        self._feed: Feed | None = None
        self._sent: dict[int, Locked] = {}  # delivery id to what the peer holds

    # -- LinkEndpoint ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._link.accept()
        self._feed = self._connection.listener.deliveries.open(self._queue, self)

    def credited(self, link: SendingLink) -> None:
        self._wake()

    def writable(self) -> None:
        self._wake()

    def settled(self, event: Settled) -> None:
        """A second outcome for a delivery, as Node sends it, is passed over."""
        name = outcome_name(event.state)
        outcome = _OUTCOMES.get(name)
        if outcome is None and event.settled:
            outcome = "completed"  # settled without a word, or half-way: nobody else will have it
        if outcome is None or self._feed is None:
            return
        for delivery_id in event.delivery_ids:
            if (held := self._sent.pop(delivery_id, None)) is not None:
                task = self._feed.settle(held, outcome)
                if not event.settled:
                    task.add_done_callback(self._answering(delivery_id, event.state))

    def detached(self, link: Link) -> None:
        self._sent.clear()
        if self._feed is not None:
            self._feed.stop()
            self._feed = None

    # -- deliveries.Receiver -----------------------------------------------------------------------------------------

    def room(self) -> int:
        if self._connection.is_clogged:
            return 0
        return min(self._link.sendable, _UNSETTLED - len(self._sent))

    def deliver(self, held: Locked) -> None:
        link = self._link
        delivery_id = link.send(self._encode(held), tag=bytes.fromhex(held.lock_token))
        if link.snd_settle_mode == 1:
            assert self._feed is not None, "a feed delivers only while it is open"
            self._feed.settle(held, "completed")
        else:
            self._sent[delivery_id] = held
        # a TLS record each: of two that it reads at once rhea settles both with the outcome of the first
        self._connection.flush()

    def write_out(self) -> None:
        return

    def idle(self) -> None:
        if self._link.drain:
            self._link.drained()
            self._connection.flush()

    def failed(self, error: HubError) -> None:
        self._connection.end_link(self._link, error)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._feed is not None:
            self._feed.wake()

    def _answering(self, delivery_id: int, state: Any) -> Callable[["asyncio.Task[HubError | None]"], None]:
        """The peer waits for the hub's own word (rcv-settle-mode second): the same state, or why it is not so."""

        def answer(task: "asyncio.Task[HubError | None]") -> None:
            error = task.result()
            answered = state
            if error is not None:
                self._connection.refused(error, self._operation, self._identity)
                info = {"com.microsoft:tracking-id": error.tracking_id}
                answered = rejected(on_wire(error).amqp, str(error), info)
            self._link.settle([delivery_id], answered)
            self._connection.flush()

        return answer


class InputsLink(LinkEndpoint):
    """A module that waits for inputs: a hub routes none to it, so the link stays silent (device-protocols 3.11)."""

    __slots__ = ("_link",)

    def __init__(self, _connection: "AmqpLink", link: SendingLink, _principal: Principal) -> None:
        self._link = link

    async def start(self) -> None:
        self._link.accept()

    def credited(self, link: SendingLink) -> None:
        if link.drain:
            link.drained()


def device_bound(connection: "AmqpLink", link: SendingLink, principal: Principal) -> QueueLink:
    """An identity's own queue."""
    queue = QueueName(principal.device_id, principal.module_id)
    return QueueLink(connection, link, queue, "devicebound/attach", encode_device_bound)


def feedback(connection: "AmqpLink", link: SendingLink, _principal: Principal) -> QueueLink:
    """What became of messages; several receivers share it."""
    return QueueLink(connection, link, FEEDBACK, "feedback/attach", encode_service_bound)


def file_notifications(connection: "AmqpLink", link: SendingLink, _principal: Principal) -> QueueLink:
    """What devices have uploaded; several receivers share it."""
    return QueueLink(connection, link, FILE_NOTIFICATIONS, "filenotifications/attach", encode_service_bound)


def encode_device_bound(held: Locked) -> bytes:
    """A cloud-to-device message in the types that clients insist on (4.7)."""
    queued = held.queued
    system = queued.message.system
    application = {name: value or "" for name, value in queued.message.properties.items()}
    named = {
        "iothub-ack": system.ack,
        "iothub-operation": system.operation,
        "iothub-message-schema": system.schema,
        "iothub-creation-time-utc": system.creation_time,
    }
    application.update((name, value) for name, value in named.items() if value is not None)
    annotations = {
        Symbol("iothub-enqueuedtime"): Timestamp(queued.enqueued),
        Symbol("iothub-deliverycount"): UByte(min(queued.deliveries, 255)),
        Symbol("x-opt-sequence-number"): ULong(queued.sequence),
        Symbol("x-opt-lock-token"): uuid.UUID(hex=held.lock_token),
    }
    return _encode(queued, annotations, application)


def encode_service_bound(held: Locked) -> bytes:
    """Feedback and file notifications: a body of JSON, and when it was queued (4.4, 4.5)."""
    return _encode(held.queued, {Symbol("iothub-enqueuedtime"): Timestamp(held.queued.enqueued)}, {})


def _encode(queued: QueuedMessage, annotations: dict[Symbol, Any], application: dict[str, str]) -> bytes:
    system = queued.message.system
    properties = {
        "message_id": system.message_id,
        "user_id": system.user_id.encode() if system.user_id is not None else None,
        "to": system.to,
        "correlation_id": system.correlation_id,
        "content_type": _symbol(system.content_type),
        "content_encoding": _symbol(system.content_encoding),
        "absolute_expiry_time": Timestamp(system.absolute_expiry) if system.absolute_expiry is not None else None,
    }
    return message(
        annotations=annotations, properties=properties, application_properties=application, data=queued.message.body
    )


def _symbol(text: str | None) -> str | None:
    """A symbol is ASCII; what is not stays a string."""
    return Symbol(text) if text is not None and text.isascii() else text
