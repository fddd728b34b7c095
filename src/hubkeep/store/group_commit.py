"""Writes that come while a commit is under way share the next one: many small ones cost one sync."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from hubkeep.errors import HubError, StoreUnavailable

from .writer import Work, Writer

_T = TypeVar("_T")
_WAITING: Final = 10_000
_TOGETHER: Final = 100


class GroupCommit:
    """Runs work in the order of the calls. A work that refuses (HubError) does so before it has written anything."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._waiting: deque[tuple[Work[Any], asyncio.Future[Any]]] = deque()
        self._committing: asyncio.Task[None] | None = None

    async def __call__(self, work: Work[_T]) -> _T:
        """The result of ``work``, once it is durable. It is carried out even if its caller is gone.

        Raises what ``work`` refuses, and StoreUnavailable: then nothing was written.
        """
        if len(self._waiting) >= _WAITING:
            raise StoreUnavailable(reason=f"{_WAITING} writes to the queues wait already")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()
        self._waiting.append((work, done))
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

    async def _commit(self, batch: list[tuple[Work[Any], "asyncio.Future[Any]"]]) -> None:
        works = [work for work, _ in batch]
        try:
            outcomes = await self._writer(lambda connection: _run(connection, works))
        except Exception as error:  # noqa: BLE001  # whoever waits is told, whatever it was
            outcomes = [(None, error)] * len(batch)
        for (_, done), (result, raised) in zip(batch, outcomes, strict=True):
            if done.done():
                continue
            if raised is None:
                done.set_result(result)
            else:
                done.set_exception(raised)


async def _run(
    connection: AsyncConnection, works: list[Callable[[AsyncConnection], Awaitable[Any]]]
) -> list[tuple[Any, Exception | None]]:
    outcomes: list[tuple[Any, Exception | None]] = []
    for work in works:
        try:
            outcomes.append((await work(connection), None))
        except HubError as refusal:
            outcomes.append((None, refusal))
    return outcomes
