"""Where devices upload to: the part of Azure Blob Storage's protocol that storage clients use for one file.

Put Blob, Put Block, Put Block List, and reading back. A signed URL opens one file; a policy with ServiceConnect reads
them all. Source: device-protocols 5.4; Azure Storage REST, version 2020-10-02.
"""

import hmac
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from email.utils import formatdate
from hashlib import md5
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes
from xml.sax.saxutils import escape

from aiohttp import web

from hubkeep.errors import (
    BadRequest,
    BlobExists,
    BlobNotFound,
    ChecksumMismatch,
    Forbidden,
    HubError,
    InvalidBlockList,
    MessageTooLarge,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    RequestTimeout,
    ServerBusy,
    StoreUnavailable,
    Throttled,
    Unauthorized,
    UploadsOff,
)
from hubkeep.limits import BLOCK_LIST_BODY, Limits
from hubkeep.messaging.blob_names import check_blob_name
from hubkeep.messaging.signed_urls import check_signed
from hubkeep.messaging.uploads import Condition
from hubkeep.model import Upload
from hubkeep.ports import BlobStat, Clock

from ..authentication import Authentication
from .answers import standard_headers
from .block_lists import BlockListReader, block_id
from .bodies import body_chunks
from .exchange import Exchange
from .files import FileUpload

_VERSION: Final = "2020-10-02"
_READING: Final = "files/read"
_WRITING: Final = "files/write"
_RANGE: Final = re.compile(r"bytes=([0-9]{1,19})-([0-9]{0,19})")
# what storage clients branch on
_CODES: Final[dict[type[HubError], tuple[int, str]]] = {
    InvalidBlockList: (400, "InvalidBlockList"),
    ChecksumMismatch: (400, "Md5Mismatch"),
    UploadsOff: (404, "ResourceNotFound"),
    BadRequest: (400, "InvalidInput"),
    Forbidden: (403, "AuthorizationPermissionMismatch"),
    Unauthorized: (403, "AuthenticationFailed"),
    BlobNotFound: (404, "BlobNotFound"),
    NotFound: (404, "ResourceNotFound"),
    MethodNotAllowed: (405, "UnsupportedHttpVerb"),
    RangeNotSatisfiable: (416, "InvalidRange"),
    RequestTimeout: (408, "OperationTimedOut"),
    BlobExists: (409, "BlobAlreadyExists"),
    PreconditionFailed: (412, "ConditionNotMet"),
    MessageTooLarge: (413, "RequestBodyTooLarge"),
    Throttled: (503, "ServerBusy"),
    ServerBusy: (503, "ServerBusy"),
    StoreUnavailable: (503, "ServerBusy"),
}
_UNKNOWN: Final = (500, "InternalError")
_UNKNOWN_CONDITIONS: Final = ("If-Modified-Since", "If-Unmodified-Since", "x-ms-if-tags")
# features that would be ignored otherwise: a client that asks for one must not think that it got it
_REFUSED_HEADERS: Final = ("x-ms-copy-source", "x-ms-content-crc64", "x-ms-structured-body", "x-ms-lease-id")


class _Asked(NamedTuple):
    """One request. name: the whole blob name, decoded once."""

    exchange: Exchange
    name: str

    @property
    def request(self) -> web.BaseRequest:
        return self.exchange.request


