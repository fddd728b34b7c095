"""The audit, for the owner: pages of it, and where its chains end."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web

from hubkeep.cloud.audit_trail import AuditTrail
from hubkeep.errors import BadRequest
from hubkeep.limits import AUDIT_PAGE
from hubkeep.model import AUDIT_CHAINS, ChainedEntry
from hubkeep.ports import AuditQuery

from ..timestamps import milliseconds, time_stamp
from .answers import json_answer
from .exchange import Endpoint, Exchange

_MOST_NUMBER = 2**62


class AuditSurface:
    def __init__(self, audit: AuditTrail, exported: Callable[[], Awaitable[None]]) -> None:
        """exported: hears that somebody has read all of it."""
        self._audit, self._exported = audit, exported

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/audit", self.page, "service", dated=False),
            Endpoint("admin/audit/heads", self.heads, "service", dated=False),
        )

    async def page(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/audit?chain=&actor=&target=&operation=&from=&to=&order=newest|oldest&page=&most="""
        query = exchange.query
        chain, order = query.get("chain", ""), query.get("order", "newest")
        if chain and chain not in AUDIT_CHAINS:
            raise BadRequest(f"chain is {', '.join(AUDIT_CHAINS)}.")
        if order not in {"newest", "oldest"}:
            raise BadRequest("order is newest or oldest.")
        asked = AuditQuery(
            chain=chain,
            actor=query.get("actor", ""),
            target=query.get("target", ""),
            operation=query.get("operation", ""),
            since=milliseconds(query["from"]) if "from" in query else 0,
            until=milliseconds(query["to"]) if "to" in query else 0,
            page=exchange.number("page", 0, 0, _MOST_NUMBER),
            oldest=order == "oldest",
            most=exchange.number("most", 100, 1, AUDIT_PAGE.value),
        )
        found = await self._audit.find(asked)
        if not found and asked == AuditQuery(page=asked.page, oldest=True, most=asked.most):
            await self._exported()
        return json_answer([_json(each) for each in found])

    async def heads(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/audit/heads"""
        heads = await self._audit.heads()
        return json_answer(
            [
                {"chain": chain, "sequence": head.sequence, "hash": head.hash.hex(), "dropped": head.dropped}
                for chain, head in heads.items()
            ]
        )


def _json(chained: ChainedEntry) -> dict[str, Any]:
    """``milliseconds`` is what the hash is made over; ``time`` says the same for people."""
    members = msgspec.to_builtins(chained.entry)
    tracking_id, at = members.pop("tracking_id"), members.pop("time")
    return {
        "number": chained.number,
        "sequence": chained.sequence,
        "time": time_stamp(at / 1000),
        "milliseconds": at,
        **members,
        "trackingId": tracking_id,
        "previous": chained.previous.hex(),
        "hash": chained.hash.hex(),
    }
