"""Registrations that wait for somebody else's answer. They end, whatever happens: no device asks for ever.

Source: provisioning-and-pki 1.3, steps 6 and 9.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any, Final, NamedTuple

import msgspec

from hubkeep.errors import AllocationFailed, HubError, on_wire
from hubkeep.limits import REGISTRATION_OPEN
from hubkeep.model import RegisterRequest, RegistrationOperation
from hubkeep.ports import Clock, RegistrationStore

log = logging.getLogger(__name__)

_AT_ONCE: Final = 200
_Ends = asyncio.Task[RegistrationOperation]


class _UnderWay(NamedTuple):
    request: RegisterRequest
    operation: RegistrationOperation
    task: _Ends


class UnderWay:
    def __init__(self, store: RegistrationStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._by_name: dict[str, _UnderWay] = {}
        self._tasks: set[_Ends] = set()
        self._ids: set[str] = set()
        self._began = clock.now()

    def same(self, name: str, request: RegisterRequest) -> _Ends | None:
        """What a device that asks for the same again is to wait for."""
        found = self._by_name.get(name)
        return found.task if found is not None and found.request == request else None

    def of(self, task: _Ends) -> RegistrationOperation | None:
        """What a task is about that has not ended."""
        return next((each.operation for each in self._by_name.values() if each.task is task), None)

    async def begin(
        self,
        name: str,
        request: RegisterRequest,
        operation: RegistrationOperation,
        work: Coroutine[Any, Any, RegistrationOperation],
    ) -> _Ends:
        """Carry ``work`` out, and another one of this device no more: it has lost that answer.

        Raises StoreUnavailable.
        """
        self._ids.add(operation.operation_id)
        try:
            await self._store.put_operation(operation)
        except BaseException:
            work.close()
            self._ids.discard(operation.operation_id)
            raise
        if (before := self._by_name.pop(name, None)) is not None:
            before.task.cancel()
        task = asyncio.ensure_future(self._ended(name, operation, work))
        self._by_name[name] = _UnderWay(request, operation, task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end_lost(self) -> None:
        """Fail what nobody carries out any more: begun before the hub's start, or longer ago than anything may take."""
        begun_before = max(self._began, self._clock.now() - REGISTRATION_OPEN.value)
        for each in await self._store.open_operations(begun_before, _AT_ONCE):
            if each.operation_id not in self._ids:
                await self._fail(each, AllocationFailed("The allocation did not come to an end: register again."))

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _ended(
        self, name: str, operation: RegistrationOperation, work: Coroutine[Any, Any, RegistrationOperation]
    ) -> RegistrationOperation:
        try:
            return await work
        except HubError as error:
            return await self._fail(operation, error)
        except Exception:
            log.exception("the registration of %s", operation.registration_id)
            return await self._fail(operation, AllocationFailed())
        finally:
            self._ids.discard(operation.operation_id)
            if (now := self._by_name.get(name)) is not None and now.operation is operation:
                del self._by_name[name]

    async def _fail(self, operation: RegistrationOperation, error: HubError) -> RegistrationOperation:
        assert operation.if_lost is not None, "what is under way says how it fails"
        failed = msgspec.structs.replace(
            operation.if_lost,
            status="failed",
            error_code=on_wire(error).number,
            error_message=str(error),
            updated=self._clock.now(),
        )
        ended = msgspec.structs.replace(operation, registration=failed, if_lost=None)
        with contextlib.suppress(HubError):  # the store does not answer: end_lost comes again
            await self._store.put_operation(ended)
        return ended
