"""The service REST surface: identities and statistics. Source: service-protocols 2.2, 2.3, 2.7."""

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Annotated, Any, get_args

import msgspec
from aiohttp import web

from hubkeep.cloud.roles import Reach
from hubkeep.device.identities import Identities, authentication_type, status_from_text
from hubkeep.device.keys import key_from_text, key_to_text
from hubkeep.errors import BadRequest, DeviceNotFound
from hubkeep.limits import HTTP_SERVICE_BODY, LIST_TOP, STATUS_REASON
from hubkeep.messaging.cloud_to_device import CloudToDevice
from hubkeep.model import AuthenticationType, Identity

from ..audited import difference, secret
from ..timestamps import time_stamp
from .answers import json_answer, no_content, normal_etag
from .bodies import documented, json_as
from .exchange import Endpoint, Exchange

Key = Annotated[
    str,
    documented(
        description="Base64 of 16 to 64 bytes; empty: the hub makes both keys.",
        pattern="^$|^([A-Za-z0-9+/]{4}){5,20}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$",
    ),
]
Thumbprint = Annotated[
    str,
    documented(description="Hexadecimal digits of SHA-1 or SHA-256.", pattern="^$|^[0-9A-Fa-f]{40}$|^[0-9A-Fa-f]{64}$"),
]
# in any case, as clients write them; the description shows how the hub does
StatusWord = Annotated[str, documented(enum=["enabled", "disabled"])]
StatusReason = Annotated[str, documented(maxLength=STATUS_REASON.value)]
Scopes = Annotated[list[str], documented(maxItems=1)]


class SymmetricKeyBody(msgspec.Struct, rename="camel"):
    """Both keys or none; without them a device that authenticates by keys gets two random ones."""

    primary_key: Key | None = None
    secondary_key: Key | None = None


class ThumbprintBody(msgspec.Struct, rename="camel"):
    primary_thumbprint: Thumbprint | None = None
    secondary_thumbprint: Thumbprint | None = None


class AuthenticationBody(msgspec.Struct, rename="camel"):
    """type: absent, a thumbprint means selfSigned, else it is sas."""

    type: Annotated[str, documented(enum=["", *get_args(AuthenticationType)])] | None = None
    symmetric_key: SymmetricKeyBody | None = None
    x509_thumbprint: ThumbprintBody | None = None


class CapabilitiesBody(msgspec.Struct, rename="camel"):
    iot_edge: bool | None = None


class DeviceBody(msgspec.Struct, rename="camel"):
    """What a PUT may say of a device. Everything else that a client sends back is the hub's own."""

    device_id: str
    status: StatusWord | None = None
    status_reason: StatusReason | None = None
    authentication: AuthenticationBody | None = None
    capabilities: CapabilitiesBody | None = None
    device_scope: str | None = None
    parent_scopes: Scopes | None = None


