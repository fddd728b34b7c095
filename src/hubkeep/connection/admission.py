"""Who may hold a connection at all, before anybody is authenticated (limits-and-faults L-L1, L-L2, L-L8)."""

import functools
import ipaddress
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Final

from hubkeep.limits import Limits
from hubkeep.ports import Clock

_SOURCES_WATCHED: Final = 10_000


class FailedLogins:
    """Failed logins per source, bounded in number and time (L-L8). A source that failed too often is shut out."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._blocked: OrderedDict[str, float] = OrderedDict()

    def note(self, address: str) -> None:
        source = source_of(address)
        if not source:
            return
        now = self._clock.monotonic()
        times = self._times.setdefault(source, deque(maxlen=self._limits.failed_logins + 1))
        self._times.move_to_end(source)
        times.append(now)
        if len(times) > self._limits.failed_logins and times[0] > now - 60:
            self._blocked[source] = now + self._limits.failed_logins_pause
            self._blocked.move_to_end(source)
        for watched in (self._times, self._blocked):
            if len(watched) > _SOURCES_WATCHED:
                watched.popitem(last=False)

    def blocked(self, address: str) -> bool:
        """Whether this source is closed at accept for now."""
        if not self._blocked:
            return False
        source = source_of(address)
        until = self._blocked.get(source)
        if until is None:
            return False
        if self._clock.monotonic() < until:
            return True
        del self._blocked[source]
        return False


class Admission:
    """Counts connections over all listeners. Loopback has no limits per source: there everybody is 127.0.0.1."""

    __slots__ = ("_blocked", "_limits", "_most", "_per_source", "open", "refused", "unauthenticated")

    def __init__(self, limits: Limits, most: int, blocked: Callable[[str], bool]) -> None:
        """most: connections in all, from the descriptor limit. blocked: too many failed logins from this address."""
        self._limits, self._most, self._blocked = limits, most, blocked
        self._per_source: Counter[str] = Counter()
        self.open = self.unauthenticated = self.refused = 0

    def admit(self, address: str) -> "Ticket | None":
        """A ticket for one connection from ``address``; None: close it at once."""
        source = source_of(address)
        limits = self._limits
        if (
            self.open >= self._most
            or self.unauthenticated >= limits.unauthenticated
            or (source and self._per_source[source] >= limits.unauthenticated_per_source)
            or self._blocked(address)
        ):
            self.refused += 1
            return None
        self.open += 1
        self.unauthenticated += 1
        if source:
            self._per_source[source] += 1
        return Ticket(self, source)

    def _authenticated(self, source: str) -> None:
        self.unauthenticated -= 1
        if source:
            self._per_source[source] -= 1
            if not self._per_source[source]:
                del self._per_source[source]


class Ticket:
    """One admitted connection. Tell it when the peer is authenticated, and when the connection is gone."""

    __slots__ = ("_admission", "_authenticated", "_gone", "_source")

    def __init__(self, admission: Admission, source: str) -> None:
        self._admission, self._source = admission, source
        self._authenticated = self._gone = False

    def authenticated(self) -> None:
        if not self._authenticated:
            self._authenticated = True
            self._admission._authenticated(self._source)  # noqa: SLF001  # a ticket is the other half of its admission

    def gone(self) -> None:
        if not self._gone:
            self.authenticated()
            self._gone = True
            self._admission.open -= 1


@functools.lru_cache(4096)
def source_of(address: str) -> str:
    """The address that limits count: IPv6 by its /64; empty for loopback and for what is no address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        # a socket for both versions shows IPv4 peers so; as one /64 they would all share one count
        parsed = parsed.ipv4_mapped or parsed
    if parsed.is_loopback:
        return ""
    if parsed.version == 6:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
