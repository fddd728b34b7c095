"""Token buckets, one for each address or device, bounded in number."""

from collections import OrderedDict
from typing import Final

from hubkeep.ports import Clock

_WATCHED: Final = 100_000


class Rate:
    """So many in a minute, all of them at once if nobody came before. Who is forgotten begins with a full bucket."""

    __slots__ = ("_buckets", "_clock", "_per_minute")

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, when

    def take(self, name: str) -> float:
        """0: go on. Else the seconds until the next one may."""
        now = self._clock.monotonic()
        left, at = self._buckets.get(name, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - at) * self._per_minute / 60)
        wait = max(0.0, (1 - left) * 60 / self._per_minute)
        self._buckets[name] = (left if wait else left - 1, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > _WATCHED:
            self._buckets.popitem(last=False)
        return wait