class ServiceSurface:
    """Handlers of the registry, for back ends.

    settle: writes what the listeners know of connections to the registry, so that no reader sees an older state.
    """

    def __init__(self, identities: Identities, to_device: CloudToDevice, settle: Callable[[], Awaitable[None]]) -> None:
        self._identities, self._to_device, self._settle = identities, to_device, settle

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("devices/list", self.list, "service"),
            Endpoint("devices/get", self.get, "service"),
            Endpoint("devices/put", self.put, "service"),
            Endpoint("devices/delete", self.delete, "service"),
            Endpoint("statistics/devices", self.registry_statistics, "service"),
            Endpoint("statistics/service", self.service_statistics, "service"),
        )

    async def list(self, exchange: Exchange) -> web.StreamResponse:
        """GET /devices: an array, at most ``top``."""
        await self._settle()
        top = exchange.number("top", LIST_TOP.value, 1, LIST_TOP.value)
        devices = await self._listed(top, exchange.reach)
        waiting = await self._to_device.counts([each.device_id for each in devices])
        return json_answer([device_to_json(each, waiting.get(each.device_id, 0)) for each in devices])

    async def _listed(self, top: int, reach: Reach | None) -> Sequence[Identity]:
        if reach is None:
            return await self._identities.list(top)
        found = []
        for device_id in await reach.first(top):
            with contextlib.suppress(DeviceNotFound):  # deleted meanwhile
                found.append(await self._identities.get(device_id))
        return found

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """GET /devices/{id}"""
        await self._settle()
        identity = await self._identities.get(exchange.values["id"])
        return await self._answer(identity)

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /devices/{id}: creates without If-Match, replaces with it."""
        device_id = exchange.values["id"]
        wanted = json_as(DeviceBody, await exchange.body(HTTP_SERVICE_BODY.value))
        if wanted.device_id != device_id:
            raise BadRequest("The deviceId of the body is not the one of the address.")
        etag = normal_etag(exchange.request.headers.get("If-Match", ""))
        asked = _identity_from(wanted, device_id)
        before = None
        if etag:
            kept = wanted.authentication is None
            before = audited_members(await self._identities.get(device_id))
            identity = await self._identities.update(asked, etag, keep_authentication=kept)
        else:
            identity = await self._identities.create(asked)
        exchange.detail = difference(before, audited_members(identity))
        return await self._answer(identity)

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /devices/{id}"""
        etag = normal_etag(exchange.request.headers.get("If-Match", ""))
        await self._identities.delete(exchange.values["id"], etag or "*")
        return no_content()

    async def _answer(self, identity: Identity) -> web.StreamResponse:
        waiting = await self._to_device.counts([identity.device_id])
        return json_answer(device_to_json(identity, waiting.get(identity.device_id, 0)), etag=identity.etag)

    async def registry_statistics(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /statistics/devices"""
        count = await self._identities.count()
        return json_answer(
            {
                "totalDeviceCount": count.total,
                "enabledDeviceCount": count.enabled,
                "disabledDeviceCount": count.disabled,
            }
        )

    async def service_statistics(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /statistics/service"""
        await self._settle()
        return json_answer({"connectedDeviceCount": (await self._identities.count()).connected})


def device_to_json(identity: Identity, waiting: int) -> dict[str, Any]:
    """The device identity of service-protocols 2.3. waiting: cloud-to-device messages in its queue."""
    value: dict[str, Any] = {
        "deviceId": identity.device_id,
        "generationId": identity.generation_id,
        "etag": identity.etag,
        "connectionState": "Connected" if identity.connected else "Disconnected",
        "status": identity.status,
        "statusReason": identity.status_reason,
        "connectionStateUpdatedTime": time_stamp(identity.connection_updated),
        "statusUpdatedTime": time_stamp(identity.status_updated),
        "lastActivityTime": time_stamp(identity.last_activity),
        "cloudToDeviceMessageCount": waiting,
        "authentication": authentication_to_json(identity),
        "capabilities": {"iotEdge": identity.iot_edge},
    }
    if identity.device_scope:
        value["deviceScope"] = identity.device_scope
    if identity.parent_scopes:
        value["parentScopes"] = list(identity.parent_scopes)
    return value


def audited_members(identity: Identity) -> dict[str, object]:
    """What the audit compares of an identity before and after a change."""
    return {
        "status": identity.status,
        "status reason": identity.status_reason,
        "authentication": identity.authentication,
        "primary key": secret(identity.primary_key),
        "secondary key": secret(identity.secondary_key),
        "primary thumbprint": identity.primary_thumbprint,
        "secondary thumbprint": identity.secondary_thumbprint,
        "edge": identity.iot_edge,
        "scope": identity.device_scope,
        "parents": ", ".join(identity.parent_scopes),
        "managed by": identity.managed_by,
    }


def authentication_to_json(identity: Identity) -> dict[str, Any]:
    """The member ``authentication`` of an identity."""
    return {
        "symmetricKey": {
            "primaryKey": key_to_text(identity.primary_key),
            "secondaryKey": key_to_text(identity.secondary_key),
        },
        "x509Thumbprint": {
            "primaryThumbprint": identity.primary_thumbprint,
            "secondaryThumbprint": identity.secondary_thumbprint,
        },
        "type": identity.authentication,
    }


def credentials_from(authentication: AuthenticationBody | None) -> dict[str, Any]:
    """The members of an Identity that ``authentication`` sets. Raises BadRequest."""
    authentication = authentication or AuthenticationBody()
    keys = authentication.symmetric_key or SymmetricKeyBody()
    prints = authentication.x509_thumbprint or ThumbprintBody()
    return {
        "authentication": authentication_type(authentication.type, prints.primary_thumbprint),
        "primary_key": key_from_text(keys.primary_key, "The primary key") if keys.primary_key else None,
        "secondary_key": key_from_text(keys.secondary_key, "The secondary key") if keys.secondary_key else None,
        "primary_thumbprint": prints.primary_thumbprint,
        "secondary_thumbprint": prints.secondary_thumbprint,
    }


def _identity_from(wanted: DeviceBody, device_id: str) -> Identity:
    return Identity(
        device_id=device_id,
        status=status_from_text(wanted.status),
        status_reason=wanted.status_reason,
        iot_edge=bool(wanted.capabilities and wanted.capabilities.iot_edge),
        device_scope=wanted.device_scope or "",
        parent_scopes=tuple(wanted.parent_scopes or ()),
        **credentials_from(wanted.authentication),
    )
