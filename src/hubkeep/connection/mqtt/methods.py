"""Direct methods over MQTT (device-protocols 3.12)."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from hubkeep.errors import Forbidden, HubError
from hubkeep.model import MethodCall
from hubkeep.ports import NobodyServes
from hubkeep.wire.mqtt import Publish
from hubkeep.wire.sas import percent_decoded

from ..method_calls import MethodCalls
from .topics import METHODS, request_topic

if TYPE_CHECKING:
    from .features import Device

_ANSWERS: Final = b"$iothub/methods/res/"
_ALL: Final = METHODS + b"#"
_STATUS: Final = re.compile(r"-?[0-9]{1,9}", re.ASCII)


class MethodFeature:
    """See features.Feature."""

    __slots__ = ("_calls", "_device", "_number")

    def __init__(self, device: "Device") -> None:
        self._device = device
        listener = device.listener
        self._calls = MethodCalls(listener.bus, listener.limits, device.principal, self._send)
        self._number = 0

    def publish(self, event: Publish, acknowledge: Callable[[], None]) -> None:
        topic, parameters = request_topic(event.topic)
        if not topic.startswith(_ANSWERS):
            raise Forbidden(
                cause="topic-of-another",
                reason=f"a publish to {event.topic[:128].decode(errors='replace')!r}",
                remedy="the topics are listed in docs/reference/mqtt.md",
            ).by("L-M14")
        device = self._device
        try:
            device.listener.authentication.authorize(
                device.principal, "methods/answer", device.principal.path, device.link
            )
        except HubError as error:
            device.end(error)
            return
        status = percent_decoded(topic[len(_ANSWERS) :].decode())
        request_id = percent_decoded(parameters.get(b"$rid", b"").decode())
        self._calls.answer(request_id, int(status) if _STATUS.fullmatch(status) else None, event.payload)
        acknowledge()

    def subscribed(self, topic_filter: bytes, qos: int) -> None:
        self._calls.serve()

    def unsubscribed(self, topic_filter: bytes) -> None:
        if not any(each.startswith(METHODS) for each in self._device.subscriptions if each != topic_filter):
            self._calls.stop()

    def acknowledged(self, packet_id: int) -> None:
        return  # calls go out with QoS 0

    def writable(self) -> None:
        return  # a call that does not fit between hub and device ends the link

    def close(self, *, cut: bool) -> None:
        self._calls.close()

    def _send(self, call: MethodCall) -> str:
        # * stays literal: commands of components are named component*command
        topic = METHODS + quote(call.name, safe="*").encode() + b"/"
        filters = self._device.subscriptions
        if _ALL not in filters and topic + b"#" not in filters and METHODS + call.name.encode() + b"/#" not in filters:
            raise NobodyServes
        self._number += 1
        request_id = f"{self._number:x}"
        self._device.publish(topic + b"?$rid=" + request_id.encode(), call.payload)
        return request_id
