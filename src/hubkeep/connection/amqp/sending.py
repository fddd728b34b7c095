"""Back ends that send to devices over AMQP (service-protocols 4.3)."""

import asyncio
from typing import TYPE_CHECKING, Final

from hubkeep.errors import BadRequest, DeviceNotFound, Forbidden, HubError, MessageTooLarge, ModuleNotFound, on_wire
from hubkeep.model import Message, Principal, QueueName
from hubkeep.wire.amqp import AmqpError, DeliveredRun, Delivery, Link, ReceivingLink, decode_message, rejected
from hubkeep.wire.sas import percent_decoded

from ..audited import entry_of
from .addresses import segments
from .endpoint import LinkEndpoint
from .outcomes import Outcomes
from .telemetry import to_message

if TYPE_CHECKING:
    from .link import AmqpLink

_CREDIT: Final = 100
_OPERATION: Final = "devicebound/transfer"


class DeviceSender(LinkEndpoint):
    """One sender link of a back end. Messages are queued in the order in which they came."""

    __slots__ = ("_connection", "_link", "_outcomes", "_principal", "_sending")

    def __init__(self, connection: "AmqpLink", link: ReceivingLink, principal: Principal) -> None:
        self._connection, self._link, self._principal = connection, link, principal
        self._outcomes = Outcomes(connection, link)
        self._sending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._link.accept(max_message_size=self._connection.listener.limits.cloud_to_device_size)
        self._link.take_runs()
        self._link.grant(_CREDIT)

    def delivered(self, link: ReceivingLink, delivery: Delivery) -> None:
        if delivery.oversized:
            error = MessageTooLarge(reason=f"a delivery of {delivery.size} bytes")
            self._refused(delivery.delivery_id, error, settled=delivery.settled)
            self._grant_more()
        else:
            self._start(delivery.delivery_id, delivery.payload, settled=delivery.settled)

    def delivered_run(self, run: DeliveredRun) -> None:
        for delivery_id, payload in enumerate(run.payloads, run.first):
            self._start(delivery_id, payload, settled=run.settled)

    def detached(self, link: Link) -> None:
        # what is being queued stays so; only its outcome has nobody left to hear it
        return

    def _start(self, delivery_id: int, payload: bytes, *, settled: bool) -> None:
        task = asyncio.get_running_loop().create_task(self._send(delivery_id, payload, settled=settled))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, delivery_id: int, payload: bytes, *, settled: bool) -> None:
        try:
            await self._queue(payload)
        except HubError as error:
            self._refused(delivery_id, error, settled=settled)
        else:
            if not settled:
                self._outcomes.accepted(delivery_id, delivery_id)
        self._grant_more()

    def _refused(self, delivery_id: int, error: HubError, *, settled: bool) -> None:
        self._connection.refused(error, _OPERATION, self._principal.name)
        if settled:
            return  # the sender does not want to know
        row = on_wire(error)
        info = {"com.microsoft:tracking-id": error.tracking_id, "com.microsoft:error-code": row.number}
        state = rejected(row.amqp, f"{error} Tracking id {error.tracking_id}", info)
        self._outcomes.refused(delivery_id, delivery_id, state)

    def _grant_more(self) -> None:
        if self._link.credit <= _CREDIT // 2:
            # never more under way than the credit that is given at once
            self._link.grant(max(_CREDIT - len(self._sending), 1))
            self._connection.flush()

    async def _queue(self, payload: bytes) -> None:
        """Raises HubError: then nothing was queued."""
        try:
            message = to_message(decode_message(payload))
        except AmqpError as failure:
            raise BadRequest("The message cannot be read.", reason=failure.description) from None
        queue = addressee(message.system.to or "")
        self._connection.listener.throttles.check("devicebound-sends", self._principal.name, size=len(message.body))
        try:
            await self._send_to(queue, message)
        except (DeviceNotFound, ModuleNotFound, Forbidden):
            # Python writes ids as they are, Node percent-encodes them; a per cent sign may be part of an id
            plain = QueueName(*map(percent_decoded, queue))
            if plain == queue:
                raise
            await self._send_to(plain, message)

    async def _send_to(self, queue: QueueName, message: Message) -> None:
        listener = self._connection.listener
        await listener.authentication.check_device(self._principal, _OPERATION, queue.device_id)
        await listener.deliveries.to_device.send(queue, message)
        target = f"{queue.device_id}/{queue.module_id}" if queue.module_id else queue.device_id
        now = int(listener.clock.now() * 1000)
        listener.audit(entry_of("commands", now, self._principal, self._connection.info, _OPERATION, target, "queued"))


def addressee(to: str) -> QueueName:
    """``/devices/{id}[/modules/{id}]/messages/devicebound``, the ids not decoded. Raises BadRequest."""
    path = segments(to)
    words = [each.lower() for each in path]
    if len(path) == 4 and words[0] == "devices" and words[2:] == ["messages", "devicebound"]:
        return QueueName(path[1])
    if len(path) == 6 and words[::2] == ["devices", "modules", "messages"] and words[5] == "devicebound":
        return QueueName(path[1], path[3])
    raise BadRequest(
        "The property 'to' does not name a device.", reason=f"to is {to[:128]!r}: /devices/ID/messages/devicebound"
    )
