"""Queries of the fleet: read, narrowed for the store, judged row by row, paged. Start at ``FleetQueries.run``.

The store looks up what it has an index for; whether a row belongs to the answer is decided by one evaluator alone.
Source: service-protocols 2.8 and 3.1.
"""

import binascii
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from hubkeep.errors import BadRequest, Forbidden, QueryInvalid, Throttled
from hubkeep.limits import QUERY_GROUPS, QUERY_NESTING, QUERY_SECONDS, QUERY_TEXT
from hubkeep.model import Narrowing, Primitive, TwinPart
from hubkeep.ports import Clock, ConfigurationStore, FleetRow, FleetStore, JobStore
from hubkeep.query import (
    Aggregate,
    Call,
    Expression,
    Groups,
    Infix,
    Junction,
    Membership,
    Path,
    Query,
    conjuncts,
    document_value,
    holds,
    parse_query,
    parse_target,
    paths,
    projected,
)
from hubkeep.query import (
    Literal as Constant,
)

from .job_documents import part_document
from .twin_document import ALL_MEMBERS, twin_document

_ALL_PARTS: Final[frozenset[TwinPart]] = frozenset(("identity", "tags", "desired", "reported", "metadata"))
_SECTIONS: Final[Mapping[str, TwinPart]] = {"desired": "desired", "reported": "reported"}
_MESSAGE_COUNT: Final = "cloudToDeviceMessageCount"
# members that say nothing of the identity but its ids
_OF_NO_IDENTITY: Final = frozenset(
    ("deviceId", "moduleId", "version", "etag", "modelId", "configurations", "cloudToDeviceMessageCount")
)
_CONFIGURATIONS: Final = "configurations"
_COUNT_ALL: Final = Aggregate("COUNT", None)
_CHUNK: Final = 500  # rows between two looks at the clock
_COUNTED_AT_ONCE: Final = 1000  # the same of a total, which holds nothing of them
Count = Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]


class Page(NamedTuple):
    """rows: JSON objects. continuation: None on the last page."""

    rows: list[dict[str, Any]]
    kind: Literal["twin", "raw", "deviceJob"]
    continuation: str | None


