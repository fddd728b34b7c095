"""Operators' view of how keys and certificates are used; the keys themselves are not here."""

from collections.abc import Iterable
from typing import Any, cast

from aiohttp import web

from hubkeep.device.credential_uses import CredentialUses
from hubkeep.device.identities import Identities
from hubkeep.errors import BadRequest
from hubkeep.limits import ROLLOVER_NAMES
from hubkeep.model import CredentialUse, KeySlot

from ..timestamps import milliseconds, time_stamp
from .answers import json_answer
from .exchange import Endpoint, Exchange


class CredentialSurface:
    def __init__(self, uses: CredentialUses, identities: Identities) -> None:
        self._uses, self._identities = uses, identities

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/credentials", self.show, "service", dated=False),
            Endpoint("admin/credentials/rollover", self.rollover, "service", dated=False),
            Endpoint("admin/credentials/old-tls", self.old_tls, "service", dated=False),
        )

    async def show(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/credentials?device=&module= or ?policy="""
        query = exchange.query
        policy, device_id = query.get("policy", ""), query.get("device", "")
        if bool(policy) == bool(device_id):
            raise BadRequest("Name a device or a policy.")
        if policy:
            uses = await self._uses.of_policy(policy)
        else:
            module_id = query.get("module", "")
            await self._identities.get(device_id, module_id)
            uses = await self._uses.of_identity(device_id, module_id)
        return json_answer([_json(each) for each in uses])

    async def rollover(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/credentials/rollover?retire=primary|secondary&condition=&since="""
        query = exchange.query
        retire = query.get("retire", "")
        if retire not in {"primary", "secondary"}:
            raise BadRequest("retire is primary or secondary.")
        since = milliseconds(query["since"]) / 1000 if "since" in query else 0.0
        slot, condition = cast("KeySlot", retire), query.get("condition", "")
        found = await self._uses.rollover(slot, condition, since, ROLLOVER_NAMES.value)
        return json_answer(
            {
                "retire": retire,
                "confirmed": found.confirmed,
                "outgoing": [_seen(*each) for each in found.outgoing],
                "unknown": [_seen(*each) for each in found.unknown],
            }
        )

    async def old_tls(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/credentials/old-tls"""
        return json_answer([_json(each) for each in await self._uses.with_old_tls()])


def _json(use: CredentialUse) -> dict[str, Any]:
    return {
        "deviceId": use.device_id or None,
        "moduleId": use.module_id or None,
        "policy": use.policy or None,
        "slot": use.slot,
        "created": _at(use.created),
        "firstUsed": _at(use.first_used),
        "lastUsed": _at(use.last_used),
        "uses": use.uses,
        "surface": use.surface,
        "tls": use.tls,
        "client": use.client,
        "peer": use.peer,
        "tokenSeconds": use.token_seconds,
        "oldTls": use.old_tls,
        "oldTlsUsed": _at(use.old_tls_used),
    }


def _seen(name: str, at: float) -> dict[str, Any]:
    return {"name": name, "lastSeen": _at(at)}


def _at(seconds: float) -> str | None:
    return time_stamp(seconds) if seconds else None
