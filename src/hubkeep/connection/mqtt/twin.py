"""A device's own twin over MQTT: read, reported patches, desired patches pushed (device-protocols 3.13)."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from hubkeep.errors import BadRequest, Forbidden, HubError, StoreUnavailable, Throttled
from hubkeep.model import DesiredPatch
from hubkeep.ports import desired_subject
from hubkeep.wire.mqtt import Publish

from ..device_twins import TwinAnswer, desired_body
from .topics import request_topic

if TYPE_CHECKING:
    from .features import Device

_RESPONSES: Final = b"$iothub/twin/res/#"
_DESIRED: Final = b"$iothub/twin/PATCH/properties/desired/#"
_READ: Final = b"$iothub/twin/GET"
_REPORT: Final = b"$iothub/twin/PATCH/properties/reported"


class _Request(NamedTuple):
    """rid: as sent; empty: nothing is answered. version: the reported version it is meant for."""

    topic: bytes
    rid: bytes
    version: int | None
    body: bytes
    acknowledge: Callable[[], None]


class TwinFeature:
    """See features.Feature. Requests of one device are carried out one after another: it reads what it wrote."""

    __slots__ = ("_closed", "_device", "_queue", "_unsubscribe", "_worker")

    def __init__(self, device: "Device") -> None:
        self._device = device
        self._queue: deque[_Request] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._closed = False

    def publish(self, event: Publish, acknowledge: Callable[[], None]) -> None:
        topic, parameters = request_topic(event.topic)
        if topic not in {_READ, _REPORT}:
            raise Forbidden(
                cause="topic-of-another",
                reason=f"a publish to {event.topic[:128].decode(errors='replace')!r}",
                remedy="the topics are listed in docs/reference/mqtt.md",
            ).by("L-M14")
        request = _Request(
            topic, parameters.get(b"$rid", b""), _version(parameters.get(b"$version")), event.payload, acknowledge
        )
        if len(self._queue) >= self._device.listener.limits.twin_requests:
            device = self._device
            self._answer(
                request,
                device.listener.twins.refusal(Throttled(cause="twin-requests-too-many"), device.principal, device.link),
            )
            return
        self._queue.append(request)
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def subscribed(self, topic_filter: bytes, qos: int) -> None:
        if topic_filter == _DESIRED and self._unsubscribe is None:
            principal = self._device.principal
            subject = desired_subject(principal.device_id, principal.module_id)
            self._unsubscribe = self._device.listener.bus.subscribe(subject, self._push)

    def unsubscribed(self, topic_filter: bytes) -> None:
        if topic_filter == _DESIRED and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def acknowledged(self, packet_id: int) -> None:
        return  # everything of twins goes out with QoS 0

    def writable(self) -> None:
        return  # what does not fit between hub and device ends the link: a twin's answers are never dropped

    def close(self, *, cut: bool) -> None:
        self._closed = True
        self.unsubscribed(_DESIRED)
        if cut:
            self._queue.clear()

    async def _work(self) -> None:
        try:
            while self._queue:
                request = self._queue.popleft()
                try:
                    answer = await self._carry_out(request)
                except HubError as refusal:
                    self._queue.clear()
                    self._device.end(refusal)
                    return
                self._answer(request, answer)
        finally:
            self._worker = None

    async def _carry_out(self, request: _Request) -> TwinAnswer:
        """Raises a HubError when the link must go."""
        device, twins = self._device, self._device.listener.twins
        if request.topic == _READ:
            return await twins.read(device.principal, device.link)
        if request.version is not None and request.version < 0:
            return twins.refusal(BadRequest("$version is not a number."), device.principal, device.link)
        answer = await twins.report(device.principal, device.link, request.body, request.version)
        if isinstance(answer.error, StoreUnavailable) and not request.rid:
            raise answer.error  # nobody would be told: no PUBACK, so that the device repeats it (L-R3)
        return answer

    def _answer(self, request: _Request, answer: TwinAnswer) -> None:
        if request.rid and _RESPONSES in self._device.subscriptions and not self._closed:
            # the order and form of the parts is what clients parse by position
            topic = b"$iothub/twin/res/%03d/?$rid=%b" % (answer.status, request.rid)
            if answer.version is not None:
                topic += b"&$version=%d" % answer.version
            self._device.publish(topic, answer.body)
        request.acknowledge()

    def _push(self, payload: object) -> None:
        assert isinstance(payload, DesiredPatch)
        topic = b"$iothub/twin/PATCH/properties/desired/?$version=%d" % payload.version
        self._device.publish(topic, desired_body(payload))


def _version(text: bytes | None) -> int | None:
    """None: none was sent. -1: it is no number."""
    if text is None:
        return None
    return int(text) if text.isdigit() and len(text) <= 18 else -1
