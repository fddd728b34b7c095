"""Revocation by others: the lists (CRL) of registered authorities, uploaded or fetched (P-V13b).

Only what an administrator named is ever fetched; nothing of a client's certificate is.
"""

import asyncio
import datetime as dt
import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.errors import BadRequest, HubError, Unauthorized
from hubkeep.limits import CERTIFICATE_SKEW, CRL_BYTES, CRL_GRACE
from hubkeep.model import Authority
from hubkeep.ports import Bus, Clock, Fetch, FetchFailed, RevocationListStore, StoredList

from .authorities import Authorities
from .denials import serial_mark
from .readable import UNREADABLE

log = logging.getLogger(__name__)

_FETCH_WITHIN: Final = 30.0  # seconds
_AGAIN_AFTER_FAILURE: Final = 300.0
_AT_LEAST_EVERY: Final = 86_400.0
_AT_MOST_EVERY: Final = 300.0
_TOLD_ONE_BY_ONE: Final = 1000  # links to cut; beyond that all below the authority are, and come again if they may
_WARN_EVERY: Final = 60.0
_MAY_BE_CRITICAL: Final = {x509.CRLNumber.oid, x509.AuthorityKeyIdentifier.oid}


class _Read(NamedTuple):
    """What of a list counts. issuer: subject of its authority."""

    issuer: x509.Name
    serials: frozenset[int]
    number: int
    updated: float
    next_update: float


class ListStatus(NamedTuple):
    """What an operator is told of a list. Times are Unix seconds; 0: never."""

    entries: int
    number: int
    next_update: float
    fetched: float
    failure: str


