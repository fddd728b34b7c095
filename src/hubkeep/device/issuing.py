"""Certificates for devices, from requests whose private key never left the device (4.9). Start at ``Issuing.issue``.

The log has a row before anything is signed: a certificate of an own authority that it does not know is a forgery.
"""

import asyncio
import datetime as dt
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.errors import BadRequest, KeyInUse, NotFound, QuotaExceeded, RequestRefused, Throttled
from hubkeep.limits import CERTIFICATE_AGAIN, Limits
from hubkeep.model import Authority, Door, Identity, IssuedCertificate
from hubkeep.ports import CertificateStore, Clock

from . import profiles
from .approvals import Approvals
from .authorities import Authorities, may_speak_for
from .denials import DenyList
from .own_authorities import OwnAuthorities, check_days, signing
from .requests import SigningRequest, check_names

_NAME_LENGTH: Final = 64  # X.520: of a common name
_DAY: Final = 86_400


class Issued(NamedTuple):
    """A certificate and those above it up to the root (DER), and its row in the log."""

    chain: tuple[bytes, ...]
    record: IssuedCertificate


class Publishing(NamedTuple):
    """Where others than this hub look up what was revoked; empty: certificates do not tell."""

    url: str = ""

    def crl_urls(self, authority: str) -> Sequence[str]:
        return [f"{self.url.rstrip('/')}/crl/{authority}.crl"] if self.url else ()

    def ocsp_urls(self, authority: str) -> Sequence[str]:
        return [f"{self.url.rstrip('/')}/ocsp/{authority}"] if self.url else ()


