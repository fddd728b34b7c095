"""A refusal as JSON with its number, as twins and methods tell it (service-protocols 2.16)."""

import datetime as dt
from typing import Any

from hubkeep.errors import HubError, on_wire
from hubkeep.model import time_stamp


def numbered_refusal(error: BaseException, tracking_id: str, now: float) -> dict[str, Any]:
    """What is no HubError is told as a fault of the hub, without any detail. now: Unix seconds."""
    return {
        "errorCode": on_wire(error).number,
        "trackingId": f"{tracking_id}-G:0-TimeStamp:{tracking_stamp(now)}",
        "message": refusal_text(error),
        "timestampUtc": time_stamp(now),
    }


def refusal_text(error: BaseException) -> str:
    return str(error) if isinstance(error, HubError) else "The hub failed."


def tracking_stamp(now: float) -> str:
    return dt.datetime.fromtimestamp(now, dt.UTC).strftime("%m/%d/%Y %H:%M:%S")
