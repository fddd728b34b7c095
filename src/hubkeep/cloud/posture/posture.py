"""Runs of the posture report, what is kept of them, and risks that are accepted. Start at ``Posture.report``."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec

from hubkeep.errors import BadRequest, HubError, NotFound
from hubkeep.limits import POSTURE_RUNS
from hubkeep.model import PostureRun, PostureState, PostureTimes, Waiver
from hubkeep.ports import Clock, FleetPosture, HubPosture, PostureStore

from .check import DAY
from .report import Report, Weighing, known_checks, report_of
from .waivers import checked_waiver

log = logging.getLogger(__name__)

DAILY: Final = DAY
_OPEN: Final = ("fail", "waived")
# What people say that they did, because the hub cannot see it.
CONFIRMATIONS: Final[Mapping[str, str]] = {
    "restore-drill": "A backup was restored elsewhere, and worked.",
    "key-escrow": "A copy of the sealing key is kept where neither the hub nor its backups are.",
}


class PosturePaths(msgspec.Struct, frozen=True):
    """Where twins tell what the hub does not know itself: paths as fleet queries have them."""

    owner: str = "tags.owner"
    firmware: str = "properties.reported.firmwareVersion"


def times_of(now: float, paths: PosturePaths) -> PostureTimes:
    return PostureTimes(
        now=now,
        recent=now - 30 * DAY,
        silent=now - 90 * DAY,
        unseen=now - 30 * DAY,
        old_key=now - 365 * DAY,
        ending=now + 60 * DAY,
        token_seconds=int(DAY) + 300,  # clocks and roundings
        pasted_seconds=int(366 * DAY),
        overdue_seconds=30 * DAY,
        owner_path=paths.owner,
        firmware_path=paths.firmware,
    )


class Posture:
    """hub_name, version: of what is looked at. fleet, hub: gather the facts. settle: writes what waits in memory."""

    def __init__(
        self,
        store: PostureStore,
        fleet: FleetPosture,
        hub: HubPosture,
        clock: Clock,
        settle: Callable[[], Awaitable[None]],
        *,
        hub_name: str,
        version: str,
        paths: PosturePaths,
    ) -> None:
        self._store, self._fleet, self._hub, self._clock = store, fleet, hub, clock
        self._settle, self._hub_name, self._version, self._paths = settle, hub_name, version, paths
        self._gathering: asyncio.Task[PostureState] | None = None

    async def report(
        self, only: Collection[str] = (), fixed: Sequence[str] = (), *, is_summary: bool = False
    ) -> Report:
        """Nothing is kept. Raises BadRequest for a check that there is none of, StoreUnavailable."""
        only, fixed = known_checks(only), known_checks(fixed)
        runs = await self._store.runs(1)
        weighing = Weighing(
            hub=self._hub_name,
            version=self._version,
            waivers=await self._store.waivers(),
            first_seen=runs[0].first_seen if runs else {},
            only=only,
            fixed=fixed,
            is_summary=is_summary,
        )
        return report_of(await self._state(), weighing)

    async def run(self, by: str = "") -> Report:
        """A report of all checks, of which the outcome is kept. by: who asks. Raises StoreUnavailable."""
        report = await self.report()
        await self._store.keep_run(kept_of(report, self._clock.now(), by), POSTURE_RUNS.value)
        return report

    async def run_daily(self) -> None:
        """Called every few minutes: a run, if the newest is a day old."""
        newest = await self._store.runs(1)
        if not newest or self._clock.now() - newest[0].at >= DAILY:
            report = await self.run()
            log.info("posture: %d of 100, %d findings", report.index, report.counts["fail"])

    async def history(self, most: int) -> Sequence[PostureRun]:
        """The newest first."""
        return await self._store.runs(most)

    # -- what people say ---------------------------------------------------------------------------------------------

    async def accept(self, check: str, owner: str, reason: str, until: float) -> Waiver:
        """Raises BadRequest: no such check, no reason, too long; or the check finds nothing to accept."""
        (check,) = known_checks([check])
        wanted = checked_waiver(Waiver(check=check, owner=owner, reason=reason, until=until), self._clock.now())
        (finding,) = (await self.report([check])).findings
        if finding.score is None:
            raise BadRequest(f"{check} finds nothing that could be accepted: it is {finding.state}.")
        waiver = msgspec.structs.replace(wanted, risk=finding.score.risk, affected=finding.affected)
        await self._store.put_waiver(waiver)
        return waiver

    async def withdraw(self, check: str) -> None:
        """Raises NotFound."""
        (check,) = known_checks([check])
        if not await self._store.remove_waiver(check):
            raise NotFound(reason=f"no risk of {check} is accepted")

    async def confirm(self, what: str) -> float:
        """When it was done: now (Unix seconds). Raises NotFound for what the hub does not ask for."""
        if what not in CONFIRMATIONS:
            raise NotFound(reason=f"what can be confirmed: {', '.join(CONFIRMATIONS)}")
        now = self._clock.now()
        await self._store.put_fact(what, now)
        return now

    async def note_export(self) -> None:
        """Somebody has read the whole audit."""
        await self._store.put_fact("audit-exported", self._clock.now())

    # -- facts -------------------------------------------------------------------------------------------------------

    async def _state(self) -> PostureState:
        """Who asks while another one's facts are being gathered waits for these: one reading at a time."""
        if self._gathering is None:
            self._gathering = asyncio.ensure_future(self._gathered())
            self._gathering.add_done_callback(self._forget)
        return await asyncio.shield(self._gathering)

    def _forget(self, gathering: "asyncio.Task[PostureState]") -> None:
        self._gathering = None
        if not gathering.cancelled():
            gathering.exception()  # whoever asked may be gone

    async def _gathered(self) -> PostureState:
        with contextlib.suppress(HubError):  # a full disk keeps nobody from a report
            await self._settle()
        now = self._clock.now()
        hub = await self._hub.hub(now)
        times = msgspec.structs.replace(times_of(now, self._paths), root=hub.root, bundle=hub.bundle)
        fleet = await self._fleet.fleet(times)
        try:
            keys = await self._fleet.keys()
        except HubError as error:
            log.warning("the keys could not be looked through: %s", error.reason)
            keys = None
        return PostureState(now=now, fleet=fleet, keys=keys, hub=hub)


def kept_of(report: Report, at: float, by: str) -> PostureRun:
    still_open = [each for each in report.findings if each.state in _OPEN]
    return PostureRun(
        at=at,
        index=report.index,
        risk=report.risk,
        states={each.check: each.state for each in report.findings},
        severities=dict(Counter(each.severity for each in still_open)),
        risks={each.check: each.score.risk for each in still_open if each.score is not None},
        first_seen={each.check: each.first_seen for each in still_open if each.first_seen is not None},
        by=by,
    )
