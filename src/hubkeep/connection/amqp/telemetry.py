"""Telemetry that devices send over AMQP: transfers to messages, commits to dispositions (device-protocols 4.6)."""

import uuid
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hubkeep.errors import BadRequest, HubError, MessageTooLarge, on_wire
from hubkeep.model import Message, Principal, SystemProperties
from hubkeep.wire.amqp import (
    BATCH_FORMAT,
    AmqpError,
    AmqpMessage,
    DeliveredRun,
    Delivery,
    Link,
    ReceivingLink,
    data_section_start,
    decode_message,
    rejected,
    unbatched,
)
from hubkeep.wire.amqp.messages import encode_data_section

from ..event_encoding import NO_SECTIONS
from .endpoint import LinkEndpoint
from .outcomes import Outcomes

if TYPE_CHECKING:
    from .link import AmqpLink

_PLAIN_NAMES = {
    "iothub-ack": "ack",
    "iothub-creation-time-utc": "creation_time",
    "iothub-message-schema": "schema",
    "iothub-operation": "operation",
    "iothub-outputname": "output_name",
}
_SECTIONS_KEPT: Final = 64  # distinct ones per link whose stored form is kept
_KEPT_IN_ALL: Final = 2048  # by the links of one connection: many devices may share it
_LONGEST_KEPT: Final = 1024  # bytes
# what only the hub may say of a message (L-D5)
_FORGED = frozenset({"iothub-connection-device-id", "iothub-connection-module-id", "iothub-enqueuedtime"})


