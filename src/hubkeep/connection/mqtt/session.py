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

    __slots__ = ("_clean", "_device_id", "_expiry", "_module_id", "_store", "filters", "forgot")

    def __init__(self, store: SubscriptionStore, device_id: str, module_id: str) -> None:
        self._store, self._device_id, self._module_id = store, device_id, module_id
        self.filters: dict[bytes, int] = {}
        self._clean = True
        self._expiry: int | None = 0
        self.forgot = False  # what was stored was taken off the disk, which took time

    async def begin(self, *, clean: bool, expiry: int | None, now: float) -> bool:
        """Go on with what is stored, or forget it. Whether there was a session (Session Present).

        expiry: seconds that the session outlives its connection; None for ever, 0 not at all. now: Unix seconds.
        A stored filter is judged anew (L-R6). Raises StoreUnavailable.
        """
        stored = self._store.session(self._device_id, self._module_id)
        goes_on = stored is not None and not clean and not stored.is_over(now)
        self._clean, self._expiry = expiry == 0, expiry
        if stored is not None and goes_on:
            self.filters.update((each, qos) for each, qos in stored.filters.items() if self._is_own(each))
        if stored is not None and (not goes_on or stored.expiry != expiry):
            self.forgot = True
            await self.store({} if self._clean else self.filters)
        return goes_on

    async def end_after(self, expiry: int) -> None:
        """The client says at its DISCONNECT that its session lasts ``expiry`` seconds. Raises StoreUnavailable."""
        self._clean, self._expiry = expiry == 0, expiry
        await self.store({} if self._clean else self.filters)

    def grant(
        self, filters: Iterable[tuple[bytes, int]], most: int, *, lenient: bool, over_quota: int | None
    ) -> tuple[bytes, dict[bytes, int]]:
        """The codes for a SUBACK, and the filters in force after it. most: filters of one session.

        over_quota: the code for a filter above ``most``; None raises Forbidden instead.
        Raises Forbidden for a filter that this identity may not have, where ``lenient`` does not answer it.
        """
        granted, after = bytearray(), dict(self.filters)
        for topic_filter, qos in filters:
            own = self._is_own(topic_filter)
            if own and (topic_filter in after or len(after) < most):
                after[topic_filter] = min(qos, 1)
                granted.append(min(qos, 1))
            elif own and over_quota is not None:
                granted.append(over_quota)
            elif lenient:
                granted.append(SUBACK_FAILURE)
            else:
                cause, row, what = (
                    ("subscriptions-too-many", "L-L11", f"more than {most} filters")
                    if own
                    else ("filter-of-another", "L-M15", f"the filter {topic_filter[:128]!r} is not this identity's")
                )
                raise Forbidden(cause=cause, reason=what, remedy="the filters are listed in docs/reference/mqtt.md").by(
                    row
                )
        return bytes(granted), after

    def must_store(self, after: dict[bytes, int]) -> bool:
        """Whether ``after`` has to be on disk before it is granted."""
        return not self._clean and after != self.filters

    async def store(self, after: dict[bytes, int]) -> None:
        """Raises StoreUnavailable."""
        await self._store.keep(self._device_id, self._module_id, after, self._expiry)

    def change(self, after: dict[bytes, int]) -> None:
        """``after`` is in force."""
        self.filters.clear()
        self.filters.update(after)

    def _is_own(self, topic_filter: bytes) -> bool:
        return may_subscribe(topic_filter, self._device_id, self._module_id)
