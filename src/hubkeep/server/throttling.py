"""Rates and the simulated tier, from the settings."""

import dataclasses

from hubkeep.connection.throttling import Throttles
from hubkeep.connection.tiers import TierMeter
from hubkeep.limits import TIERS, Limits
from hubkeep.ports import Clock
from hubkeep.settings import Settings
from hubkeep.settings import Throttles as Wanted


def throttles_of(wanted: Wanted, clock: Clock) -> Throttles:
    tier = None
    if wanted.tier is not None:
        tier = TierMeter(wanted.tier, wanted.units, report_only=wanted.report_only, clock=clock)
    return Throttles(clock, hub=wanted.hub, device=wanted.device, tier=tier)


def limits_of(settings: Settings) -> Limits:
    """The limits in force; of jobs that run at once, those of the tier if it refuses. Raises SettingsError."""
    limits, wanted = settings.limits.resolve(), settings.throttles
    if wanted.tier is None or wanted.report_only:
        return limits
    return dataclasses.replace(limits, jobs_running=min(limits.jobs_running, TIERS[wanted.tier].jobs))
