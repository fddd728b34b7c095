"""Telemetry that devices send over AMQP: transfers to messages, commits to dispositions (device-protocols 4.6)."""

import uuid
from typing import TYPE_CHECKING, Any

from hubkeep.errors import BadRequest, HubError, MessageTooLarge, on_wire
from hubkeep.model import Message, Principal, SystemProperties
from hubkeep.wire.amqp import (
    ACCEPTED,
    BATCH_FORMAT,
    AmqpError,
    AmqpMessage,
    Delivery,
    ReceivingLink,
    decode_message,
    rejected,
    unbatched,
)

from .endpoint import LinkEndpoint

if TYPE_CHECKING:
    from .link import AmqpLink

_PLAIN_NAMES = {
    "iothub-ack": "ack",
    "iothub-creation-time-utc": "creation_time",
    "iothub-message-schema": "schema",
    "iothub-operation": "operation",
    "iothub-outputname": "output_name",
}
# what only the hub may say of a message (L-D5)
_FORGED = frozenset({"iothub-connection-device-id", "iothub-connection-module-id", "iothub-enqueuedtime"})


class TelemetryLink(LinkEndpoint):
    """One sender link of one device."""

    __slots__ = ("_connection", "_link", "_run", "_sender")

    def __init__(self, connection: "AmqpLink", link: ReceivingLink, principal: Principal) -> None:
        self._connection, self._link = connection, link
        model_id = link.properties.get("com.microsoft:model-id")
        self._sender = connection.listener.to_cloud.sender(principal, model_id if isinstance(model_id, str) else None)
        self._run: tuple[int, int] | None = None  # consecutive deliveries to settle as accepted

    async def start(self) -> None:
        """Accept the link and give it credit at once: clients wait for it (D-92)."""
        listener = self._connection.listener
        self._link.accept(max_message_size=listener.limits.device_to_cloud_size)
        self._link.grant(listener.limits.amqp_credit)

    def delivered(self, link: ReceivingLink, delivery: Delivery) -> None:
        """Take one delivery: the batched format holds several messages, with one outcome for all."""
        listener = self._connection.listener
        delivery_id, settled = delivery.delivery_id, delivery.settled

        def on_durable(error: HubError | None) -> None:
            if settled:
                return
            if error is None:
                self._accepted(delivery_id)
            else:
                self._rejected(delivery_id, error)

        try:
            if delivery.oversized:
                raise MessageTooLarge(reason=f"a delivery of {delivery.size} bytes")
            payloads = unbatched(delivery.payload) if delivery.message_format == BATCH_FORMAT else [delivery.payload]
            messages = [to_message(decode_message(payload)) for payload in payloads]
            if messages:
                listener.to_cloud.accept(self._sender, messages, on_durable)
                listener.accepted += len(messages)
            else:
                on_durable(None)
        except AmqpError as failure:
            self._rejected(delivery_id, BadRequest("The message cannot be read.", reason=failure.description))
        except HubError as error:
            self._rejected(delivery_id, error)
        if self._link.credit <= listener.limits.amqp_credit // 2 and not listener.log.congested:
            self._link.grant(listener.limits.amqp_credit)

    def relieved(self) -> None:
        """Credit that was held back while the log was congested."""
        credit = self._connection.listener.limits.amqp_credit
        if self._link.credit <= credit // 2:
            self._link.grant(credit)

    def flush(self) -> None:
        """Write the gathered dispositions as one range."""
        if self._run is not None:
            first, last = self._run
            self._run = None
            self._link.settle(first, last, ACCEPTED)

    def _accepted(self, delivery_id: int) -> None:
        if self._run is not None and delivery_id == self._run[1] + 1:
            self._run = (self._run[0], delivery_id)
        else:
            self.flush()
            self._run = (delivery_id, delivery_id)
        self._connection.flush_soon(self)

    def _rejected(self, delivery_id: int, error: HubError) -> None:
        self.flush()
        self._connection.refused(error, "events/send", self._sender.principal.name)
        info = {"com.microsoft:tracking-id": error.tracking_id}
        self._link.settle(delivery_id, delivery_id, rejected(on_wire(error).amqp, str(error), info))
        self._connection.flush_soon(self)


def to_message(message: AmqpMessage) -> Message:
    """An AMQP message as the rules see it: ids of any type become text, values of properties too."""
    if not (message.application_properties or message.properties or message.annotations):
        return Message(body=message.body())
    fields: dict[str, Any] = {}
    properties: dict[str, str | None] = {}
    for key, value in message.application_properties.items():
        name = str(key)
        if name in _FORGED:
            continue
        if (field := _PLAIN_NAMES.get(name)) is not None:
            fields[field] = _text(value)
        else:
            properties[name] = None if value is None else _text(value)
    sent, annotations = message.properties, message.annotations
    for field, value in (
        ("message_id", sent.get("message_id")),
        ("correlation_id", sent.get("correlation_id")),
        ("user_id", sent.get("user_id")),
        ("to", sent.get("to")),
        ("content_type", sent.get("content_type")),
        ("content_encoding", sent.get("content_encoding")),
        ("subject", annotations.get("dt-subject")),
        ("interface_id", annotations.get("iothub-interface-id")),
        ("diagnostic_id", annotations.get("Diagnostic-Id")),
        ("diagnostic_context", annotations.get("Correlation-Context")),
    ):
        if value is not None:
            fields[field] = _text(value)
    if isinstance(expiry := sent.get("absolute_expiry_time"), int):
        fields["absolute_expiry"] = int(expiry)
    return Message(body=message.body(), system=SystemProperties(**fields), properties=properties)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float, uuid.UUID)):
        return str(value)
    raise BadRequest("A property has a type that is not supported.")
