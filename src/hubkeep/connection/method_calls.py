"""Method calls that wait for one link's answer, the same on every wire (device-protocols 3.12, 4.8)."""

import asyncio
from collections.abc import Callable, Hashable

from hubkeep.errors import BadRequest, DeviceConnectionClosed, FormatError, HubError, MessageTooLarge
from hubkeep.limits import Limits
from hubkeep.model import MethodAnswer, MethodCall, Principal
from hubkeep.ports import METHODS_SERVED, Bus, method_subject

from .strict_json import strict_json


class MethodCalls:
    """One link's calls. send: puts a call on the wire, and returns what its answer will be known by.

    ``send`` raises NobodyServes when the device does not take this call now.
    """

    __slots__ = ("_bus", "_limits", "_pending", "_send", "_subject", "_unserve")

    def __init__(self, bus: Bus, limits: Limits, principal: Principal, send: Callable[[MethodCall], Hashable]) -> None:
        self._bus, self._limits, self._send = bus, limits, send
        self._subject = method_subject(principal.device_id, principal.module_id)
        self._pending: dict[Hashable, asyncio.Future[MethodAnswer]] = {}
        self._unserve: Callable[[], None] | None = None

    def serve(self) -> None:
        """The device listens for methods. Harmless when it did already."""
        if self._unserve is None:
            self._unserve = self._bus.serve(self._subject, self._call)
        self._bus.publish(METHODS_SERVED, self._subject)

    def stop(self) -> None:
        """It listens no more; calls under way go on."""
        if self._unserve is not None:
            self._unserve()
            self._unserve = None

    def close(self) -> None:
        """The link is gone: so is every answer."""
        self.stop()
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(DeviceConnectionClosed().by("L-D8"))

    def answer(self, known_by: Hashable, status: int | None, body: bytes) -> None:
        """The device answered. A late or unknown answer is dropped. status: None when it is no number."""
        waiting = self._pending.get(known_by)
        if waiting is None or waiting.done():
            return
        try:
            waiting.set_result(self._checked(status, body))
        except HubError as error:
            waiting.set_exception(error)

    async def _call(self, call: object) -> MethodAnswer:
        assert isinstance(call, MethodCall)
        known_by = self._send(call)
        waiting: asyncio.Future[MethodAnswer] = asyncio.get_running_loop().create_future()
        self._pending[known_by] = waiting
        try:
            return await waiting
        finally:
            del self._pending[known_by]

    def _checked(self, status: int | None, body: bytes) -> MethodAnswer:
        if status is None:
            raise BadRequest("The device's answer has no status.")
        if len(body) > self._limits.method_payload:
            raise MessageTooLarge(f"The device's answer is larger than {self._limits.method_payload} bytes.")
        if not body.strip():
            return MethodAnswer(status)
        try:
            strict_json(body)
        except FormatError as error:
            raise FormatError("The device's answer is not JSON.", reason=error.reason) from None
        return MethodAnswer(status, body)
