"""Who may hold a connection at all, before anybody is authenticated (limits-and-faults L-L1, L-L2, L-L8)."""

import ipaddress
from collections import Counter
from collections.abc import Callable

from hubkeep.limits import Limits


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
        source = _source(address)
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


def _source(address: str) -> str:
    """The address that limits count: IPv6 by its /64; empty for loopback and for what is no address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if parsed.is_loopback:
        return ""
    if parsed.version == 6:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
