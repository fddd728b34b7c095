"""Operators' view of what the hub issued, revoked and denies. Source: provisioning-and-pki 3.7, 4.9."""

from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.device.approvals import Approvals
from hubkeep.device.authorities import Authorities, read_certificate
from hubkeep.device.denials import DenyList, denial_of, denial_of_value
from hubkeep.device.identities import Identities
from hubkeep.device.issuing import Issued, Issuing
from hubkeep.device.requests import read_request
from hubkeep.device.revoking import Revoking
from hubkeep.errors import BadRequest
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.model import CertificateRequest, Denial, IssuedCertificate
from hubkeep.ports import Clock

from ..timestamps import time_stamp
from .answers import json_answer, no_content
from .bodies import json_as
from .exchange import Endpoint, Exchange

_PAGE = 1000


class RequestBody(msgspec.Struct, rename="camel"):
    """csr: PEM, or the base64 of its DER. authority: not named, the newest."""

    device_id: str
    csr: str
    module_id: str = ""
    authority: str = ""
    days: float = 0.0


class RevocationBody(msgspec.Struct, rename="camel"):
    """One of: serial, deviceId (everything that the identity was issued so far)."""

    serial: str = ""
    authority: str = ""
    device_id: str = ""
    module_id: str = ""
    reason: str = "unspecified"


class DenialBody(msgspec.Struct, rename="camel"):
    """certificate (PEM), or value; for a serial number also authority, the name of its registered issuer."""

    kind: str
    certificate: str = ""
    value: str = ""
    authority: str = ""
    reason: str = "unspecified"


