"""What a query says, as a tree of frozen records."""

from typing import Literal as OneOf

import msgspec

Source = OneOf["devices", "devices.modules", "devices.jobs"]
Root = OneOf["document", "property", "system", "body", "twin"]


class Literal(msgspec.Struct, frozen=True):
    """A string, number, truth value or null; ``undefined`` is UNDEFINED of ``evaluate``."""

    value: object


class Path(msgspec.Struct, frozen=True):
    """A place in what is asked about. An integer step is an index into an array.

    root: ``document`` in queries; in routing conditions an application property (``property``, one step), a system
    property (``system``, one step), the JSON body, or the sender's twin.
    """

    steps: tuple[str | int, ...]
    root: Root = "document"

    @property
    def text(self) -> str:
        return ".".join(str(step) for step in self.steps)


class Prefix(msgspec.Struct, frozen=True):
    operator: OneOf["NOT", "-"]
    operand: "Expression"


class Junction(msgspec.Struct, frozen=True):
    """Two or more operands, joined flat, so that a long row of them is no deep tree."""

    operator: OneOf["AND", "OR"]
    operands: tuple["Expression", ...]


class Infix(msgspec.Struct, frozen=True):
    """operator: a comparison (= != < <= > >=), arithmetic (+ - * / %), or || for strings."""

    operator: str
    left: "Expression"
    right: "Expression"


class Membership(msgspec.Struct, frozen=True):
    """``operand IN [..]``, or NIN when ``negated``."""

    operand: "Expression"
    among: tuple["Expression", ...]
    negated: bool


class Call(msgspec.Struct, frozen=True):
    """name: in capitals, the one spelling of its function."""

    name: str
    arguments: tuple["Expression", ...]


Expression = Literal | Path | Prefix | Junction | Infix | Membership | Call


class Aggregate(msgspec.Struct, frozen=True):
    """name: COUNT, AVG, SUM, MIN or MAX. of: None for COUNT."""

    name: str
    of: Path | None


class Item(msgspec.Struct, frozen=True):
    """One column of a projection and its key in the row."""

    what: Path | Aggregate
    key: str


class Query(msgspec.Struct, frozen=True):
    """items: empty for ``SELECT *``. where: None keeps every row. top: None for all."""

    source: Source
    items: tuple[Item, ...] = ()
    where: Expression | None = None
    group_by: tuple[Path, ...] = ()
    top: int | None = None

    @property
    def aggregates(self) -> bool:
        """Whether rows are folded into groups."""
        return bool(self.group_by) or any(isinstance(item.what, Aggregate) for item in self.items)


def conjuncts(expression: Expression | None) -> list[Expression]:
    """Expressions that must all hold: what a store may use to narrow its search."""
    if expression is None:
        return []
    if isinstance(expression, Junction) and expression.operator == "AND":
        return [each for operand in expression.operands for each in conjuncts(operand)]
    return [expression]


def paths(query: Query) -> list[Path]:
    """Every place that the query names."""
    named: list[Path] = [*query.group_by]
    named += [item.what for item in query.items if isinstance(item.what, Path)]
    named += [item.what.of for item in query.items if isinstance(item.what, Aggregate) and item.what.of is not None]
    waiting: list[Expression] = [] if query.where is None else [query.where]
    while waiting:
        match waiting.pop():
            case Path() as path:
                named.append(path)
            case Prefix(_, operand):
                waiting.append(operand)
            case Junction(_, operands):
                waiting += operands
            case Infix(_, left, right):
                waiting += (left, right)
            case Membership(operand, among, _):
                waiting += (operand, *among)
            case Call(_, arguments):
                waiting += arguments
            case Literal():
                pass
    return named
