"""How often may be asked: token buckets per hub and per device, for each class of operations (L-L26, L-O1).

Off unless settings name a rate. Work per request is the same whatever the number of devices; what is remembered of
devices is bounded. Start at ``Throttles.check``.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from hubkeep.errors import HubError, QuotaExceeded, Throttled
from hubkeep.limits import OFFENDERS, THROTTLED_DEVICES, OperationClass
from hubkeep.ports import Clock
from hubkeep.settings import Rate

from .repeats import Repeats
from .tiers import TierMeter

# The classes of operations over HTTPS; those of devices over MQTT and AMQP are told by who carries them out.
CLASSES: Final[Mapping[str, OperationClass]] = {
    **dict.fromkeys(("events/post", "events/post/module"), "telemetry"),
    **dict.fromkeys(("twins/get", "twins/get/module"), "twin-reads"),
    **dict.fromkeys(("twins/patch", "twins/patch/module", "twins/put", "twins/put/module"), "twin-updates"),
    **dict.fromkeys(("methods/invoke", "methods/invoke/module"), "methods"),
    **dict.fromkeys(("devicebound/send", "devicebound/send/module"), "devicebound-sends"),
    **dict.fromkeys(("devicebound/receive", "devicebound/receive/module"), "devicebound-receives"),
    "files/begin": "uploads",
    **dict.fromkeys(
        (
            *("devices/list", "devices/get", "devices/put", "devices/delete", "devices/bulk", "devices/keys"),
            *("modules/list", "modules/get", "modules/put", "modules/delete"),
        ),
        "registry",
    ),
    "devices/query": "queries",
    "jobs/create": "jobs",
}
_WINDOW: Final = 60.0  # seconds over which an offender's rate is told


class Bucket:
    """tokens: what may be asked for at once; one comes back every ``1 / rate`` seconds, up to ``burst``."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, now

    def lacks(self, now: float) -> float:
        """Seconds until there is one; 0: now."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def take(self) -> None:
        """One, after ``lacks`` said 0."""
        self._tokens -= 1.0


class Offender(NamedTuple):
    """Whom rates refused. per_second: refusals, over the last minute that had some."""

    identity: str
    operation_class: str
    refused: int
    per_second: float


class Throttles:
    """on: classes that are counted at all; an empty set costs one look-up. refused: by class, since the start.

    hub: rates for everybody together. device: for each device, module or policy by itself. tier: see TierMeter.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        hub: Mapping[OperationClass, Rate] | None = None,
        device: Mapping[OperationClass, Rate] | None = None,
        tier: TierMeter | None = None,
    ) -> None:
        self._clock, self.tier = clock, tier
        self._repeats = Repeats(clock)
        self._offenders: OrderedDict[tuple[str, OperationClass], _Count] = OrderedDict()
        self.refused: Counter[OperationClass] = Counter()
        self.change(hub or {}, device or {})

    def change(self, hub: Mapping[OperationClass, Rate], device: Mapping[OperationClass, Rate]) -> None:
        """Other rates from now on, with full buckets. What was counted stays."""
        now = self._clock.monotonic()
        self._rates = {"hub": dict(hub), "device": dict(device)}
        self._hub = {kind: Bucket(rate.rate, rate.burst_or_second, now) for kind, rate in hub.items()}
        self._device: dict[OperationClass, OrderedDict[str, Bucket]] = {kind: OrderedDict() for kind in device}
        self.on = frozenset((*hub, *device, *(self.tier.counts if self.tier is not None else ())))

    def check(self, kind: OperationClass, who: str, *, size: int = 0) -> None:
        """Count one request. size: bytes of a message or call, which tiers meter.

        Raises Throttled, which says how long to wait; QuotaExceeded: the tier's messages of the day are used up.
        """
        if kind in self.on and (wait := self.taken(kind, who, size)):
            raise self.refusal(kind, who, wait)

    def taken(self, kind: OperationClass, who: str, size: int = 0) -> float:
        """0: one is taken. Else seconds until it may be asked for again, and nothing is taken. Raises QuotaExceeded."""
        now = self._clock.monotonic()
        of_hub, of_device = self._hub.get(kind), None
        wait = of_hub.lacks(now) if of_hub is not None else 0.0
        if kind in self._device:
            of_device = self._bucket(kind, who, now)
            wait = max(wait, of_device.lacks(now))
        if wait:
            return wait
        if self.tier is not None and (verdict := self.tier.count(kind, 1, size)) is not None:
            if not verdict:
                raise self._quota(kind, who)
            return verdict
        for bucket in (of_hub, of_device):
            if bucket is not None:
                bucket.take()
        return 0.0

    def granted(self, kind: OperationClass, who: str, sizes: Sequence[int]) -> tuple[int, float]:
        """How many of these messages are taken, and the seconds until the next may be. Raises QuotaExceeded where not
        even the first may."""
        for count, size in enumerate(sizes):
            try:
                wait = self.taken(kind, who, size)
            except QuotaExceeded:
                if not count:
                    raise
                wait = 1.0
            if wait:
                return count, wait
        return len(sizes), 0.0

    def refusal(self, kind: OperationClass, who: str, wait: float) -> Throttled:
        """To be raised; counted here. Only what is news is kept in the record."""
        scope = "of the hub" if kind in self._hub else f"of {who}"
        error = Throttled(
            cause="rate-exceeded",
            reason=f"more {kind} than the rate {scope} allows; {who} may go on in {wait:.1f} s",
            remedy="ask less often, or raise throttles in the settings; hubkeep throttle show tells who asks most",
        )
        error.retry_after = max(1, math.ceil(wait))
        self._note(kind, who, error)
        return error

    def _quota(self, kind: OperationClass, who: str) -> QuotaExceeded:
        assert self.tier is not None, "it told so"
        error = QuotaExceeded(
            reason=f"the messages of the day of {self.tier.name} are used up",
            remedy="wait for midnight UTC, take a larger --tier or more --units, or --report-only",
        )
        self._note(kind, who, error)
        return error

    def _note(self, kind: OperationClass, who: str, error: HubError) -> None:
        error.is_repeat = not self._repeats.is_news((who, kind))
        self.refused[kind] += 1
        count = self._offenders.setdefault((who, kind), _Count())
        self._offenders.move_to_end((who, kind))
        count.note(self._clock.monotonic())
        if len(self._offenders) > OFFENDERS.value:
            self._offenders.popitem(last=False)

    def _bucket(self, kind: OperationClass, who: str, now: float) -> Bucket:
        buckets = self._device[kind]
        bucket = buckets.get(who)
        if bucket is None:
            rate = self._rates["device"][kind]
            bucket = buckets[who] = Bucket(rate.rate, rate.burst_or_second, now)
            if len(buckets) > THROTTLED_DEVICES.value:
                buckets.popitem(last=False)
        else:
            buckets.move_to_end(who)
        return bucket

    # -- what the operator sees --------------------------------------------------------------------------------------

    def offenders(self, most: int) -> Sequence[Offender]:
        """Whom rates refused most, the first one first."""
        now = self._clock.monotonic()
        found = [
            Offender(who, kind, count.total, count.per_second(now)) for (who, kind), count in self._offenders.items()
        ]
        return sorted(found, key=lambda each: each.refused, reverse=True)[:most]

    def state(self, most: int = 20) -> dict[str, Any]:
        """Rates in force, refusals by class, and whom they refused most."""
        return {
            **{
                scope: {kind: {"rate": each.rate, "burst": each.burst_or_second} for kind, each in rates.items()}
                for scope, rates in self._rates.items()
            },
            "refused": dict(self.refused),
            "offenders": [
                {
                    "identity": each.identity,
                    "class": each.operation_class,
                    "refused": each.refused,
                    "perSecond": round(each.per_second, 2),
                }
                for each in self.offenders(most)
            ],
        }


class _Count:
    """Refusals of one: in all, and in the last minute that had some."""

    __slots__ = ("_began", "_lately", "total")

    def __init__(self) -> None:
        self.total = self._lately = 0
        self._began = -math.inf

    def note(self, now: float) -> None:
        if now - self._began > _WINDOW:
            self._began, self._lately = now, 0
        self._lately += 1
        self.total += 1

    def per_second(self, now: float) -> float:
        return self._lately / max(1.0, min(_WINDOW, now - self._began))
