"""The functions of both languages: how many arguments each takes, and what it does with values.

Arguments arrive evaluated; a function that cannot do anything with them answers UNDEFINED, never an exception.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from .values import MOST_CHARACTERS, UNDEFINED, Value, is_number, number


class Function(NamedTuple):
    least: int
    most: int
    of: Callable[[Sequence[Value]], Value]


def _numeric(calculate: Callable[..., float], count: int = 1) -> Function:
    def of(values: Sequence[Value]) -> Value:
        if not all(is_number(value) for value in values):
            return UNDEFINED
        try:
            return number(calculate(*values))
        except (ValueError, OverflowError, ZeroDivisionError):
            return UNDEFINED

    return Function(count, count, of)


def _test(holds: Callable[[Any], bool]) -> Function:
    return Function(1, 1, lambda values: holds(values[0]))


def _textual(of: Callable[..., Value], count: int = 1) -> Function:
    def checked(values: Sequence[Value]) -> Value:
        return of(*values) if all(isinstance(value, str) for value in values) else UNDEFINED

    return Function(count, count, checked)


def _concatenated(values: Sequence[Value]) -> Value:
    strings = [value for value in values if isinstance(value, str)]
    if len(strings) < len(values) or sum(map(len, strings)) > MOST_CHARACTERS:
        return UNDEFINED
    return "".join(strings)


def _part(values: Sequence[Value]) -> Value:
    text, *numbers = values
    if not isinstance(text, str):
        return UNDEFINED
    places = [int(each) for each in numbers if is_number(each) and math.isfinite(each)]
    if len(places) < len(numbers) or min(places) < 0:
        return UNDEFINED
    start = places[0]
    return text[start : start + places[1]] if len(places) == 2 else text[start:]


def _as_number(values: Sequence[Value]) -> Value:
    value = values[0]
    if is_number(value):
        return value
    if not isinstance(value, str) or len(value) > 32 or "_" in value:
        return UNDEFINED
    try:
        return number(float(value)) if set(value.lower()) & set(".einf") else number(int(value))
    except ValueError:
        return UNDEFINED


def _power(base: float, exponent: float) -> float:
    return math.pow(base, exponent)  # of floats: bounded work, unlike ** on integers


def _length(text: str) -> Value:
    return len(text)


_COMMON: Final = {
    "IS_DEFINED": _test(lambda value: value is not UNDEFINED),
    "STARTS_WITH": _textual(lambda text, start: text.startswith(start), 2),
    "ENDS_WITH": _textual(lambda text, end: text.endswith(end), 2),
    "CONTAINS": _textual(lambda text, part: part in text, 2),
}
# The original documents IS_DEFINED alone, takes STARTSWITH and rejects STARTS_WITH; Hubkeep takes both (S-Q8).
QUERY_FUNCTIONS: Final = {
    **_COMMON,
    "STARTSWITH": _COMMON["STARTS_WITH"],
    "ENDSWITH": _COMMON["ENDS_WITH"],
}
ROUTING_FUNCTIONS: Final = {
    **_COMMON,
    "ABS": _numeric(abs),
    "EXP": _numeric(math.exp),
    "POWER": _numeric(_power, 2),
    "SQUARE": _numeric(lambda value: float(value) * value),
    "CEILING": _numeric(math.ceil),
    "FLOOR": _numeric(math.floor),
    "SIGN": _numeric(lambda value: (value > 0) - (value < 0)),
    "SQRT": _numeric(math.sqrt),
    "AS_NUMBER": Function(1, 1, _as_number),
    "IS_ARRAY": _test(lambda value: isinstance(value, list)),
    "IS_BOOL": _test(lambda value: isinstance(value, bool)),
    "IS_NULL": _test(lambda value: value is None),
    "IS_NUMBER": _test(is_number),
    "IS_OBJECT": _test(lambda value: isinstance(value, dict)),
    "IS_PRIMITIVE": _test(lambda value: value is None or isinstance(value, bool | int | float | str)),
    "IS_STRING": _test(lambda value: isinstance(value, str)),
    "CONCAT": Function(2, 32, _concatenated),
    "LENGTH": _textual(_length),
    "LOWER": _textual(str.lower),
    "UPPER": _textual(str.upper),
    "SUBSTRING": Function(2, 3, _part),
    "INDEX_OF": _textual(str.find, 2),
}
ALL_FUNCTIONS: Final = QUERY_FUNCTIONS | ROUTING_FUNCTIONS
