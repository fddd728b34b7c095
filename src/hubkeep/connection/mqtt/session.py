"""What a client has subscribed. A session that is not clean outlives its connection and the hub (device-protocols 3.3).

Clients of such sessions do not subscribe again, so what a SUBACK granted is on disk before it goes out.
"""

from collections.abc import Iterable

from hubkeep.errors import Forbidden
from hubkeep.ports import SubscriptionStore
from hubkeep.wire.mqtt.packets import SUBACK_FAILURE

from .topics import may_subscribe


class Session:
    """One connection's subscriptions. filters: filter to granted QoS, those in force; the object stays the same."""

    __slots__ = ("_clean", "_device_id", "_module_id", "_store", "filters", "forgot")

    def __init__(self, store: SubscriptionStore, device_id: str, module_id: str) -> None:
        self._store, self._device_id, self._module_id = store, device_id, module_id
        self.filters: dict[bytes, int] = {}
        self._clean = True
        self.forgot = False  # what was stored was taken off the disk, which took time

    async def begin(self, *, clean: bool) -> bool:
        """Go on with what is stored, or forget it. Whether there was a session (Session Present).

        A stored filter is judged anew (L-R6). Raises StoreUnavailable.
        """
        stored = self._store.subscriptions(self._device_id, self._module_id)
        self._clean = clean
        if clean:
            if stored:
                self.forgot = True
                await self._store.keep(self._device_id, self._module_id, {})
            return False
        self.filters.update((each, qos) for each, qos in stored.items() if self._is_own(each))
        return bool(stored)

    def grant(
        self, filters: Iterable[tuple[bytes, int]], most: int, *, lenient: bool
    ) -> tuple[bytes, dict[bytes, int]]:
        """The codes for a SUBACK, and the filters in force after it. most: filters of one session.

        Raises Forbidden for a filter that this identity may not have, where ``lenient`` does not answer it.
        """
        granted, after = bytearray(), dict(self.filters)
        for topic_filter, qos in filters:
            own = self._is_own(topic_filter)
            if own and (topic_filter in after or len(after) < most):
                after[topic_filter] = min(qos, 1)
                granted.append(min(qos, 1))
            elif lenient:
                granted.append(SUBACK_FAILURE)
            else:
                what = (
                    f"more than {most} filters" if own else f"the filter {topic_filter[:128]!r} is not this identity's"
                )
                raise Forbidden(reason=what, remedy="the filters are listed in docs/reference/mqtt.md")
        return bytes(granted), after

    def must_store(self, after: dict[bytes, int]) -> bool:
        """Whether ``after`` has to be on disk before it is granted."""
        return not self._clean and after != self.filters

    async def store(self, after: dict[bytes, int]) -> None:
        """Raises StoreUnavailable."""
        await self._store.keep(self._device_id, self._module_id, after)

    def change(self, after: dict[bytes, int]) -> None:
        """``after`` is in force."""
        self.filters.clear()
        self.filters.update(after)

    def _is_own(self, topic_filter: bytes) -> bool:
        return may_subscribe(topic_filter, self._device_id, self._module_id)
