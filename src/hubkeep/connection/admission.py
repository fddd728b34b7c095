"""Who may hold a connection at all, before anybody is authenticated (limits-and-faults L-L1, L-L2, L-L6 to L-L8)."""

import functools
import ipaddress
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Final

from hubkeep.limits import (
    ARRIVAL_WAIT,
    FAILED_PAIR,
    FAILED_PAIR_PAUSE,
    FAILED_PAIR_PAUSE_MAX,
    FAILED_PAIR_WITHIN,
    Limits,
)
from hubkeep.ports import Clock

_SOURCES_WATCHED: Final = 10_000
Source = Callable[[str], str]


class FailedLogins:
    """Failed logins per source, bounded in number and time (L-L8). A source that failed too often is shut out."""

    def __init__(self, limits: Limits, clock: Clock, source: Source | None = None) -> None:
        self._limits, self._clock, self._source = limits, clock, source or source_of
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._blocked: OrderedDict[str, float] = OrderedDict()

    def note(self, address: str) -> None:
        source = self._source(address)
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
        source = self._source(address)
        until = self._blocked.get(source)
        if until is None:
            return False
        if self._clock.monotonic() < until:
            return True
        del self._blocked[source]
        return False


class FailedPairs:
    """Failed logins of one identity from one source (provisioning-and-pki 5.2): that pair is refused for a while, the
    identity from elsewhere is not, or anybody could lock it out."""

    def __init__(self, clock: Clock, source: Source | None = None) -> None:
        self._clock, self._source = clock, source or source_of
        self._pairs: OrderedDict[tuple[str, str], _Pair] = OrderedDict()

    def note(self, address: str, identity: str) -> None:
        source = self._source(address)
        if not source:
            return
        now = self._clock.monotonic()
        pair = self._pairs.setdefault((source, identity), _Pair())
        self._pairs.move_to_end((source, identity))
        pair.times = [at for at in pair.times if at > now - FAILED_PAIR_WITHIN.value]
        pair.times.append(now)
        if len(pair.times) >= FAILED_PAIR.value:
            pair.pause = min(2 * pair.pause or FAILED_PAIR_PAUSE.value, FAILED_PAIR_PAUSE_MAX.value)
            pair.until, pair.times = now + pair.pause, []
        if len(self._pairs) > _SOURCES_WATCHED:
            self._pairs.popitem(last=False)

    def blocked(self, address: str, identity: str) -> bool:
        pair = self._pairs.get((self._source(address), identity)) if self._pairs else None
        return pair is not None and self._clock.monotonic() < pair.until


class _Pair:
    __slots__ = ("pause", "times", "until")

    def __init__(self) -> None:
        self.times: list[float] = []
        self.pause, self.until = 0, 0.0


class Arrivals:
    """New connections per source and second (L-L7): a bucket each, whose debt is how long the next one waits."""

    __slots__ = ("_buckets", "_clock", "_limits")

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, when

    def delay(self, source: str) -> float | None:
        """Seconds until a connection from there may be accepted; None: too long to wait."""
        rate, burst, now = self._limits.arrivals, self._limits.arrivals_burst, self._clock.monotonic()
        tokens, at = self._buckets.get(source, (float(burst), now))
        tokens = min(float(burst), tokens + (now - at) * rate) - 1
        delay = max(0.0, -tokens / rate)
        is_too_long = delay > ARRIVAL_WAIT.value
        self._buckets[source] = (tokens + is_too_long, now)
        self._buckets.move_to_end(source)
        if len(self._buckets) > _SOURCES_WATCHED:
            self._buckets.popitem(last=False)
        return None if is_too_long else delay


