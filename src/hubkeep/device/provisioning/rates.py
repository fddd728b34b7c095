"""How often devices may register and ask how it ended. Source: provisioning-and-pki 1.3, step 2."""

from collections import OrderedDict
from typing import Final

from hubkeep.errors import Throttled

_KNOWN: Final = 10_000  # names counted at once; beyond that the longest silent is forgotten


class Rate:
    """At most ``most`` in ``seconds``, for each name. now: monotonic seconds."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, now: float, name: str = "") -> None:
        """Raises Throttled, which says how long to wait."""
        began, count = self._windows.pop(name, (now, 0))
        if now - began >= self._seconds:
            began, count = now, 0
        self._windows[name] = began, min(count + 1, self._most)
        if len(self._windows) > _KNOWN:
            self._windows.popitem(last=False)
        if count >= self._most:
            error = Throttled(cause="registrations-too-many", reason=f"more than {self._most} in {self._seconds:.0f} s")
            error.retry_after = max(1, round(began + self._seconds - now + 0.5))
            raise error
