"""Operators' view of the Event Hubs-compatible endpoint: its consumer groups."""

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from hubkeep.messaging.consumer_groups import ConsumerGroups
from hubkeep.model import ConsumerGroup

from ..timestamps import time_stamp
from .answers import json_answer, no_content
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


def _json(group: ConsumerGroup) -> dict[str, Any]:
    """fixed: it is always there."""
    created = time_stamp(group.created) if group.created else None
    return {"name": group.name, "created": created, "fixed": created is None}
