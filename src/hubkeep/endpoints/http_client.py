"""What the hub asks of others over HTTP: only where egress lets it, at the addresses that it checked, no redirects."""

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from hubkeep.ports import Egress

_CONNECT_WITHIN: Final = 10.0  # seconds
_SILENCE: Final = 60.0  # seconds without a byte of the answer
_CONNECTIONS: Final = 32


class HttpClient:
    """Use as a context. Cookies, proxies and credentials of the environment are none of its business."""

    def __init__(self, egress: Egress, roots: Path | None = None) -> None:
        """roots: more authorities (PEM) whose servers are trusted."""
        self._egress, self._roots = egress, roots
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @contextlib.asynccontextmanager
    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], data: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request; its answer, a redirect too, is the caller's to judge. url: percent-encoded already.

        Raises EgressRefused; aiohttp.ClientError, TimeoutError.
        """
        await self._egress.destination(url)  # an address in place of a name never reaches the resolver
        session = self._opened()
        async with session.request(
            method, URL(url, encoded=True), headers=headers, data=data, allow_redirects=False
        ) as response:
            yield response

    def _opened(self) -> aiohttp.ClientSession:
        # made at the first request: a hub that reaches nobody spends nothing
        if self._session is None:
            trusted = ssl.create_default_context()
            if self._roots is not None:
                trusted.load_verify_locations(self._roots)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=_Checked(self._egress),
                    use_dns_cache=False,
                    ssl=trusted,
                    limit=_CONNECTIONS,
                    # a request that was given up leaves a transport behind that waits for its peer to say goodbye
                    enable_cleanup_closed=sys.version_info < (3, 12, 7),
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_WITHIN, sock_read=_SILENCE),
                auto_decompress=False,
            )
        return self._session


class _Checked(AbstractResolver):
    """What a connection is opened to is what egress has checked in the same step: nothing is looked up twice."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        destination = await self._egress.destination(f"https://{host}:{port}")
        return [
            ResolveResult(
                hostname=host,
                host=each,
                port=port,
                family=socket.AF_INET6 if ":" in each else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for each in destination.addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name. Raises OSError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_CONNECT_WITHIN):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise OSError("no answer in time") from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))