class BlobSurface:
    """Everything below ``/{container}/``. refused: records a refusal and returns its tracking id."""

    def __init__(
        self,
        parts: FileUpload,
        *,
        authentication: Authentication,
        refused: Callable[..., str],
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._files, self._uploads, self._key, self._container = parts
        self._authentication, self._refused, self._clock, self._limits = authentication, refused, clock, limits
        self._prefix = f"/{parts.container}/"

    def owns(self, path: str) -> bool:
        """Whether a path, as sent, is a file's."""
        return path.startswith(self._prefix)

    async def answer(self, exchange: Exchange, path: str, authenticated: Callable[[], None]) -> web.StreamResponse:
        """Answer one request; refusals are told as storage clients know them. authenticated: called once it is."""
        request = exchange.request
        exchange.operation = _WRITING if request.method == "PUT" else _READING
        try:
            asked = _Asked(exchange, _name_in(path[len(self._prefix) :]))
            exchange.values = {"device": asked.name.partition("/")[0]}  # as claimed, for the record of refusals
            response = await self._dispatch(asked, authenticated)
        except HubError as error:
            response = self._refusal(exchange, error)
        response.headers.setdefault("x-ms-version", _VERSION)
        if (echoed := request.headers.get("x-ms-client-request-id", "")) and len(echoed) <= 1024 and echoed.isascii():
            response.headers.setdefault("x-ms-client-request-id", echoed)
        return response

    async def _dispatch(self, asked: _Asked, authenticated: Callable[[], None]) -> web.StreamResponse:
        request, query = asked.request, asked.exchange.query
        if request.method not in {"PUT", "GET", "HEAD", "DELETE"}:
            raise MethodNotAllowed(reason=f"{request.method} is not for a file").by("L-H5")
        if request.method != "PUT":
            await self._open_for_reading(asked, authenticated)
            return await self._read(asked)
        upload = await self._open(asked, "w", authenticated)
        for name in _REFUSED_HEADERS:
            if name in request.headers:
                raise BadRequest(f"The header {name} is not supported.", reason=f"the header {name} is not supported")
        put = {"": self._put_blob, "block": self._put_block, "blocklist": self._put_block_list}
        handle = put.get(query.get("comp", "").lower())
        if handle is None:
            raise BadRequest("The value of comp is not supported.", reason=f"comp={query['comp'][:64]!r}")
        return await handle(asked, upload)

    # -- who may -----------------------------------------------------------------------------------------------------

    async def _open(self, asked: _Asked, permission: str, authenticated: Callable[[], None]) -> Upload:
        try:
            upload_id = check_signed(
                self._key, self._container, asked.name, asked.exchange.query, self._clock.now(), permission
            )
        except Unauthorized:
            self._authentication.failed.note(asked.exchange.link.peer.rpartition(":")[0])
            raise
        upload = await self._files.upload(upload_id)
        if not hmac.compare_digest(upload.blob_name.encode(), asked.name.encode()):
            raise Unauthorized(cause="url-of-another-file", reason="the URL is for another file")
        authenticated()
        return upload

    async def _open_for_reading(self, asked: _Asked, authenticated: Callable[[], None]) -> None:
        """A signed URL reads its own file; a policy's token reads all, as the back end that is told of them."""
        exchange, permission = asked.exchange, "d" if asked.request.method == "DELETE" else "r"
        if "sig" in exchange.query or exchange.token is None:
            await self._open(asked, permission, authenticated)
            return
        exchange.principal = await self._authentication.service(exchange.token, exchange.link, operation=_READING)
        segments = (self._container, *asked.name.split("/"))
        self._authentication.authorize(exchange.principal, _READING, segments, exchange.link)
        authenticated()
        if permission == "d":
            raise MethodNotAllowed(reason="files are deleted in their store")

    # -- writing -----------------------------------------------------------------------------------------------------

    async def _put_blob(self, asked: _Asked, upload: Upload) -> web.StreamResponse:
        kind = asked.request.headers.get("x-ms-blob-type", "")
        if kind != "BlockBlob":
            raise BadRequest("x-ms-blob-type is not BlockBlob.", reason=f"x-ms-blob-type is {kind[:64]!r}")
        stat = await self._uploads.put_blob(
            upload, self._body(asked), condition=_condition(asked), content_type=_content_type(asked)
        )
        return _created(stat)

    async def _put_block(self, asked: _Asked, upload: Upload) -> web.StreamResponse:
        await self._uploads.put_block(upload, block_id(asked.exchange.query.get("blockid", "")), self._body(asked))
        return _created(None)

    async def _put_block_list(self, asked: _Asked, upload: Upload) -> web.StreamResponse:
        reader = BlockListReader()
        async for chunk in _checked(
            body_chunks(asked.request, BLOCK_LIST_BODY.value, within=None), asked.request.headers
        ):
            reader.feed(chunk)
        stat = await self._uploads.put_block_list(
            upload, reader.finish(), condition=_condition(asked), content_type=_content_type(asked)
        )
        return _created(stat)

    def _body(self, asked: _Asked) -> AsyncIterator[bytes]:
        return _checked(body_chunks(asked.request, self._limits.blob_body, within=None), asked.request.headers)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def _read(self, asked: _Asked) -> web.StreamResponse:
        if asked.exchange.query.get("comp"):
            raise BadRequest("The value of comp is not supported.", reason="comp of a read")
        stat = await self._files.stat(asked.name)
        headers = {**_version(stat), "x-ms-blob-type": "BlockBlob", "Accept-Ranges": "bytes"}
        # what a device sent is shown by no browser as a page of the hub's
        headers |= {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": "attachment",
            "X-Content-Type-Options": "nosniff",
        }
        wanted = asked.request.headers.get("x-ms-range") or asked.request.headers.get("Range")
        start, end = _bounds(wanted, stat.size) if wanted else (0, stat.size)
        response = web.StreamResponse(status=HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK, headers=headers)
        if wanted:
            response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{stat.size}"
        response.content_length = end - start
        if asked.request.method == "HEAD":
            return response
        chunks = self._files.read(asked.name, start, end)
        first = await anext(chunks, b"")  # before the answer begins: a file that is gone is a refusal
        response.headers.update({"x-ms-version": _VERSION, **standard_headers()})
        await response.prepare(asked.request)
        try:
            await response.write(first)
            async for chunk in chunks:
                await response.write(chunk)
        except HubError as error:
            # the answer has begun: all that can be told is that it does not end well
            raise ConnectionError(error.reason) from None
        return response

    # -- refusals ----------------------------------------------------------------------------------------------------

    def _refusal(self, exchange: Exchange, error: HubError) -> web.Response:
        tracking_id = self._refused(error, exchange.link, identity=exchange.identity, operation=exchange.operation)
        status, code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), _UNKNOWN)
        text = escape(f"{error}\nTracking id {tracking_id}")
        body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{text}</Message></Error>'
        headers = {"x-ms-error-code": code, "Content-Type": "application/xml"}
        if (seconds := getattr(error, "retry_after", None)) is not None:
            headers["Retry-After"] = str(seconds)
        response = web.Response(status=status, headers=headers, body=body.encode())
        if not exchange.request.content.at_eof():
            response.force_close()  # the rest of the body is not read
        return response


