"""What the built-in endpoint retains: shown, changed while the hub runs. Source: service-protocols 2.17."""

import asyncio
from collections.abc import Callable
from typing import Final

from hubkeep.model import Retention, RetentionChange
from hubkeep.ports import RetentionStore


class EventRetention:
    """default: what settings say. changed: set whenever a change is in force that nobody has acted upon yet."""

    def __init__(self, store: RetentionStore, default: Retention) -> None:
        self._store: Final = store
        self.default: Final = default
        self.changed: Final = asyncio.Event()
        self._chosen = RetentionChange()
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read what is stored: once, before anything is deleted."""
        self._chosen = await self._store.get()

    @property
    def now(self) -> Retention:
        """What is in force."""
        hours, size = self._chosen
        return Retention(
            self.default.hours if hours is None else hours,
            self.default.size if size is None else size,
        )

    async def change(self, wanted: Callable[[RetentionChange], RetentionChange]) -> Retention:
        """wanted: what is to be chosen instead of what was. Stored before it is in force."""
        async with self._changing:
            chosen = wanted(self._chosen)
            await self._store.put(chosen)
            self._chosen = chosen
        self.changed.set()
        return self.now