class _Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ends. query: checksum of its text. done: rows (or groups) handed out before. job_id: of jobs."""

    query: int
    device_id: str
    module_id: str
    done: int
    job_id: str = ""


class FleetQueries:
    """count_messages: how many cloud-to-device messages wait for each of some devices."""

    def __init__(
        self,
        fleet: FleetStore,
        jobs: JobStore,
        configurations: ConfigurationStore,
        count_messages: Count,
        clock: Clock,
    ) -> None:
        self._fleet, self._jobs, self._configurations = fleet, jobs, configurations
        self._count_messages, self._clock = count_messages, clock

    async def run(self, text: str, most: int, continuation: str = "", within: Sequence[str] = ()) -> Page:
        """One page of at most ``most`` rows. continuation: of the page before. within: conditions of which devices must
        meet one, or they are not there for who asks.

        A page may be shorter than asked, even empty, and still have a next one: a page takes two seconds at most.
        Raises QueryInvalid; BadRequest for a continuation that is none of this query; Throttled for a total that
        takes too long; Forbidden for rows that are no devices, where ``within`` is about them.
        """
        query = self.parse(text)
        if within:
            query = _limited(query, [self.parse_target(each) for each in within])
        position = _position(text, continuation)
        if query.source == "devices.jobs":
            return await self._parts_of_jobs(query, position, most)
        if query.aggregates:
            return await self._groups(query, position, most)
        return await self._list(query, position, most)

    @staticmethod
    def parse(text: str) -> Query:
        """Raises QueryInvalid, also for a text that is too long."""
        if len(text) > QUERY_TEXT.value:
            raise QueryInvalid(f"The query is not valid: it is longer than {QUERY_TEXT.value} characters.")
        return parse_query(text, nesting=QUERY_NESTING.value)

    @staticmethod
    def parse_target(text: str) -> Query:
        """What a job or a configuration is for; see query.parse_target. Raises QueryInvalid."""
        if len(text) > QUERY_TEXT.value:
            raise QueryInvalid(f"The condition is not valid: it is longer than {QUERY_TEXT.value} characters.")
        return parse_target(text, nesting=QUERY_NESTING.value)

    async def documents(self, query: Query) -> AsyncIterator[list[tuple[tuple[str, str], dict[str, Any]]]]:
        """Everything that ``query`` is about, whatever its condition, some at a time: ids and document."""
        async for chunk, _ in self._chunks(query, ("", ""), _CHUNK):
            yield [((row.twin.device_id, row.twin.module_id), document) for row, document in chunk]

    async def matching(self, target: Query) -> AsyncIterator[list[tuple[str, str]]]:
        """Device and module ids of all that ``target`` is about, by id, some at a time."""
        belongs = holds(target.where, document_value)
        async for chunk, _ in self._chunks(target, ("", ""), _CHUNK):
            yield [(row.twin.device_id, row.twin.module_id) for row, document in chunk if belongs(document)]

    async def _parts_of_jobs(self, query: Query, position: _Position, most: int) -> Page:
        left = most if query.top is None else min(most, query.top - position.done)
        belongs, deadline = holds(query.where, document_value), self._deadline()
        wanted = {each.path: [str(value) for value in each.among] for each in narrowed(query.where) if each.among}
        ids = {"job_ids": wanted.get("jobId", ()), "device_ids": wanted.get("deviceId", ())}
        rows: list[dict[str, Any]] = []
        last = position
        while left > 0:
            parts = await self._jobs.parts(**ids, after=(last.job_id, last.device_id, last.module_id), most=_CHUNK)
            for job, part in parts:
                document = part_document(job, part)
                if belongs(document):
                    if len(rows) == left:
                        reached_top = query.top is not None and last.done >= query.top
                        return Page(rows, "deviceJob", None if reached_top else _encoded(last))
                    rows.append(document)
                done = position.done + len(rows)
                last = _Position(position.query, part.device_id, part.module_id, done, part.job_id)
            if len(parts) < _CHUNK:
                break
            if self._clock.monotonic() > deadline:
                return Page(rows, "deviceJob", _encoded(last))
        return Page(rows, "deviceJob", None)

    async def _list(self, query: Query, position: _Position, most: int) -> Page:
        left = most if query.top is None else min(most, query.top - position.done)
        rows: list[dict[str, Any]] = []
        belongs, row_of = holds(query.where, document_value), projected(query)
        last, deadline, is_whole = position, self._deadline(), False
        kind: Literal["twin", "raw"] = "raw" if query.items else "twin"
        if left <= 0:
            return Page(rows, kind, None)
        async for chunk, is_last in self._chunks(query, (position.device_id, position.module_id), left + 1):
            for row, document in chunk:
                if belongs(document):
                    if len(rows) == left:
                        is_whole = True
                        break
                    rows.append(row_of(document))
                last = _Position(position.query, row.twin.device_id, row.twin.module_id, position.done + len(rows))
            if is_whole or is_last or self._clock.monotonic() > deadline:
                is_whole = is_whole or not is_last
                break
        reached_top = query.top is not None and last.done >= query.top
        return Page(rows, kind, _encoded(last) if is_whole and not reached_top else None)

    async def _groups(self, query: Query, position: _Position, most: int) -> Page:
        if query.where is None and all(item.what == _COUNT_ALL for item in query.items):
            count = await self._fleet.count(modules=query.source == "devices.modules")
            return Page([{item.key: count for item in query.items}][: query.top], "raw", None)
        groups, belongs, deadline = Groups(query), holds(query.where, document_value), self._deadline()
        async for chunk, is_last in self._chunks(query, ("", ""), _COUNTED_AT_ONCE, _COUNTED_AT_ONCE):
            for _, document in chunk:
                if belongs(document):
                    groups.add(document)
            if len(groups) > QUERY_GROUPS.value:
                raise QueryInvalid(f"The query is not valid: it makes more than {QUERY_GROUPS.value} groups.")
            if not is_last and self._clock.monotonic() > deadline:
                raise Throttled(
                    "The query takes too long.",
                    cause="query-too-slow",
                    reason=f"over {QUERY_SECONDS.value} s",
                    remedy="narrow it by a device id, a tag or a reported property",
                )
        rows = groups.rows()[: query.top]
        done = position.done + most
        rest = _Position(position.query, "", "", done) if done < len(rows) else None
        return Page(rows[position.done : done], "raw", None if rest is None else _encoded(rest))

    async def _chunks(
        self, query: Query, after: tuple[str, str], first: int, then: int = _CHUNK
    ) -> AsyncIterator[tuple[list[tuple[FleetRow, dict[str, Any]]], bool]]:
        """Rows with their documents, and whether they are the last.

        first: rows that are likely to be enough. then: so many at once, if they are not.
        """
        narrowings, modules = narrowed(query.where), query.source == "devices.modules"
        named = paths(query)
        parts = parts_of(named) if query.items else _ALL_PARTS
        members = tuple({str(path.steps[0]) for path in named}) if query.items else ALL_MEMBERS
        with_counts = not query.items or any(path.steps[0] == _MESSAGE_COUNT for path in named)
        most = min(first, then)
        while True:
            rows = await self._fleet.rows(narrowings, modules=modules, parts=parts, after=after, most=most)
            counts: Mapping[str, int] = {}
            if with_counts and not modules and rows:
                counts = await self._count_messages([row.twin.device_id for row in rows])
            statuses: Mapping[tuple[str, str], Mapping[str, str]] = {}
            if _CONFIGURATIONS in members and rows:
                statuses = await self._configurations.statuses(
                    [(row.twin.device_id, row.twin.module_id) for row in rows]
                )
            documents = [
                (
                    row,
                    twin_document(
                        row.twin,
                        row.identity,
                        counts.get(row.twin.device_id, 0),
                        members,
                        statuses.get((row.twin.device_id, row.twin.module_id)),
                    ),
                )
                for row in rows
            ]
            is_last = len(rows) < most
            yield documents, is_last
            if is_last:
                return
            after, most = (rows[-1].twin.device_id, rows[-1].twin.module_id), then

    def _deadline(self) -> float:
        return self._clock.monotonic() + QUERY_SECONDS.value


def _limited(query: Query, to: Sequence[Query]) -> Query:
    """The query of those rows that one of ``to`` is about. Raises Forbidden."""
    if query.source != "devices":
        raise Forbidden(
            cause="role-for-some-devices",
            reason=f"a query of {query.source} by somebody who may see some devices only",
            remedy="ask for devices, or with a role that is not limited to some",
        )
    conditions = [each.where for each in to]
    if any(each is None for each in conditions):
        return query
    alternatives = tuple(each for each in conditions if each is not None)
    limit = alternatives[0] if len(alternatives) == 1 else Junction("OR", alternatives)
    where = limit if query.where is None else Junction("AND", (query.where, limit))
    return msgspec.structs.replace(query, where=where)


def narrowed(where: Expression | None) -> list[Narrowing]:
    """What of a condition a store may look up: every row that meets the condition meets these."""
    return [found for each in conjuncts(where) if (found := _narrowing(each)) is not None]


def _narrowing(expression: Expression) -> Narrowing | None:
    match expression:
        case Infix("=", Path() as path, Constant(value)) | Infix("=", Constant(value), Path() as path):
            return _among(path, (value,))
        case Membership(Path() as path, among, False) if all(isinstance(each, Constant) for each in among):
            return _among(path, tuple(each.value for each in among if isinstance(each, Constant)))
        case Call("STARTSWITH" | "STARTS_WITH", (Path() as path, Constant(str() as prefix))) if prefix:
            return Narrowing(path.text, prefix=prefix) if _is_plain(path) else None
        case Path():
            return _among(expression, (True,))
        case Junction("OR", operands):
            return _alternatives([_narrowing(each) for each in operands])
    return None


def _alternatives(narrowings: Sequence[Narrowing | None]) -> Narrowing | None:
    """One of these: looked up as one where all are values of one path."""
    first = narrowings[0]
    among: list[Primitive] = []
    for each in narrowings:
        if each is None or first is None or each.path != first.path or each.prefix:
            return None
        among += each.among
    return None if first is None else Narrowing(first.path, tuple(among))


def _among(path: Path, values: tuple[object, ...]) -> Narrowing | None:
    # null, undefined, and what is no primitive equal nothing that is indexed
    primitives = tuple(value for value in values if isinstance(value, str | int | float | bool))
    if not _is_plain(path) or len(primitives) < len(values):
        return None
    return Narrowing(path.text, primitives)


def _is_plain(path: Path) -> bool:
    return all(isinstance(step, str) and "." not in step and not step.startswith("$") for step in path.steps)


def parts_of(named: Sequence[Path]) -> frozenset[TwinPart]:
    """What has to be read of each twin for these paths."""
    parts: set[TwinPart] = set()
    for path in named:
        root, *rest = path.steps
        if root == "tags":
            parts.add("tags")
        elif root == "properties":
            part = _SECTIONS.get(str(rest[0])) if rest else None
            parts |= {part} if part is not None else {"desired", "reported"}
            if len(rest) < 2 or rest[1] == "$metadata":
                parts.add("metadata")
        elif root not in _OF_NO_IDENTITY:
            parts.add("identity")
    return frozenset(parts)


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode())


def _encoded(position: _Position) -> str:
    return urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def _position(text: str, continuation: str) -> _Position:
    if not continuation:
        return _Position(_checksum(text), "", "", 0)
    try:
        raw = urlsafe_b64decode(continuation + "=" * (-len(continuation) % 4))
        position = msgspec.json.decode(raw, type=_Position)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise BadRequest("The continuation token is not valid.") from None
    if position.query != _checksum(text) or position.done < 0:
        raise BadRequest("The continuation token is of another query.")
    return position
