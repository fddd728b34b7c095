"""The service REST surface of twins. Source: service-protocols 2.5."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web

from hubkeep.device.identities import Identities
from hubkeep.errors import BadRequest
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.messaging.cloud_to_device import CloudToDevice
from hubkeep.messaging.configurations import Configurations
from hubkeep.messaging.twin_document import twin_document
from hubkeep.messaging.twins import Twins
from hubkeep.model import Twin

from .answers import json_answer, normal_etag
from .bodies import strict_json
from .exchange import Endpoint, Exchange


class _Wanted(msgspec.Struct, frozen=True):
    """What a writer may say. None: nothing. Whatever else it sends back is the hub's or the device's own."""

    tags: Any
    desired: Any


class TwinSurface:
    """settle: see ServiceSurface."""

    def __init__(
        self,
        twins: Twins,
        identities: Identities,
        to_device: CloudToDevice,
        configurations: Configurations,
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self._configurations = configurations
        self._twins, self._identities, self._to_device, self._settle = twins, identities, to_device, settle

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("twins/get", self.get, "service"),
            Endpoint("twins/get/module", self.get, "service"),
            Endpoint("twins/patch", self.patch, "service"),
            Endpoint("twins/patch/module", self.patch, "service"),
            Endpoint("twins/put", self.put, "service"),
            Endpoint("twins/put/module", self.put, "service"),
        )

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """GET /twins/{id}[/modules/{module}]"""
        return await self._answer(await self._twins.get(*_identity(exchange)))

    async def patch(self, exchange: Exchange) -> web.StreamResponse:
        """PATCH: merges tags and desired properties; null removes."""
        wanted, etag = await _wanted(exchange)
        return await self._answer(
            await self._twins.update(*_identity(exchange), tags=wanted.tags, desired=wanted.desired, etag=etag)
        )

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """PUT: replaces all tags and desired properties; what is not there is empty."""
        wanted, etag = await _wanted(exchange)
        return await self._answer(
            await self._twins.replace(*_identity(exchange), tags=wanted.tags, desired=wanted.desired, etag=etag)
        )

    async def _answer(self, twin: Twin) -> web.Response:
        await self._settle()
        identity = await self._identities.get(twin.device_id, twin.module_id)
        waiting = await self._to_device.waiting(twin.device_id, twin.module_id)
        statuses = await self._configurations.statuses(twin.device_id, twin.module_id)
        return json_answer(twin_document(twin, identity, waiting, configurations=statuses), etag=twin.etag)


def _identity(exchange: Exchange) -> tuple[str, str]:
    return exchange.values["id"], exchange.values.get("module", "")


async def _wanted(exchange: Exchange) -> tuple[_Wanted, str]:
    """The body, and the etag that is asked for. Raises BadRequest."""
    body = strict_json(await exchange.body(HTTP_SERVICE_BODY.value))
    if not isinstance(body, dict):
        raise BadRequest("A twin is a JSON object.")
    properties = body.get("properties")
    if not isinstance(properties, dict | None):
        raise BadRequest("properties must be a JSON object.")
    wanted = _Wanted(body.get("tags"), (properties or {}).get("desired"))
    return wanted, normal_etag(exchange.request.headers.get("If-Match", "")) or "*"
