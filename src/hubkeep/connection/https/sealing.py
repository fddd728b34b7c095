"""Operators' view of the key under which keys at rest are sealed. No key is ever shown."""

from collections.abc import Iterable

from aiohttp import web

from hubkeep.cloud.resealing import Resealing

from .answers import json_answer
from .exchange import Endpoint, Exchange


class SealingSurface:
    def __init__(self, resealing: Resealing) -> None:
        self._resealing = resealing

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/sealing", self.get, "service", dated=False),
            Endpoint("admin/sealing/reseal", self.reseal, "service", dated=False),
        )

    async def get(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/sealing"""
        return self._answer()

    async def reseal(self, _exchange: Exchange) -> web.StreamResponse:
        """POST /api/sealing/reseal: under a new key, from now on and everything that is stored."""
        await self._resealing.begin()
        return self._answer()

    def _answer(self) -> web.StreamResponse:
        state = self._resealing.state
        return json_answer(
            {
                "keyId": state.key_id,
                "resealing": state.is_under_way,
                "resealed": state.resealed,
                "failure": state.failure,
            }
        )
