"""The deny-list: certificates, keys and serial numbers that nobody may show, whoever issued them (3.7, P-L2).

It is held in memory as a whole; the store is read once and written through. A certificate is looked up by its marks.
"""

import asyncio
import functools
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.errors import BadRequest, NotFound, QuotaExceeded
from hubkeep.limits import DENIALS
from hubkeep.model import REVOCATION_REASONS, Denial
from hubkeep.ports import Bus, Clock, DenialStore

from .requests import key_fingerprint

_HEX: Final = frozenset("0123456789ABCDEF")


class DenyList:
    """Published as ``certificate.denied``: the marks whose live links must go."""

    def __init__(self, store: DenialStore, bus: Bus, clock: Clock) -> None:
        self._store, self._bus, self._clock = store, bus, clock
        self._denials: dict[str, Denial] = {}
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        self._denials = {each.mark: each for each in await self._store.all()}

    def all(self) -> Sequence[Denial]:
        """The newest first."""
        return sorted(self._denials.values(), key=lambda each: each.at, reverse=True)

    def find(self, marks: Iterable[str]) -> Denial | None:
        """The first entry that one of a certificate's ``marks`` has."""
        for mark in marks:
            if (found := self._denials.get(mark)) is not None:
                return found
        return None

    async def add(self, *denials: Denial) -> None:
        """Live links that were opened with one of them end at once. Raises QuotaExceeded."""
        async with self._changing:
            if len(self._denials) + len(denials) > DENIALS.value:
                raise QuotaExceeded(reason=f"the deny-list has {DENIALS.value} entries", remedy="hubkeep cert allow")
            await self._store.put(denials)
            self._denials |= {each.mark: each for each in denials}
        self._bus.publish("certificate.denied", frozenset(each.mark for each in denials))

    async def remove(self, mark: str) -> Denial:
        """Raises NotFound."""
        async with self._changing:
            if (found := self._denials.get(mark)) is None:
                raise NotFound(reason=f"the deny-list has no entry {mark!r}")
            await self._store.remove([mark])
            del self._denials[mark]
        return found

    async def tidy(self) -> None:
        """Entries of certificates that have ended are of no use any more."""
        now = self._clock.now()
        over = [each.mark for each in self._denials.values() if each.until and each.until < now]
        if over:
            async with self._changing:
                await self._store.remove(over)
                for mark in over:
                    self._denials.pop(mark, None)


def marks_of(certificate: x509.Certificate, der: bytes | None = None) -> tuple[str, ...]:
    """What a certificate is looked up by: itself, its key, its issuer and serial number."""
    content = der or certificate.public_bytes(Encoding.DER)
    return (
        f"cert:{sha256(content).hexdigest().upper()}",
        f"spki:{key_fingerprint(certificate.public_key())}",
        serial_mark(certificate.issuer, certificate.serial_number),
    )


@functools.lru_cache(1024)
def marks_of_authority(der: bytes) -> tuple[str, ...]:
    """The same of one that many chains share."""
    return marks_of(x509.load_der_x509_certificate(der), der)


def serial_mark(issuer: x509.Name, serial: int) -> str:
    return f"serial:{sha256(issuer.public_bytes()).hexdigest().upper()[:40]}:{serial:X}"


def denial_of(certificate: x509.Certificate, kind: str, *, reason: str, at: float, by: str) -> Denial:
    """An entry for a certificate, by ``cert``, ``spki`` or ``serial``. Raises BadRequest."""
    check_reason(reason)
    cert, spki, serial = marks_of(certificate)
    ends = certificate.not_valid_after_utc.timestamp()
    if kind == "spki":  # a stolen key comes back in new certificates: for ever
        return Denial(mark=spki, kind="spki", value=spki[5:], reason=reason, at=at, by=by)
    if kind == "cert":
        return Denial(mark=cert, kind="cert", value=cert[5:], reason=reason, at=at, by=by, until=ends)
    if kind != "serial":
        raise BadRequest("A denial is of the kind cert, spki or serial.")
    issuer, number = certificate.issuer.rfc4514_string(), f"{certificate.serial_number:X}"
    return Denial(mark=serial, kind="serial", value=number, issuer=issuer, reason=reason, at=at, by=by, until=ends)


def denial_of_value(
    kind: str, value: str, issuer: x509.Certificate | None, *, reason: str, at: float, by: str
) -> Denial:
    """An entry without the certificate. value: see Denial; issuer: of a serial number. Raises BadRequest."""
    check_reason(reason)
    digits = value.replace(":", "").replace(" ", "").upper().removeprefix("0X")
    if not digits or len(digits) > 64 or not _HEX.issuperset(digits):
        raise BadRequest("The value must be hexadecimal.")
    if kind == "serial":
        if issuer is None:
            raise BadRequest("A serial number needs its issuer: name a registered authority.")
        mark = serial_mark(issuer.subject, int(digits, 16))
        name = issuer.subject.rfc4514_string()
        return Denial(
            mark=mark, kind="serial", value=digits.lstrip("0") or "0", issuer=name, reason=reason, at=at, by=by
        )
    if len(digits) != 64:
        raise BadRequest("The SHA-256 of a certificate or a key has 64 hexadecimal digits.")
    if kind == "cert":
        return Denial(mark=f"cert:{digits}", kind="cert", value=digits, reason=reason, at=at, by=by)
    if kind == "spki":
        return Denial(mark=f"spki:{digits}", kind="spki", value=digits, reason=reason, at=at, by=by)
    raise BadRequest("A denial is of the kind cert, spki or serial.")


def check_reason(reason: str) -> None:
    """Raises BadRequest."""
    if reason not in REVOCATION_REASONS:
        raise BadRequest(f"The reason is one of: {', '.join(REVOCATION_REASONS)}.")
