"""What rates refused, and what a simulated tier would have: for operators."""

from collections.abc import Iterable

from aiohttp import web

from hubkeep.errors import NotFound

from ..throttling import Throttles
from .answers import json_answer
from .exchange import Endpoint, Exchange

_MOST_OFFENDERS = 1000


class ThrottleSurface:
    def __init__(self, throttles: Throttles) -> None:
        self._throttles = throttles

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/throttles", self.throttles, "service", dated=False),
            Endpoint("admin/tier", self.tier, "service", dated=False),
        )

    async def throttles(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/throttles?most=: rates in force, refusals by class, and whom they refused most."""
        return json_answer(self._throttles.state(exchange.number("most", 20, 1, _MOST_OFFENDERS)))

    async def tier(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/tier: what each tier of the original would have made of the traffic since the start."""
        if self._throttles.tier is None:
            raise NotFound(
                "No tier is simulated.", reason="no tier is simulated", remedy="hubkeep dev --tier S1 --report-only"
            )
        return json_answer(self._throttles.tier.report())
