"""Direct methods: a back end calls, a connected device answers, within two time-outs. Source: service-protocols 2.12.

The device's link serves the identity's own subject on the bus; nothing is stored, and nothing is called twice.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from hubkeep.errors import (
    BadRequest,
    DeviceNotFound,
    DeviceNotOnline,
    DeviceTimeout,
    MessageTooLarge,
    ModuleNotFound,
    Throttled,
)
from hubkeep.limits import Limits
from hubkeep.model import MethodAnswer, MethodCall
from hubkeep.ports import METHODS_SERVED, Bus, Clock, IdentityStore, NobodyServes, method_subject

_CHECK_SECONDS = 1.0  # how often the hub's clock is asked while something is awaited


class Methods:
    """Calls under way, by identity, and those that wait for a device to connect."""

    def __init__(self, identities: IdentityStore, bus: Bus, clock: Clock, limits: Limits) -> None:
        self._identities, self._bus, self._clock, self._limits = identities, bus, clock, limits
        self._under_way: Counter[str] = Counter()
        self._awaited: dict[str, set[asyncio.Future[None]]] = {}
        bus.subscribe(METHODS_SERVED, self._on_served)

    async def invoke(
        self,
        device_id: str,
        module_id: str,
        call: MethodCall,
        *,
        response_seconds: int | None = None,
        connect_seconds: int = 0,
    ) -> MethodAnswer:
        """What the device answers, whatever its status. None: the usual time to answer.

        Raises BadRequest, MessageTooLarge, Throttled, DeviceNotFound, ModuleNotFound; DeviceNotOnline when it is not
        there within ``connect_seconds``; DeviceConnectionClosed when it goes while it is waited for; DeviceTimeout.
        """
        seconds = self.check(call, response_seconds, connect_seconds)
        await self._check_identity(device_id, module_id)
        subject = method_subject(device_id, module_id)
        if (
            self._under_way[subject] >= self._limits.methods_per_identity
            or self._under_way.total() >= self._limits.methods
        ):
            raise Throttled(reason="too many method calls are under way", remedy="wait for answers before calling on")
        self._under_way[subject] += 1
        try:
            return await self._call(subject, call, seconds, connect_seconds)
        finally:
            self._under_way[subject] -= 1
            if not self._under_way[subject]:
                del self._under_way[subject]

    async def _call(self, subject: str, call: MethodCall, seconds: int, connect_seconds: int) -> MethodAnswer:
        connect_by = self._clock.monotonic() + connect_seconds
        served: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._awaited.setdefault(subject, set())
        waiting.add(served)  # before asking, so that nobody's coming is missed
        try:
            while True:
                try:
                    return await self._ask(subject, call, seconds)
                except NobodyServes:
                    if not await self._done_by(served, connect_by):
                        raise DeviceNotOnline(remedy="it must be connected and listen for methods").by("L-D8") from None
                waiting.discard(served)
                served = asyncio.get_running_loop().create_future()
                waiting.add(served)
        finally:
            waiting.discard(served)
            if not waiting:
                self._awaited.pop(subject, None)

    async def _ask(self, subject: str, call: MethodCall, seconds: int) -> MethodAnswer:
        asked = asyncio.ensure_future(_request(self._bus.request(subject, call)))
        try:
            if not await self._done_by(asked, self._clock.monotonic() + seconds):
                raise DeviceTimeout(reason=f"no answer to {call.name!r} within {seconds} s").by("L-D8")
            return asked.result()
        finally:
            asked.cancel()

    async def _done_by(self, awaited: "asyncio.Future[Any]", deadline: float) -> bool:
        """Whether it is done before the hub's clock says ``deadline`` (monotonic)."""
        while not awaited.done():
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return False
            await asyncio.wait([awaited], timeout=min(left, _CHECK_SECONDS))
        return True

    def _on_served(self, subject: object) -> None:
        for each in self._awaited.get(str(subject), ()):
            if not each.done():
                each.set_result(None)

    def check(self, call: MethodCall, response_seconds: int | None, connect_seconds: int) -> int:
        """The seconds to answer. Raises BadRequest, MessageTooLarge."""
        limits = self._limits
        seconds = limits.method_response if response_seconds is None else response_seconds
        if not call.name or len(call.name) > limits.method_name or not call.name.isprintable():
            raise BadRequest(f"methodName has 1 to {limits.method_name} characters.")
        if not limits.method_response_min <= seconds <= limits.method_response_max:
            raise BadRequest(
                f"responseTimeoutInSeconds must be {limits.method_response_min} to {limits.method_response_max}."
            )
        if not 0 <= connect_seconds <= limits.method_connect_max:
            raise BadRequest(f"connectTimeoutInSeconds must be 0 to {limits.method_connect_max}.")
        if len(call.payload) > limits.method_payload:
            raise MessageTooLarge(f"A method's payload has at most {limits.method_payload} bytes.")
        return seconds

    async def _check_identity(self, device_id: str, module_id: str) -> None:
        if await self._identities.get(device_id, module_id) is None:
            if module_id and await self._identities.get(device_id) is not None:
                raise ModuleNotFound
            raise DeviceNotFound


async def _request(asked: Coroutine[Any, Any, object]) -> MethodAnswer:
    answer = await asked
    assert isinstance(answer, MethodAnswer)
    return answer
