"""Other hubs that devices are assigned to, for operators. What opens them goes in and never comes out."""

from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from hubkeep.device.provisioning.linked_hubs import LinkedHubs
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.model import LinkedHub

from .answers import json_answer, no_content
from .bodies import json_as
from .exchange import Endpoint, Exchange


class LinkedHubBody(msgspec.Struct, rename="camel"):
    """connectionString: of a policy of that hub with RegistryWrite and ServiceConnect; left out, the known one stays.

    applyAllocationPolicy: whether devices go there that no enrollment sends there by name.
    """

    connection_string: str | None = None
    allocation_weight: int = 1
    apply_allocation_policy: bool = True


class LinkedHubSurface:
    def __init__(self, linked: LinkedHubs) -> None:
        self._linked = linked

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/provisioning/hubs", self.list, "service", dated=False),
            Endpoint("admin/provisioning/hubs/put", self.put, "service", dated=False),
            Endpoint("admin/provisioning/hubs/delete", self.delete, "service", dated=False),
        )

    async def list(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/provisioning/hubs"""
        return json_answer([_told(each) for each in self._linked.all()])

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /api/provisioning/hubs/{name}: links, or changes."""
        wanted = json_as(LinkedHubBody, await exchange.body(HTTP_SERVICE_BODY.value))
        hub = await self._linked.link(
            exchange.values["name"],
            wanted.connection_string or "",
            weight=wanted.allocation_weight,
            applies=wanted.apply_allocation_policy,
        )
        exchange.detail = f"{hub.host_name}, weight {hub.weight}"
        return json_answer(_told(hub))

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /api/provisioning/hubs/{name}: devices that were assigned there stay there."""
        await self._linked.unlink(exchange.values["name"])
        return no_content()


def _told(hub: LinkedHub) -> dict[str, Any]:
    return {
        "name": hub.name,
        "hostName": hub.host_name,
        "allocationWeight": hub.weight,
        "applyAllocationPolicy": hub.applies,
    }
