"""Groups of devices that a condition describes, as block and allow lists use them."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from hubkeep.errors import QueryInvalid
from hubkeep.model import TwinPart
from hubkeep.ports import FleetStore
from hubkeep.query import Expression, Literal, Membership, Path, Query, document_value, holds, paths

from .fleet_queries import FleetQueries, narrowed, parts_of
from .twin_document import twin_document

# whatever else a query may name changes without a word on the bus
_KNOWN: Final = ("deviceId", "tags", "properties", "authenticationType")
_CHUNK: Final = 500


class _Group(NamedTuple):
    where: Expression | None
    includes: Callable[[Mapping[str, Any]], bool]
    parts: frozenset[TwinPart]
    members: tuple[str, ...]


class DeviceGroups:
    """See ports.GroupMembers."""

    def __init__(self, fleet: FleetStore) -> None:
        self._fleet = fleet

    def check(self, condition: str) -> None:
        query = FleetQueries.parse_target(condition)
        if query.source != "devices":
            raise QueryInvalid("The condition is not valid: it must be about devices.")
        for path in paths(query):
            if path.steps[0] not in _KNOWN:
                raise QueryInvalid(f"The condition is not valid: it may name {', '.join(_KNOWN)}; not {path.text}.")

    async def among(self, condition: str, device_ids: Sequence[str]) -> set[str]:
        group = _group(condition)
        these = Membership(Path(("deviceId",)), tuple(map(Literal, device_ids)), negated=False)
        narrowings = narrowed(these)
        rows = await self._fleet.rows(
            narrowings, modules=False, parts=group.parts, after=("", ""), most=len(device_ids)
        )
        return {
            row.twin.device_id
            for row in rows
            if group.includes(twin_document(row.twin, row.identity, 0, group.members))
        }

    async def members(self, condition: str) -> AsyncIterator[Sequence[str]]:
        group, after = _group(condition), ("", "")
        narrowings = narrowed(group.where)
        while True:
            rows = await self._fleet.rows(narrowings, modules=False, parts=group.parts, after=after, most=_CHUNK)
            yield [
                row.twin.device_id
                for row in rows
                if group.includes(twin_document(row.twin, row.identity, 0, group.members))
            ]
            if len(rows) < _CHUNK:
                return
            after = (rows[-1].twin.device_id, rows[-1].twin.module_id)


@lru_cache(128)
def _group(condition: str) -> _Group:
    query: Query = FleetQueries.parse_target(condition)
    named = paths(query)
    members = tuple({str(path.steps[0]) for path in named})
    return _Group(query.where, holds(query.where, document_value), parts_of(named), members)
