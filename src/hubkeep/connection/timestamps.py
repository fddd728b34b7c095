"""Dates as clients write and read them: ISO 8601, UTC. Source: service-protocols 2.1."""

import datetime as dt

from hubkeep.errors import BadRequest
from hubkeep.model.timestamps import NEVER, time_stamp

__all__ = ["NEVER", "milliseconds", "time_stamp"]


def milliseconds(date: str) -> int:
    """Unix milliseconds of an ISO 8601 text; without a zone it is UTC (D-PY16). Raises BadRequest."""
    try:
        # seven fractional digits are legal, Python reads six
        parsed = dt.datetime.fromisoformat(_six_digits(date))
    except ValueError:
        raise BadRequest("A date is not valid.", reason=f"not an ISO 8601 date: {date[:64]!r}") from None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=dt.UTC)
    return int(parsed.timestamp() * 1000)


def _six_digits(date: str) -> str:
    head, dot, tail = date.partition(".")
    if not dot:
        return date
    digits = len(tail) - len(tail.lstrip("0123456789"))
    return f"{head}.{tail[:digits][:6]}{tail[digits:]}"
