"""Times as they are written for people and clients: ISO 8601, UTC. Source: service-protocols 2.1."""

import datetime as dt
from typing import Final

NEVER: Final = "0001-01-01T00:00:00Z"


def time_stamp(seconds: float) -> str:
    """Unix seconds as ISO 8601 with seven fractional digits; 0 means never."""
    if not seconds:
        return NEVER
    whole, ticks = divmod(round(seconds * 10_000_000), 10_000_000)
    # isoformat costs a tenth of strftime
    return f"{dt.datetime.fromtimestamp(whole, dt.UTC).isoformat()[:19]}.{ticks:07d}Z"
