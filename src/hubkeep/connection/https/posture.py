"""The posture report, for whoever may read the registry; accepting risks is for owners."""

from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from hubkeep.cloud.posture.posture import Posture
from hubkeep.errors import BadRequest
from hubkeep.limits import HTTP_SERVICE_BODY, POSTURE_RUNS
from hubkeep.model import PostureRun, Waiver

from ..timestamps import milliseconds, time_stamp
from .answers import json_answer, no_content
from .bodies import json_as
from .exchange import Endpoint, Exchange


class WaiverBody(msgspec.Struct, rename="camel"):
    """Who accepts the risk, why, and until when (ISO 8601)."""

    owner: str
    reason: str
    until: str


class PostureSurface:
    def __init__(self, posture: Posture) -> None:
        self._posture = posture

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/posture", self.report, "service", dated=False),
            Endpoint("admin/posture/run", self.run, "service", dated=False),
            Endpoint("admin/posture/history", self.history, "service", dated=False),
            Endpoint("admin/posture/accept", self.accept, "service", dated=False),
            Endpoint("admin/posture/withdraw", self.withdraw, "service", dated=False),
            Endpoint("admin/posture/confirm", self.confirm, "service", dated=False),
        )

    async def report(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/posture?only=PC05,PC06&fixed=PC05&form=full|summary"""
        form = exchange.query.get("form", "full")
        if form not in {"full", "summary"}:
            raise BadRequest("form is full or summary.")
        report = await self._posture.report(
            _ids(exchange, "only"), _ids(exchange, "fixed"), is_summary=form == "summary"
        )
        return json_answer(report)

    async def run(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/posture/runs: all checks; what they say is kept."""
        assert exchange.principal is not None, "the operation needs rights"
        return json_answer(await self._posture.run(exchange.principal.name))

    async def history(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/posture/runs?most="""
        most = exchange.number("most", 100, 1, POSTURE_RUNS.value)
        return json_answer([_run_json(each) for each in await self._posture.history(most)])

    async def accept(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /api/posture/waivers/{check}"""
        wanted = json_as(WaiverBody, await exchange.body(HTTP_SERVICE_BODY.value))
        until = milliseconds(wanted.until) / 1000
        waiver = await self._posture.accept(exchange.values["check"], wanted.owner, wanted.reason, until)
        exchange.detail = f"until {time_stamp(until)[:10]}, by {waiver.owner}: {waiver.reason}"
        return json_answer(_waiver_json(waiver))

    async def withdraw(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /api/posture/waivers/{check}"""
        await self._posture.withdraw(exchange.values["check"])
        return no_content()

    async def confirm(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /api/posture/confirmations/{fact}: it was done, now."""
        at = await self._posture.confirm(exchange.values["fact"])
        return json_answer({"name": exchange.values["fact"], "at": time_stamp(at)})


def _ids(exchange: Exchange, name: str) -> list[str]:
    return [each for each in exchange.query.get(name, "").split(",") if each]


def _run_json(run: PostureRun) -> dict[str, Any]:
    return {**msgspec.to_builtins(run), "at": time_stamp(run.at)}


def _waiver_json(waiver: Waiver) -> dict[str, Any]:
    members = msgspec.to_builtins(waiver)
    return {**members, "until": time_stamp(waiver.until), "given": time_stamp(waiver.given)}
