"""What the hub asks of others for itself: revocation lists, OCSP responders, webhooks, linked hubs."""

import asyncio
from collections.abc import Mapping

import aiohttp

from hubkeep.ports import Answered, FetchFailed

from .http_client import HttpClient

_OK = 200


class Asking:
    """See ports.Ask."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def __call__(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, at_most: int, within: float
    ) -> Answered:
        try:
            async with (
                asyncio.timeout(within),
                self._http.request(method, url, headers=headers, data=body or None) as answer,
            ):
                found = bytearray()
                async for chunk in answer.content.iter_any():
                    found += chunk
                    if len(found) > at_most:
                        raise FetchFailed(f"what {url} answers is larger than {at_most} bytes")
                return Answered(answer.status, bytes(found))
        except TimeoutError:
            raise FetchFailed(f"{url} did not answer within {within:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed(f"{url} cannot be reached: {error}") from None


class Fetching:
    """See ports.Fetch."""

    def __init__(self, http: HttpClient) -> None:
        self._ask = Asking(http)

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
        method = "POST" if body else "GET"
        answer = await self._ask(method, url, headers=told, body=body, at_most=at_most, within=within)
        if answer.status != _OK:
            raise FetchFailed(f"{url} answered {answer.status}", answer.status)
        return answer.body
