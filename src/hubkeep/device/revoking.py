"""Taking back what was issued: one certificate, or all of an identity (provisioning-and-pki 3.7)."""

import asyncio

from cryptography import x509

from hubkeep.errors import NotFound
from hubkeep.model import Denial, IdentityChange, IssuedCertificate
from hubkeep.ports import Bus, CertificateStore, Clock

from .authorities import Authorities
from .denials import DenyList, check_reason, denial_of


class Revoking:
    """Published as ``certificate.revoked``: the name of the authority whose list has changed."""

    def __init__(
        self, authorities: Authorities, log: CertificateStore, denials: DenyList, bus: Bus, clock: Clock
    ) -> None:
        self._authorities, self._log, self._denials, self._bus, self._clock = authorities, log, denials, bus, clock
        self._revoking = asyncio.Lock()

    async def certificate(self, serial: str, reason: str, by: str, authority: str = "") -> IssuedCertificate:
        """One that the hub issued: its links end at once, and it is on the next revocation list.

        Raises NotFound, BadRequest for the reason.
        """
        check_reason(reason)
        found = await self._log.find(serial=serial.upper(), authority=authority, most=2)
        if len(found) != 1:
            raise NotFound(reason=f"{len(found)} certificates of the serial number {serial[:80]!r} were issued here")
        (record,) = found
        now = self._clock.now()
        async with self._revoking:
            await self._log.revoke(record.authority, record.serial, now, reason)
            if record.certificate:
                certificate = x509.load_der_x509_certificate(record.certificate)
                await self._denials.add(denial_of(certificate, "serial", reason=reason, at=now, by=by))
        self._bus.publish("certificate.revoked", record.authority)
        return (await self._log.find(serial=record.serial, authority=record.authority, most=1))[0]

    async def identity(self, device_id: str, module_id: str, reason: str) -> int:
        """Every certificate that the hub issued to an identity so far; its links end. The new generation."""
        check_reason(reason)
        now = self._clock.now()
        async with self._revoking:
            below = {
                each.authority for each in await self._log.find(device_id=device_id, module_id=module_id, most=1000)
            }
            generation = await self._log.next_generation(device_id, module_id, now, reason)
        self._bus.publish("identity.changed", IdentityChange(device_id, module_id, "credentials"))
        for name in below:
            self._bus.publish("certificate.revoked", name)
        return generation

    async def deny(self, denial: Denial) -> Denial:
        """Whoever issued it. Raises QuotaExceeded."""
        await self._denials.add(denial)
        return denial
