"""Operators' view of block and allow lists, and of the day on which an identity ends."""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from aiohttp import web

from hubkeep.device.access import AccessLists
from hubkeep.device.blocking import Blocking
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.model import AccessRule, Expiry

from ..sessions import Sessions
from ..timestamps import milliseconds, time_stamp
from .answers import json_answer, no_content, normal_etag
from .bodies import json_as
from .exchange import Endpoint, Exchange

_EXAMPLES = 20


class AccessRuleBody(msgspec.Struct, rename="camel"):
    """One of devices, condition (of a fleet query) and authority. begins, ends: ISO 8601; none for no such end."""

    verdict: Literal["block", "allow"]
    devices: list[str] = []
    condition: str = ""
    authority: str = ""
    reason: str = ""
    begins: str | None = None
    ends: str | None = None


class ExpiryBody(msgspec.Struct, rename="camel"):
    """at: ISO 8601."""

    at: str
    reason: str = ""


class BlockBody(msgspec.Struct, rename="camel"):
    """statusReason: shown with the device. reason: of RFC 5280, for its certificates."""

    status_reason: str = ""
    reason: str = "unspecified"


class AccessSurface:
    def __init__(self, access: AccessLists, sessions: Sessions, blocking: Blocking) -> None:
        self._access, self._sessions, self._blocking = access, sessions, blocking

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/access/list", self.list, "service", dated=False),
            Endpoint("admin/access/get", self.get, "service", dated=False),
            Endpoint("admin/access/put", self.put, "service", dated=False),
            Endpoint("admin/access/preview", self.preview, "service", dated=False),
            Endpoint("admin/access/delete", self.delete, "service", dated=False),
            Endpoint("admin/devices/block", self.block, "service", dated=False),
            Endpoint("admin/expiry/get", self.expiry, "service", dated=False),
            Endpoint("admin/expiry/put", self.expire, "service", dated=False),
            Endpoint("admin/expiry/delete", self.keep, "service", dated=False),
        )

    async def list(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/access"""
        return json_answer([self._json(each) for each in self._access.all()])

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/access/{name}"""
        return self._answer(self._access.get(exchange.values["name"]))

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /api/access/{name}: in force when it is answered; whom it shuts out is cut. With If-Match: replaces."""
        etag = normal_etag(exchange.request.headers.get("If-Match", ""))
        return self._answer(await self._access.put(await _rule(exchange), etag))

    async def preview(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/access/{name}/preview: who is connected and would be cut, with nothing changed."""
        judge = await self._access.preview(await _rule(exchange))
        cut = sorted(
            {
                each.device_id
                for each in self._sessions.principals()
                if each.device_id and judge(each.device_id, each.authority) is not None
            }
        )
        return json_answer({"connected": self._sessions.connected, "cut": len(cut), "devices": cut[:_EXAMPLES]})

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /api/access/{name}"""
        await self._access.delete(
            exchange.values["name"], normal_etag(exchange.request.headers.get("If-Match", "")) or "*"
        )
        return no_content()

    async def block(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/devices/{id}/block: at the hub, in provisioning, and its certificates."""
        body = json_as(BlockBody, await exchange.body(HTTP_SERVICE_BODY.value))
        by = exchange.principal.name if exchange.principal is not None else ""
        done = await self._blocking.block(exchange.values["id"], body.status_reason, body.reason, by)
        told = {"deviceId": done.identity.device_id, "status": done.identity.status}
        return json_answer(told | {"enrollment": done.enrolment, "denials": done.denials})

    async def expiry(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/devices/{id}/expiry"""
        return json_answer(_expiry_json(exchange.values["id"], self._access.expiry(exchange.values["id"])))

    async def expire(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /api/devices/{id}/expiry: the device is disabled at that time."""
        body = json_as(ExpiryBody, await exchange.body(HTTP_SERVICE_BODY.value))
        expiry = Expiry(device_id=exchange.values["id"], at=milliseconds(body.at) / 1000, reason=body.reason)
        await self._access.expire(expiry)
        return json_answer(_expiry_json(expiry.device_id, expiry))

    async def keep(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /api/devices/{id}/expiry"""
        await self._access.keep(exchange.values["id"])
        return no_content()

    def _answer(self, rule: AccessRule) -> web.StreamResponse:
        return json_answer(self._json(rule), etag=rule.etag)

    def _json(self, rule: AccessRule) -> dict[str, Any]:
        """members: devices that it is for now; null where an authority decides."""
        return {
            "name": rule.name,
            "verdict": rule.verdict,
            "devices": list(rule.devices),
            "condition": rule.condition,
            "authority": rule.authority,
            "reason": rule.reason,
            "begins": time_stamp(rule.begins) if rule.begins else None,
            "ends": time_stamp(rule.ends) if rule.ends else None,
            "created": time_stamp(rule.created),
            "members": self._access.members(rule.name),
            "etag": rule.etag,
        }


async def _rule(exchange: Exchange) -> AccessRule:
    body = json_as(AccessRuleBody, await exchange.body(HTTP_SERVICE_BODY.value))
    return AccessRule(
        name=exchange.values["name"],
        verdict=body.verdict,
        devices=tuple(dict.fromkeys(body.devices)),
        condition=body.condition.strip(),
        authority=body.authority,
        reason=body.reason,
        begins=milliseconds(body.begins) / 1000 if body.begins else 0.0,
        ends=milliseconds(body.ends) / 1000 if body.ends else 0.0,
    )


def _expiry_json(device_id: str, expiry: Expiry | None) -> dict[str, Any]:
    """at: null for a device that ends on no day."""
    at, reason = (time_stamp(expiry.at), expiry.reason) if expiry is not None else (None, "")
    return {"deviceId": device_id, "at": at, "reason": reason}
