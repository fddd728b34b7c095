"""Documents that the hub fetches for itself: revocation lists, and answers of OCSP responders."""

import asyncio
from collections.abc import Mapping

import aiohttp

from hubkeep.ports import FetchFailed

from .http_client import HttpClient

_OK = 200


class Fetching:
    """See ports.Fetch."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def __call__(
        self,
        url: str,
        *,
        at_most: int,
        within: float,
        body: bytes = b"",
        kind: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        told = {**(headers or {}), **({"Content-Type": kind} if body else {})}
        try:
            async with (
                asyncio.timeout(within),
                self._http.request("POST" if body else "GET", url, headers=told, data=body or None) as answer,
            ):
                if answer.status != _OK:
                    raise FetchFailed(f"{url} answered {answer.status}", answer.status)
                found = bytearray()
                async for chunk in answer.content.iter_any():
                    found += chunk
                    if len(found) > at_most:
                        raise FetchFailed(f"what {url} answers is larger than {at_most} bytes")
                return bytes(found)
        except TimeoutError:
            raise FetchFailed(f"{url} did not answer within {within:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed(f"{url} cannot be reached: {error}") from None
