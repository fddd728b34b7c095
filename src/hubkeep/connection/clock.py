"""The real clock; tests pass one that they move."""

import time


class SystemClock:
    """Wall clock and monotonic clock of this machine (ports.Clock)."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
