"""How sections of a twin are checked, merged and stamped. Pure. Source: device-protocols 7.1, service-protocols 2.5."""

import math
import re
from functools import lru_cache
from typing import Any, Final

from hubkeep.errors import BadRequest
from hubkeep.limits import Limits
from hubkeep.model import Json, TwinSection

_OWN: Final = frozenset({"$version", "$metadata"})  # the hub's, which writers may send back
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f.$ ]")


def checked(name: str, value: Any, limits: Limits) -> Json:
    """What a writer sent for the section ``name``, without the hub's own members.

    Raises BadRequest: no object; a key that may not be; a value, an integer or a depth out of bounds (L-D1).
    """
    if not isinstance(value, dict):
        raise _bad(f"{name} must be a JSON object.")
    section = {key: member for key, member in value.items() if key not in _OWN}
    _check_object(name, section, limits, 1)
    return section


def check_size(name: str, value: Json, most: int) -> None:
    """Raises BadRequest when a section is larger than ``most`` bytes after the merge (L-D2)."""
    if (size := _size(value)) > most:
        raise BadRequest(
            f"{name} would be {size} bytes; the limit is {most}.", remedy="remove what is not needed, with null"
        ).by("L-D2")


def merged(properties: Json, patch: Json) -> Json:
    """``properties`` with ``patch`` applied: objects merge, null removes, everything else replaces."""
    result = dict(properties)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, dict) else {}, value)
        else:
            result[key] = value
    return result


def patched(section: TwinSection, patch: Json, stamp: str, *, versions: bool) -> TwinSection:
    """The section after ``patch``. stamp: ISO 8601 time. versions: metadata tells the version as well (desired)."""
    version = section.version + 1
    mark = _mark(stamp, version if versions else None)
    return TwinSection(merged(section.properties, patch), _stamped(section.metadata, patch, mark), version)


def replaced(section: TwinSection, properties: Json, stamp: str, *, versions: bool = True) -> TwinSection:
    """The section with ``properties`` in place of all it held. versions: see ``patched``."""
    version = section.version + 1
    content = merged({}, properties)
    return TwinSection(content, _stamped({}, content, _mark(stamp, version if versions else None)), version)


def with_vanished(before: Json, after: Json) -> Json:
    """The patch from ``before`` to ``after``: all of ``after``, with null for what only ``before`` had."""
    result: Json = {}
    for key, value in after.items():
        old = before.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        result[key] = with_vanished(old, value) if both else value  # type: ignore[arg-type]  # both are objects
    return result | {key: None for key in before if key not in after}


def difference(before: Json, after: Json) -> Json:
    """The least patch from ``before`` to ``after``; empty when they are alike."""
    result: Json = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if key in before and isinstance(value, dict) and isinstance(old, dict):
            if inner := difference(old, value):
                result[key] = inner
        elif key not in before or old != value or type(old) is not type(value):
            result[key] = value
    return result


def _check_object(name: str, value: Json, limits: Limits, level: int) -> None:
    if level > limits.twin_depth:
        raise _bad(f"{name} is nested deeper than {limits.twin_depth} levels.")
    for key, member in value.items():
        if len(key) > limits.twin_key or not 0 < _bytes_of_key(key) <= limits.twin_key:
            raise _bad(f"A key of {name} has 1 to {limits.twin_key} bytes, and no control character, dot, $ or space.")
        if member is not None:
            _check_value(name, member, limits, level + 1)


@lru_cache(maxsize=1024)  # a fleet has few
def _bytes_of_key(key: str) -> int:
    """0 for one that may not be."""
    return 0 if _FORBIDDEN.search(key) else len(key.encode())


def _check_value(name: str, value: Any, limits: Limits, level: int) -> None:
    if isinstance(value, dict):
        _check_object(name, value, limits, level)
    elif isinstance(value, list):
        if level > limits.twin_depth:
            raise _bad(f"{name} is nested deeper than {limits.twin_depth} levels.")
        for member in value:
            if member is None:
                raise _bad(f"An array of {name} holds null.")
            _check_value(name, member, limits, level + 1)
    elif isinstance(value, str):
        if len(value.encode()) > limits.twin_string:
            raise _bad(f"A string of {name} is longer than {limits.twin_string} bytes.")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _bad(f"A number of {name} is out of range.")
    elif not isinstance(value, bool) and not -limits.twin_integer <= value < limits.twin_integer:
        raise _bad(f"An integer of {name} is not within {-limits.twin_integer} and {limits.twin_integer - 1}.")


def _bad(text: str) -> BadRequest:
    return BadRequest(text).by("L-D1")


def _size(value: Any) -> int:
    """Keys and texts by their UTF-8 length, numbers 8 bytes, booleans 4."""
    if isinstance(value, dict):
        return sum(len(key.encode()) + _size(member) for key, member in value.items())
    if isinstance(value, list):
        return sum(map(_size, value))
    if isinstance(value, str):
        return len(value.encode())
    return 4 if isinstance(value, bool) else 8


def _mark(stamp: str, version: int | None) -> Json:
    return {"$lastUpdated": stamp} | ({} if version is None else {"$lastUpdatedVersion": version})


def _stamped(metadata: Json, patch: Json, mark: Json) -> Json:
    result = {**metadata, **mark}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = _stamped(result.get(key, {}), value, mark)
        else:
            result[key] = mark
    return result
