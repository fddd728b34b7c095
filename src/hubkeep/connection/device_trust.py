"""The whole judgement of a device's certificate: what it shows, and what the hub knows of it. Start at ``prove``.

``client_certificates`` looks at the certificates alone; here come scope and state of the authority, the issuance log of
the hub's own authorities, and revocation by others. Source: provisioning-and-pki 3.3.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.device.authorities import Authorities, may_speak_for
from hubkeep.device.certificate_uses import CertificateUses
from hubkeep.device.denials import DenyList
from hubkeep.device.foreign_answers import ForeignAnswers
from hubkeep.device.foreign_lists import ForeignLists
from hubkeep.device.profiles import generation_of, generation_uri
from hubkeep.errors import Unauthorized
from hubkeep.model import Authority, Identity, IssuedCertificate
from hubkeep.ports import CertificateStore, Clock

from .certificate_paths import DevicePaths
from .client_certificates import Proof, prove

_BY_AUTHORITY: Final = "certificateAuthority"
log: Final = logging.getLogger(__name__)


class DeviceTrust:
    """adopt: makes an identity one that certificates of authorities open. hub_name: as in certificates of the hub.

    lists, answers: what others say of revocation.
    """

    def __init__(
        self,
        authorities: Authorities,
        denials: DenyList,
        issued: CertificateStore,
        uses: CertificateUses,
        lists: ForeignLists,
        answers: ForeignAnswers,
        adopt: Callable[[Identity], Awaitable[Identity]],
        clock: Clock,
        hub_name: str,
    ) -> None:
        self._authorities, self._denials, self._issued, self._uses = authorities, denials, issued, uses
        self._lists, self._answers = lists, answers
        self._adopt, self._clock, self._hub_name = adopt, clock, hub_name
        self._paths = DevicePaths(authorities.trusted)

    async def prove(self, identity: Identity, certificates: tuple[bytes, ...], *, grace: float = 0.0) -> Proof:
        """Whether a handshake's certificates (DER, the leaf first) prove an X.509 identity.

        grace: see client_certificates.prove; of the hub's own certificates alone. Raises Unauthorized.
        """
        now = self._clock.now()
        proof = prove(identity, certificates, now, self._paths, denies=self._denials.find, grace=grace)
        if not proof.authority:
            return proof
        authority = self._authorities.get(proof.authority)
        if not may_speak_for(authority, identity.name):
            raise Unauthorized(
                cause="certificate-ca-scope",
                reason=f"ca-scope: {authority.name!r} speaks for {', '.join(authority.allowed_ids)} alone",
                remedy=f"hubkeep cert ca update {authority.name} --allow {identity.name}",
            )
        serial = ""
        assert proof.leaf is not None
        if authority.is_own:
            record = await self._logged(authority, proof.leaf, certificates[0])
            serial = record.serial
            await self._check_record(record, identity, proof.leaf, now)
            if proof.is_late:
                await self._check_once(record)
        elif proof.is_late:
            raise Unauthorized(
                cause="certificate-expired",
                reason="expired: only the hub's own certificates can be renewed after their end",
            )
        self._lists.check(authority, (proof.leaf, *proof.above))
        await self._answers.check(authority, proof.leaf, proof.above[0])
        if authority.state == "retiring" and not await self._was_seen(authority, identity):
            raise Unauthorized(
                cause="certificate-authority-retires",
                reason=f"chain: {authority.name!r} retires, and this identity was never let in by it",
                remedy=f"issue by another authority, or: hubkeep cert ca state {authority.name} active",
            )
        if not proof.is_late:
            self._uses.note(authority.name, identity.device_id, identity.module_id, serial)
        return proof

    async def prove_issued(self, identity: Identity, certificates: tuple[bytes, ...]) -> Proof | None:
        """Whether an identity that has keys, or thumbprints, shows a certificate that the hub itself issued to it.

        That it does ends their time: call ``adopt`` then. None: no such certificate.
        """
        if not self._authorities.own():
            return None
        try:
            proof = await self.prove(msgspec.structs.replace(identity, authentication=_BY_AUTHORITY), certificates)
        except Unauthorized:
            return None
        return proof if self._authorities.get(proof.authority).is_own else None

    async def check_revocation(self, leaf: x509.Certificate, above: Sequence[x509.Certificate]) -> None:
        """What registered authorities, and the hub's own, have said of a verified path. Raises Unauthorized."""
        ders = {each.public_bytes(Encoding.DER): each for each in above}
        for authority in self._authorities.all():
            if not authority.certificate or authority.certificate not in ders:
                continue
            if authority.is_own:
                record = await self._issued.get(authority.name, f"{leaf.serial_number:X}")
                if record is not None and record.revoked:
                    raise Unauthorized(
                        cause="certificate-denied", reason=f"denied: the certificate was revoked ({record.reason})"
                    )
                continue
            self._lists.check(authority, (leaf, *above))
            if authority.certificate == above[0].public_bytes(Encoding.DER):
                await self._answers.check(authority, leaf, above[0])

    async def adopt(self, identity: Identity) -> None:
        """From now on its certificates open it, its keys do not. Raises HubError."""
        await self._adopt(msgspec.structs.replace(identity, authentication=_BY_AUTHORITY))

    async def _was_seen(self, authority: Authority, identity: Identity) -> bool:
        return await self._uses.was_seen(authority, identity.device_id, identity.module_id)

    async def _logged(self, authority: Authority, leaf: x509.Certificate, der: bytes) -> IssuedCertificate:
        """P-63. Its row in the issuance log: of this very certificate. Raises Unauthorized."""
        serial = f"{leaf.serial_number:X}"
        record = await self._issued.get(authority.name, serial)
        if record is None or record.certificate != der:
            log.critical(
                "a certificate of the hub's own authority %r is not in the issuance log (serial %s): "
                "its key may be in other hands",
                authority.name,
                serial,
            )
            raise Unauthorized(
                cause="certificate-unlogged",
                reason=f"unlogged: {authority.name!r} never issued a certificate of the serial number {serial} here",
                remedy=f"its key may be in other hands: hubkeep cert ca state {authority.name} revoked",
            )
        return record

    async def _check_once(self, record: IssuedCertificate) -> None:
        """After its end a certificate renews once (4.12). Raises Unauthorized."""
        for newest in await self._issued.find(device_id=record.device_id, module_id=record.module_id, most=1):
            if newest.issued > record.not_after:
                raise Unauthorized(
                    cause="certificate-expired",
                    reason="expired: it was renewed with once after its end, and that is over",
                    remedy="use the newer certificate, or enrol the device anew",
                )

    async def _check_record(
        self, record: IssuedCertificate, identity: Identity, leaf: x509.Certificate, now: float
    ) -> None:
        """P-V12b. Raises Unauthorized."""
        if record.revoked:
            raise Unauthorized(
                cause="certificate-denied",
                reason=f"denied: the certificate was revoked ({record.reason})",
                remedy="enrol the device anew",
            )
        current = await self._issued.generation(identity.device_id, identity.module_id)
        expected = generation_uri(self._hub_name, identity.name, current)
        if record.identity_generation != identity.generation_id:
            raise Unauthorized(
                cause="certificate-generation",
                reason="generation: it was issued to an identity of this name that was deleted since",
                remedy="enrol the device anew",
            )
        if record.generation != current or generation_of(leaf) != expected:
            raise Unauthorized(
                cause="certificate-generation",
                reason=f"generation: it is of generation {record.generation}, the identity's is {current}",
                remedy="enrol the device anew",
            )
        if record.superseded and now > record.superseded:
            raise Unauthorized(
                cause="certificate-superseded",
                reason="generation: superseded: a newer certificate of the identity is in use",
                remedy="use the newest certificate; hubkeep cert list --device ID shows them",
            )
