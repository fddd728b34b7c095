"""Operators' view of the certificate authorities that speak for devices. Source: provisioning-and-pki 3.6."""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.device.authorities import Authorities
from hubkeep.device.foreign_lists import ForeignLists, ListStatus
from hubkeep.device.own_authorities import OwnAuthorities, check_days
from hubkeep.errors import BadRequest, NotFound
from hubkeep.limits import CRL_BYTES, HTTP_SERVICE_BODY
from hubkeep.model import Authority, RevocationMode

from ..timestamps import time_stamp
from .answers import json_answer, no_content, normal_etag
from .bodies import json_as
from .exchange import Endpoint, Exchange


class AuthorityBody(msgspec.Struct, rename="camel"):
    """certificate: PEM."""

    certificate: str
    is_verified: bool = False


class IssuerBody(msgspec.Struct, rename="camel"):
    """key: ``file``, or a PKCS#11 URI. request: the root is elsewhere, and signs what is answered."""

    root: str = ""
    algorithm: str = "P-256"
    key: str = "file"
    days: float = 0.0
    request: bool = False


class ChainBody(msgspec.Struct, rename="camel"):
    """chain: PEM, the authority's own certificate first."""

    chain: str


class StateBody(msgspec.Struct, rename="camel"):
    state: Literal["staged", "active", "retiring", "revoked"]


class AuthorityChanges(msgspec.Struct, rename="camel"):
    """What is to change of an authority."""

    allowed_ids: list[str] | None = None
    days: float | None = None
    revocation: RevocationMode | None = None
    crl_url: str | None = None
    ocsp_url: str | None = None
    manual_approval: bool | None = None


