"""Direct methods over AMQP: calls on the peer's receiver, answers on its sender (device-protocols 4.8)."""

import uuid
from typing import TYPE_CHECKING, Any, Final

from hubkeep.model import MethodCall, Principal
from hubkeep.ports import NobodyServes
from hubkeep.wire.amqp import (
    ACCEPTED,
    AmqpError,
    Delivery,
    Link,
    ReceivingLink,
    SendingLink,
    decode_message,
    message,
)

from ..method_calls import MethodCalls
from .endpoint import LinkEndpoint, Presence
from .pairs import other_half, presence_with

if TYPE_CHECKING:
    from .link import AmqpLink

_CREDIT: Final = 100


class MethodRequests(LinkEndpoint):
    """The peer's receiver. The device is online for methods when it gives credit here and its sender is there too."""

    __slots__ = ("_connection", "_link", "_number", "_presence", "calls")

    def __init__(self, connection: "AmqpLink", link: SendingLink, principal: Principal) -> None:
        self._connection, self._link = connection, link
        self._presence: Presence | None = None
        listener = connection.listener
        self.calls = MethodCalls(listener.bus, listener.limits, principal, self._send)
        self._number = 0

    async def start(self) -> None:
        self._presence = presence_with(self._connection, self._link, self)
        self._link.accept()

    def credited(self, link: SendingLink) -> None:
        self.serve_if_ready()
        if link.drain:
            link.drained()

    def serve_if_ready(self) -> None:
        """Take calls as soon as they could be answered."""
        if self._link.sendable and other_half(self._presence, self._link, MethodAnswers) is not None:
            self.calls.serve()

    def detached(self, link: Link) -> None:
        self.calls.close()

    def _send(self, call: MethodCall) -> str:
        connection, link = self._connection, self._link
        if not link.sendable or connection.is_clogged:
            raise NobodyServes
        # random ones: clients turn an answer's id back into a uuid only if it is well-formed
        known_by = uuid.uuid4()
        self._number = self._number + 1 & 0xFFFFFFFF
        encoded = message(
            properties={"correlation_id": known_by},
            application_properties={"IoThub-methodname": call.name},
            data=call.payload,
        )
        link.send(encoded, tag=self._number.to_bytes(4), settled=link.snd_settle_mode != 0)
        connection.flush()
        return str(known_by)


class MethodAnswers(LinkEndpoint):
    """The peer's sender."""

    __slots__ = ("_connection", "_link", "_presence")

    def __init__(self, connection: "AmqpLink", link: ReceivingLink, _principal: Principal) -> None:
        self._connection, self._link = connection, link
        self._presence: Presence | None = None

    async def start(self) -> None:
        self._presence = presence_with(self._connection, self._link, self)
        self._link.accept(max_message_size=self._connection.listener.limits.device_to_cloud_size)
        self._link.grant(_CREDIT)
        if (requests := self._requests()) is not None:
            requests.serve_if_ready()

    def delivered(self, link: ReceivingLink, delivery: Delivery) -> None:
        if link.credit < _CREDIT // 2:
            link.grant(_CREDIT)
        if (requests := self._requests()) is not None:
            _take(requests.calls, delivery)
        if not delivery.settled:
            link.settle(delivery.delivery_id, delivery.delivery_id, ACCEPTED)

    def detached(self, link: Link) -> None:
        if (requests := self._requests()) is not None:
            requests.calls.close()  # nobody could answer any more

    def _requests(self) -> MethodRequests | None:
        return other_half(self._presence, self._link, MethodRequests)


def _take(calls: MethodCalls, delivery: Delivery) -> None:
    """What cannot be read answers nothing: the caller's time goes on."""
    if delivery.oversized:
        return
    try:
        answer = decode_message(delivery.payload)
        body = answer.body()
    except AmqpError:
        return
    calls.answer(
        _known_by(answer.properties.get("correlation_id")),
        _status(answer.application_properties.get("IoThub-status")),
        body,
    )


def _known_by(correlation_id: Any) -> str:
    """By value, whatever its type: some clients answer with the text of the uuid."""
    if isinstance(correlation_id, bytes) and len(correlation_id) == 16:
        return str(uuid.UUID(bytes=correlation_id))
    return str(correlation_id).lower()


def _status(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return None
