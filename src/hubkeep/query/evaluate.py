"""A tree becomes a function of what is asked about.

Three truth values: true, false and UNDEFINED. A row is kept, and a message routed, only for exactly true.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from .functions import ALL_FUNCTIONS
from .tree import Call, Expression, Infix, Junction, Literal, Membership, Path, Prefix
from .values import UNDEFINED, Value, is_number, number

Subject = TypeVar("Subject")
Resolve = Callable[[Path, Subject], Value]
Evaluate = Callable[[Subject], Value]

_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: Final[Mapping[str, Callable[[Any, Any], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
}


def evaluator(expression: Expression, resolve: Resolve[Subject], *, null_is_false: bool = False) -> Evaluate[Subject]:
    """What ``expression`` is for a subject. resolve: looks a path up in the subject.

    null_is_false: any comparison with null is false (routing); else null equals null alone (queries).
    """

    def built(node: Expression) -> Evaluate[Subject]:
        match node:
            case Literal(value):
                return lambda _subject: value
            case Path():
                return lambda subject: resolve(node, subject)
            case Prefix("NOT", operand):
                return _negated(built(operand))
            case Prefix(_, operand):
                return _calculated("-", lambda _subject: 0, built(operand))
            case Junction(word, operands):
                return _joined([built(each) for each in operands], stop=word == "OR")
            case Infix(sign, left, right) if sign in _ARITHMETIC:
                return _calculated(sign, built(left), built(right))
            case Infix("||", left, right):
                return _called("CONCAT", [built(left), built(right)])
            case Infix(sign, left, right):
                return _compared(sign, built(left), built(right), null_is_false=null_is_false)
            case Membership(operand, among, negated):
                member = _member(built(operand), [built(each) for each in among], null_is_false=null_is_false)
                return _negated(member) if negated else member
            case Call(name, arguments):
                return _called(name, [built(each) for each in arguments])
        raise AssertionError(node)

    return built(expression)


def holds(expression: Expression | None, resolve: Resolve[Subject], **options: bool) -> Callable[[Subject], bool]:
    """Whether ``expression`` is exactly true; None holds for everything."""
    if expression is None:
        return lambda _subject: True
    evaluate = evaluator(expression, resolve, **options)
    return lambda subject: evaluate(subject) is True


def compare(sign: str, left: Value, right: Value, *, null_is_false: bool = False) -> Value:
    """Primitives of one kind compare; everything else is UNDEFINED, also for ``!=`` (S-Q9)."""
    if left is None or right is None:
        if null_is_false or left is not right or sign not in {"=", "!="}:
            return False if null_is_false else UNDEFINED
        return sign == "="
    same_kind = (
        (isinstance(left, bool) and isinstance(right, bool))
        or (isinstance(left, str) and isinstance(right, str))
        or (is_number(left) and is_number(right))
    )
    if not same_kind:
        return UNDEFINED
    if sign == "=":
        return left == right
    if sign == "!=":
        return left != right
    return _ORDER[sign](left, right)


def _compared(
    sign: str, left: Evaluate[Subject], right: Evaluate[Subject], *, null_is_false: bool
) -> Evaluate[Subject]:
    return lambda subject: compare(sign, left(subject), right(subject), null_is_false=null_is_false)


def _negated(operand: Evaluate[Subject]) -> Evaluate[Subject]:
    def evaluate(subject: Subject) -> Value:
        value = operand(subject)
        return not value if isinstance(value, bool) else UNDEFINED

    return evaluate


def _joined(operands: list[Evaluate[Subject]], *, stop: bool) -> Evaluate[Subject]:
    """AND (stop: False) and OR (stop: True): one operand that is ``stop`` decides, whatever the others are."""

    def evaluate(subject: Subject) -> Value:
        joined: Value = not stop
        for operand in operands:
            value = operand(subject)
            if value is stop:
                return stop
            if not isinstance(value, bool):
                joined = UNDEFINED
        return joined

    return evaluate


def _member(operand: Evaluate[Subject], among: list[Evaluate[Subject]], *, null_is_false: bool) -> Evaluate[Subject]:
    def evaluate(subject: Subject) -> Value:
        value = operand(subject)
        if value is UNDEFINED:
            return UNDEFINED
        return any(compare("=", value, each(subject), null_is_false=null_is_false) is True for each in among)

    return evaluate


def _calculated(sign: str, left: Evaluate[Subject], right: Evaluate[Subject]) -> Evaluate[Subject]:
    calculate = _ARITHMETIC[sign]

    def evaluate(subject: Subject) -> Value:
        first, second = left(subject), right(subject)
        if not is_number(first) or not is_number(second):
            return UNDEFINED
        try:
            return number(calculate(first, second))
        except (ZeroDivisionError, OverflowError):
            return UNDEFINED

    return evaluate


def _called(name: str, arguments: list[Evaluate[Subject]]) -> Evaluate[Subject]:
    of = ALL_FUNCTIONS[name].of
    return lambda subject: of([argument(subject) for argument in arguments])
