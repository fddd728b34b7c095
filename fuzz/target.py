"""One thing to fuzz."""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

Check = Callable[[bytes, random.Random], None]


class Target(NamedTuple):
    """seeds: what inputs are made of, and what stood before each, which mostly stays as it is.

    check: raises where the input broke a promise. before: what else may stand before an input.
    """

    seeds: Sequence[tuple[bytes, bytes]]
    check: Check
    before: Sequence[bytes] = (b"",)
