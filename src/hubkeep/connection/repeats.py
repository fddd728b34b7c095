"""Which refusals are news: who is refused all the time would push every other refusal out of the record."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from hubkeep.ports import Clock

_WATCHED: Final = 10_000
_AGAIN_AFTER: Final = 10.0  # seconds


class Repeats:
    """Bounded in number: of many at once, the oldest are news again earlier."""

    __slots__ = ("_clock", "_told")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: OrderedDict[Hashable, float] = OrderedDict()

    def is_news(self, subject: Hashable) -> bool:
        """Whether this one was not told lately; it is from now on."""
        now = self._clock.monotonic()
        told = self._told.get(subject)
        if told is not None and now < told + _AGAIN_AFTER:
            return False
        self._told[subject] = now
        self._told.move_to_end(subject)
        if len(self._told) > _WATCHED:
            self._told.popitem(last=False)
        return True
