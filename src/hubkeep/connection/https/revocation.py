"""What anybody may know of revocation: lists and OCSP of own authorities. Source: provisioning-and-pki 3.7."""

import binascii
from base64 import b64decode
from collections.abc import Iterable
from typing import Final

from aiohttp import web

from hubkeep.device.published_lists import PublishedLists
from hubkeep.errors import NotFound
from hubkeep.limits import OCSP_REQUEST

from .exchange import Endpoint, Exchange

CRL: Final = "application/pkix-crl"
OCSP_REQUESTED: Final = "application/ocsp-request"
OCSP_ANSWERED: Final = "application/ocsp-response"


class RevocationSurface:
    def __init__(self, published: PublishedLists) -> None:
        self._published = published

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("revocation/list", self.list, "none", dated=False),
            Endpoint("revocation/ask", self.ask, "none", dated=False),
            Endpoint("revocation/ask/get", self.ask_by_get, "none", dated=False),
        )

    async def list(self, exchange: Exchange) -> web.StreamResponse:
        """GET /crl/{file}: NAME.crl"""
        name, dot, kind = exchange.values["file"].rpartition(".")
        if not dot or kind != "crl":
            raise NotFound(reason="a list is called NAME.crl")
        content = await self._published.list_of(name)
        return web.Response(body=content, headers={"Content-Type": CRL, "Cache-Control": "max-age=300"})

    async def ask(self, exchange: Exchange) -> web.StreamResponse:
        """POST /ocsp/{authority}"""
        return await self._answer(exchange, await exchange.body(OCSP_REQUEST.value))

    async def ask_by_get(self, exchange: Exchange) -> web.StreamResponse:
        """GET /ocsp/{authority}/{request}: base64 (RFC 6960 A.1)."""
        try:
            request = b64decode(exchange.values["request"], validate=True)
        except (binascii.Error, ValueError):
            request = b""
        return await self._answer(exchange, request)

    async def _answer(self, exchange: Exchange, request: bytes) -> web.StreamResponse:
        content = await self._published.answer(exchange.values["authority"], request)
        return web.Response(body=content, headers={"Content-Type": OCSP_ANSWERED, "Cache-Control": "no-store"})
