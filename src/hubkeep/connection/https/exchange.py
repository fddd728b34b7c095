"""One request on its way through the listener."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, NamedTuple

from aiohttp import web

from hubkeep.cloud.roles import Reach
from hubkeep.errors import BadRequest
from hubkeep.model import LinkInfo, Principal

from .bodies import read_body
from .paths import Match

# how a refusal is told: service-protocols 2.16, forms A and B; provisioning-and-pki 1.5
RefusalForm = Literal["plain", "numbered", "provisioning"]
_TRUSTED_FOR: Final = 1.0  # seconds: as soon as a disabled identity's links are cut (L-I2)


class Exchange:
    """What handlers get. values: what stood in the path, by name. principal: settled and authorised already.

    reach: None where the principal may do it everywhere; else the handler keeps to these devices.
    detail: what a handler says of a change for the audit: which members, from what to what; never a secret.
    open_again: is given the exchange, since one that knew it would make a cycle, which only the collector ends.
    """

    __slots__ = (
        "detail",
        "form",
        "link",
        "open_again",
        "operation",
        "principal",
        "query",
        "reach",
        "request",
        "segments",
        "values",
    )

    def __init__(self, request: web.BaseRequest, link: LinkInfo) -> None:
        self.request, self.link = request, link
        self.operation = "https"
        self.detail = ""
        self.form: RefusalForm = "plain"
        self.segments: tuple[str, ...] = ()
        self.values: Mapping[str, str] = {}
        self.query: Mapping[str, str] = {}
        self.principal: Principal | None = None
        self.reach: Reach | None = None
        self.open_again: Callable[[Exchange], Awaitable[None]] | None = None

    @property
    def identity(self) -> str:
        """Whose request it is, as far as it is known."""
        if self.principal is not None:
            return self.principal.name
        return self.values.get("device", "") or self.values.get("registration", "")

    @property
    def token(self) -> str | None:
        """The Authorization header. Raises BadRequest when there are two."""
        values = self.request.headers.getall("Authorization", [])
        if len(values) > 1:
            raise BadRequest(reason="two Authorization headers").by("L-H1")
        return values[0] if values else None

    async def body(self, limit: int) -> bytes:
        """See bodies.read_body. Who took long to send it is asked again whether they may (L-R6)."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        body = await read_body(self.request, limit)
        if self.open_again is not None and loop.time() - began > _TRUSTED_FOR:
            await self.open_again(self)
        return body

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from the query. Raises BadRequest when it is none, or not within ``low`` and ``high``."""
        text = self.query.get(name)
        if text is None:
            return default
        if text.isascii() and text.isdigit() and len(text) <= 20 and low <= int(text) <= high:
            return int(text)
        raise BadRequest(f"{name} must be {low} to {high}.")


Handle = Callable[[Exchange], Awaitable[web.StreamResponse]]


class Endpoint(NamedTuple):
    """How an operation is reached. credential: whose token opens it. dated: ``api-version`` is asked for.

    registering: as registration; a device that shows nothing is the handler's to answer (a TPM asks for its challenge).
    enrolling, renewing: a device that its certificate or Basic names, see Authentication.enrolling.
    """

    operation: str
    handle: Handle
    credential: Literal["device", "registration", "registering", "service", "enrolling", "renewing", "none"]
    dated: bool = True
    form: RefusalForm = "plain"


class Place(NamedTuple):
    """Where a request line leads; a connection keeps its last one, since clients ask for the same again and again."""

    method: str
    target: str  # as sent
    query: Mapping[str, str]
    match: Match[Endpoint]
    is_dated: bool  # whether the query has a well-formed api-version
