"""Request and response over a pair of links of one session: ``$cbs`` and ``$management``.

The request is settled before its answer goes out; the answer carries the request's message id as correlation id in its
own AMQP type, and waits for credit (proved-on-clients 2, service-protocols 4.2, 5.4).
"""

from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from hubkeep.errors import BadRequest, HubError, NotFound, ResourceLimit, Unauthorized, on_wire
from hubkeep.wire.amqp import (
    ACCEPTED,
    AmqpError,
    AmqpMessage,
    Array,
    Delivery,
    Int,
    Link,
    ReceivingLink,
    SendingLink,
    Timestamp,
    decode_message,
    message,
)

from ..operations import BY_NAME
from .endpoint import LinkEndpoint

if TYPE_CHECKING:
    from .link import AmqpLink

_CREDIT: Final = 100
_WAITING: Final = 1000  # answers that wait for credit; then no more requests are taken
_UNSETTLED: Final = 1000  # answers that the peer has not settled; the next ones are sent settled
_NEVER: Final = Timestamp(-62_135_596_800_000)


class RequestNode(LinkEndpoint):
    """One of the two nodes on one connection, whatever the number of its links. Subclasses answer ``_answer``."""

    __slots__ = ("_answers", "_connection", "_number", "_waiting")

    operation = ""

    def __init__(self, connection: "AmqpLink") -> None:
        self._connection = connection
        self._answers: dict[SendingLink, deque[bytes]] = {}
        self._number = self._waiting = 0

    def accept(self, link: Link) -> None:
        """One more link to this node."""
        link.accept()
        if isinstance(link, ReceivingLink):
            link.grant(_CREDIT)
        elif isinstance(link, SendingLink):
            self._answers[link] = deque()

    def delivered(self, link: ReceivingLink, delivery: Delivery) -> Coroutine[Any, Any, None] | None:
        if self._waiting >= _WAITING:
            self._connection.end_link(
                link, ResourceLimit(cause="credit-missing", reason="a peer that asks and gives no credit for answers")
            )
            return None
        return self._request(link, delivery)

    def detached(self, link: Link) -> None:
        if isinstance(link, SendingLink):
            self._waiting -= len(self._answers.pop(link, ()))

    def credited(self, link: SendingLink) -> None:
        """Send answers that waited."""
        waiting = self._answers.get(link, deque())
        while waiting and link.sendable:
            self._waiting -= 1
            self._send(link, waiting.popleft())
        if link.drain:
            link.drained()

    async def _request(self, link: ReceivingLink, delivery: Delivery) -> None:
        """Take one request; its answer goes to the receiver of the same session."""
        if not delivery.settled:
            link.settle(delivery.delivery_id, delivery.delivery_id, ACCEPTED)
        self._grant_more(link)
        self._connection.flush()
        request = AmqpMessage()
        extra: dict[str, Any] = {}
        value: Any = None
        try:
            if delivery.oversized:
                raise BadRequest("The request is too large.")
            request = decode_message(delivery.payload)
            value = await self._answer(request)
            status, text = 200, "OK"
        except AmqpError:
            status, text = 400, "The request cannot be read."
        except HubError as error:
            row = on_wire(error)
            self._connection.refused(error, self.operation)
            status, text = row.http, f"{error} Tracking id {error.tracking_id}"
            extra["error-condition"] = row.amqp
        properties = {"correlation_id": request.properties.get("message_id")}
        reply_to = request.properties.get("reply_to")
        if isinstance(reply_to, str):
            properties["to"] = reply_to
        answer = message(
            properties=properties,
            application_properties={"status-code": Int(status), "status-description": text, **extra},
            value=value,
        )
        self._put(link, reply_to, answer)

    def _grant_more(self, link: ReceivingLink) -> None:
        if link.credit < _CREDIT // 2:
            link.grant(_CREDIT)

    def _put(self, link: ReceivingLink, reply_to: Any, answer: bytes) -> None:
        """To the receiver of the request's session; it waits for credit."""
        receiver = self._receiver(link, reply_to)
        if receiver is None:
            return
        if receiver.sendable and not self._answers[receiver]:
            self._send(receiver, answer)
        else:
            self._waiting += 1
            self._answers[receiver].append(answer)

    def _receiver(self, link: ReceivingLink, reply_to: Any) -> SendingLink | None:
        here = [each for each in self._answers if each.session is link.session]
        named = [each for each in here if each.target.address == reply_to]
        return next(iter(named or here), None)

    def _send(self, link: SendingLink, answer: bytes) -> None:
        self._number += 1
        settled = len(link.session.unsettled) >= _UNSETTLED
        link.send(answer, tag=(self._number & 0xFFFFFFFF).to_bytes(4), settled=settled)

    async def _answer(self, request: AmqpMessage) -> Any:
        raise NotImplementedError


class Cbs(RequestNode):
    """Where tokens are put. A token is judged by what it is, never by the request's ``type`` or ``name``."""

    __slots__ = ()

    operation = BY_NAME["cbs"].name

    async def _answer(self, request: AmqpMessage) -> Any:
        if request.application_properties.get("operation") != "put-token":
            raise BadRequest("The operation is not known.")
        token = request.value if isinstance(request.value, str) else ""
        if not token and request.data is not None:
            token = request.body().decode(errors="replace")
        principal = await self._connection.listener.authentication.cbs(token, self._connection.info)
        self._connection.authorised(principal)


class Management(RequestNode):
    """Properties of the event hub and its partitions (service-protocols 5.4)."""

    __slots__ = ()

    operation = BY_NAME["events/manage"].name

    async def _answer(self, request: AmqpMessage) -> Any:
        asked, listener = request.application_properties, self._connection.listener
        await self._check_rights(asked.get("security_token"))
        if asked.get("operation") != "READ":
            raise BadRequest("The operation is not known.")
        if str(asked.get("name", "")).lower() not in listener.entity_names:
            raise NotFound("There is no event hub of this name.")
        log = listener.log
        if asked.get("type") == "com.microsoft:eventhub":
            return {
                "name": listener.events_name,
                "type": "com.microsoft:eventhub",
                "created_at": Timestamp(listener.created),
                "partition_count": Int(log.partitions),
                "partition_ids": Array(str(each) for each in range(log.partitions)),
            }
        if asked.get("type") != "com.microsoft:partition":
            raise BadRequest("The type is not known.")
        partition = listener.partition(str(asked.get("partition", "")))
        state = log.state(partition)
        return {
            "name": listener.events_name,
            "type": "com.microsoft:partition",
            "partition": str(partition),
            "begin_sequence_number": state.first_sequence,
            "last_enqueued_sequence_number": state.last_sequence,
            "last_enqueued_offset": str(state.last_offset),
            "last_enqueued_time_utc": Timestamp(state.last_enqueued) if state.last_sequence >= 0 else _NEVER,
            "is_partition_empty": state.is_empty,
        }

    async def _check_rights(self, token: object) -> None:
        connection = self._connection
        path = (connection.listener.events_name, "$management")
        if isinstance(token, str) and token:
            principal = await connection.listener.authentication.cbs(token, connection.info)
            connection.listener.authentication.authorize(principal, self.operation, path, connection.info)
        elif connection.rights.holder(self.operation, path) is None:
            raise Unauthorized(
                cause="link-unauthorised",
                reason="no token on this connection allows reading the event hub's properties",
            )
