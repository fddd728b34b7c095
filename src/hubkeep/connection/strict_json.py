"""JSON without two meanings (L-D1), for every surface."""

import json
from itertools import chain
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
        colons = body.count(b":")
        # most bodies are small: what has so few brackets is not deep, and one colon is one key
        is_plain = colons <= 1 and body.count(b"[") + body.count(b"{") <= JSON_DEPTH.value
        # as many keys as colons: none was lost to another of its name; fewer: a text has a colon, or that happened
        if not is_plain and _keys_of(value) != colons:
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


def _keys_of(value: Any) -> int:
    """How many keys all its objects have. Raises ValueError when it is too deep."""
    level, depth, keys = [value], 0, 0
    while True:
        objects = [each for each in level if type(each) is dict]
        arrays = [each for each in level if type(each) is list]
        if not objects and not arrays:
            return keys
        depth += 1
        if depth > JSON_DEPTH.value:
            raise ValueError(f"more than {JSON_DEPTH.value} levels")
        keys += sum(map(len, objects))
        level = [*chain.from_iterable(map(dict.values, objects)), *chain.from_iterable(arrays)]
