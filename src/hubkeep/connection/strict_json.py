"""JSON without two meanings (L-D1), for every surface."""

import json
from typing import Any, Final, TypeVar

import msgspec

from hubkeep.errors import BadRequest, FormatError
from hubkeep.limits import JSON_DEPTH

Shape = TypeVar("Shape", bound=msgspec.Struct)


def _without_twins(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")


# for the keys alone: the numbers are read by then, and are not read a second time
_KEYS: Final = json.JSONDecoder(object_pairs_hook=_without_twins, parse_int=len, parse_float=len)


def strict_json(body: bytes) -> Any:
    """JSON with one meaning. Raises FormatError: no JSON, not UTF-8, a key twice, too deep, anything behind it."""
    try:
        value = msgspec.json.decode(body)
        # most bodies are small: what has so few brackets is not deep, and one colon is one key
        if body.count(b"[") + body.count(b"{") > JSON_DEPTH.value:
            _check_depth(value)
        if body.count(b":") > 1:
            _KEYS.decode(body.decode())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise FormatError(reason=f"the body is not JSON as it should be: {error}").by("L-D1") from None
    return value


def json_as(shape: type[Shape], body: bytes) -> Shape:
    """``strict_json`` as ``shape``; members that it does not name are passed over. Raises FormatError, BadRequest."""
    try:
        return msgspec.convert(strict_json(body), shape)
    except msgspec.ValidationError as error:
        raise BadRequest("A member of the body is not valid.", reason=str(error)) from None


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        if depth > JSON_DEPTH.value:
            raise ValueError(f"more than {JSON_DEPTH.value} levels")
        level = [child for each in level for child in (each.values() if isinstance(each, dict) else each)]
