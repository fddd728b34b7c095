"""Which addresses a listener is open to at all: judged when a socket is accepted, before TLS and before any count."""

from collections.abc import Callable

from hubkeep.errors import Unauthorized
from hubkeep.model import LinkInfo, Networks, Surface, why_shut_out
from hubkeep.ports import Clock, RecordRefusal

from .admission import source_of
from .repeats import Repeats


class Door:
    """The networks of one listener. refused: connections that were closed for them."""

    __slots__ = ("_locked_out", "_networks", "_refuse", "_repeats", "_surface", "refused")

    def __init__(
        self,
        networks: Networks,
        surface: Surface,
        refuse: RecordRefusal,
        clock: Clock,
        locked_out: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """locked_out: too many logins from this address failed (L-L8)."""
        self._networks, self._surface, self._refuse, self._locked_out = networks, surface, refuse, locked_out
        self._repeats = Repeats(clock)
        self.refused = 0

    def admits(self, address: str, port: int) -> bool:
        """Whether to go on with a connection from there; one that is refused is recorded, each source now and then."""
        why = why_shut_out(self._networks, address)
        if not why:
            return True
        self.refused += 1
        self._record(
            Unauthorized(
                cause="listener-network",
                reason=f"the listener of {self._surface} is closed to {address}: {why}",
                remedy=f"listeners.networks.{self._surface} in the settings",
            ),
            address,
            port,
        )
        return False

    def turned_away(self, address: str, port: int) -> None:
        """Admission took no connection from there. If that is for failed logins, it is recorded now and then."""
        if self._locked_out(address):
            why = Unauthorized(
                cause="source-locked-out", reason=f"too many logins from {address} failed: it is closed for a while"
            )
            self._record(why.by("L-L8"), address, port)

    def _record(self, error: Unauthorized, address: str, port: int) -> None:
        if self._repeats.is_news((source_of(address) or address, error.cause)):
            self._refuse(error, LinkInfo(self._surface, f"{address}:{port}"), identity="", operation="connect")