class TelemetryLink(LinkEndpoint):
    """One sender link of one device.

    Messages come in runs, and each run goes into the log at once. Senders repeat themselves: the stored form of what
    stands before a body is kept, so that a message with known properties is a look-up.
    """

    __slots__ = ("_connection", "_known", "_link", "_outcomes", "_sender")

    def __init__(self, connection: "AmqpLink", link: ReceivingLink, principal: Principal) -> None:
        self._connection, self._link = connection, link
        model_id = link.properties.get("com.microsoft:model-id")
        self._sender = connection.listener.to_cloud.sender(principal, model_id if isinstance(model_id, str) else None)
        self._known: dict[bytes, bytes] = {b"": NO_SECTIONS}  # sections as sent to sections as stored
        self._outcomes = Outcomes(connection, link)

    async def start(self) -> None:
        """Accept the link and give it credit at once: clients wait for it (D-92)."""
        listener = self._connection.listener
        self._link.accept(max_message_size=listener.limits.device_to_cloud_size)
        self._link.take_runs()
        self._link.grant(listener.limits.amqp_credit)

    def delivered(self, link: ReceivingLink, delivery: Delivery) -> None:
        """Take one delivery."""
        if delivery.oversized:
            error = MessageTooLarge(reason=f"a delivery of {delivery.size} bytes")
            self._rejected(delivery.delivery_id, delivery.delivery_id, error, settled=delivery.settled)
        elif delivery.message_format == BATCH_FORMAT:
            self._take_batch(delivery.delivery_id, delivery.payload, settled=delivery.settled)
        else:
            self._take(delivery.delivery_id, [delivery.payload], settled=delivery.settled)
        self._grant_more()

    def delivered_run(self, run: DeliveredRun) -> None:
        """Take deliveries that came together."""
        if run.message_format == BATCH_FORMAT:
            for delivery_id, payload in enumerate(run.payloads, run.first):
                self._take_batch(delivery_id, payload, settled=run.settled)
        else:
            self._take(run.first, run.payloads, settled=run.settled)
        self._grant_more()

    def relieved(self) -> None:
        """Credit that was held back while the log was congested."""
        credit = self._connection.listener.limits.amqp_credit
        if self._link.credit <= credit // 2:
            self._link.grant(credit)

    def detached(self, link: Link) -> None:
        self._connection.sections_kept -= len(self._known) - 1
        self._known = {b"": NO_SECTIONS}

    # -- inside ------------------------------------------------------------------------------------------------------

    def _grant_more(self) -> None:
        listener = self._connection.listener
        if self._link.credit <= listener.limits.amqp_credit // 2 and not listener.log.congested:
            self._link.grant(listener.limits.amqp_credit)

    def _take(self, first: int, payloads: Sequence[bytes], *, settled: bool) -> None:
        """Put messages into the log together; what cannot be taken is rejected by itself."""
        listener, known = self._connection.listener, self._known
        small_enough, stamp = listener.small_enough, listener.ingress_stamp()
        tails: list[bytes] = []
        for delivery_id, payload in enumerate(payloads, first):
            start = data_section_start(payload) if len(payload) <= small_enough else -1
            sections = known.get(payload[:start]) if start >= 0 else None
            if sections is not None:
                tails.append(stamp + sections + payload[start:])
                continue
            try:
                tails.append(stamp + self._stored(payload, start))
            except HubError as error:
                self._append(delivery_id - len(tails), tails, settled=settled)
                tails = []
                self._rejected(delivery_id, delivery_id, error, settled=settled)
        self._append(first + len(payloads) - len(tails), tails, settled=settled)

    def _stored(self, payload: bytes, start: int) -> bytes:
        """A message as it is stored, behind its time. start: of its data section, if nothing else follows; else -1.

        Raises BadRequest, MessageTooLarge.
        """
        message = _decoded(payload)
        connection = self._connection
        sections = connection.listener.to_cloud.sections(self._sender, message)
        is_short = 0 <= start < _LONGEST_KEPT
        if is_short and len(self._known) < _SECTIONS_KEPT and connection.sections_kept < _KEPT_IN_ALL:
            self._known[payload[:start]] = sections
            connection.sections_kept += 1
        return sections + encode_data_section(message.body)

    def _append(self, first: int, tails: list[bytes], *, settled: bool) -> None:
        if not tails:
            return
        listener, last = self._connection.listener, first + len(tails) - 1
        if "telemetry" in listener.throttles.on:
            taken = self._within_rate(first, tails, settled=settled)
            tails, last = tails[:taken], first + taken - 1
            if not tails:
                return
        try:
            listener.to_cloud.append(self._sender, tails, partial(self._on_durable, first, last, settled))
            listener.accepted += len(tails)
        except HubError as error:
            self._rejected(first, last, error, settled=settled)

    def _within_rate(self, first: int, tails: Sequence[bytes], *, settled: bool) -> int:
        """How many of these messages may be taken now; the rest is rejected: the sender repeats it later (L-O1)."""
        throttles, who = self._connection.listener.throttles, self._sender.principal.name
        taken = 0
        try:
            taken, wait = throttles.granted("telemetry", who, [len(each) for each in tails])
            if wait:
                raise throttles.refusal("telemetry", who, wait)
        except HubError as error:
            self._rejected(first + taken, first + len(tails) - 1, error, settled=settled)
        return taken

    def _take_batch(self, delivery_id: int, payload: bytes, *, settled: bool) -> None:
        """Several messages in one delivery, with one outcome for all."""
        to_cloud = self._connection.listener.to_cloud
        on_durable = partial(self._on_durable, delivery_id, delivery_id, settled)
        try:
            messages = [_decoded(each) for each in _unbatched(payload)]
            throttles, who = self._connection.listener.throttles, self._sender.principal.name
            for each in messages:
                throttles.check("telemetry", who, size=len(each.body))
            if messages:
                to_cloud.accept(self._sender, messages, on_durable)
                self._connection.listener.accepted += len(messages)
            else:
                on_durable(None)
        except HubError as error:
            self._rejected(delivery_id, delivery_id, error, settled=settled)

    def _on_durable(self, first: int, last: int, settled: bool, error: HubError | None) -> None:
        if error is not None:
            self._rejected(first, last, error, settled=settled)
        elif not settled:
            self._outcomes.accepted(first, last)

    def _rejected(self, first: int, last: int, error: HubError, *, settled: bool) -> None:
        self._connection.refused(error, "events/send", self._sender.principal.name)
        if settled:
            return  # the sender does not want to know
        info = {"com.microsoft:tracking-id": error.tracking_id}
        self._outcomes.refused(first, last, rejected(on_wire(error).amqp, str(error), info))


def _decoded(payload: bytes) -> Message:
    """Raises BadRequest for what is no message."""
    try:
        return to_message(decode_message(payload))
    except AmqpError as failure:
        raise BadRequest("The message cannot be read.", reason=failure.description) from None


def _unbatched(payload: bytes) -> list[bytes]:
    """Raises BadRequest for what is no batch."""
    try:
        return unbatched(payload)
    except AmqpError as failure:
        raise BadRequest("The message cannot be read.", reason=failure.description) from None


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
