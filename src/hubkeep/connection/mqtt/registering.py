"""A device that registers over MQTT: its user name, its one filter, its two requests, and nothing else.

Source: provisioning-and-pki 1.6. The answer of each request follows its PUBACK; one device's are carried out in turn.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from hubkeep.errors import BadRequest, Forbidden, ServerBusy, Unauthorized
from hubkeep.limits import REGISTRATION_ANSWER_HELD, REGISTRATION_ANSWERS_HELD
from hubkeep.model import Principal
from hubkeep.wire.mqtt import Connect, Publish
from hubkeep.wire.mqtt.packets import SUBACK_FAILURE
from hubkeep.wire.sas import percent_decoded

from ..device_registrations import RegistrantName, RegistrationAnswer, registrant_name
from .topics import request_topic

if TYPE_CHECKING:
    from .features import Device, Feature

OPERATION: Final = "registrations/connect"
_RESPONSES: Final = b"$dps/registrations/res/#"
_REGISTER: Final = b"$dps/registrations/PUT/iotdps-register"
_STATUS: Final = b"$dps/registrations/GET/iotdps-get-operationstatus"
_WAITING: Final = 16  # requests of one link that wait for their turn


class Registrant(NamedTuple):
    """What the CONNECT of a device that registers says of it. Nothing here is proven. client: its user agent."""

    name: RegistrantName
    api_version: str
    client: str


def registrant(connect: Connect) -> Registrant | None:
    """None: the CONNECT is a device's of this hub. Raises Unauthorized: client id or API version do not fit."""
    parts = (connect.username or "").split("/", 3)
    is_device = connect.client_id.partition("/")[0] == "registrations" and parts[2:3] != [connect.client_id]
    name = registrant_name("/".join(parts[:3]))
    if name is None or name.registration_id[0] == "?" or is_device:
        return None
    values: dict[str, str] = {}
    for parameter in parts[3].removeprefix("?").split("&") if len(parts) == 4 else ():
        key, _, value = parameter.partition("=")
        values.setdefault(key, percent_decoded(value))
    if name.registration_id.lower() != connect.client_id.lower():
        raise Unauthorized(
            cause="user-name-of-another",
            reason=f"the user name names the registration {name.registration_id[:128]!r}, the client id is another one",
        )
    if not (version := values.get("api-version", "")):
        raise Unauthorized(
            cause="user-name-malformed",
            reason="the user name has no api-version",
            remedy="user name: {id scope}/registrations/{registration id}/api-version=2019-03-31",
        )
    return Registrant(name, version[:64], values.get("ClientVersion", "")[:256])


class RegistrantSession:
    """See session.Session: what is subscribed ends with the connection."""

    __slots__ = ("filters",)

    def __init__(self) -> None:
        self.filters: dict[bytes, int] = {}

    def grant(
        self, filters: Iterable[tuple[bytes, int]], most: int, *, lenient: bool, over_quota: int | None
    ) -> tuple[bytes, dict[bytes, int]]:
        granted, after = bytearray(), dict(self.filters)
        for topic_filter, qos in filters:
            if topic_filter == _RESPONSES:
                after[topic_filter] = min(qos, 1)
                granted.append(min(qos, 1))
            else:
                granted.append(SUBACK_FAILURE)  # L-M15
        return bytes(granted), after

    def must_store(self, after: dict[bytes, int]) -> bool:
        return False

    async def store(self, after: dict[bytes, int]) -> None:
        return

    async def end_after(self, expiry: int) -> None:
        return

    def change(self, after: dict[bytes, int]) -> None:
        self.filters.clear()
        self.filters.update(after)


class _Request(NamedTuple):
    """rid: as sent. operation_id: empty to register."""

    rid: bytes
    operation_id: bytes
    body: bytes
    acknowledge: Callable[[], None]


class _Held(NamedTuple):
    topic: bytes
    body: bytes
    until: float  # monotonic seconds


