"""What a query answers: rows of documents projected, grouped and aggregated."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from .tree import Aggregate, Item, Path, Query
from .values import UNDEFINED, Value, is_number, number

_TWIN_NAMES: Final = (
    *("deviceId", "moduleId", "etag", "deviceEtag", "status", "statusReason", "statusUpdateTime", "connectionState"),
    *("lastActivityTime", "cloudToDeviceMessageCount", "authenticationType", "x509Thumbprint", "version", "modelId"),
    *("tags", "properties", "capabilities", "deviceScope", "parentScopes", "configurations"),
)
_JOB_NAMES: Final = (
    *("deviceId", "moduleId", "jobId", "jobType", "status", "startTimeUtc", "endTimeUtc", "createdDateTimeUtc"),
    *("lastUpdatedDateTimeUtc", "outcome", "error", "queryCondition", "maxExecutionTimeInSeconds"),
)
# built-in names in lower case to their one spelling: they are found in any case
TWIN_ROOTS: Final = {name.lower(): name for name in _TWIN_NAMES}
JOB_ROOTS: Final = {name.lower(): name for name in _JOB_NAMES}

Document = Mapping[str, Any]


def document_value(path: Path, document: Document) -> Value:
    """What stands at ``path`` in a JSON document; UNDEFINED where nothing does."""
    value: Any = document
    for step in path.steps:
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                return UNDEFINED
        elif not isinstance(value, Mapping) or step not in value:
            return UNDEFINED
        value = value[step]
    return value


def projected(query: Query) -> Callable[[Document], dict[str, Any]]:
    """A document to its row; undefined values are left out. For queries that do not aggregate."""
    items = query.items
    if not items:
        return dict

    def row(document: Document) -> dict[str, Any]:
        return _row((item.key, document_value(item.what, document)) for item in items if isinstance(item.what, Path))

    return row


class Groups:
    """One row per distinct value of the grouped paths, in the order of their first document.

    Without GROUP BY there is one row, also over nothing. Memory grows with the number of groups, not of documents.
    """

    def __init__(self, query: Query) -> None:
        self._query = query
        self._groups: dict[tuple[object, ...], _Group] = {}
        if not query.group_by:
            self._groups[()] = _Group(query.items, ())

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, document: Document) -> None:
        paths = self._query.group_by
        values = tuple(document_value(path, document) for path in paths)
        key = tuple(_distinct(value) for value in values)
        if (group := self._groups.get(key)) is None:
            group = self._groups[key] = _Group(self._query.items, tuple(zip(paths, values, strict=True)))
        group.add(document)

    def rows(self) -> list[dict[str, Any]]:
        return [group.row() for group in self._groups.values()]


class _Group:
    __slots__ = ("_columns", "_folds", "_values")

    def __init__(self, items: Sequence[Item], values: Sequence[tuple[Path, Value]]) -> None:
        self._values = {path.steps: value for path, value in values}
        self._columns = items
        self._folds = [_Fold(item.what) if isinstance(item.what, Aggregate) else None for item in items]

    def add(self, document: Document) -> None:
        for fold in self._folds:
            if fold is not None:
                fold.add(document)

    def row(self) -> dict[str, Any]:
        return _row(
            (item.key, fold.value if fold is not None else self._values.get(_steps(item), UNDEFINED))
            for item, fold in zip(self._columns, self._folds, strict=True)
        )


class _Fold:
    """One aggregate over one group. What is no number is passed over; over nothing it is UNDEFINED."""

    __slots__ = ("_best", "_count", "_of", "_sum")

    def __init__(self, of: Aggregate) -> None:
        self._of = of
        self._count = 0
        self._sum: float = 0
        self._best: float | None = None

    def add(self, document: Document) -> None:
        if self._of.of is None:
            self._count += 1
            return
        value = document_value(self._of.of, document)
        if not is_number(value):
            return
        self._count += 1
        self._sum += value
        if self._best is None or (value < self._best if self._of.name == "MIN" else value > self._best):
            self._best = value

    @property
    def value(self) -> Value:
        if self._of.name == "COUNT":
            return self._count
        if not self._count:
            return UNDEFINED
        if self._of.name == "SUM":
            return number(self._sum)
        return number(self._sum / self._count) if self._of.name == "AVG" else self._best


def _steps(item: Item) -> tuple[str | int, ...]:
    assert isinstance(item.what, Path)
    return item.what.steps


def _row(pairs: Iterable[tuple[str, Value]]) -> dict[str, Any]:
    return {key: value for key, value in pairs if value is not UNDEFINED}


def _distinct(value: Value) -> object:
    """A key that tells values of different kinds apart: 1 is not true, and lists and objects have one too."""
    if isinstance(value, list):
        return ("list", *(_distinct(each) for each in value))
    if isinstance(value, dict):
        return ("object", *((name, _distinct(value[name])) for name in sorted(value)))
    return (isinstance(value, bool), value)
