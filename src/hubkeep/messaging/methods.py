"""Direct methods: a back end calls, a connected device answers, within two time-outs. Source: service-protocols 2.12.

The device's link serves the identity's own subject on the bus; nothing is stored, and nothing is called twice.
"""

import asyncio
import contextlib
from collections import Counter
from types import TracebackType

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
        self._all_under_way = 0
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
        subject = method_subject(device_id, module_id)
        if self._under_way[subject] >= self._limits.methods_per_identity or self._all_under_way >= self._limits.methods:
            raise Throttled(
                cause="methods-too-many",
                reason="too many method calls are under way",
                remedy="wait for answers before calling on",
            )
        self._under_way[subject] += 1
        self._all_under_way += 1
        try:
            with contextlib.suppress(NobodyServes):
                return await self._ask(subject, call, seconds)  # an identity with a live link is registered
            await self._check_identity(device_id, module_id)
            return await self._call_once_there(subject, call, seconds, connect_seconds)
        finally:
            self._all_under_way -= 1
            self._under_way[subject] -= 1
            if not self._under_way[subject]:
                del self._under_way[subject]

    async def _call_once_there(
        self, subject: str, call: MethodCall, seconds: int, connect_seconds: int
    ) -> MethodAnswer:
        connect_by = self._clock.monotonic() + connect_seconds
        served: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._awaited.setdefault(subject, set())
        waiting.add(served)  # before asking, so that nobody's coming is missed
        try:
            while True:
                with contextlib.suppress(NobodyServes):
                    return await self._ask(subject, call, seconds)
                try:
                    async with _Deadline(self._clock, connect_by):
                        await served
                except TimeoutError:
                    raise DeviceNotOnline(remedy="it must be connected and listen for methods").by("L-D8") from None
                waiting.discard(served)
                served = asyncio.get_running_loop().create_future()
                waiting.add(served)
        finally:
            waiting.discard(served)
            if not waiting:
                self._awaited.pop(subject, None)

    async def _ask(self, subject: str, call: MethodCall, seconds: int) -> MethodAnswer:
        try:
            async with _Deadline(self._clock, self._clock.monotonic() + seconds):
                answer = await self._bus.request(subject, call)
        except TimeoutError:
            raise DeviceTimeout(reason=f"no answer to {call.name!r} within {seconds} s").by("L-D8") from None
        assert isinstance(answer, MethodAnswer)
        return answer

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


class _Deadline:
    """What is awaited within ends with TimeoutError once the hub's clock, which tests move, says ``deadline``."""

    __slots__ = ("_check", "_clock", "_deadline", "_loop", "_timeout")

    def __init__(self, clock: Clock, deadline: float) -> None:
        """deadline: monotonic seconds of ``clock``."""
        self._clock, self._deadline = clock, deadline
        self._loop, self._timeout = asyncio.get_running_loop(), asyncio.timeout(None)
        self._check: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._look()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._check is not None:
            self._check.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _look(self) -> None:
        left = self._deadline - self._clock.monotonic()
        if left <= 0:
            self._timeout.reschedule(self._loop.time())
        else:
            self._check = self._loop.call_later(min(left, _CHECK_SECONDS), self._look)
