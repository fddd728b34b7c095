"""Cloud-to-device messages and feedback over HTTPS, both sides.

Source: service-protocols 2.14, device-protocols 5.2, 5.3.
"""

from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote

from aiohttp import web

from hubkeep.device.identities import Identities
from hubkeep.errors import BadRequest
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.messaging.cloud_to_device import CloudToDevice
from hubkeep.model import FEEDBACK, FILE_NOTIFICATIONS, Locked, Outcome, QueueName

from ..sessions import Sessions
from ..timestamps import time_stamp
from .answers import json_answer, no_content
from .device import message_from_headers
from .exchange import Endpoint, Exchange

_LOCK_TIME_OUT: Final = "iothub-messagelocktimeout"
_TOKEN: Final = frozenset(
    "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)  # RFC 9110 5.6.2


class CloudToDeviceSurface:
    """Handlers: back ends send and purge, devices receive and settle, back ends receive and settle feedback."""

    def __init__(self, to_device: CloudToDevice, identities: Identities, sessions: Sessions) -> None:
        self._to_device, self._identities, self._sessions = to_device, identities, sessions

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("devicebound/send", self.send, "service"),
            Endpoint("devicebound/send/module", self.send, "service"),
            Endpoint("devicebound/purge", self.purge, "service"),
            Endpoint("devicebound/receive", self.receive, "device", dated=False),
            Endpoint("devicebound/settle", self.complete, "device", dated=False),
            Endpoint("devicebound/abandon", self.abandon, "device", dated=False),
            Endpoint("devicebound/receive/module", self.receive, "device", dated=False),
            Endpoint("devicebound/settle/module", self.complete, "device", dated=False),
            Endpoint("devicebound/abandon/module", self.abandon, "device", dated=False),
            Endpoint("admin/devicebound", self.look, "service", dated=False),
            Endpoint("feedback/receive", self.receive_feedback, "service"),
            Endpoint("feedback/settle", self.complete, "service"),
            Endpoint("feedback/abandon", self.abandon, "service"),
            Endpoint("filenotifications/receive", self.receive_file_notification, "service"),
            Endpoint("filenotifications/settle", self.complete, "service"),
            Endpoint("filenotifications/abandon", self.abandon, "service"),
        )

    # -- back ends ---------------------------------------------------------------------------------------------------

    async def send(self, exchange: Exchange) -> web.StreamResponse:
        """POST /devices/{id}/messages/devicebound: 204 once the message is on disk."""
        to = QueueName(exchange.values["id"], exchange.values.get("module_id", ""))
        body = await exchange.body(HTTP_SERVICE_BODY.value)
        await self._to_device.send(to, message_from_headers(body, exchange.request.raw_headers))
        return no_content()

    async def purge(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /devices/{id}/commands"""
        device_id = exchange.values["id"]
        await self._identities.get(device_id)
        purged = await self._to_device.purge(QueueName(device_id))
        return json_answer({"totalMessagesPurged": purged, "deviceId": device_id, "moduleId": None})

    async def look(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/devices/{id}/messages[?module=]: what waits, and what became of the newest; nothing is locked."""
        queue = QueueName(exchange.values["id"], exchange.query.get("module", ""))
        await self._identities.get(queue.device_id)
        waiting = [
            {
                "messageId": each.message.system.message_id,
                "sequenceNumber": each.sequence,
                "enqueuedTimeUtc": time_stamp(each.enqueued / 1000),
                "expiryTimeUtc": time_stamp(each.expires / 1000),
                "deliveryCount": each.deliveries,
                "ack": each.message.system.ack or "none",
                "bytes": len(each.message.body),
            }
            for each in await self._to_device.peek(queue)
        ]
        ended = [
            {"messageId": each.message_id, "statusCode": each.status, "timeUtc": time_stamp(each.at / 1000)}
            for each in self._to_device.recent_ends(queue)
        ]
        return json_answer({"waiting": waiting, "ended": ended})

    async def receive_feedback(self, exchange: Exchange) -> web.StreamResponse:
        """GET /messages/servicebound/feedback: 200 with a JSON array, or 204."""
        return _answer(await self._to_device.receive(FEEDBACK, _lock_seconds(exchange)))

    async def receive_file_notification(self, exchange: Exchange) -> web.StreamResponse:
        """GET /messages/servicebound/filenotifications: 200 with a JSON object, or 204."""
        return _answer(await self._to_device.receive(FILE_NOTIFICATIONS, _lock_seconds(exchange)))

    # -- devices -----------------------------------------------------------------------------------------------------

    async def receive(self, exchange: Exchange) -> web.StreamResponse:
        """GET .../messages/devicebound: 200 with the oldest message, locked, or 204."""
        assert exchange.principal is not None
        self._sessions.touch(exchange.principal)
        return _answer(await self._to_device.receive(_queue(exchange), _lock_seconds(exchange)))

    # -- either ------------------------------------------------------------------------------------------------------

    async def complete(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE .../{lockToken}, or with ``reject`` in the query in any of its spellings."""
        # "?reject" is what is left of a question mark that was encoded: D-J15
        reject = next((exchange.query[each] for each in ("reject", "?reject") if each in exchange.query), "false")
        return await self._settle(exchange, "completed" if reject.lower() == "false" else "rejected")

    async def abandon(self, exchange: Exchange) -> web.StreamResponse:
        """POST .../{lockToken}/abandon; a body is passed over."""
        return await self._settle(exchange, "abandoned")

    async def _settle(self, exchange: Exchange, outcome: Outcome) -> web.StreamResponse:
        await self._to_device.settle(_queue(exchange), exchange.values["lock_token"], outcome)
        return no_content()


def _queue(exchange: Exchange) -> QueueName:
    if "device" not in exchange.values:
        return FILE_NOTIFICATIONS if exchange.operation.startswith("filenotifications/") else FEEDBACK
    return QueueName(exchange.values["device"], exchange.values.get("module", ""))


def _lock_seconds(exchange: Exchange) -> float | None:
    """From the header (Java) or the query (.NET). Raises BadRequest for what is no number."""
    text = exchange.request.headers.get(_LOCK_TIME_OUT) or exchange.query.get(_LOCK_TIME_OUT)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise BadRequest(f"{_LOCK_TIME_OUT} is a number of seconds.")
    return float(text)


def _answer(message: Locked | None) -> web.StreamResponse:
    if message is None:
        return no_content()
    response = web.Response(body=message.queued.message.body, headers={"Content-Type": "application/octet-stream"})
    for name, value in _headers(message):
        response.headers[name] = value
    return response


def _headers(message: Locked) -> Iterator[tuple[str, str]]:
    queued = message.queued
    system = queued.message.system
    yield "ETag", f'"{message.lock_token}"'
    yield "iothub-sequencenumber", str(queued.sequence)
    yield "iothub-deliverycount", str(min(queued.deliveries, 255))
    yield "iothub-enqueuedtime", time_stamp(queued.enqueued / 1000)
    named: tuple[tuple[str, str | None], ...] = (
        ("iothub-messageid", system.message_id),
        ("iothub-correlationid", system.correlation_id),
        ("iothub-userid", system.user_id),
        ("iothub-to", system.to),
        ("iothub-ack", system.ack),
        ("iothub-operation", system.operation),
        ("iothub-expiry", time_stamp(system.absolute_expiry / 1000) if system.absolute_expiry is not None else None),
        # the C SDK reads the first two, Java the others (D-C17)
        ("ContentType", system.content_type),
        ("ContentEncoding", system.content_encoding),
        ("iothub-contenttype", system.content_type),
        ("iothub-contentencoding", system.content_encoding),
    )
    for name, value in named:
        if value is not None:
            yield name, value
    if queued.queue == FEEDBACK and system.content_type:
        yield "Content-Type", system.content_type
    for name, value in queued.message.properties.items():
        yield f"iothub-app-{name if _TOKEN.issuperset(name) else quote(name, safe='')}", value or ""
