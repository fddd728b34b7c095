"""What back ends are told of uploaded files: one message each, in a queue of their own (service-protocols 4.5)."""

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import msgspec

from hubkeep.limits import Limits
from hubkeep.model import FILE_NOTIFICATIONS, FileNotice, Message, QueuedMessage, SystemProperties
from hubkeep.ports import Bus, Clock, MessageQueue

from .cloud_to_device import QUEUE_CHANGED

CONTENT_TYPE: Final = "application/vnd.microsoft.iothub.filenotification.json"


class FileNotifications:
    """container_url: what stands before a slash and a blob's name in its address. hub_name: the hub's own."""

    def __init__(
        self,
        queue: MessageQueue,
        bus: Bus,
        clock: Clock,
        limits: Limits,
        *,
        container_url: Callable[[], str],
        hub_name: str,
    ) -> None:
        self._queue, self._bus, self._clock, self._limits = queue, bus, clock, limits
        self._container_url, self._hub_name = container_url, hub_name

    async def announce(self, notice: FileNotice) -> None:
        """Queue one notification; durable on return."""
        now = int(self._clock.now() * 1000)
        body = to_json(notice, self._container_url(), now)
        message = Message(
            body=msgspec.json.encode(body),
            system=SystemProperties(
                message_id=str(uuid.uuid4()),
                user_id=self._hub_name,
                content_type=CONTENT_TYPE,
                content_encoding="utf-8",
            ),
        )
        expires = now + self._limits.file_notification_ttl * 1000
        await self._queue.put(
            QueuedMessage(queue=FILE_NOTIFICATIONS, message=message, enqueued=now, expires=expires), 0
        )
        self._bus.publish(QUEUE_CHANGED, FILE_NOTIFICATIONS)


def to_json(notice: FileNotice, container_url: str, enqueued: int) -> dict[str, Any]:
    """One notification as clients read it; Java fails when a member is missing. enqueued: Unix milliseconds."""
    updated = dt.datetime.fromtimestamp(notice.updated, dt.UTC)
    queued = dt.datetime.fromtimestamp(enqueued / 1000, dt.UTC)
    return {
        "deviceId": notice.device_id,
        "blobUri": f"{container_url}/{quote(notice.blob_name)}",
        "blobName": notice.blob_name,
        "lastUpdatedTime": f"{updated:%Y-%m-%dT%H:%M:%S}+00:00",
        "blobSizeInBytes": notice.size,
        "enqueuedTimeUtc": f"{queued:%Y-%m-%dT%H:%M:%S.%f}0Z",
    }
