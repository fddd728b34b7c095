"""Request bodies: bounded in bytes and time before anything is held, and JSON without two meanings (L-D1)."""

import asyncio
import binascii
import json
from base64 import b64decode
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from hubkeep.errors import BadRequest, FormatError, MessageTooLarge, RequestTimeout, UnsupportedEncoding
from hubkeep.limits import HTTP_BODY_GRACE, HTTP_BODY_SPEED, HTTP_REQUEST_WITHIN, JSON_DEPTH

Shape = TypeVar("Shape", bound=msgspec.Struct)

_ENCODINGS = frozenset({"", "identity", "utf-8"})


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """The whole body, at most ``limit`` bytes.

    Raises UnsupportedEncoding, MessageTooLarge (by the length told or by count), RequestTimeout for one that comes
    too slowly (L-L19), BadRequest for broken chunks. After MessageTooLarge and RequestTimeout the connection ends.
    """
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise UnsupportedEncoding(reason=f"content encoding {encoding[:64]!r}").by("L-H4")
    too_large = MessageTooLarge(reason=f"the body is larger than {limit} bytes", remedy="send less at once").by("L-H3")
    if (request.content_length or 0) > limit:
        raise too_large
    if request.headers.get("Expect", "").lower() == "100-continue" and request.can_read_body:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # what aiohttp takes for an answer begun
    loop = asyncio.get_running_loop()
    started, count, chunks = loop.time(), 0, []
    try:
        while not request.content.at_eof():
            in_time = min(HTTP_REQUEST_WITHIN.value, HTTP_BODY_GRACE.value + count / HTTP_BODY_SPEED.value)
            async with asyncio.timeout_at(started + in_time):
                chunk = await request.content.readany()
            count += len(chunk)
            if count > limit:
                raise too_large
            chunks.append(chunk)
    except TimeoutError:
        raise RequestTimeout(reason=f"{count} bytes of the body came in time").by("L-L19") from None
    except (web.RequestPayloadError, BadHttpMessage) as error:
        raise BadRequest(reason=f"the body is broken: {type(error).__name__}").by("L-H1") from None
    return b"".join(chunks)


def strict_json(body: bytes) -> Any:
    """JSON with one meaning. Raises FormatError: no JSON, not UTF-8, a key twice, too deep, anything behind it."""
    try:
        value = msgspec.json.decode(body)
        _check_depth(value)
        # for the keys alone: the numbers were read above, and are not read a second time
        json.loads(body, object_pairs_hook=_without_twins, parse_int=len, parse_float=len)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise FormatError(reason=f"the body is not JSON as it should be: {error}").by("L-D1") from None
    return value


def json_as(shape: type[Shape], body: bytes) -> Shape:
    """``strict_json`` as ``shape``; members that it does not name are passed over. Raises FormatError, BadRequest."""
    try:
        return msgspec.convert(strict_json(body), shape)
    except msgspec.ValidationError as error:
        raise BadRequest("A member of the body is not valid.", reason=str(error)) from None


def from_base64(text: str, what: str) -> bytes:
    """Raises BadRequest, naming ``what``."""
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"{what} is not base64.") from None


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        if depth > JSON_DEPTH.value:
            raise ValueError(f"more than {JSON_DEPTH.value} levels")
        level = [child for each in level for child in (each.values() if isinstance(each, dict) else each)]


def _without_twins(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
