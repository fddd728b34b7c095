"""Times as they are written for people and clients: ISO 8601, UTC. Source: service-protocols 2.1."""

import datetime as dt
from functools import lru_cache
from typing import Final

NEVER: Final = "0001-01-01T00:00:00Z"


def time_stamp(seconds: float) -> str:
    """Unix seconds as ISO 8601 with seven fractional digits; 0 means never."""
    if not seconds:
        return NEVER
    whole, ticks = divmod(round(seconds * 10_000_000), 10_000_000)
    return f"{_to_the_second(whole)}.{ticks:07d}Z"


@lru_cache(maxsize=256)  # most are of now
def _to_the_second(whole: int) -> str:
    # isoformat costs a tenth of strftime
    return dt.datetime.fromtimestamp(whole, dt.UTC).isoformat()[:19]
