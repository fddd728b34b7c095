"""Operators' view of the Event Hubs-compatible endpoint: its consumer groups, and what it gets besides telemetry."""

from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.messaging.consumer_groups import ConsumerGroups
from hubkeep.messaging.routing.event_sources import EventSources, SourceState
from hubkeep.model import ConsumerGroup

from ..timestamps import time_stamp
from .answers import json_answer, no_content
from .bodies import json_as
from .exchange import Endpoint, Exchange


class ConsumerGroupSurface:
    def __init__(self, groups: ConsumerGroups) -> None:
        self._groups = groups

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/groups/list", self.list, "service", dated=False),
            Endpoint("admin/groups/put", self.put, "service", dated=False),
            Endpoint("admin/groups/delete", self.delete, "service", dated=False),
        )

    async def list(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/events/groups"""
        return json_answer([_json(each) for each in self._groups.all()])

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /api/events/groups/{name}: harmless where it is there already."""
        return json_answer(_json(await self._groups.create(exchange.values["name"])))

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /api/events/groups/{name}"""
        await self._groups.delete(exchange.values["name"])
        return no_content()


class SourceSwitch(msgspec.Struct):
    enabled: bool


class EventSourceSurface:
    def __init__(self, sources: EventSources) -> None:
        self._sources = sources

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/sources/list", self.list, "service", dated=False),
            Endpoint("admin/sources/put", self.put, "service", dated=False),
        )

    async def list(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/events/sources"""
        return json_answer([_source_json(each) for each in self._sources.all()])

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /api/events/sources/{name}: ``{"enabled": true}`` or false."""
        wanted = json_as(SourceSwitch, await exchange.body(HTTP_SERVICE_BODY.value))
        state = await self._sources.switch(exchange.values["name"], is_on=wanted.enabled)
        return json_answer(_source_json(state))


def _source_json(state: SourceState) -> dict[str, Any]:
    """fixed: settings name it, and it stays on."""
    return {"source": state.source, "enabled": state.is_on, "fixed": state.is_fixed}


def _json(group: ConsumerGroup) -> dict[str, Any]:
    """fixed: it is always there."""
    created = time_stamp(group.created) if group.created else None
    return {"name": group.name, "created": created, "fixed": created is None}
