"""Which hub a device is assigned to. Source: provisioning-and-pki 2.4."""

import ipaddress
import math
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from hubkeep.errors import AllocationFailed, NoHub
from hubkeep.model import AllocationPolicy, Enrolment, LinkedHub
from hubkeep.ports import AllocationAnswer, AllocationQuestion, AskAllocation

_BITS: Final = 53
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Latencies(NamedTuple):
    """Milliseconds to hubs (host names in lower case) from a network."""

    network: _Network
    to: Mapping[str, float]


class Allocation:
    """hubs: the linked ones. default: for enrolments that name no policy. latencies: for ``geoLatency``."""

    def __init__(
        self,
        hubs: Sequence[LinkedHub],
        default: AllocationPolicy = "hashed",
        latencies: Sequence[Latencies] = (),
        *,
        ask: AskAllocation | None = None,
    ) -> None:
        """ask: for the policy ``custom``."""
        self._own, self._default, self._ask = hubs, default, ask
        self.others: Sequence[LinkedHub] = ()  # hubs beside this one, as they are linked now
        # the narrowest network that holds an address speaks for it
        self._latencies = sorted(latencies, key=lambda each: each.network.prefixlen, reverse=True)

    @property
    def can_ask(self) -> bool:
        """Whether somebody answers for the policy ``custom``."""
        return self._ask is not None

    @property
    def hubs(self) -> Sequence[LinkedHub]:
        return [*self._own, *self.others]

    def policy(self, enrolment: Enrolment) -> AllocationPolicy:
        return enrolment.allocation or self._default

    def candidates(self, enrolment: Enrolment) -> Sequence[LinkedHub]:
        """Linked hubs that the enrolment allows. Raises NoHub."""
        wanted = {each.lower() for each in enrolment.hubs}
        found = [each for each in self.hubs if not wanted or each.host_name.lower() in wanted]
        if not found:
            raise NoHub(
                reason=f"none of {', '.join(enrolment.hubs) or 'the hubs'} is linked", remedy="hubkeep enroll hubs"
            )
        return found

    def choose(self, enrolment: Enrolment, registration_id: str, source: str) -> str:
        """The host name. source: the device's address. Raises NoHub, AllocationFailed."""
        hubs, policy = self.candidates(enrolment), self.policy(enrolment)
        if policy == "custom":
            raise AllocationFailed(reason="nobody is set up to be asked for custom allocation")
        if policy == "static":
            return hubs[0].host_name
        hubs = [each for each in hubs if each.applies]
        if not hubs:
            raise NoHub(reason="no linked hub takes part in allocation", remedy="hubkeep enroll hubs")
        if policy == "geoLatency":
            hubs = self._nearest(hubs, source)
        return hashed(registration_id, hubs).host_name

    async def ask(self, question: AllocationQuestion) -> AllocationAnswer:
        """Whom the enrolment names. Raises NoHub, AllocationFailed."""
        if self._ask is None:
            raise AllocationFailed(reason="nobody is set up to be asked for custom allocation")
        hubs = {each.host_name.lower(): each.host_name for each in self.candidates(question.enrolment)}
        answer = await self._ask(question._replace(hubs=tuple(hubs.values())))
        if answer.hub.lower() not in hubs:
            raise AllocationFailed(reason=f"the webhook chose {answer.hub[:128]!r}, which is no linked hub")
        return answer._replace(hub=hubs[answer.hub.lower()])

    def _nearest(self, hubs: Sequence[LinkedHub], source: str) -> Sequence[LinkedHub]:
        """Those of the least latency; all of them where nothing is known of the source."""
        try:
            address = ipaddress.ip_address(source)
        except ValueError:
            return hubs
        for each in self._latencies:
            if address.version == each.network.version and address in each.network:
                known = {
                    hub.host_name: each.to[hub.host_name.lower()] for hub in hubs if hub.host_name.lower() in each.to
                }
                if known:
                    least = min(known.values())
                    return [hub for hub in hubs if known.get(hub.host_name) == least]
        return hubs


def hashed(registration_id: str, hubs: Sequence[LinkedHub]) -> LinkedHub:
    """Weighted rendezvous hashing: a hub that comes or goes moves only the devices that must move."""
    return max(hubs, key=lambda hub: score(registration_id, hub))


def score(registration_id: str, hub: LinkedHub) -> float:
    """The highest one wins."""
    digest = sha256(f"hk-alloc-1\n{registration_id.lower()}\n{hub.host_name}".encode()).digest()
    share = ((int.from_bytes(digest[:8]) >> (64 - _BITS)) + 0.5) / 2**_BITS
    return -hub.weight / math.log(share)
