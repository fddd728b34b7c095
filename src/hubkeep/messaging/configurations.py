"""Automatic device management: configurations kept, shown and measured. Source: service-protocols 2.11.

``configuration_runner`` brings them to the twins.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

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
from hubkeep.model import Configuration, Json
from hubkeep.ports import Clock, ConfigurationStore

from .fleet_queries import FleetQueries
from .twin_sections import checked

_ID: Final = re.compile(r"[a-z0-9\-+%_*!']{1,128}")
_PREFIX: Final = "properties.desired."
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
    """results: of its own metrics, by name."""

    configuration: Configuration
    targeted: int
    applied: int
    results: Mapping[str, int]


class Configurations:
    """wake: whoever brings configurations to twins looks at them; it puts itself there."""

    def __init__(self, store: ConfigurationStore, queries: FleetQueries, clock: Clock, limits: Limits) -> None:
        self._store, self._queries, self._clock, self._limits = store, queries, clock, limits
        self._results: dict[int, dict[str, int]] = {}  # as they were counted last
        self.wake: Callable[[], None] = lambda: None

    async def create(self, configuration_id: str, wanted: Wanted) -> Measured:
        """Raises BadRequest, QueryInvalid, ConfigurationAlreadyExists, QuotaExceeded, StoreUnavailable."""
        if not _ID.fullmatch(configuration_id):
            raise BadRequest("An id has 1 to 128 lower-case letters, digits and - + % _ * ! '.")
        if await self._find(configuration_id) is not None:
            raise ConfigurationAlreadyExists
        now = self._clock.now()
        content, of_modules = self._checked_content(wanted.content)
        self._check(wanted, of_modules=of_modules)
        await self._store.add(
            Configuration(
                configuration_id=configuration_id,
                of_modules=of_modules,
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
        if wanted.content is not None and self._checked_content(wanted.content)[0] != before.content:
            raise BadRequest("The content of a configuration cannot be changed.", remedy="make another configuration")
        self._check(wanted, of_modules=before.of_modules)
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

    async def get(self, configuration_id: str) -> Measured:
        """Its own metrics are counted now. Raises ConfigurationNotFound."""
        configuration = await self._known(configuration_id)
        results: dict[str, int] = {}
        for name, query in configuration.metrics.items():
            try:
                results[name] = await self._count(query)
            except HubError:
                continue  # one that takes too long has no result
        self._results[configuration.number] = results
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
            Measured(each, *counts.get(each.number, (0, 0)), self._results.get(each.number, {}))
            for each in configurations
        ]

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

    def _checked_content(self, content: Json | None) -> tuple[Json, bool]:
        """The content, and whether it is for modules. Raises BadRequest."""
        kinds = [kind for kind, value in (content or {}).items() if value is not None]
        if kinds == ["modulesContent"]:
            raise BadRequest("Edge deployments are not built.", remedy="applyConfigurationContent sets one device's")
        if kinds not in (["deviceContent"], ["moduleContent"]):
            raise BadRequest("The content has either deviceContent or moduleContent.")
        settings = (content or {})[kinds[0]]
        if not isinstance(settings, dict) or not settings:
            raise BadRequest("The content has paths of desired properties and their values.")
        for path in settings:
            if not path.startswith(_PREFIX):
                raise BadRequest(f"A path of the content begins with {_PREFIX}")
        checked("desired", settings_patch(settings), self._limits)
        return settings, kinds == ["moduleContent"]

    def _check(self, wanted: Wanted, *, of_modules: bool) -> None:
        if not 0 <= wanted.priority <= _MOST_PRIORITY:
            raise BadRequest(f"priority must be 0 to {_MOST_PRIORITY}.")
        if len(wanted.metrics) > self._limits.configuration_metrics:
            raise BadRequest(f"A configuration has at most {self._limits.configuration_metrics} queries of its own.")
        for query in wanted.metrics.values():
            self._queries.parse(query)
        if not (condition := wanted.condition.strip()):
            return
        source = self._queries.parse_target(condition).source
        if condition != "*" and (source == "devices.modules") != of_modules:
            raise QueryInvalid("The target condition is not of the kind of the content: devices or devices.modules.")


def settings_patch(settings: Mapping[str, Any]) -> Json:
    """Paths and values as one patch of desired properties. Raises BadRequest where a path is below another."""
    patch: Json = {}
    for path, value in settings.items():
        *parents, last = path.removeprefix(_PREFIX).split(".")
        place = patch
        for name in parents:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise BadRequest("A path of the content is below another one.")
        if last in place:
            raise BadRequest("A path of the content is below another one.")
        place[last] = value
    return patch


def without_settings(properties: Json, settings: Mapping[str, Any]) -> Json:
    """Desired properties without what stands at the paths, and without objects that this leaves empty."""
    for path in settings:
        properties = _without(properties, path.removeprefix(_PREFIX).split("."))
    return properties


def _without(properties: Json, path: Sequence[str]) -> Json:
    name, *rest = path
    if name not in properties:
        return properties
    left = {key: value for key, value in properties.items() if key != name}
    inner = properties[name]
    if rest and isinstance(inner, dict) and (kept := _without(inner, rest)):
        return {**properties, name: kept}
    return left if not rest or isinstance(inner, dict) else properties


def _error(parse: Callable[[str], object], text: str) -> str:
    try:
        parse(text)
    except QueryInvalid as error:
        return str(error)
    return ""
