"""Operators' view of the certificate authorities that speak for devices. Source: provisioning-and-pki 3.6."""

from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.device.authorities import Authorities
from hubkeep.errors import BadRequest
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.model import Authority

from ..timestamps import time_stamp
from .answers import json_answer, no_content, normal_etag
from .bodies import json_as
from .exchange import Endpoint, Exchange


class AuthorityBody(msgspec.Struct, rename="camel"):
    """certificate: PEM."""

    certificate: str
    is_verified: bool = False


class AuthoritySurface:
    def __init__(self, authorities: Authorities) -> None:
        self._authorities = authorities

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/cas/list", self.list, "service", dated=False),
            Endpoint("admin/cas/get", self.get, "service", dated=False),
            Endpoint("admin/cas/put", self.put, "service", dated=False),
            Endpoint("admin/cas/delete", self.delete, "service", dated=False),
            Endpoint("admin/cas/challenge", self.challenge, "service", dated=False),
            Endpoint("admin/cas/proof", self.proof, "service", dated=False),
        )

    async def list(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/cas"""
        return json_answer([_json(each) for each in self._authorities.all()])

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/cas/{name}"""
        return _answer(self._authorities.get(exchange.values["name"]))

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /api/cas/{name}: registers; ``isVerified`` vouches for it without a proof. None is ever replaced."""
        if exchange.request.headers.get("If-Match"):
            raise BadRequest("An authority is not replaced: register the new one beside it.")
        upload = json_as(AuthorityBody, await exchange.body(HTTP_SERVICE_BODY.value))
        name, content = exchange.values["name"], upload.certificate.encode()
        return _answer(await self._authorities.create(name, content, verified=upload.is_verified))

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /api/cas/{name}"""
        await self._authorities.delete(exchange.values["name"], _etag(exchange))
        return no_content()

    async def challenge(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/cas/{name}/challenge: a new verification code."""
        return _answer(await self._authorities.challenge(exchange.values["name"], _etag(exchange)))

    async def proof(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/cas/{name}/proof: a certificate of the code, signed by the authority."""
        upload = json_as(AuthorityBody, await exchange.body(HTTP_SERVICE_BODY.value))
        name, content = exchange.values["name"], upload.certificate.encode()
        return _answer(await self._authorities.prove(name, content, _etag(exchange)))


def _etag(exchange: Exchange) -> str:
    return normal_etag(exchange.request.headers.get("If-Match", "")) or "*"


def _answer(authority: Authority) -> web.StreamResponse:
    return json_answer(_json(authority), etag=authority.etag)


def _json(authority: Authority) -> dict[str, Any]:
    certificate = x509.load_der_x509_certificate(authority.certificate)
    value = {
        "name": authority.name,
        "state": authority.state,
        "etag": authority.etag,
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "thumbprint": authority.sha256,
        "expires": time_stamp(certificate.not_valid_after_utc.timestamp()),
        "created": time_stamp(authority.created),
        "updated": time_stamp(authority.updated),
        "certificate": certificate.public_bytes(Encoding.PEM).decode(),
    }
    if authority.code:
        value |= {"verificationCode": authority.code, "codeExpires": time_stamp(authority.code_expires)}
    return value
