"""Enrolment over Secure Transport: devices get and renew their certificates over their own connection.

Who asks is proved by the certificate of the handshake, or by Basic with the identity's name and its token; the
certificate is made out to that identity and no other. Source: RFC 7030, RFC 8951; provisioning-and-pki 4.10, 4.12.
"""

from base64 import encodebytes
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from hubkeep.device.approvals import RETRY_AFTER, AwaitsApproval
from hubkeep.device.authorities import Authorities
from hubkeep.device.identities import Identities
from hubkeep.device.issuing import Issuing
from hubkeep.device.requests import SigningRequest, read_request
from hubkeep.errors import NotFound, NotImplementedHere, RequestRefused
from hubkeep.limits import EST_REQUEST

from .exchange import Endpoint, Exchange

CERTIFICATES: Final = "application/pkcs7-mime"
ATTRIBUTES: Final = "application/csrattrs"
REQUEST: Final = "application/pkcs10"
_SERVERS: Final = "servers"  # the label under which the roots of the hub's server certificates stand
# CsrAttrs: a key on P-256 (id-ecPublicKey with prime256v1), signed with ecdsa-with-SHA256
_WANTED: Final = bytes.fromhex("3021 3015 06072a8648ce3d0201 310a06082a8648ce3d030107 06082a8648ce3d040302")


class EstSurface:
    """trust_bundle: the roots of the hub's server certificates (PEM)."""

    def __init__(self, identities: Identities, authorities: Authorities, issuing: Issuing, trust_bundle: Path) -> None:
        self._identities, self._authorities, self._issuing = identities, authorities, issuing
        self._trust_bundle = trust_bundle

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("est/cacerts", self.authorities, "none", dated=False),
            Endpoint("est/cacerts/label", self.authorities, "none", dated=False),
            Endpoint("est/csrattrs", self.attributes, "none", dated=False),
            Endpoint("est/csrattrs/label", self.attributes, "none", dated=False),
            Endpoint("est/simpleenroll", self.enroll, "enrolling", dated=False),
            Endpoint("est/simpleenroll/label", self.enroll, "enrolling", dated=False),
            Endpoint("est/simplereenroll", self.renew, "renewing", dated=False),
            Endpoint("est/simplereenroll/label", self.renew, "renewing", dated=False),
            Endpoint("est/serverkeygen", self.no_keys, "none", dated=False),
            Endpoint("est/serverkeygen/label", self.no_keys, "none", dated=False),
            Endpoint("est/fullcmc", self.no_keys, "none", dated=False),
            Endpoint("est/fullcmc/label", self.no_keys, "none", dated=False),
        )

    async def authorities(self, exchange: Exchange) -> web.StreamResponse:
        """GET /cacerts: above what devices are issued; of the label ``servers``, above the hub's own certificate."""
        label = exchange.values.get("label", "")
        if label == _SERVERS:
            return _certificates(x509.load_pem_x509_certificates(self._trust_bundle.read_bytes()))
        issuing = [self._authorities.get(label)] if label else self._authorities.own()
        if not issuing or not all(each.kind == "issuing" for each in issuing):
            raise NotFound(reason="the hub has no authority of its own", remedy="hubkeep cert ca create NAME")
        found = dict.fromkeys(der for each in issuing for der in self._issuing.chain(each))
        return _certificates([x509.load_der_x509_certificate(each) for each in found])

    async def attributes(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /csrattrs: what a request should be like."""
        return _base64(_WANTED, ATTRIBUTES)

    async def enroll(self, exchange: Exchange) -> web.StreamResponse:
        """POST /simpleenroll"""
        return await self._issue(exchange, read_request(await exchange.body(EST_REQUEST.value)))

    async def renew(self, exchange: Exchange) -> web.StreamResponse:
        """POST /simplereenroll: the request names what the certificate names (RFC 7030 4.2.2)."""
        request = read_request(await exchange.body(EST_REQUEST.value))
        current = x509.load_der_x509_certificate(exchange.link.certificates[0])
        assert exchange.principal is not None, "the listener proves who asks"
        if request.names != (exchange.principal.name,):
            raise RequestRefused("The request must be made out to the name of the certificate that it renews.")
        if request.alternative is not None and request.alternative != _alternative(current):
            raise RequestRefused("The request's subjectAltName must be that of the certificate that it renews.")
        return await self._issue(exchange, request)

    async def no_keys(self, _exchange: Exchange) -> web.StreamResponse:
        """POST /serverkeygen, /fullcmc"""
        raise NotImplementedHere(reason="a private key must not exist outside its device")

    async def _issue(self, exchange: Exchange, request: SigningRequest) -> web.StreamResponse:
        principal = exchange.principal
        assert principal is not None, "the listener proves who asks"
        identity = await self._identities.get(principal.device_id, principal.module_id)
        label = exchange.values.get("label", "")
        try:
            issued = await self._issuing.issue(identity, request, "est", authority=label)
        except AwaitsApproval:
            return web.Response(status=HTTPStatus.ACCEPTED, headers={"Retry-After": str(RETRY_AFTER)})
        return _certificates([x509.load_der_x509_certificate(issued.chain[0])])


def _alternative(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _certificates(certificates: Sequence[x509.Certificate]) -> web.Response:
    """A certs-only message (RFC 8951 3.2.3)."""
    content = pkcs7.serialize_certificates(list(certificates), Encoding.DER)
    return _base64(content, f"{CERTIFICATES}; smime-type=certs-only")


def _base64(content: bytes, kind: str) -> web.Response:
    headers = {"Content-Type": kind, "Content-Transfer-Encoding": "base64"}
    return web.Response(body=encodebytes(content), headers=headers)
