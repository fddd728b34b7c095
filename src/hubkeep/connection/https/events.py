"""Operators' view of the Event Hubs-compatible endpoint: consumer groups, what it gets besides telemetry, retention."""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.messaging.consumer_groups import ConsumerGroups
from hubkeep.messaging.retention import EventRetention
from hubkeep.messaging.routing.event_sources import EventSources, SourceState
from hubkeep.model import ConsumerGroup, RetentionChange

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


class RetentionBody(msgspec.Struct):
    """What is left out stays; null: as settings say."""

    hours: Annotated[float, Meta(gt=0, le=1_000_000)] | UnsetType | None = UNSET
    bytes: Annotated[int, Meta(gt=0, le=1 << 60)] | UnsetType | None = UNSET


class RetentionSurface:
    def __init__(self, retention: EventRetention) -> None:
        self._retention = retention

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/retention/get", self.get, "service", dated=False),
            Endpoint("admin/retention/patch", self.patch, "service", dated=False),
        )

    async def get(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/events/retention"""
        return json_answer(self._json())

    async def patch(self, exchange: Exchange) -> web.StreamResponse:
        """PATCH /api/events/retention: ``{"hours": 72, "bytes": null}``."""
        body = json_as(RetentionBody, await exchange.body(HTTP_SERVICE_BODY.value))
        await self._retention.change(
            lambda chosen: RetentionChange(
                chosen.hours if body.hours is UNSET else body.hours,
                chosen.size if body.bytes is UNSET else body.bytes,
            )
        )
        return json_answer(self._json())

    def _json(self) -> dict[str, Any]:
        now, default = self._retention.now, self._retention.default
        return {
            "hours": now.hours,
            "bytes": now.size,
            "default": {"hours": default.hours, "bytes": default.size},
        }


def _source_json(state: SourceState) -> dict[str, Any]:
    """fixed: settings name it, and it stays on."""
    return {"source": state.source, "enabled": state.is_on, "fixed": state.is_fixed}


def _json(group: ConsumerGroup) -> dict[str, Any]:
    """fixed: it is always there."""
    created = time_stamp(group.created) if group.created else None
    return {"name": group.name, "created": created, "fixed": created is None}