class Issuing:
    """hub_name: which hub counts the generations. reuse_keys: a device may renew with the key that it has."""

    def __init__(
        self,
        authorities: Authorities,
        own: OwnAuthorities,
        log: CertificateStore,
        denials: DenyList,
        approvals: Approvals,
        clock: Clock,
        limits: Limits,
        *,
        hub_name: str,
        publishing: Publishing,
        reuse_keys: bool = False,
    ) -> None:
        self._authorities, self._own, self._log, self._denials = authorities, own, log, denials
        self._approvals, self._clock, self._limits = approvals, clock, limits
        self._hub_name, self._publishing, self._reuse_keys = hub_name, publishing, reuse_keys
        self._issuing = asyncio.Lock()  # that a key is free and that it is taken are one step
        self._lately: deque[float] = deque()

    async def issue(
        self,
        identity: Identity,
        request: SigningRequest,
        door: Door,
        *,
        authority: str = "",
        days: float = 0.0,
        make_authority: bool = False,
    ) -> Issued:
        """Made out to ``identity``, whatever else the request asks for. days: 0 for the authority's default.

        authority: not named: the newest. make_authority: make the first one if there is none.
        A request that comes again within the hour gets the same certificate. Raises RequestRefused, KeyInUse,
        QuotaExceeded, Throttled, NotFound (no such authority), KeyUnavailable; AwaitsApproval.
        """
        check_days(days)
        name = identity.name
        check_names(request, name)
        if len(name) > _NAME_LENGTH:
            raise RequestRefused(f"A certificate's name has at most {_NAME_LENGTH} characters.")
        async with self._issuing:
            issuer = await self._issuer(authority, make=make_authority)
            if not may_speak_for(issuer, name):
                raise RequestRefused(
                    "The authority does not speak for this identity.",
                    reason=f"ca-scope: {issuer.name!r} speaks for {', '.join(issuer.allowed_ids)}",
                )
            if (again := await self._check_key(identity, request, issuer)) is not None:
                return self._issued(again, issuer)
            await self._check_rates(identity, door)
            if not issuer.manual_approval or door == "operator":
                return await self._sign(identity, request, issuer, door, days)
            await self._approvals.check(identity, request, issuer)
            issued = await self._sign(identity, request, issuer, door, days)
            await self._approvals.settled(request)
            return issued

    async def find(
        self, *, device_id: str = "", module_id: str = "", serial: str = "", authority: str = "", most: int = 1000
    ) -> Sequence[IssuedCertificate]:
        """The log, the newest first."""
        return await self._log.find(
            device_id=device_id, module_id=module_id, serial=serial.upper(), authority=authority, most=most
        )

    def chain(self, authority: Authority) -> tuple[bytes, ...]:
        """An own authority's certificate and those above it."""
        return (authority.certificate, *authority.chain)

    async def _issuer(self, name: str, *, make: bool) -> Authority:
        if name:
            found = self._authorities.get(name)
            if found not in self._authorities.own():
                raise BadRequest("This authority issues no certificates.", reason=f"{name!r} is {found.state}")
            return found
        found_newest = await self._own.ensure() if make else self._own.newest()
        if found_newest is None:
            raise NotFound(reason="the hub has no authority of its own", remedy="hubkeep cert ca create NAME")
        return found_newest

    async def _check_key(
        self, identity: Identity, request: SigningRequest, issuer: Authority
    ) -> IssuedCertificate | None:
        """A certificate to give again. Raises RequestRefused, KeyInUse."""
        if self._denials.find((f"spki:{request.key_sha256}",)) is not None:
            raise RequestRefused(reason="denied: the key of the request is on the deny-list", remedy="make a new key")
        now = self._clock.now()
        generation = await self._log.generation(identity.device_id, identity.module_id)
        for each in await self._log.of_key(request.key_sha256, now):
            is_same = (each.device_id, each.module_id) == (identity.device_id, identity.module_id)
            if not is_same:
                raise KeyInUse(reason=f"the key is {each.name!r}'s", remedy="every device makes a key of its own")
            is_alive = each.certificate and not each.revoked and each.generation == generation
            is_same = each.identity_generation == identity.generation_id and each.authority == issuer.name
            if is_alive and is_same and now - each.issued < CERTIFICATE_AGAIN.value:
                return each
            if each.revoked or not self._reuse_keys:
                raise KeyInUse(
                    reason="the key was used for a certificate of this identity before", remedy="make a new key"
                )
        return None

    async def _check_rates(self, identity: Identity, door: Door) -> None:
        now = self._clock.now()
        while self._lately and self._lately[0] < now - 60:
            self._lately.popleft()
        if len(self._lately) >= self._limits.certificates_per_minute:
            raise Throttled(
                cause="certificates-too-many", reason=f"{len(self._lately)} certificates were issued within a minute"
            )
        if door == "operator":
            return
        count = await self._log.count(identity.device_id, identity.module_id, now - _DAY)
        if count >= self._limits.certificates_per_day:
            raise QuotaExceeded(reason=f"{identity.name} was given {count} certificates within a day")

    async def _sign(
        self, identity: Identity, request: SigningRequest, issuer: Authority, door: Door, days: float
    ) -> Issued:
        key = await self._own.key_of(issuer)
        above, seconds = x509.load_der_x509_certificate(issuer.certificate), self._clock.now()
        days = days or issuer.days or float(self._limits.certificate_days)
        generation = await self._log.generation(identity.device_id, identity.module_id)
        serial = profiles.serial_number()
        builder = profiles.device_builder(
            request.public_key,
            identity.name,
            profiles.generation_uri(self._hub_name, identity.name, generation),
            above,
            dt.datetime.fromtimestamp(int(seconds), dt.UTC),
            days,
            serial=serial,
            crl_urls=self._publishing.crl_urls(issuer.name),
            ocsp_urls=self._publishing.ocsp_urls(issuer.name),
        )
        record = IssuedCertificate(
            authority=issuer.name,
            serial=f"{serial:X}",
            device_id=identity.device_id,
            module_id=identity.module_id,
            identity_generation=identity.generation_id,
            generation=generation,
            key_sha256=request.key_sha256,
            issued=seconds,
            not_before=seconds - profiles.BEFORE.total_seconds(),
            not_after=min(seconds + days * _DAY, above.not_valid_after_utc.timestamp()),
            door=door,
        )
        await self._log.add(record)
        certificate = await signing(issuer, lambda: builder.sign(key, hashes.SHA256()))
        der = certificate.public_bytes(Encoding.DER)
        await self._log.signed(issuer.name, record.serial, der)
        self._lately.append(seconds)
        return self._issued(msgspec.structs.replace(record, certificate=der), issuer)

    def _issued(self, record: IssuedCertificate, issuer: Authority) -> Issued:
        return Issued((record.certificate, *self.chain(issuer)), record)