class AuthoritySurface:
    def __init__(self, authorities: Authorities, own: OwnAuthorities, lists: ForeignLists) -> None:
        self._authorities, self._own, self._lists = authorities, own, lists

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/cas/list", self.list, "service", dated=False),
            Endpoint("admin/cas/get", self.get, "service", dated=False),
            Endpoint("admin/cas/put", self.put, "service", dated=False),
            Endpoint("admin/cas/patch", self.patch, "service", dated=False),
            Endpoint("admin/cas/delete", self.delete, "service", dated=False),
            Endpoint("admin/cas/challenge", self.challenge, "service", dated=False),
            Endpoint("admin/cas/proof", self.proof, "service", dated=False),
            Endpoint("admin/cas/state", self.state, "service", dated=False),
            Endpoint("admin/cas/make", self.make, "service", dated=False),
            Endpoint("admin/cas/request", self.request, "service", dated=False),
            Endpoint("admin/cas/install", self.install, "service", dated=False),
            Endpoint("admin/cas/crl", self.show_list, "service", dated=False),
            Endpoint("admin/cas/crl/put", self.put_list, "service", dated=False),
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
        """DELETE /api/cas/{name}?force=true: even if devices were let in by it lately."""
        force = exchange.query.get("force", "").lower() == "true"
        deleted = await self._authorities.delete(exchange.values["name"], _etag(exchange), force=force)
        await self._own.removed(deleted)
        return no_content()

    async def patch(self, exchange: Exchange) -> web.StreamResponse:
        """PATCH /api/cas/{name}: for whom it may speak, how long what it issues lasts, what it is asked of."""
        changes = json_as(AuthorityChanges, await exchange.body(HTTP_SERVICE_BODY.value))
        check_days(changes.days or 0.0)
        given = msgspec.structs.asdict(changes)
        return _answer(await self._authorities.change(exchange.values["name"], **given, etag=_etag(exchange)))

    async def state(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/cas/{name}/state: staged, active, retiring, revoked."""
        wanted = json_as(StateBody, await exchange.body(HTTP_SERVICE_BODY.value))
        return _answer(await self._authorities.move(exchange.values["name"], wanted.state, _etag(exchange)))

    async def make(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/cas/{name}/issuer: an authority of the hub's own, which issues certificates to devices."""
        wanted, name = json_as(IssuerBody, await exchange.body(HTTP_SERVICE_BODY.value)), exchange.values["name"]
        given = {"algorithm": wanted.algorithm, "place": wanted.key, "days": wanted.days}
        if wanted.request:
            waiting = await self._own.request(name, **given)  # type: ignore[arg-type]  # as read
            return json_answer(_json(waiting.authority) | {"request": waiting.request}, etag=waiting.authority.etag)
        return _answer(await self._own.create(name, root=wanted.root, **given))  # type: ignore[arg-type]  # as read

    async def request(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/cas/{name}/request: what a root elsewhere signs."""
        return json_answer({"request": await self._own.request_of(exchange.values["name"])})

    async def install(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/cas/{name}/certificate: what the root has signed, and the certificates above it."""
        chain = json_as(ChainBody, await exchange.body(HTTP_SERVICE_BODY.value)).chain
        return _answer(await self._own.install(exchange.values["name"], chain.encode()))

    async def challenge(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/cas/{name}/challenge: a new verification code."""
        return _answer(await self._authorities.challenge(exchange.values["name"], _etag(exchange)))

    async def proof(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/cas/{name}/proof: a certificate of the code, signed by the authority."""
        upload = json_as(AuthorityBody, await exchange.body(HTTP_SERVICE_BODY.value))
        name, content = exchange.values["name"], upload.certificate.encode()
        return _answer(await self._authorities.prove(name, content, _etag(exchange)))

    async def show_list(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/cas/{name}/crl: what the hub knows of the revocation list of a registered authority."""
        name = self._authorities.get(exchange.values["name"]).name
        if (status := self._lists.status(name)) is None:
            raise NotFound(reason=f"{name!r} has no revocation list here")
        return json_answer(_list(status))

    async def put_list(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /api/cas/{name}/crl: a list, DER or PEM."""
        content = await exchange.body(CRL_BYTES.value)
        return json_answer(_list(await self._lists.upload(exchange.values["name"], content)))


def _etag(exchange: Exchange) -> str:
    return normal_etag(exchange.request.headers.get("If-Match", "")) or "*"


def _answer(authority: Authority) -> web.StreamResponse:
    return json_answer(_json(authority), etag=authority.etag)


def _json(authority: Authority) -> dict[str, Any]:
    value: dict[str, Any] = {
        "name": authority.name,
        "kind": authority.kind,
        "state": authority.state,
        "etag": authority.etag,
        "created": time_stamp(authority.created),
        "updated": time_stamp(authority.updated),
        "allowedIds": authority.allowed_ids,
        "revocation": authority.revocation,
        "crlUrl": authority.crl_url,
        "ocspUrl": authority.ocsp_url,
        "key": authority.key,
        "days": authority.days,
        "manualApproval": authority.manual_approval,
        "isVouchedFor": authority.vouched,
        "chain": [_pem(each) for each in authority.chain],
    }
    if authority.certificate:
        certificate = x509.load_der_x509_certificate(authority.certificate)
        value |= {
            "subject": certificate.subject.rfc4514_string(),
            "issuer": certificate.issuer.rfc4514_string(),
            "thumbprint": authority.sha256,
            "expires": time_stamp(certificate.not_valid_after_utc.timestamp()),
            "certificate": _pem(authority.certificate),
        }
    else:
        value |= {"subject": "", "issuer": "", "thumbprint": "", "expires": "", "certificate": ""}
    if authority.code:
        value |= {"verificationCode": authority.code, "codeExpires": time_stamp(authority.code_expires)}
    return value


def _pem(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def _list(status: ListStatus) -> dict[str, Any]:
    return {
        "entries": status.entries,
        "number": str(status.number),
        "nextUpdate": time_stamp(status.next_update) if status.next_update else None,
        "fetched": time_stamp(status.fetched) if status.fetched else None,
        "failure": status.failure,
    }
