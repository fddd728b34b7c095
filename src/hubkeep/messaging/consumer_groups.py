"""Consumer groups of the Event Hubs-compatible endpoint: create, list, delete. Source: service-protocols 5.1, 2.17."""

import asyncio
import re
from collections.abc import Sequence
from typing import Final

from hubkeep.errors import BadRequest, NotFound, QuotaExceeded
from hubkeep.limits import CONSUMER_GROUP_NAME, Limits
from hubkeep.model import ConsumerGroup
from hubkeep.ports import Bus, Clock, ConsumerGroupStore

DEFAULT_GROUP: Final = "$Default"
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


class ConsumerGroups:
    """Names mean the same in any case. fixed: those that settings name; they are always there."""

    def __init__(
        self, store: ConsumerGroupStore, bus: Bus, clock: Clock, limits: Limits, fixed: Sequence[str] = ()
    ) -> None:
        self._store, self._bus, self._clock, self._limits = store, bus, clock, limits
        self._groups = {name.lower(): ConsumerGroup(name) for name in (DEFAULT_GROUP, *fixed)}
        self._changing = asyncio.Lock()  # counting and creating are one step

    async def load(self) -> None:
        """Read what is stored: once, before anybody asks."""
        for group in await self._store.all():
            self._groups.setdefault(group.name.lower(), group)

    def all(self) -> Sequence[ConsumerGroup]:
        """By name, ``$Default`` first."""
        return [self._groups[name] for name in sorted(self._groups)]

    def find(self, name: str) -> ConsumerGroup:
        """Raises NotFound."""
        group = self._groups.get(name.lower())
        if group is None:
            raise NotFound("There is no consumer group of this name.", remedy="hubkeep events group create NAME")
        return group

    async def create(self, name: str) -> ConsumerGroup:
        """The group of this name, made where it is not there yet. Raises BadRequest, QuotaExceeded."""
        async with self._changing:
            if (known := self._groups.get(name.lower())) is not None:
                return known
            if len(name) > CONSUMER_GROUP_NAME.value or not _NAME.fullmatch(name):
                raise BadRequest(f"A name has 1 to {CONSUMER_GROUP_NAME.value} letters, digits and inner - _ .")
            if len(self._groups) > self._limits.consumer_groups:
                raise QuotaExceeded(
                    f"There are {self._limits.consumer_groups} consumer groups already.",
                    remedy="delete one, or raise limits.consumer_groups",
                )
            group = ConsumerGroup(name, self._clock.now())
            await self._store.add(group)
            self._groups[name.lower()] = group
            return group

    async def delete(self, name: str) -> None:
        """Its readers are detached. Raises NotFound, and BadRequest for one that is always there."""
        async with self._changing:
            group = self.find(name)
            if not group.created:
                raise BadRequest(f"{group.name} cannot be deleted.", remedy="take it out of events.consumer_groups")
            await self._store.remove(group.name)
            del self._groups[name.lower()]
        self._bus.publish("consumer-group.deleted", group)
