"""The query endpoint of the service REST surface. Source: service-protocols 2.8."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Final

import msgspec
from aiohttp import web

from hubkeep.errors import BadRequest
from hubkeep.limits import HTTP_SERVICE_BODY, QUERY_PAGE, QUERY_PAGE_DEFAULT, QUERY_TEXT
from hubkeep.messaging.fleet_queries import FleetQueries

from .answers import json_answer
from .bodies import documented, json_as
from .exchange import Endpoint, Exchange

CONTINUATION: Final = "x-ms-continuation"


class QueryBody(msgspec.Struct, frozen=True):
    query: Annotated[str, documented(minLength=1, maxLength=QUERY_TEXT.value)]


class QuerySurface:
    """settle: see ServiceSurface."""

    def __init__(self, queries: FleetQueries, settle: Callable[[], Awaitable[None]]) -> None:
        self._queries, self._settle = queries, settle

    def endpoints(self) -> Iterable[Endpoint]:
        return (Endpoint("devices/query", self.query, "service"),)

    async def query(self, exchange: Exchange) -> web.StreamResponse:
        """POST /devices/query: an array; the header says whether there is another page."""
        headers = exchange.request.headers
        body = json_as(QueryBody, await exchange.body(HTTP_SERVICE_BODY.value))
        await self._settle()
        within = exchange.reach.conditions if exchange.reach is not None else ()
        page = await self._queries.run(body.query, page_size(exchange), headers.get(CONTINUATION, ""), within)
        answer = json_answer(page.rows)
        answer.headers["x-ms-item-type"] = page.kind
        if page.continuation is not None:
            answer.headers[CONTINUATION] = page.continuation
        return answer


def page_size(exchange: Exchange) -> int:
    """``x-ms-max-item-count``: text with a whole number, clamped (S-Q13). Raises BadRequest when it is none."""
    text = exchange.request.headers.get("x-ms-max-item-count", "").strip()
    if not text or text == "-1":
        return QUERY_PAGE_DEFAULT.value
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text)):
        raise BadRequest("x-ms-max-item-count must be a positive whole number.")
    return min(int(text), QUERY_PAGE.value)
