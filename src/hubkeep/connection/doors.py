"""Which addresses a listener is open to at all: judged when a socket is accepted, before TLS and before any count."""

from collections import OrderedDict
from typing import Final

from hubkeep.errors import Unauthorized
from hubkeep.model import LinkInfo, Networks, Surface, why_shut_out
from hubkeep.ports import Clock, RecordRefusal

from .admission import source_of

_SOURCES_WATCHED: Final = 10_000
_AGAIN_AFTER: Final = 10.0  # seconds: who knocks all the time would push every other refusal out of the record


class Door:
    """The networks of one listener. refused: connections that were closed for them."""

    __slots__ = ("_clock", "_networks", "_refuse", "_surface", "_told", "refused")

    def __init__(self, networks: Networks, surface: Surface, refuse: RecordRefusal, clock: Clock) -> None:
        self._networks, self._surface, self._refuse, self._clock = networks, surface, refuse, clock
        self._told: OrderedDict[str, float] = OrderedDict()
        self.refused = 0

    def admits(self, address: str, port: int) -> bool:
        """Whether to go on with a connection from there; one that is refused is recorded, each source now and then."""
        why = why_shut_out(self._networks, address)
        if not why:
            return True
        self.refused += 1
        if self._is_news(source_of(address) or address):
            error = Unauthorized(
                reason=f"the listener of {self._surface} is closed to {address}: {why}",
                remedy=f"listeners.networks.{self._surface} in the settings",
            )
            self._refuse(error, LinkInfo(self._surface, f"{address}:{port}"), identity="", operation="connect")
        return False

    def _is_news(self, source: str) -> bool:
        now = self._clock.monotonic()
        told = self._told.get(source)
        if told is not None and now < told + _AGAIN_AFTER:
            return False
        self._told[source] = now
        self._told.move_to_end(source)
        if len(self._told) > _SOURCES_WATCHED:
            self._told.popitem(last=False)
        return True
