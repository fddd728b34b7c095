"""Small transactions that wait for one another's commit share the next one: many small ones cost one sync."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from hubkeep.errors import HubError, StoreUnavailable

from .writer import Prepared, Work, Writer

_T = TypeVar("_T")
_I = TypeVar("_I")
_WAITING: Final = 10_000
_TOGETHER: Final = 200

# What is done for many callers by the same few statements: an outcome for each item, in their order, and what must be
# written for them. A refusal is an outcome as well: whoever asked gets it raised.
Plan = Callable[[Sequence[_I]], tuple[Sequence[_T | HubError], Sequence[Prepared]]]


class _Waiting(NamedTuple):
    """plan: None for an item that is a work."""

    plan: Plan[Any, Any] | None
    item: Any
    done: "asyncio.Future[Any]"


class GroupCommit:
    """Carries out what gathered while the commit before was under way: plans together, works in the order of the calls.

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
        result: _T = await self._wait_for(None, work, when_full=when_full)
        return result

    async def together(self, plan: Plan[_I, _T], item: _I, *, when_full: bool = False) -> _T:
        """The same for an ``item`` that ``plan`` handles with the others that wait, when all before them is committed.

        Plans of one commit do not see what the others write.
        """
        outcome: _T = await self._wait_for(plan, item, when_full=when_full)
        return outcome

    async def _wait_for(self, plan: Plan[Any, Any] | None, item: Any, *, when_full: bool) -> Any:
        if not when_full:
            self._writer.check_room()
        if len(self._waiting) >= _WAITING:
            raise StoreUnavailable(reason=f"{_WAITING} writes to the queues wait already")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Waiting(plan, item, done))
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
                if planned := [each for each in batch if each.plan is not None]:
                    await _tell(planned, self._carry_out(planned))
                if works := [each for each in batch if each.plan is None]:
                    await _tell(works, self._work(works))
        finally:
            self._committing = None

    async def _carry_out(self, planned: Sequence[_Waiting]) -> list[Any]:
        return await self._writer.at_once(lambda: _planned(planned))

    async def _work(self, works: Sequence[_Waiting]) -> list[Any]:
        return await self._writer(lambda connection: _run(connection, works), when_full=True)


async def _tell(waiting: Sequence[_Waiting], outcomes_of: Awaitable[Sequence[Any]]) -> None:
    outcomes: Sequence[Any]
    try:
        outcomes = await outcomes_of
    except Exception as error:  # noqa: BLE001  # whoever waits is told, whatever it was
        outcomes = [error] * len(waiting)
    for each, outcome in zip(waiting, outcomes, strict=True):
        if each.done.done():
            continue
        if isinstance(outcome, Exception):
            each.done.set_exception(outcome)
        else:
            each.done.set_result(outcome)


def _planned(waiting: Sequence[_Waiting]) -> tuple[list[Any], list[Prepared]]:
    places: dict[Plan[Any, Any], list[int]] = {}
    for place, each in enumerate(waiting):
        assert each.plan is not None
        places.setdefault(each.plan, []).append(place)
    outcomes: list[Any] = [None] * len(waiting)
    statements: list[Prepared] = []
    for plan, its_places in places.items():
        found, more = plan([waiting[place].item for place in its_places])
        statements += more
        for place, outcome in zip(its_places, found, strict=True):
            outcomes[place] = outcome
    return outcomes, statements


async def _run(connection: AsyncConnection, works: Sequence[_Waiting]) -> list[Any]:
    outcomes: list[Any] = []
    for each in works:
        try:
            outcomes.append(await each.item(connection))
        except HubError as refusal:
            outcomes.append(refusal)
    return outcomes
