"""What the hub tells by itself of a device or module (service-protocols 6.5, 6.6)."""

from typing import Final, Literal, get_args

import msgspec

EventSource = Literal[
    "deviceLifecycleEvents",
    "twinChangeEvents",
    "digitalTwinChangeEvents",
    "deviceConnectionStateEvents",
    "deviceJobLifecycleEvents",
]
EVENT_SOURCES: Final[tuple[EventSource, ...]] = get_args(EventSource)


class HubEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event that no device sent.

    operation: the application property ``opType``. at: Unix seconds of what it tells. body: JSON; of a connection
    state empty, since its number is all that it says. number: given when it is stored, rising by each; 0 before.
    """

    source: EventSource
    operation: str
    device_id: str
    module_id: str = ""
    at: float
    body: bytes = b""
    number: int = 0
