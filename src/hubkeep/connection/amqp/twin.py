"""A device's own twin over AMQP: requests on its sender, answers and desired patches on its receiver.

Source: device-protocols 4.9, proved-on-clients 2. Operation, resource, status and version are message annotations.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from hubkeep.errors import BadRequest, HubError, ResourceLimit, Throttled
from hubkeep.model import DesiredPatch, Principal
from hubkeep.ports import desired_subject
from hubkeep.wire.amqp import (
    ACCEPTED,
    AmqpError,
    AmqpMessage,
    Delivery,
    Int,
    Link,
    ReceivingLink,
    SendingLink,
    Symbol,
    decode_message,
    message,
)

from ..device_twins import TwinAnswer, desired_body
from .endpoint import LinkEndpoint, Presence
from .pairs import other_half, presence_with

if TYPE_CHECKING:
    from .link import AmqpLink

_CREDIT: Final = 100
_WAITING: Final = 1000  # messages that wait for the peer's credit
_REPORTED: Final = "/properties/reported"
_DESIRED: Final = "/notifications/twin/properties/desired"


class TwinRequests(LinkEndpoint):
    """The peer's sender. One identity's requests are carried out one after another: it reads what it wrote."""

    __slots__ = ("_connection", "_link", "_presence", "_principal", "_queue", "_worker")

    def __init__(self, connection: "AmqpLink", link: ReceivingLink, principal: Principal) -> None:
        self._connection, self._link, self._principal = connection, link, principal
        self._presence: Presence | None = None
        self._queue: deque[Delivery] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._presence = presence_with(self._connection, self._link, self)
        self._link.accept(max_message_size=self._connection.listener.limits.device_to_cloud_size)
        self._link.grant(_CREDIT)

    def delivered(self, link: ReceivingLink, delivery: Delivery) -> None:
        if link.credit < _CREDIT // 2:
            link.grant(_CREDIT)
        if len(self._queue) >= self._connection.listener.limits.twin_requests:
            self._answer(delivery, _decoded(delivery), self._refusal(Throttled(cause="twin-requests-too-many")))
            return
        self._queue.append(delivery)
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def detached(self, link: Link) -> None:
        self._queue.clear()

    async def _work(self) -> None:
        try:
            while self._queue:
                delivery = self._queue.popleft()
                request = _decoded(delivery)
                try:
                    answer = await self._carry_out(request)
                except HubError as error:  # the link may do nothing more
                    self._queue.clear()
                    if self._link.is_attached:
                        self._connection.end_link(self._link, error)
                    return
                self._answer(delivery, request, answer)
                self._connection.flush()
        finally:
            self._worker = None

    async def _carry_out(self, request: AmqpMessage | None) -> TwinAnswer:
        """Raises a HubError when the link must go."""
        principal, info, twins = self._principal, self._connection.info, self._connection.listener.twins
        if request is None:
            return self._refusal(BadRequest("The request cannot be read."))
        asked = request.annotations
        operation, resource, version = asked.get("operation"), asked.get("resource") or "", asked.get("version")
        if operation == "GET" and not resource:
            return await twins.read(principal, info)
        if operation == "PATCH" and resource == _REPORTED:
            if version is not None and (not isinstance(version, int) or isinstance(version, bool)):
                return self._refusal(BadRequest("version is not a number."))
            try:
                body = request.body()
            except AmqpError:
                return self._refusal(BadRequest("The body is of a kind that is not supported."))
            return await twins.report(principal, info, body, version)
        if operation in {"PUT", "DELETE"} and resource == _DESIRED:
            answers = other_half(self._presence, self._link, TwinAnswers)
            if answers is not None:
                answers.listen(operation == "PUT")
            return TwinAnswer(200)
        return self._refusal(BadRequest("The operation or resource is not known."))

    def _refusal(self, error: HubError) -> TwinAnswer:
        return self._connection.listener.twins.refusal(error, self._principal, self._connection.info)

    def _answer(self, delivery: Delivery, request: AmqpMessage | None, answer: TwinAnswer) -> None:
        if not delivery.settled:
            self._link.settle(delivery.delivery_id, delivery.delivery_id, ACCEPTED)
        answers = other_half(self._presence, self._link, TwinAnswers)
        if answers is not None:
            answers.answer(request.properties.get("correlation_id") if request is not None else None, answer)


class TwinAnswers(LinkEndpoint):
    """The peer's receiver. What it has no credit for waits, within a bound."""

    __slots__ = ("_connection", "_link", "_number", "_principal", "_unsubscribe", "_waiting")

    def __init__(self, connection: "AmqpLink", link: SendingLink, principal: Principal) -> None:
        self._connection, self._link, self._principal = connection, link, principal
        self._waiting: deque[bytes] = deque()
        self._number = 0
        self._unsubscribe: Callable[[], None] | None = None

    async def start(self) -> None:
        presence_with(self._connection, self._link, self)
        self._link.accept()

    def answer(self, correlation_id: Any, answer: TwinAnswer) -> None:
        """correlation_id: goes back in the type in which it came."""
        annotations: dict[Any, Any] = {Symbol("status"): Int(answer.status)}
        if answer.version is not None:
            annotations[Symbol("version")] = answer.version
        self._put(message(annotations=annotations, properties={"correlation_id": correlation_id}, data=answer.body))

    def listen(self, wanted: bool) -> None:  # said by the operation's name
        """Push desired patches from now on, or no more."""
        if wanted and self._unsubscribe is None:
            subject = desired_subject(self._principal.device_id, self._principal.module_id)
            self._unsubscribe = self._connection.listener.bus.subscribe(subject, self._push)
        elif not wanted and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def credited(self, link: SendingLink) -> None:
        self._send_waiting()
        if link.drain and not self._waiting:
            link.drained()

    def writable(self) -> None:
        self._send_waiting()
        self._connection.flush()

    def detached(self, link: Link) -> None:
        self.listen(False)
        self._waiting.clear()

    def _push(self, payload: object) -> None:
        assert isinstance(payload, DesiredPatch)
        annotations = {Symbol("resource"): _DESIRED, Symbol("version"): payload.version}
        self._put(message(annotations=annotations, data=desired_body(payload)))
        self._connection.flush()

    def _put(self, encoded: bytes) -> None:
        if len(self._waiting) >= _WAITING:
            error = ResourceLimit(
                cause="credit-missing", reason="a peer that gives no credit for its twin's answers and patches"
            )
            self._connection.end_link(self._link, error)
            return
        self._waiting.append(encoded)
        self._send_waiting()

    def _send_waiting(self) -> None:
        link = self._link
        while self._waiting and link.sendable and not self._connection.is_clogged:
            self._number = self._number + 1 & 0xFFFFFFFF
            link.send(self._waiting.popleft(), tag=self._number.to_bytes(4), settled=link.snd_settle_mode != 0)


def _decoded(delivery: Delivery) -> AmqpMessage | None:
    """None: it cannot be read."""
    if delivery.oversized:
        return None
    try:
        return decode_message(delivery.payload)
    except AmqpError:
        return None
