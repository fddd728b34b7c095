"""Wills: MQTT 5 clients may want theirs sent only after a while, unless they are back by then (MQTT 5, 3.1.3.2.2)."""

from collections.abc import Callable
from typing import Final

from hubkeep.wire.mqtt import Will

from .telemetry import Telemetry

_KEPT: Final = 10_000  # beyond it, a will goes at once


class LastWill:
    """What a link leaves when it ends without taking it back. delay: seconds that it waits, never longer than the
    session lasts (session_expiry: seconds, None for ever)."""

    __slots__ = ("_telemetry", "_will", "delay")

    def __init__(self, will: Will, telemetry: Telemetry, session_expiry: int | None) -> None:
        self._will, self._telemetry = will, telemetry
        delay = will.properties.number("will_delay")
        self.delay = delay if session_expiry is None else min(delay, session_expiry)

    def publish(self) -> None:
        """As an event of the device. Raises HubError."""
        self._telemetry.publish_will(self._will)


class DelayedWills:
    """By client id. Times are monotonic seconds."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[float, Callable[[], None]]] = {}

    def delay(self, client_id: str, until: float, publish: Callable[[], None]) -> None:
        if len(self._waiting) >= _KEPT:
            publish()
            return
        self._waiting[client_id] = (until, publish)

    def cancel(self, client_id: str) -> None:
        """The client is back."""
        self._waiting.pop(client_id, None)

    def publish_due(self, now: float) -> None:
        for client_id, (until, publish) in tuple(self._waiting.items()):
            if until <= now:
                del self._waiting[client_id]
                publish()
