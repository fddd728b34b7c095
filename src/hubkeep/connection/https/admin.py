"""The hub's own administration: refusals, status, policies, live events. Clients made for IoT Hub never see it."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from hubkeep.cloud.audit import Refusals
from hubkeep.cloud.replays import Replays
from hubkeep.errors import BadRequest, HubError, ResourceLimit
from hubkeep.limits import LIVE_EVENT_READERS
from hubkeep.model import Principal
from hubkeep.ports import Event, EventLog

from ..timestamps import time_stamp
from .answers import json_answer
from .exchange import Endpoint, Exchange

if TYPE_CHECKING:
    from .connection import HttpsConnection

_ASKED_EVERY: Final = 0.5  # seconds: a policy that is changed is dead within one (L-I2)
_SILENCE: Final = 10.0  # seconds after which an empty line tells that the stream lives
_AT_ONCE: Final = 16 * 1024  # bytes of events decoded before others get their turn
_MOST_REFUSALS: Final = 1000


class AdminSurface:
    """Handlers for operators. decode_event, status, trust_bundle, is_spent: see HttpsListener and Authentication."""

    def __init__(
        self,
        *,
        refusals: Refusals,
        replays: Replays,
        log: EventLog,
        decode_event: Callable[[Event], dict[str, Any]],
        trust_bundle: Path,
        status: Callable[[], dict[str, Any]],
        is_spent: Callable[[Principal], bool],
    ) -> None:
        self._refusals, self._replays, self._log = refusals, replays, log
        self._decode_event, self._trust_bundle = decode_event, trust_bundle
        self._status, self._is_spent = status, is_spent
        self._readers = 0
        self._openapi = b""

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/refusals", self.refusals, "service", dated=False),
            Endpoint("admin/replays", self.replays, "service", dated=False),
            Endpoint("admin/events", self.events, "service", dated=False),
            Endpoint("admin/status", self.status, "service", dated=False),
            Endpoint("admin/openapi", self.openapi, "none", dated=False),
            Endpoint("admin/trust-bundle", self.trust_bundle, "none", dated=False),
        )

    async def refusals(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/refusals?key=&most=: newest first; key: a tracking id or an identity as it was claimed."""
        most = exchange.number("most", 20, 1, _MOST_REFUSALS)
        found = await self._refusals.find(exchange.query.get("key", ""), most)
        return json_answer([{**msgspec.to_builtins(each), "time": time_stamp(each.time)} for each in found])

    async def replays(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/replays?identity=&most=: tokens that came from another address than before, newest first."""
        most = exchange.number("most", 20, 1, _MOST_REFUSALS)
        found = await self._replays.find(exchange.query.get("identity", ""), most)
        times = ({"time": time_stamp(each.time), "first_time": time_stamp(each.first_time)} for each in found)
        return json_answer([{**msgspec.to_builtins(each), **told} for each, told in zip(found, times, strict=True)])

    async def status(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/status"""
        return json_answer(self._status())

    async def openapi(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /openapi.json: what the API takes, gives and refuses. It tells nothing of this hub."""
        if not self._openapi:
            self._openapi = await asyncio.to_thread(_openapi)
        return json_answer(msgspec.Raw(self._openapi))

    async def trust_bundle(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/trust-bundle: the root certificates (PEM)."""
        return web.Response(body=self._trust_bundle.read_bytes(), content_type="application/x-pem-file")

    async def events(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/events?device=&from=latest|earliest: stored events as JSON lines, without end.

        An empty line tells that the stream lives; a line ``{"error": ...}`` is its end.
        """
        start = exchange.query.get("from", "latest")
        if start not in {"latest", "earliest"}:
            raise BadRequest("from is latest or earliest.")
        if self._readers >= LIVE_EVENT_READERS.value:
            raise ResourceLimit(cause="readers-too-many", reason=f"{self._readers} live readers are open")
        self._readers += 1
        connection: HttpsConnection = exchange.request.protocol  # type: ignore[assignment]  # the listener makes no other
        with contextlib.ExitStack() as ends:
            ends.callback(self._leave)
            wake = asyncio.Event()
            connection.when_lost = wake.set
            for partition in range(self._log.partitions):
                ends.callback(self._log.on_commit(partition, wake.set))
            next_sequences = [
                state.first_sequence if start == "earliest" else state.last_sequence + 1
                for state in (self._log.state(each) for each in range(self._log.partitions))
            ]
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
            await response.prepare(exchange.request)
            await response.write(b"\n")
            await self._stream(exchange, response, next_sequences, wake)
            return response

    def _leave(self) -> None:
        self._readers -= 1

    async def _stream(
        self, exchange: Exchange, response: web.StreamResponse, next_sequences: list[int], wake: asyncio.Event
    ) -> None:
        device, principal = exchange.query.get("device"), exchange.principal
        assert principal is not None
        needle = (device or "").encode()
        while not self._is_spent(principal):
            if exchange.request.transport is None:  # what matches nothing is never written, and would go on unread
                return
            wake.clear()
            found = False
            for partition, sequence in enumerate(next_sequences):
                try:
                    events = await self._log.read(partition, sequence, _AT_ONCE)
                except HubError as error:
                    await response.write(msgspec.json.encode({"error": error.reason}) + b"\n")
                    return
                if not events:
                    continue
                found = True
                next_sequences[partition] = events[-1].sequence + 1
                likely = (each for each in events if needle in each.head)
                shown = ({"partition": str(partition), **self._decode_event(each)} for each in likely)
                lines = [msgspec.json.encode(each) for each in shown if device in {None, each["device"]}]
                if lines:
                    await response.write(b"\n".join((*lines, b"")))
                await asyncio.sleep(0)
            if not found and not await self._is_woken(wake, principal):
                await response.write(b"\n")
        await response.write(msgspec.json.encode({"error": "the authorisation has expired"}) + b"\n")

    async def _is_woken(self, wake: asyncio.Event, principal: Principal) -> bool:
        """Until there may be events, or the principal may have none; False: nothing of both for a while."""
        for _ in range(round(_SILENCE / _ASKED_EVERY)):
            try:
                async with asyncio.timeout(_ASKED_EVERY):
                    await wake.wait()
            except TimeoutError:
                if self._is_spent(principal):
                    return True
            else:
                return True
        return False


def _openapi() -> bytes:
    """Takes a moment, and most hubs are never asked: no part of the start, nor of the loop's turn."""
    from .api import openapi_document  # noqa: PLC0415

    return msgspec.json.encode(openapi_document())
