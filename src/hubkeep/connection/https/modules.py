"""The service REST surface of module identities. Source: service-protocols 2.4."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web

from hubkeep.device.identities import Identities
from hubkeep.errors import BadRequest
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.messaging.cloud_to_device import CloudToDevice
from hubkeep.model import Identity

from ..audited import difference
from ..timestamps import time_stamp
from .answers import json_answer, no_content, normal_etag
from .bodies import json_as
from .exchange import Endpoint, Exchange
from .service import AuthenticationBody, StatusReason, audited_members, authentication_to_json, credentials_from


class ModuleBody(msgspec.Struct, rename="camel"):
    """What a PUT may say of a module. Everything else that a client sends back is the hub's own."""

    device_id: str
    module_id: str
    managed_by: StatusReason | None = None
    authentication: AuthenticationBody | None = None


class ModuleSurface:
    """settle: see ServiceSurface."""

    def __init__(self, identities: Identities, to_device: CloudToDevice, settle: Callable[[], Awaitable[None]]) -> None:
        self._identities, self._to_device, self._settle = identities, to_device, settle

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("modules/list", self.list, "service"),
            Endpoint("modules/get", self.get, "service"),
            Endpoint("modules/put", self.put, "service"),
            Endpoint("modules/delete", self.delete, "service"),
        )

    async def list(self, exchange: Exchange) -> web.StreamResponse:
        """GET /devices/{id}/modules: an array."""
        await self._settle()
        modules = await self._identities.modules(exchange.values["id"])
        return json_answer([await self._json(each) for each in modules])

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """GET /devices/{id}/modules/{module}"""
        await self._settle()
        return await self._answer(await self._identities.get(exchange.values["id"], exchange.values["module"]))

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /devices/{id}/modules/{module}: creates without If-Match, replaces with it."""
        device_id, module_id = exchange.values["id"], exchange.values["module"]
        wanted = json_as(ModuleBody, await exchange.body(HTTP_SERVICE_BODY.value))
        if (wanted.device_id, wanted.module_id) != (device_id, module_id):
            raise BadRequest("The deviceId or moduleId of the body is not the one of the address.")
        etag = normal_etag(exchange.request.headers.get("If-Match", ""))
        asked = Identity(
            device_id=device_id,
            module_id=module_id,
            managed_by=wanted.managed_by,
            **credentials_from(wanted.authentication),
        )
        before = None
        if etag:
            kept = wanted.authentication is None
            before = audited_members(await self._identities.get(device_id, module_id))
            identity = await self._identities.update(asked, etag, keep_authentication=kept)
        else:
            identity = await self._identities.create(asked)
        exchange.detail = difference(before, audited_members(identity))
        return await self._answer(identity)

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /devices/{id}/modules/{module}"""
        etag = normal_etag(exchange.request.headers.get("If-Match", ""))
        await self._identities.delete(exchange.values["id"], etag or "*", exchange.values["module"])
        return no_content()

    async def _answer(self, identity: Identity) -> web.StreamResponse:
        return json_answer(await self._json(identity), etag=identity.etag)

    async def _json(self, identity: Identity) -> dict[str, Any]:
        waiting = await self._to_device.waiting(identity.device_id, identity.module_id)
        return module_to_json(identity, waiting)


def module_to_json(identity: Identity, waiting: int) -> dict[str, Any]:
    """The module identity of service-protocols 2.4. waiting: cloud-to-device messages in its queue."""
    return {
        "moduleId": identity.module_id,
        "managedBy": identity.managed_by,
        "deviceId": identity.device_id,
        "generationId": identity.generation_id,
        "etag": identity.etag,
        "connectionState": "Connected" if identity.connected else "Disconnected",
        "connectionStateUpdatedTime": time_stamp(identity.connection_updated),
        "lastActivityTime": time_stamp(identity.last_activity),
        "cloudToDeviceMessageCount": waiting,
        "authentication": authentication_to_json(identity),
    }
