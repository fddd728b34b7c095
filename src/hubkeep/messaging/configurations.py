"""Automatic device management: configurations kept, shown and measured. Source: service-protocols 2.11.

``configuration_runner`` brings them to the twins.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from hubkeep.errors import (
    BadRequest,
    ConfigurationAlreadyExists,
    ConfigurationNotFound,
    HubError,
    PreconditionFailed,
    QueryInvalid,
)
from hubkeep.limits import QUERY_PAGE, Limits
from hubkeep.model import Configuration, ContentKind, Json
from hubkeep.ports import Clock, ConfigurationStore

from .configuration_content import checked_content
from .configuration_queries import reported_queries
from .fleet_queries import FleetQueries

_ID: Final = re.compile(r"[a-z0-9\-+%_*!']{1,128}")
_ANY: Final = "*"
_MOST_PRIORITY: Final = 2**31 - 1


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a back end says of a configuration. content: None keeps what is there."""

    content: Json | None = None
    condition: str = ""
    priority: int = 0
    labels: dict[str, str] = {}
    metrics: dict[str, str] = {}
    schema_version: str = "1.0"
    content_type: str | None = None


class Measured(NamedTuple):
    """results: of its own metrics, by name. reported: what edge devices say of it, by the name of the hub's metric."""

    configuration: Configuration
    targeted: int
    applied: int
    results: Mapping[str, int]
    reported: Mapping[str, int]


class Configurations:
    """wake: whoever brings configurations to twins looks at them; it puts itself there."""

    def __init__(self, store: ConfigurationStore, queries: FleetQueries, clock: Clock, limits: Limits) -> None:
        self._store, self._queries, self._clock, self._limits = store, queries, clock, limits
        # as they were counted last
        self._results: dict[int, dict[str, int]] = {}
        self._reported: dict[int, dict[str, int]] = {}
        self.wake: Callable[[], None] = lambda: None

    async def create(self, configuration_id: str, wanted: Wanted) -> Measured:
        """Raises BadRequest, QueryInvalid, ConfigurationAlreadyExists, QuotaExceeded, StoreUnavailable."""
        if not _ID.fullmatch(configuration_id):
            raise BadRequest("An id has 1 to 128 lower-case letters, digits and - + % _ * ! '.")
        if await self._find(configuration_id) is not None:
            raise ConfigurationAlreadyExists
        now = self._clock.now()
        kind, content = checked_content(wanted.content, self._limits)
        self._check(wanted, kind)
        await self._store.add(
            Configuration(
                configuration_id=configuration_id,
                kind=kind,
                content=content,
                condition=wanted.condition.strip(),
                priority=wanted.priority,
                created=now,
                updated=now,
                labels=wanted.labels,
                metrics=wanted.metrics,
                schema_version=wanted.schema_version,
                content_type=wanted.content_type,
            ),
            self._limits.configurations,
        )
        self.wake()
        return await self.get(configuration_id)

    async def update(self, configuration_id: str, wanted: Wanted, etag: str) -> Measured:
        """Content stays as it is. Raises as ``create``; ConfigurationNotFound, PreconditionFailed."""
        before = await self._known(configuration_id)
        if wanted.content is not None and checked_content(wanted.content, self._limits) != (
            before.kind,
            before.content,
        ):
            raise BadRequest("The content of a configuration cannot be changed.", remedy="make another configuration")
        self._check(wanted, before.kind)
        after = msgspec.structs.replace(
            before,
            condition=wanted.condition.strip(),
            priority=wanted.priority,
            labels=wanted.labels,
            metrics=wanted.metrics,
            updated=self._clock.now(),
            revision=before.revision + 1,
        )
        await self._replace(before, after, etag)
        return await self.get(configuration_id)

    async def delete(self, configuration_id: str, etag: str = _ANY) -> None:
        """What it set is taken back in the background. Raises ConfigurationNotFound, PreconditionFailed."""
        before = await self._known(configuration_id)
        await self._replace(before, msgspec.structs.replace(before, is_deleted=True), etag)
        self._results.pop(before.number, None)
        self._reported.pop(before.number, None)

    async def get(self, configuration_id: str) -> Measured:
        """Its own metrics are counted now. Raises ConfigurationNotFound."""
        configuration = await self._known(configuration_id)
        results, reported = [
            await self._counts(each) for each in (configuration.metrics, reported_queries(configuration))
        ]
        self._results[configuration.number] = results
        self._reported[configuration.number] = reported
        return (await self._measured([configuration]))[0]

    async def list(self, top: int) -> Sequence[Measured]:
        """By id. Their own metrics as they were counted last."""
        live = [each for each in await self._store.all() if not each.is_deleted]
        return await self._measured(live[:top])

    async def statuses(self, device_id: str, module_id: str) -> Mapping[str, str]:
        """Configurations that are for a twin, with their status."""
        key = (device_id, module_id)
        return (await self._store.statuses([key])).get(key, {})

    def query_errors(self, condition: str | None, metrics: Mapping[str, str]) -> tuple[str | None, dict[str, str]]:
        """What is wrong with a condition and with queries, by name; those that are right are left out."""
        wrong = {name: text for name, query in metrics.items() if (text := _error(self._queries.parse, query))}
        return _error(self._queries.parse_target, condition) if condition else None, wrong

    async def _measured(self, configurations: Sequence[Configuration]) -> Sequence[Measured]:
        counts = await self._store.counts()
        return [
            Measured(
                each,
                *counts.get(each.number, (0, 0)),
                self._results.get(each.number, {}),
                self._reported.get(each.number, dict.fromkeys(reported_queries(each), 0)),
            )
            for each in configurations
        ]

    async def _counts(self, queries: Mapping[str, str]) -> dict[str, int]:
        results: dict[str, int] = {}
        for name, query in queries.items():
            try:
                results[name] = await self._count(query)
            except HubError:
                continue  # one that takes too long has no result
        return results

    async def _count(self, query: str) -> int:
        count, continuation = 0, ""
        while True:
            page = await self._queries.run(query, QUERY_PAGE.value, continuation)
            count += len(page.rows)
            if page.continuation is None:
                return count
            continuation = page.continuation

    async def _find(self, configuration_id: str) -> Configuration | None:
        found = (each for each in await self._store.all() if each.configuration_id == configuration_id)
        return next((each for each in found if not each.is_deleted), None)

    async def _known(self, configuration_id: str) -> Configuration:
        if (found := await self._find(configuration_id)) is None:
            raise ConfigurationNotFound
        return found

    async def _replace(self, before: Configuration, after: Configuration, etag: str) -> None:
        if etag not in {_ANY, before.etag} or not await self._store.replace(after, before.revision):
            raise PreconditionFailed
        self.wake()

    def _check(self, wanted: Wanted, kind: ContentKind) -> None:
        if not 0 <= wanted.priority <= _MOST_PRIORITY:
            raise BadRequest(f"priority must be 0 to {_MOST_PRIORITY}.")
        if len(wanted.metrics) > self._limits.configuration_metrics:
            raise BadRequest(f"A configuration has at most {self._limits.configuration_metrics} queries of its own.")
        for query in wanted.metrics.values():
            self._queries.parse(query)
        if not (condition := wanted.condition.strip()):
            return
        source = self._queries.parse_target(condition).source
        if condition != "*" and (source == "devices.modules") != (kind == "moduleContent"):
            raise QueryInvalid("The target condition is not of the kind of the content: devices or devices.modules.")


def _error(parse: Callable[[str], object], text: str) -> str:
    try:
        parse(text)
    except QueryInvalid as error:
        return str(error)
    return ""
