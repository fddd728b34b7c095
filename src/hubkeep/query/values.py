"""Values of the languages: JSON's, and UNDEFINED for what is not there."""

import enum
import math
from typing import Final, TypeGuard


class Undefined(enum.Enum):
    """The value of a path that does not exist."""

    UNDEFINED = "undefined"


UNDEFINED: Final = Undefined.UNDEFINED
Value = object  # None, bool, int, float, str, list, dict, or UNDEFINED
MOST_CHARACTERS: Final = 1024 * 1024  # of a string that a function makes
_EXACT: Final = 2**63


def is_number(value: Value) -> TypeGuard[int | float]:
    """JSON numbers; a truth value is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def number(value: float) -> Value:
    """A number of bounded size: large integers become floats, what is not finite becomes UNDEFINED."""
    if isinstance(value, int):
        return value if -_EXACT <= value < _EXACT else float(value)
    return value if math.isfinite(value) else UNDEFINED