class Admission:
    """Counts connections over all listeners. Loopback has no limits per source: there everybody is 127.0.0.1.

    A listener's connections ``arrive`` when they are accepted, and are ``taken`` by their protocol after the handshake.
    """

    __slots__ = (
        "_arrivals",
        "_arrived",
        "_blocked",
        "_held",
        "_holders",
        "_limits",
        "_most",
        "_per_source",
        "_source",
        "open",
        "refused",
        "unauthenticated",
    )

    def __init__(
        self,
        limits: Limits,
        most: int,
        blocked: Callable[[str], bool],
        arrivals: Arrivals | None = None,
        source: Source | None = None,
    ) -> None:
        """most: connections in all, from the descriptor limit. blocked: too many failed logins from this address."""
        self._limits, self._most, self._blocked, self._arrivals = limits, most, blocked, arrivals
        self._source = source or source_of
        self._per_source: Counter[str] = Counter()
        self._arrived: dict[tuple[str, int], Ticket] = {}
        self._holders: dict[Ticket, int] = {}  # bytes held for those who have not authenticated
        self._held = 0
        self.open = self.unauthenticated = self.refused = 0

    @property
    def is_full(self) -> bool:
        """Nobody else may be accepted for now (L-L1)."""
        return self.open >= self._most

    def arrive(self, address: str, port: int) -> float | None:
        """A socket was accepted: seconds to wait before its handshake. None: close it at once (L-L2, L-L7, L-L8)."""
        source, delay = self._source(address), 0.0
        if source and self._arrivals is not None:
            wait = self._arrivals.delay(source)
            if wait is None:
                self.refused += 1
                return None
            delay = wait
        ticket = self.admit(address)
        if ticket is None:
            return None
        self._arrived[address, port] = ticket
        return delay

    def left(self, address: str, port: int) -> None:
        """What arrived has been handed on or is gone."""
        ticket = self._arrived.pop((address, port), None)
        if ticket is not None:
            ticket.gone()

    def taken(self, peer: str, abort: Callable[[], object]) -> "Ticket | None":
        """The ticket of a connection whose handshake is over. peer: address:port. abort: ends it at once.

        A connection within another (a tunnel) gets one of its own. None: close it at once.
        """
        address, _, port = peer.rpartition(":")
        ticket = self._arrived.pop((address, int(port)), None) if port.isdigit() else None
        if ticket is None:
            ticket = self.admit(address)
        if ticket is not None:
            ticket.abort = abort
        return ticket

    def admit(self, address: str) -> "Ticket | None":
        """A ticket for one connection from ``address``; None: close it at once."""
        source = self._source(address)
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

    def _hold(self, ticket: "Ticket", count: int) -> None:
        self._held += count - self._holders.get(ticket, 0)
        if count:
            self._holders[ticket] = count
        else:
            self._holders.pop(ticket, None)
        while self._held > self._limits.unauthenticated_bytes:
            largest = max(self._holders, key=self._holders.__getitem__)
            self._held -= self._holders.pop(largest)
            self.refused += 1
            largest.evicted = True
            largest.abort()

    def _authenticated(self, ticket: "Ticket", source: str) -> None:
        self._held -= self._holders.pop(ticket, 0)
        self.unauthenticated -= 1
        if source:
            self._per_source[source] -= 1
            if not self._per_source[source]:
                del self._per_source[source]


class Ticket:
    """One admitted connection. Tell it when the peer is authenticated, and when the connection is gone."""

    __slots__ = ("_admission", "_gone", "_source", "abort", "evicted", "is_authenticated")

    def __init__(self, admission: Admission, source: str) -> None:
        self._admission, self._source = admission, source
        self.abort: Callable[[], object] = _nothing
        self.is_authenticated = self.evicted = self._gone = False

    def holds(self, count: int) -> None:
        """So many bytes of a peer that has not authenticated are in memory; the largest holders go first (L-L6)."""
        if not self.is_authenticated and not self.evicted:
            self._admission._hold(self, count)  # noqa: SLF001  # a ticket is the other half of its admission

    def authenticated(self) -> None:
        if not self.is_authenticated:
            self.is_authenticated = True
            self._admission._authenticated(self, self._source)  # noqa: SLF001  # as above

    def gone(self) -> None:
        if not self._gone:
            self.authenticated()
            self._gone = True
            self._admission.open -= 1


def _nothing() -> None:
    """Of a connection whose handshake is under way: it is ended by who shakes hands."""


def counted_source(*, loopback: bool) -> Source:
    """How addresses are counted. loopback: also those of this machine, each as itself."""
    if not loopback:
        return source_of

    def source(address: str) -> str:
        return source_of(address) or address

    return source


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
