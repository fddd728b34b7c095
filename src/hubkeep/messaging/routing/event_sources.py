"""Which of the hub's own events the built-in endpoint gets: shown, switched. Source: service-protocols 6.3."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from hubkeep.errors import BadRequest, NotFound
from hubkeep.model import EVENT_SOURCES, EventSource
from hubkeep.ports import EventSourceStore

from .table import RoutingTable

_BY_NAME: Final[dict[str, EventSource]] = {source.lower(): source for source in EVENT_SOURCES}


class SourceState(NamedTuple):
    """is_fixed: settings name it, and it stays on."""

    source: EventSource
    is_on: bool
    is_fixed: bool


class EventSources:
    """Names mean the same in any case: routes of the original spell them with a capital. fixed: named by settings."""

    def __init__(self, store: EventSourceStore, table: RoutingTable, fixed: Sequence[EventSource] = ()) -> None:
        self._store, self._table, self._fixed = store, table, frozenset(fixed)
        self._on: set[EventSource] = set()
        self._switching = asyncio.Lock()

    async def load(self) -> None:
        """Read what is stored: once, before anything happens that could be told."""
        self._on = {_BY_NAME[name.lower()] for name in await self._store.all() if name.lower() in _BY_NAME}
        self._table.set_built_in(self._on | self._fixed)

    def all(self) -> Sequence[SourceState]:
        return [self._state(source) for source in EVENT_SOURCES]

    async def switch(self, name: str, *, is_on: bool) -> SourceState:
        """What happens from now on is told, or is not. Raises NotFound, and BadRequest for one that stays on."""
        source = _BY_NAME.get(name.lower())
        if source is None:
            raise NotFound(f"The event sources are: {', '.join(EVENT_SOURCES)}.")
        if source in self._fixed and not is_on:
            raise BadRequest(f"{source} stays on: settings name it.", remedy="take it out of events.sources")
        async with self._switching:
            await self._store.put(source, is_on=is_on)
            (self._on.add if is_on else self._on.discard)(source)
            self._table.set_built_in(self._on | self._fixed)
        return self._state(source)

    def _state(self, source: EventSource) -> SourceState:
        is_fixed = source in self._fixed
        return SourceState(source, is_fixed or source in self._on, is_fixed)
