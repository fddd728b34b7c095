"""Everything that decides which certificates open which identities, put together. Start at ``Certification``."""

from collections.abc import Callable, Collection
from typing import NamedTuple, Self

from hubkeep.limits import Limits
from hubkeep.ports import (
    AuthorityStore,
    Bus,
    CertificateRequestStore,
    CertificateStore,
    Clock,
    DenialStore,
    Fetch,
    RevocationListStore,
    SigningKeys,
)

from .approvals import Approvals
from .authorities import Authorities
from .certificate_uses import CertificateUses
from .denials import DenyList
from .foreign_answers import ForeignAnswers
from .foreign_lists import ForeignLists
from .issuing import Issuing, Publishing
from .own_authorities import OwnAuthorities
from .published_lists import PublishedLists
from .revoking import Revoking


class CertificationStores(NamedTuple):
    authorities: AuthorityStore
    certificates: CertificateStore
    denials: DenialStore
    requests: CertificateRequestStore
    lists: RevocationListStore
    keys: SigningKeys


class Certification(NamedTuple):
    """hub_name: stands in what the hub issues."""

    authorities: Authorities
    own: OwnAuthorities
    issuing: Issuing
    approvals: Approvals
    denials: DenyList
    revoking: Revoking
    published: PublishedLists
    lists: ForeignLists
    answers: ForeignAnswers
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
        fetch: Fetch,
        hub_name: str,
        publishing: Publishing,
        reuse_keys: bool,
        public_roots: Callable[[], Collection[bytes]],
    ) -> Self:
        """fetch: for what others say of revocation. public_roots: see Authorities. publishing, reuse_keys: see
        Issuing.
        """
        denials = DenyList(stores.denials, bus, clock)
        await denials.load()
        authorities = Authorities(stores.authorities, denials, bus, clock, public_roots)
        await authorities.load()
        own = OwnAuthorities(authorities, stores.keys, clock, hub_name)
        approvals = Approvals(stores.requests, clock)
        issuing = Issuing(
            authorities,
            own,
            stores.certificates,
            denials,
            approvals,
            clock,
            limits,
            hub_name=hub_name,
            publishing=publishing,
            reuse_keys=reuse_keys,
        )
        revoking = Revoking(authorities, stores.certificates, denials, bus, clock)
        published = PublishedLists(authorities, own, stores.certificates, stores.lists, bus, clock)
        await published.load()
        lists = ForeignLists(authorities, stores.lists, fetch, bus, clock)
        await lists.load()
        answers = ForeignAnswers(fetch, clock)
        overlap = float(limits.certificate_overlap)
        uses = CertificateUses(stores.authorities, stores.certificates, clock, overlap=overlap)
        return cls(
            authorities,
            own,
            issuing,
            approvals,
            denials,
            revoking,
            published,
            lists,
            answers,
            uses,
            stores.certificates,
            hub_name,
        )