class CertificateSurface:
    def __init__(
        self,
        identities: Identities,
        authorities: Authorities,
        issuing: Issuing,
        revoking: Revoking,
        denials: DenyList,
        approvals: Approvals,
        clock: Clock,
    ) -> None:
        self._identities, self._authorities, self._issuing = identities, authorities, issuing
        self._revoking, self._denials, self._approvals, self._clock = revoking, denials, approvals, clock

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/certificates/issue", self.issue, "service", dated=False),
            Endpoint("admin/certificates/list", self.list, "service", dated=False),
            Endpoint("admin/certificates/revoke", self.revoke, "service", dated=False),
            Endpoint("admin/certificates/requests", self.requests, "service", dated=False),
            Endpoint("admin/certificates/approve", self.approve, "service", dated=False),
            Endpoint("admin/certificates/refuse", self.refuse, "service", dated=False),
            Endpoint("admin/denials/list", self.list_denials, "service", dated=False),
            Endpoint("admin/denials/put", self.deny, "service", dated=False),
            Endpoint("admin/denials/delete", self.allow, "service", dated=False),
        )

    async def issue(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/certificates: a certificate for a device's request. The first one makes the hub's authority."""
        wanted = json_as(RequestBody, await exchange.body(HTTP_SERVICE_BODY.value))
        identity = await self._identities.get(wanted.device_id, wanted.module_id)
        request = read_request(wanted.csr.encode())
        issued = await self._issuing.issue(
            identity, request, "operator", authority=wanted.authority, days=wanted.days, make_authority=True
        )
        return json_answer(_issued(issued) | {"authentication": identity.authentication})

    async def list(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/certificates?device=&module=&serial=&authority=&top=: the newest first."""
        query = exchange.query
        found = await self._issuing.find(
            device_id=query.get("device", ""),
            module_id=query.get("module", ""),
            serial=query.get("serial", ""),
            authority=query.get("authority", ""),
            most=exchange.number("top", _PAGE, 1, _PAGE),
        )
        now = self._clock.now()
        return json_answer([_record(each, now) for each in found])

    async def revoke(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/certificates/revoke: one by its serial number, or all of an identity."""
        wanted = json_as(RevocationBody, await exchange.body(HTTP_SERVICE_BODY.value))
        if bool(wanted.serial) == bool(wanted.device_id):
            raise BadRequest("Name a serial number or a device.")
        if wanted.device_id:
            identity = await self._identities.get(wanted.device_id, wanted.module_id)
            generation = await self._revoking.identity(identity.device_id, identity.module_id, wanted.reason)
            return json_answer(_revoked(identity.device_id, identity.module_id, "", generation))
        record = await self._revoking.certificate(wanted.serial, wanted.reason, _who(exchange), wanted.authority)
        return json_answer(_revoked(record.device_id, record.module_id, record.serial, record.generation))

    async def requests(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/certificates/requests: what waits for approval, and what was decided lately."""
        return json_answer([_request(each) for each in await self._approvals.waiting()])

    async def approve(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/certificates/requests/{request}/approve: the device gets its certificate when it asks again."""
        return await self._decided(exchange, approved=True)

    async def refuse(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/certificates/requests/{request}/refuse"""
        return await self._decided(exchange, approved=False)

    async def _decided(self, exchange: Exchange, *, approved: bool) -> web.StreamResponse:
        request_id = exchange.values["request"]
        return json_answer(_request(await self._approvals.decide(request_id, approved=approved, by=_who(exchange))))

    async def list_denials(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/denials"""
        return json_answer([_denial(each) for each in self._denials.all()])

    async def deny(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/denials: a certificate, a key, or a serial number that nobody may show from now on."""
        wanted = json_as(DenialBody, await exchange.body(HTTP_SERVICE_BODY.value))
        told = {"reason": wanted.reason, "at": self._clock.now(), "by": _who(exchange)}
        if wanted.certificate:
            denial = denial_of(read_certificate(wanted.certificate.encode()), wanted.kind, **told)  # type: ignore[arg-type]
        else:
            issuer = None
            if wanted.authority:
                issuer = x509.load_der_x509_certificate(self._authorities.get(wanted.authority).certificate)
            denial = denial_of_value(wanted.kind, wanted.value, issuer, **told)  # type: ignore[arg-type]
        return json_answer(_denial(await self._revoking.deny(denial)))

    async def allow(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /api/denials/{mark}"""
        await self._denials.remove(exchange.values["mark"])
        return no_content()


def _who(exchange: Exchange) -> str:
    return exchange.principal.name if exchange.principal is not None else ""


def _issued(issued: Issued) -> dict[str, Any]:
    pem = [x509.load_der_x509_certificate(each).public_bytes(Encoding.PEM).decode() for each in issued.chain]
    return _record(issued.record, issued.record.issued) | {"certificate": pem[0], "chain": pem}


def _record(record: IssuedCertificate, now: float) -> dict[str, Any]:
    return {
        "serial": record.serial,
        "authority": record.authority,
        "deviceId": record.device_id,
        "moduleId": record.module_id,
        "status": _status(record, now),
        "generation": record.generation,
        "issued": time_stamp(record.issued),
        "expires": time_stamp(record.not_after),
        "door": record.door,
        "firstUsed": time_stamp(record.first_used) if record.first_used else None,
        "lastUsed": time_stamp(record.last_used) if record.last_used else None,
        "superseded": time_stamp(record.superseded) if record.superseded else None,
        "revoked": time_stamp(record.revoked) if record.revoked else None,
        "reason": record.reason,
    }


def _revoked(device_id: str, module_id: str, serial: str, generation: int) -> dict[str, Any]:
    return {"deviceId": device_id, "moduleId": module_id, "serial": serial, "generation": generation}


def _status(record: IssuedCertificate, now: float) -> str:
    if record.revoked:
        return "revoked"
    if now > record.not_after:
        return "expired"
    if record.superseded and now > record.superseded:
        return "superseded"
    return "valid" if record.certificate else "unsigned"


def _request(request: CertificateRequest) -> dict[str, Any]:
    return {
        "id": request.id,
        "authority": request.authority,
        "deviceId": request.device_id,
        "moduleId": request.module_id,
        "state": request.state,
        "asked": time_stamp(request.asked),
        "decided": time_stamp(request.decided) if request.decided else None,
        "by": request.by,
    }


def _denial(denial: Denial) -> dict[str, Any]:
    return {
        "mark": denial.mark,
        "kind": denial.kind,
        "value": denial.value,
        "issuer": denial.issuer,
        "reason": denial.reason,
        "at": time_stamp(denial.at),
        "by": denial.by,
        "until": time_stamp(denial.until) if denial.until else None,
    }
