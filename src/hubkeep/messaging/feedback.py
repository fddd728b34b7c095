"""What became of cloud-to-device messages, gathered for back ends (service-protocols 4.4)."""

import datetime as dt
import uuid
from typing import Any, Final

import msgspec

from hubkeep.limits import FEEDBACK_RECORDS, Limits
from hubkeep.model import FEEDBACK, Feedback, Message, QueuedMessage, SystemProperties
from hubkeep.ports import Bus, Clock, FeedbackStore

from .cloud_to_device import QUEUE_CHANGED

CONTENT_TYPE: Final = "application/vnd.microsoft.iothub.feedback.json"


class FeedbackBatches:
    """Records become messages of the feedback queue: 64 together, or all that wait once one has waited 15 s."""

    def __init__(self, store: FeedbackStore, bus: Bus, clock: Clock, limits: Limits, host_name: str) -> None:
        self._store, self._bus, self._clock, self._limits = store, bus, clock, limits
        label = host_name.partition(".")[0]
        self._hub = host_name if label.isdigit() else label

    async def tend(self) -> None:
        """The hub's call each second."""
        most = FEEDBACK_RECORDS.value
        while records := await self._store.feedback(most):
            now = int(self._clock.now() * 1000)
            oldest = min(record.at for _, record in records)
            # a clock that was set back makes nobody wait longer
            if len(records) < most and 0 <= now - oldest < self._limits.feedback_wait * 1000:
                return
            message = Message(
                body=msgspec.json.encode([to_json(record) for _, record in records]),
                system=SystemProperties(
                    message_id=str(uuid.uuid4()), user_id=self._hub, content_type=CONTENT_TYPE, content_encoding="utf-8"
                ),
            )
            queued = QueuedMessage(
                queue=FEEDBACK, message=message, enqueued=now, expires=now + self._limits.feedback_ttl * 1000
            )
            await self._store.bundle([number for number, _ in records], queued)
            self._bus.publish(QUEUE_CHANGED, FEEDBACK)


def to_json(record: Feedback) -> dict[str, Any]:
    """One record as clients read it."""
    at = dt.datetime.fromtimestamp(record.at / 1000, dt.UTC)
    value = {
        "originalMessageId": record.message_id,
        "enqueuedTimeUtc": f"{at:%Y-%m-%dT%H:%M:%S.%f}0Z",
        "statusCode": record.status,
        "description": record.status,
        "deviceId": record.device_id,
        "deviceGenerationId": record.generation_id,
    }
    if record.module_id:
        value["moduleId"] = record.module_id
    return value