class RegistrationFeature:
    """See features.Feature."""

    __slots__ = ("_closed", "_device", "_held", "_packet_id", "_queue", "_worker")

    def __init__(self, device: "Device") -> None:
        self._device = device
        self._queue: deque[_Request] = deque()
        self._held: deque[_Held] = deque(maxlen=REGISTRATION_ANSWERS_HELD.value)
        self._worker: asyncio.Task[None] | None = None
        self._packet_id = 0
        self._closed = False

    def publish(self, event: Publish, acknowledge: Callable[[], None]) -> None:
        path, parameters = request_topic(event.topic)
        rid = parameters.get(b"$rid", b"")
        if path not in {_REGISTER, _STATUS}:
            raise Forbidden(
                cause="topic-of-another",
                reason=f"a publish to {event.topic[:128].decode(errors='replace')!r}",
                remedy="a device that registers publishes to the two topics of docs/reference/mqtt.md",
            ).by("L-M14")
        if not rid:
            raise BadRequest(reason="a request without $rid: no answer could be told from another")
        operation_id = parameters.get(b"operationId", b"") or b"-"  # one of no name is nobody's
        request = _Request(rid, operation_id if path == _STATUS else b"", event.payload, acknowledge)
        if len(self._queue) >= _WAITING:
            self._answer(request, self._refusal(ServerBusy(reason="the device does not wait for its answers")))
            return
        self._queue.append(request)
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def subscribed(self, topic_filter: bytes, qos: int) -> None:
        now = self._device.listener.clock.monotonic()
        while self._held:
            held = self._held.popleft()
            if now <= held.until:
                self._send(held.topic, held.body)

    def unsubscribed(self, topic_filter: bytes) -> None:
        return

    def acknowledged(self, packet_id: int) -> None:
        return  # what is not acknowledged is not sent again: the session ends with the connection

    def writable(self) -> None:
        return

    def close(self, *, cut: bool) -> None:
        self._closed = True
        self._queue.clear()
        self._held.clear()

    async def _work(self) -> None:
        try:
            while self._queue:
                request = self._queue.popleft()
                self._answer(request, await self._carry_out(request))
        finally:
            self._worker = None

    async def _carry_out(self, request: _Request) -> RegistrationAnswer:
        device = self._device
        desk, principal, link = device.listener.registrations, device.principal, device.link
        if request.operation_id:
            operation_id = request.operation_id.decode(errors="replace")
            return await desk.status(principal, link, operation_id, "registrations/request")
        return await desk.register(principal, link, request.body, device.api_version, "registrations/request")

    def _refusal(self, error: ServerBusy) -> RegistrationAnswer:
        device = self._device
        return device.listener.registrations.refusal(error, device.principal.name, device.link, "registrations/request")

    def _answer(self, request: _Request, answer: RegistrationAnswer) -> None:
        """The PUBACK first: one client is strict about it. The order and spelling of the keys is what clients read."""
        request.acknowledge()
        if self._closed:
            return
        topic = b"$dps/registrations/res/%d/?$rid=%b" % (answer.status, request.rid)
        if answer.retry_after is not None:
            topic += b"&retry-after=%d" % answer.retry_after
        if _RESPONSES in self._device.subscriptions:
            self._send(topic, answer.body)
        else:
            until = self._device.listener.clock.monotonic() + REGISTRATION_ANSWER_HELD.value
            self._held.append(_Held(topic, answer.body, until))

    def _send(self, topic: bytes, body: bytes) -> None:
        packet_id = 0
        if self._device.subscriptions.get(_RESPONSES):
            packet_id = self._packet_id = self._packet_id % 0xFFFF + 1
        self._device.publish(topic, body, packet_id)


# In place of features.FEATURES, on the link of a device that registers.
REGISTRANT_FEATURES: Final[tuple[tuple[bytes, "type[Feature]"], ...]] = ((b"$dps/registrations/", RegistrationFeature),)


def is_registrant(principal: Principal) -> bool:
    return principal.registration is not None
