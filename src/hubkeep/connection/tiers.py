"""What a tier of the original would have made of the traffic: counted for all tiers at once (device-protocols 7.4)."""

import math
from collections import Counter
from typing import Any, Final

from hubkeep.limits import TIERS, OperationClass, Tier
from hubkeep.ports import Clock

_DAY: Final = 86_400
METERED: Final = frozenset({"telemetry", "devicebound-sends"})  # what the daily quota counts


class TierMeter:
    """tier, units: what is simulated. report_only: nothing is refused.

    A rate of a tier is a bucket that holds a second's worth, a minute's where the tier is told per minute; what the
    bucket of a tier does not hold counts as over, and takes nothing from it.
    """

    def __init__(self, tier: Tier, units: int, *, report_only: bool, clock: Clock) -> None:
        self._tier, self._units, self._report_only, self._clock = tier, units, report_only, clock
        self._began = clock.now()
        now = clock.monotonic()
        self._rates = {
            each: {
                kind: _Allowance(rate.of(self._units_of(each)), rate.over, now) for kind, rate in limits.rates.items()
            }
            for each, limits in TIERS.items()
        }
        self.counts = frozenset(TIERS[tier].rates)
        self._count: Counter[OperationClass] = Counter()
        self._over: dict[Tier, Counter[OperationClass]] = {each: Counter() for each in TIERS}
        self._peaks: dict[OperationClass, _Peaks] = {kind: _Peaks() for kind in self.counts}
        self._day = self._today()
        self._used: Counter[Tier] = Counter()
        self._most_used: Counter[Tier] = Counter()

    @property
    def name(self) -> str:
        return f"{self._tier} with {self._units} unit{'s' * (self._units > 1)}"

    def count(self, kind: OperationClass, amount: float, size: int) -> float | None:
        """None: the tier takes it, or only reports. Else nothing was taken: seconds to wait, or 0: the day's messages
        are used up."""
        now = self._clock.monotonic()
        measured = float(size) if kind == "methods" else amount
        if not self._report_only:
            own = self._rates[self._tier].get(kind)
            if own is not None and (wait := own.lacks(measured, now)):
                self._over[self._tier][kind] += 1
                return wait
            if kind in METERED and self._used_today(self._tier) >= self._quota(self._tier):
                self._over[self._tier][kind] += 1
                return 0.0
        self._count[kind] += 1
        if (peaks := self._peaks.get(kind)) is not None:
            peaks.note(now, measured)
        for tier, rates in self._rates.items():
            if (allowance := rates.get(kind)) is not None:
                self._over[tier][kind] += not allowance.taken(measured, now)
        if kind in METERED:
            self._meter(size)
        return None

    def _meter(self, size: int) -> None:
        for tier, limits in TIERS.items():
            used = self._used_today(tier) + max(1, math.ceil(size / limits.metered))
            self._used[tier] = used
            self._most_used[tier] = max(self._most_used[tier], used)

    def _used_today(self, tier: Tier) -> int:
        if (today := self._today()) != self._day:
            self._day = today
            self._used.clear()
        return self._used[tier]

    def _today(self) -> int:
        return int(self._clock.now() // _DAY)

    def _units_of(self, tier: Tier) -> int:
        return 1 if tier == "F1" else self._units  # the free tier has no more

    def _quota(self, tier: Tier) -> int:
        return TIERS[tier].quota * self._units_of(tier)

    def report(self) -> dict[str, Any]:
        """What was used since the start, and what each tier would have refused of it."""
        fitting = (
            tier for tier in TIERS if not self._over[tier].total() and self._most_used[tier] <= self._quota(tier)
        )
        return {
            "tier": self._tier,
            "units": self._units,
            "reportOnly": self._report_only,
            "seconds": round(self._clock.now() - self._began, 1),
            "fits": next(fitting, ""),
            "quota": {
                tier: {"used": self._most_used[tier], "ofDay": self._quota(tier), "meteredBytes": limits.metered}
                for tier, limits in TIERS.items()
            },
            "jobsAtOnce": {tier: limits.jobs for tier, limits in TIERS.items()},
            "classes": [
                {
                    "class": kind,
                    "unit": "bytes" if kind == "methods" else "operations",
                    "count": self._count[kind],
                    "peakPerSecond": self._peaks[kind].second,
                    "peakPerMinute": self._peaks[kind].minute,
                    "allowedPerSecond": round(TIERS[self._tier].rates[kind].of(self._units_of(self._tier)), 2),
                    "over": {tier: self._over[tier][kind] for tier in TIERS},
                }
                for kind in TIERS[self._tier].rates
            ],
        }


class _Allowance:
    """A bucket of one rate: a second's or a minute's worth."""

    __slots__ = ("_at", "_most", "_rate", "_tokens")

    def __init__(self, rate: float, over: float, now: float) -> None:
        self._rate, self._most = rate, max(1.0, rate * over)
        self._tokens, self._at = self._most, now

    def lacks(self, amount: float, now: float) -> float:
        """Seconds until it has ``amount``; 0: it has."""
        self._tokens = min(self._most, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        return max(0.0, (min(amount, self._most) - self._tokens) / self._rate)

    def taken(self, amount: float, now: float) -> bool:
        """Whether it had ``amount``, which is gone then."""
        if self.lacks(amount, now):
            return False
        self._tokens -= min(amount, self._most)
        return True


class _Peaks:
    """The most within one second, and within one minute, by the clock."""

    __slots__ = ("_counts", "minute", "second")

    def __init__(self) -> None:
        self._counts = {1: (0, 0.0), 60: (0, 0.0)}  # seconds: which of them, how much in it
        self.second = self.minute = 0.0

    def note(self, now: float, amount: float) -> None:
        for seconds, (which, before) in self._counts.items():
            current = int(now // seconds)
            count = (before if current == which else 0.0) + amount
            self._counts[seconds] = (current, count)
            if seconds == 1:
                self.second = max(self.second, count)
            else:
                self.minute = max(self.minute, count)
