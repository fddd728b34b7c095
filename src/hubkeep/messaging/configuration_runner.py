"""Brings configurations to the twins they are for, and takes back what is for them no more.

Of those that are for a twin the one of the highest priority is applied, the newest among equals. What a twin may hold
of a configuration is noted before it is written, so that it is taken back whenever the hub stops. Every evaluation
reads the whole fleet once, some twins at a time, and takes at most a tenth of the hub's time.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, get_args

from hubkeep.errors import HubError
from hubkeep.limits import Limits
from hubkeep.model import Configuration, ContentKind, Hold, HoldStatus, Json
from hubkeep.ports import Bus, Clock, ConfigurationStore
from hubkeep.query import Query, document_value, holds

from .configuration_content import settings_patch, without_settings
from .configurations import Configurations
from .edge_deployments import EdgeDeployments
from .fleet_queries import FleetQueries
from .twin_sections import difference, merged
from .twins import Twins

log = logging.getLogger(__name__)

_SETTLE: Final = 0.2  # seconds for changes to come together
_REST: Final = 9  # times as long as an evaluation took

Key = tuple[str, str]
Target = tuple[Configuration, Callable[[dict[str, Any]], bool]]


class _Due(NamedTuple):
    """A twin that is not as it should be. winner: whose content it should hold. taken_back: whose it should not."""

    key: Key
    targeted: Sequence[Configuration]
    winner: Configuration | None
    taken_back: Sequence[Configuration]
    held: Sequence[Hold]


class ConfigurationRunner:
    """``run`` is one background task of the hub."""

    def __init__(
        self,
        store: ConfigurationStore,
        configurations: Configurations,
        queries: FleetQueries,
        twins: Twins,
        edges: EdgeDeployments,
        bus: Bus,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._store, self._queries, self._twins, self._edges = store, queries, twins, edges
        self._clock, self._limits = clock, limits
        self._changed = asyncio.Event()
        self._changed.set()
        configurations.wake = self._changed.set
        for subject in ("twin.changed", "identity.created"):
            bus.subscribe(subject, lambda _change: self._changed.set())

    async def run(self) -> None:
        """Until it is cancelled; an evaluation that fails does not end the next (L-R1)."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(self._limits.configuration_period):
                    await self._changed.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(_SETTLE)
            self._changed.clear()
            began = loop.time()
            try:
                await self.evaluate()
            except HubError as error:
                log.warning("configurations: %s", error.reason)
            except Exception:
                log.exception("evaluating configurations failed")
            await asyncio.sleep((loop.time() - began) * _REST)

    async def evaluate(self) -> None:
        """Every twin of a kind that any configuration is or was for."""
        every = await self._store.all()
        for kind in get_args(ContentKind):
            of_kind = {each.number: each for each in every if each.kind == kind}
            if not of_kind:
                continue
            targets = self._targets(of_kind.values())
            if kind == "modulesContent":
                await self._edges.evaluate(of_kind, targets)
                continue
            query = Query("devices.modules" if kind == "moduleContent" else "devices")
            async for documents in self._queries.documents(query):
                await self._evaluate_some(documents, targets, of_kind)
        if any(each.is_deleted for each in every):
            await self._store.forget_deleted()

    def _targets(self, configurations: Iterable[Configuration]) -> list[Target]:
        """The highest priority first, the newest among equals."""
        live = [each for each in configurations if each.condition and not each.is_deleted]
        live.sort(key=lambda each: (each.priority, each.created, each.number), reverse=True)
        return [(each, holds(self._queries.parse_target(each.condition).where, document_value)) for each in live]

    async def _evaluate_some(
        self,
        documents: Sequence[tuple[Key, dict[str, Any]]],
        targets: Sequence[Target],
        known: dict[int, Configuration],
    ) -> None:
        held = await self._store.holds([key for key, _ in documents])
        due = [
            found
            for key, document in documents
            if (found := _due(key, document, targets, held.get(key, ()), known)) is not None
        ]
        if not due:
            return
        await self._store.change_holds([hold for each in due for hold in _marks(each)], [])
        done = await asyncio.gather(*map(self._apply, due))
        held_after, released = [], []
        for each, is_done in zip(due, done, strict=True):
            if not is_done:
                continue
            numbers = {target.number for target in each.targeted}
            held_after += [_hold(each.key, target, is_applied=target is each.winner) for target in each.targeted]
            released += [hold for hold in each.held if hold.number not in numbers]
        await self._store.change_holds(held_after, released)

    async def _apply(self, due: _Due) -> bool:
        """False: the twin could not be written, and is looked at again."""

        def rewrite(properties: Json) -> Json:
            for each in due.taken_back:
                properties = without_settings(properties, each.content)
            return properties if due.winner is None else merged(properties, settings_patch(due.winner.content))

        try:
            await self._twins.rewrite_desired(*due.key, rewrite)
        except HubError as error:
            log.warning("a configuration is not applied to %s: %s", "/".join(due.key).rstrip("/"), error.reason)
            return False
        return True


def _due(
    key: Key, document: dict[str, Any], targets: Sequence[Target], held: Sequence[Hold], known: dict[int, Configuration]
) -> _Due | None:
    targeted = [each for each, belongs in targets if belongs(document)]
    if not targeted and not held:
        return None
    winner = targeted[0] if targeted else None
    taken_back = [known[each.number] for each in held if each.is_touched and known[each.number] is not winner]
    is_as_held = {each.number: each.status for each in held} == {
        each.number: "Applied" if each is winner else "Targeted" for each in targeted
    }
    desired = document["properties"]["desired"]
    properties = {name: value for name, value in desired.items() if not name.startswith("$")}
    is_in_place = winner is None or not difference(properties, merged(properties, settings_patch(winner.content)))
    if is_as_held and is_in_place and not taken_back:
        return None
    return _Due(key, targeted, winner, taken_back, held)


def _marks(due: _Due) -> list[Hold]:
    """Before the twin is written: what may be in it from now on."""
    touched = {each.number for each in due.held if each.is_touched}
    status: dict[int, HoldStatus] = {each.number: each.status for each in due.held}
    return [
        Hold(
            each.number,
            *due.key,
            status=status.get(each.number, "Targeted"),
            is_touched=each is due.winner or each.number in touched,
        )
        for each in due.targeted
    ]


def _hold(key: Key, configuration: Configuration, *, is_applied: bool) -> Hold:
    return Hold(configuration.number, *key, status="Applied" if is_applied else "Targeted", is_touched=is_applied)
