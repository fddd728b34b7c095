"""The commands that mend a finding, with its names in their places, as a shell takes them."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from .check import Check, Outcome

# What stands in a command where nothing was found that it could name.
_PLACES: Final[Mapping[str, str]] = {
    "device": "DEVICE",
    "policy": "POLICY",
    "group": "GROUP",
    "enrolment": "ENROLLMENT",
    "authority": "AUTHORITY",
}


def commands_of(check: Check, outcome: Outcome) -> Sequence[str]:
    words = {**_PLACES, **{name: value for name, value in outcome.words.items() if value}}
    devices = [each for each in outcome.names if not each.startswith(("policy ", "group "))]
    if devices:
        words["device"] = devices[0].partition("/")[0]  # commands on a module are its device's
    return [_filled(each, words) for each in check.commands]


def _filled(command: str, words: Mapping[str, str]) -> str:
    """A name that begins with a dash is no option: it stands last, behind the two dashes."""
    filled: list[str] = []
    for word in shlex.split(command):
        is_place = word.startswith("{") and word.endswith("}")
        value = words[word[1:-1]] if is_place else word
        if is_place and value.startswith("-") and not filled[-1].startswith("--"):
            filled.append("--")
        filled.append(value)
    return shlex.join(filled)
