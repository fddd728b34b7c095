"""What goes where, as it is now. Stores and listeners ask on the way of every change: a look-up, nothing more."""

from collections.abc import Iterable
from typing import Final

from hubkeep.model import EventSource

BUILT_IN: Final = "events"  # the Event Hubs-compatible endpoint


class RoutingTable:
    """Telemetry goes to the built-in endpoint; of the hub's own events, those of the sources that are switched on."""

    __slots__ = ("wanted",)

    def __init__(self) -> None:
        self.wanted: frozenset[EventSource] = frozenset()

    def set_built_in(self, sources: Iterable[EventSource]) -> None:
        """The sources whose events the built-in endpoint gets."""
        self.wanted = frozenset(sources)
