"""Request bodies: bounded in bytes and time before anything is held."""

import asyncio
import binascii
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from msgspec import Meta

from hubkeep.errors import BadRequest, MessageTooLarge, RequestTimeout, UnsupportedEncoding
from hubkeep.limits import HTTP_BODY_GRACE, HTTP_BODY_SPEED, HTTP_REQUEST_WITHIN

from ..strict_json import json_as, strict_json

__all__ = ["PRINTABLE", "documented", "from_base64", "json_as", "read_body", "strict_json"]

PRINTABLE: Final = r"^[^\u0000-\u001f\u007f-\u009f]*$"  # roughly: the rules refuse all that Python does not print
_ENCODINGS = frozenset({"", "identity", "utf-8"})


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """The whole body, at most ``limit`` bytes. Raises UnsupportedEncoding, and as ``body_chunks`` does."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise UnsupportedEncoding(reason=f"content encoding {encoding[:64]!r}").by("L-H4")
    if request.content.is_eof() and request.content.exception() is None:  # came whole with its head, as most do
        body = request.content.read_nowait()
        if len(body) > limit:
            raise _too_large(limit)
        return body
    chunks = [chunk async for chunk in body_chunks(request, limit, within=HTTP_REQUEST_WITHIN.value)]
    return b"".join(chunks)


async def body_chunks(request: web.BaseRequest, limit: int, *, within: float | None) -> AsyncIterator[bytes]:
    """The body as it comes, at most ``limit`` bytes; the socket is read only as fast as the caller takes them.

    within: seconds for the whole body; None for any time, as long as it keeps its speed.
    Raises MessageTooLarge (by the length told or by count), RequestTimeout for one that comes too slowly (L-L19),
    BadRequest for broken chunks. After MessageTooLarge and RequestTimeout the connection ends.
    """
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    if request.headers.get("Expect", "").lower() == "100-continue" and request.can_read_body:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # what aiohttp takes for an answer begun
    loop = asyncio.get_running_loop()
    waited, count = 0.0, 0
    try:
        while not request.content.at_eof():
            in_time = HTTP_BODY_GRACE.value + count / HTTP_BODY_SPEED.value
            in_time = in_time if within is None else min(within, in_time)
            asked = loop.time()
            # the time that the caller takes is not the sender's
            async with asyncio.timeout_at(asked + in_time - waited):
                chunk = await request.content.readany()
            waited += loop.time() - asked
            count += len(chunk)
            if count > limit:
                raise _too_large(limit)
            if chunk:
                yield chunk
    except TimeoutError:
        raise RequestTimeout(reason=f"{count} bytes of the body came in time").by("L-L19") from None
    except (web.RequestPayloadError, BadHttpMessage) as error:
        raise BadRequest(reason=f"the body is broken: {type(error).__name__}").by("L-H1") from None


def _too_large(limit: int) -> MessageTooLarge:
    return MessageTooLarge(reason=f"the body is larger than {limit} bytes", remedy="send less at once").by("L-H3")


def documented(**schema: Any) -> Meta:
    """What the API's description says of a member in JSON Schema; the rules check it, with limits that can be set."""
    return Meta(extra_json_schema=schema)


def from_base64(text: str, what: str) -> bytes:
    """Raises BadRequest, naming ``what``."""
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"{what} is not base64.") from None
