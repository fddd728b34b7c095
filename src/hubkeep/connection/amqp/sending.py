"""Back ends that send to devices over AMQP (service-protocols 4.3)."""

import asyncio
from typing import TYPE_CHECKING, Final

from hubkeep.errors import BadRequest, DeviceNotFound, HubError, MessageTooLarge, ModuleNotFound, on_wire
from hubkeep.model import Principal, QueueName
from hubkeep.wire.amqp import ACCEPTED, AmqpError, Delivery, Link, ReceivingLink, decode_message, rejected
from hubkeep.wire.sas import percent_decoded

from .addresses import segments
from .endpoint import LinkEndpoint
from .telemetry import to_message

if TYPE_CHECKING:
    from .link import AmqpLink

_CREDIT: Final = 100
_OPERATION: Final = "devicebound/transfer"


class DeviceSender(LinkEndpoint):
    """One sender link of a back end. Messages are queued in the order in which they came."""

    __slots__ = ("_connection", "_identity", "_link", "_sending")

    def __init__(self, connection: "AmqpLink", link: ReceivingLink, principal: Principal) -> None:
        self._connection, self._link, self._identity = connection, link, principal.name
        self._sending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._link.accept(max_message_size=self._connection.listener.limits.cloud_to_device_size)
        self._link.grant(_CREDIT)

    def delivered(self, link: ReceivingLink, delivery: Delivery) -> None:
        task = asyncio.get_running_loop().create_task(self._send(delivery))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def detached(self, link: Link) -> None:
        # what is being queued stays so; only its outcome has nobody left to hear it
        return

    async def _send(self, delivery: Delivery) -> None:
        state = ACCEPTED
        try:
            await self._queue(delivery)
        except HubError as error:
            self._connection.refused(error, _OPERATION, self._identity)
            row = on_wire(error)
            info = {"com.microsoft:tracking-id": error.tracking_id, "com.microsoft:error-code": row.number}
            state = rejected(row.amqp, f"{error} Tracking id {error.tracking_id}", info)
        if not delivery.settled:
            self._link.settle(delivery.delivery_id, delivery.delivery_id, state)
        if self._link.credit <= _CREDIT // 2:
            # never more under way than the credit that is given at once
            self._link.grant(max(_CREDIT - len(self._sending), 1))
        self._connection.flush()

    async def _queue(self, delivery: Delivery) -> None:
        """Raises HubError: then nothing was queued."""
        if delivery.oversized:
            raise MessageTooLarge(reason=f"a delivery of {delivery.size} bytes")
        try:
            decoded = decode_message(delivery.payload)
            message = to_message(decoded)
        except AmqpError as failure:
            raise BadRequest("The message cannot be read.", reason=failure.description) from None
        to_device = self._connection.listener.deliveries.to_device
        queue = addressee(message.system.to or "")
        try:
            await to_device.send(queue, message)
        except (DeviceNotFound, ModuleNotFound):
            # Python writes ids as they are, Node percent-encodes them; a per cent sign may be part of an id
            plain = QueueName(*map(percent_decoded, queue))
            if plain == queue:
                raise
            await to_device.send(plain, message)


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
