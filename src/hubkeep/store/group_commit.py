"""Small transactions that wait for one another's commit share the next one: many small ones cost one sync."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from hubkeep.errors import HubError, StoreUnavailable

from .writer import Work, Writer

_T = TypeVar("_T")
_I = TypeVar("_I")
_WAITING: Final = 10_000
_TOGETHER: Final = 200

# What is done for many callers by the same few statements: an outcome for each item, in their order. A refusal is
# an outcome as well: whoever asked gets it raised.
Together = Callable[[AsyncConnection, Sequence[_I]], Awaitable[Sequence[_T | HubError]]]


class _Waiting(NamedTuple):
    kind: Together[Any, Any]
    item: Any
    done: "asyncio.Future[Any]"


class GroupCommit:
    """Runs work in the order of the calls, and what can be done together at the place of the first.

    A work that refuses (HubError) does so before it has written anything.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._waiting: deque[_Waiting] = deque()
        self._committing: asyncio.Task[None] | None = None

    async def __call__(self, work: Work[_T], *, when_full: bool = False) -> _T:
        """The result of ``work``, once it is durable. It is carried out even if its caller is gone.

        Raises what ``work`` refuses, and StoreUnavailable: then nothing was written. when_full: see Writer.
        """
        return await self.together(_one_by_one, work, when_full=when_full)

    async def together(self, kind: Together[_I, _T], item: _I, *, when_full: bool = False) -> _T:
        """The same for an ``item`` that ``kind`` handles together with the others that wait."""
        if not when_full:
            self._writer.check_room()
        if len(self._waiting) >= _WAITING:
            raise StoreUnavailable(reason=f"{_WAITING} writes to the queues wait already")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()
        self._waiting.append(_Waiting(kind, item, done))
        if self._committing is None:
            self._committing = loop.create_task(self._commit_all())
        return await done

    async def finish(self) -> None:
        """Wait for what is under way."""
        while self._committing is not None:
            await asyncio.wait([self._committing])

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER))]
                await self._commit(batch)
        finally:
            self._committing = None

    async def _commit(self, batch: list[_Waiting]) -> None:
        outcomes: Sequence[Any]
        try:
            outcomes = await self._writer(lambda connection: _run(connection, batch), when_full=True)
        except Exception as error:  # noqa: BLE001  # whoever waits is told, whatever it was
            outcomes = [error] * len(batch)
        for each, outcome in zip(batch, outcomes, strict=True):
            if each.done.done():
                continue
            if isinstance(outcome, Exception):
                each.done.set_exception(outcome)
            else:
                each.done.set_result(outcome)


async def _run(connection: AsyncConnection, batch: Sequence[_Waiting]) -> list[Any]:
    places: dict[Together[Any, Any], list[int]] = {}
    for place, each in enumerate(batch):
        places.setdefault(each.kind, []).append(place)
    outcomes: list[Any] = [None] * len(batch)
    for kind, its_places in places.items():
        found = await kind(connection, [batch[place].item for place in its_places])
        for place, outcome in zip(its_places, found, strict=True):
            outcomes[place] = outcome
    return outcomes


async def _one_by_one(connection: AsyncConnection, works: Sequence[Work[_T]]) -> list[_T | HubError]:
    outcomes: list[_T | HubError] = []
    for work in works:
        try:
            outcomes.append(await work(connection))
        except HubError as refusal:
            outcomes.append(refusal)
    return outcomes
