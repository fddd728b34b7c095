"""Everything that decides which certificates open which identities, put together. Start at ``Certification``."""

from collections.abc import Callable, Collection
from typing import NamedTuple, Self

from hubkeep.limits import Limits
from hubkeep.ports import (
    AuthorityStore,
    Bus,
    CertificateStore,
    Clock,
    DenialStore,
    SigningKeys,
)

from .authorities import Authorities
from .certificate_uses import CertificateUses
from .denials import DenyList
from .issuing import Issuing, Publishing
from .own_authorities import OwnAuthorities
from .revoking import Revoking


class CertificationStores(NamedTuple):
    authorities: AuthorityStore
    certificates: CertificateStore
    denials: DenialStore
    keys: SigningKeys


class Certification(NamedTuple):
    """hub_name: stands in what the hub issues."""

    authorities: Authorities
    own: OwnAuthorities
    issuing: Issuing
    denials: DenyList
    revoking: Revoking
    uses: CertificateUses
    issued: CertificateStore
    hub_name: str

    @classmethod
    async def loaded(
        cls,
        stores: CertificationStores,
        bus: Bus,
        clock: Clock,
        limits: Limits,
        *,
        hub_name: str,
        publishing: Publishing,
        reuse_keys: bool,
        public_roots: Callable[[], Collection[bytes]],
    ) -> Self:
        """public_roots: see Authorities. publishing, reuse_keys: see Issuing."""
        denials = DenyList(stores.denials, bus, clock)
        await denials.load()
        authorities = Authorities(stores.authorities, denials, bus, clock, public_roots)
        await authorities.load()
        own = OwnAuthorities(authorities, stores.keys, clock, hub_name)
        issuing = Issuing(
            authorities,
            own,
            stores.certificates,
            denials,
            clock,
            limits,
            hub_name=hub_name,
            publishing=publishing,
            reuse_keys=reuse_keys,
        )
        revoking = Revoking(authorities, stores.certificates, denials, bus, clock)
        overlap = float(limits.certificate_overlap)
        uses = CertificateUses(stores.authorities, stores.certificates, clock, overlap=overlap)
        return cls(authorities, own, issuing, denials, revoking, uses, stores.certificates, hub_name)