class ForeignLists:
    def __init__(
        self, authorities: Authorities, store: RevocationListStore, fetch: Fetch, bus: Bus, clock: Clock
    ) -> None:
        self._authorities, self._store, self._fetch, self._bus, self._clock = authorities, store, fetch, bus, clock
        self._lists: dict[str, _Read] = {}
        self._stored: dict[str, StoredList] = {}
        self._warned: dict[str, float] = {}
        bus.subscribe("authority.removed", self._authority_removed)

    async def load(self) -> None:
        known = {each.name: each for each in self._authorities.all() if not each.is_own}
        for stored in await self._store.all():
            if (authority := known.get(stored.authority)) is None:
                continue
            self._stored[stored.authority] = stored
            if stored.list:
                self._lists[stored.authority] = await asyncio.to_thread(_read, stored.list, authority)

    def status(self, name: str) -> ListStatus | None:
        if (stored := self._stored.get(name)) is None:
            return None
        entries = len(self._lists[name].serials) if name in self._lists else 0
        return ListStatus(entries, stored.number, stored.next_update, stored.fetched, stored.failure)

    async def upload(self, name: str, content: bytes) -> ListStatus:
        """A list (DER or PEM) of a registered authority; links of certificates that are new on it end.

        Raises NotFound, BadRequest with what is wrong with it.
        """
        authority = self._authorities.get(name)
        if authority.is_own:
            raise BadRequest("The hub writes the list of its own authority itself: hubkeep cert revoke.")
        await self._take(authority, content, fetched=0.0)
        if authority.revocation == "off":
            await self._authorities.change(name, revocation="soft")
        status = self.status(name)
        assert status is not None, "it was taken"
        return status

    async def fetch_due(self) -> None:
        """Fetch what has grown old. One that fails is tried again after five minutes, and waits for nobody."""
        due = [each for each in self._authorities.all() if each.crl_url and not each.is_own and self._is_due(each)]
        await asyncio.gather(*map(self._fetch_one, due))

    def check(self, authority: Authority, path: Sequence[x509.Certificate]) -> None:
        """path: the leaf first. Raises Unauthorized."""
        if authority.revocation == "off" or authority.is_own:
            return
        known = self._lists.get(authority.name)
        if known is None and not authority.crl_url:
            return
        if known is not None:
            for each in path:
                if each.serial_number in known.serials and each.issuer == known.issuer:
                    raise Unauthorized(
                        cause="certificate-crl-revoked",
                        reason=f"crl-revoked: {each.subject.rfc4514_string()[:200]!r} stands on the revocation list "
                        f"of {authority.name!r} (number {known.number})",
                        remedy="issue it anew; whoever runs the authority knows why",
                    )
            if self._clock.now() <= known.next_update + CRL_GRACE.value:
                return
        self._stale(authority, known)

    def _stale(self, authority: Authority, known: _Read | None) -> None:
        stored = self._stored.get(authority.name)
        since = f"ended on {dt.datetime.fromtimestamp(known.next_update, dt.UTC):%Y-%m-%d}" if known else "never came"
        told = f"crl-stale: the revocation list of {authority.name!r} {since}"
        told += f"; {stored.failure}" if stored and stored.failure else ""
        if authority.revocation == "hard":
            raise Unauthorized(
                cause="certificate-crl-stale",
                reason=told,
                remedy=f"hubkeep cert ca crl {authority.name} FILE, or mend its address",
            )
        now = self._clock.monotonic()
        if now >= self._warned.get(authority.name, 0.0):
            self._warned[authority.name] = now + _WARN_EVERY
            log.warning("%s; devices are let in all the same (soft)", told)

    def _is_due(self, authority: Authority) -> bool:
        stored, now = self._stored.get(authority.name), self._clock.now()
        if stored is None:
            return True
        if stored.failure:
            return now >= stored.fetched + _AGAIN_AFTER_FAILURE
        half = (stored.next_update - stored.updated) / 2
        return now >= stored.fetched + min(max(half, _AT_MOST_EVERY), _AT_LEAST_EVERY)

    async def _fetch_one(self, authority: Authority) -> None:
        try:
            content = await self._fetch(authority.crl_url, at_most=CRL_BYTES.value, within=_FETCH_WITHIN)
            await self._take(authority, content, fetched=self._clock.now())
        except (FetchFailed, HubError) as error:
            failure = error.reason if isinstance(error, HubError) else str(error)
            log.warning("the revocation list of %r cannot be had: %s", authority.name, failure)
            before = self._stored.get(authority.name) or StoredList(authority.name, b"", 0, 0.0, 0.0)
            await self._keep(before._replace(fetched=self._clock.now(), failure=failure[:500]))

    async def _take(self, authority: Authority, content: bytes, *, fetched: float) -> None:
        if len(content) > CRL_BYTES.value:
            raise BadRequest(f"A revocation list has at most {CRL_BYTES.value} bytes.")
        read = await asyncio.to_thread(_read, content, authority)
        now, before = self._clock.now(), self._lists.get(authority.name)
        if read.updated > now + CERTIFICATE_SKEW.value:
            raise BadRequest("The revocation list is not valid yet.")
        if read.next_update < now:
            raise BadRequest("The time of the revocation list is over.")
        if before is not None and read.number < before.number:
            raise BadRequest("There is a revocation list of a higher number already.")
        der = content if content[:1] == b"\x30" else x509.load_pem_x509_crl(content).public_bytes(Encoding.DER)
        await self._keep(StoredList(authority.name, der, read.number, read.updated, read.next_update, fetched))
        self._lists[authority.name] = read
        self._cut(authority.name, read, read.serials - (before.serials if before else frozenset()))

    async def _keep(self, stored: StoredList) -> None:
        await self._store.put(stored)
        self._stored[stored.authority] = stored

    def _cut(self, name: str, read: _Read, added: frozenset[int]) -> None:
        if len(added) > _TOLD_ONE_BY_ONE:
            self._bus.publish("authority.removed", name)
        elif added:
            self._bus.publish("certificate.denied", frozenset(serial_mark(read.issuer, each) for each in added))

    def _authority_removed(self, name: object) -> None:
        if str(name) not in {each.name for each in self._authorities.all()}:
            self._lists.pop(str(name), None)
            self._stored.pop(str(name), None)


def _read(content: bytes, authority: Authority) -> _Read:
    """Raises BadRequest."""
    issuer = x509.load_der_x509_certificate(authority.certificate)
    try:
        found = x509.load_pem_x509_crl(content) if b"-----BEGIN" in content[:64] else x509.load_der_x509_crl(content)
        is_signed = found.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # RSA or EC, as registered
        name, extensions, updated, next_update = (
            found.issuer,
            found.extensions,
            found.last_update_utc,
            found.next_update_utc,
        )
        serials = frozenset(each.serial_number for each in found)
    except UNREADABLE:
        raise BadRequest("The revocation list cannot be read.") from None
    if name != issuer.subject or not is_signed:
        raise BadRequest("The revocation list is not signed by this authority.")
    if next_update is None:
        raise BadRequest("The revocation list does not say until when it is good.")
    if any(each.critical and each.oid not in _MAY_BE_CRITICAL for each in extensions):
        raise BadRequest("The revocation list is of a kind that is not supported (in part, or a delta).")
    try:
        number = extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        number = 0
    return _Read(issuer.subject, serials, number, updated.timestamp(), next_update.timestamp())
