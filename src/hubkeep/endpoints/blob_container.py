"""Containers of Azure Blob Storage by signed URL. Source: Azure Storage REST, version 2020-10-02."""

import contextlib
import io
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from email.utils import parsedate_to_datetime
from hashlib import md5
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp

from hubkeep.errors import ContainerRefused, ContainerUnreachable
from hubkeep.ports import BlobStat, Egress

from .http_client import HttpClient

_VERSION: Final = "2020-10-02"
_READ: Final = 256 * 1024
_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
_CODE: Final = "x-ms-error-code"


class AzureContainers:
    """See ports.BlobContainers."""

    def __init__(self, http: HttpClient, egress: Egress) -> None:
        self._http, self._egress = http, egress

    async def check(self, url: str) -> None:
        await self._egress.destination(url)

    def open(self, url: str) -> "AzureContainer":
        return AzureContainer(self._http, url)


class AzureContainer:
    """See ports.BlobContainer. url: of the container, with the signature in its query."""

    def __init__(self, http: HttpClient, url: str) -> None:
        self._http, self._parts = http, urlsplit(url)

    async def stat(self, blob: str) -> BlobStat:
        async with self._asked("HEAD", blob) as response:
            headers = response.headers
            try:
                modified = parsedate_to_datetime(headers["Last-Modified"]).timestamp()
                return BlobStat(int(headers["Content-Length"]), modified, headers["ETag"])
            except (KeyError, ValueError):
                raise ContainerRefused(f"The container tells nothing usable of {blob}.") from None

    async def read(self, blob: str, start: int, etag: str) -> AsyncIterator[bytes]:
        headers = {"x-ms-range": f"bytes={start}-", "If-Match": etag}
        async with self._asked("GET", blob, headers=headers) as response:
            if start and response.status != 206:
                raise ContainerRefused(f"The container does not read {blob} from within.")
            async for chunk in response.content.iter_chunked(_READ):
                yield chunk

    async def put(self, blob: str, content: bytes) -> None:
        await self._put(blob, content, {"x-ms-blob-type": "BlockBlob", "Content-Type": "text/plain"})

    async def put_block(self, blob: str, number: int, content: bytes) -> None:
        await self._put(blob, content, {}, f"comp=block&blockid={quote(_block_id(number), safe='')}")

    async def put_blocks(self, blob: str, count: int) -> None:
        listed = "".join(f"<Latest>{_block_id(number)}</Latest>" for number in range(count))
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'
        await self._put(blob, body.encode(), {"x-ms-blob-content-type": "text/plain"}, "comp=blocklist")

    async def _put(self, blob: str, content: bytes, headers: Mapping[str, str], query: str = "") -> None:
        digest = b64encode(md5(content, usedforsecurity=False).digest()).decode()
        body = io.BytesIO(content)  # written in pieces; bytes would hold the loop
        async with self._asked("PUT", blob, query, headers={"Content-MD5": digest, **headers}, data=body):
            pass

    @contextlib.asynccontextmanager
    async def _asked(
        self, method: str, blob: str, query: str = "", *, headers: Mapping[str, str] | None = None, data: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        what = f"{method} of {blob}"
        try:
            async with self._http.request(
                method, self._url(blob, query), headers={"x-ms-version": _VERSION, **(headers or {})}, data=data
            ) as response:
                if response.status >= 300:
                    raise _refusal(what, response)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # the library's words may hold the URL, and that holds the signature
            raise ContainerUnreachable(f"The container does not answer to {what}: {type(error).__name__}.") from None

    def _url(self, blob: str, query: str) -> str:
        parts = self._parts
        path = f"{parts.path.rstrip('/')}/{quote(blob, safe='/')}"
        return urlunsplit((parts.scheme, parts.netloc, path, "&".join(filter(None, (query, parts.query))), ""))


def _block_id(number: int) -> str:
    """All of one length, as storage accounts want them."""
    return b64encode(f"hubkeep-{number:08}".encode()).decode()


def _refusal(what: str, response: aiohttp.ClientResponse) -> ContainerRefused | ContainerUnreachable:
    code = response.headers.get(_CODE, "")
    told = f"{response.status} {code}".strip() if code.isalnum() else str(response.status)
    text = f"The container answers {told} to {what}."
    return ContainerUnreachable(text) if response.status in _AGAIN else ContainerRefused(text)