def _name_in(raw: str) -> str:
    """The blob name in a path, decoded once: some clients encode its slashes. Raises BlobNotFound."""
    try:
        name = unquote_to_bytes(raw).decode()
        check_blob_name(name)
    except (UnicodeDecodeError, BadRequest):
        raise BlobNotFound(reason="the path is no blob name").by("L-H5") from None
    return name


def _condition(asked: _Asked) -> Condition:
    """Raises BadRequest for conditions that this surface does not know: to pass over one would break its promise."""
    headers = asked.request.headers
    if unknown := next((name for name in _UNKNOWN_CONDITIONS if name in headers), None):
        raise BadRequest(f"The header {unknown} is not supported.", reason=f"the condition {unknown} is not supported")
    absent = headers.get("If-None-Match", "").strip()
    if absent not in {"", "*"}:
        raise BadRequest("If-None-Match is not *.", reason="If-None-Match names a version")
    return "absent" if absent else headers.get("If-Match", "").strip()


def _content_type(asked: _Asked) -> str:
    text = asked.request.headers.get("x-ms-blob-content-type", "")
    return text if len(text) <= 256 and text.isascii() and text.isprintable() else ""


async def _checked(chunks: AsyncIterator[bytes], headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    """The body; at its end its Content-MD5 is compared. Raises ChecksumMismatch."""
    given = headers.get("Content-MD5", "").strip()
    digest = md5(usedforsecurity=False)
    async for chunk in chunks:
        if given:
            digest.update(chunk)
        yield chunk
    if given and not hmac.compare_digest(b64encode(digest.digest()), given.encode()):
        raise ChecksumMismatch


def _bounds(text: str, size: int) -> tuple[int, int]:
    """First byte and the one behind the last. Raises BadRequest."""
    found = _RANGE.fullmatch(text.strip())
    start = int(found[1]) if found else 0
    end = min(int(found[2]) + 1, size) if found and found[2] else size
    if found is None:
        raise BadRequest("The range is not valid.", reason=f"range {text[:64]!r}")
    if start >= end:
        raise RangeNotSatisfiable(reason=f"range {text[:64]!r} of {size} bytes")
    return start, end


def _created(stat: BlobStat | None) -> web.Response:
    headers = {"x-ms-request-server-encrypted": "false", **(_version(stat) if stat is not None else {})}
    return web.Response(status=HTTPStatus.CREATED, headers=headers)


def _version(stat: BlobStat) -> dict[str, str]:
    return {"ETag": stat.etag, "Last-Modified": formatdate(stat.modified, usegmt=True)}
