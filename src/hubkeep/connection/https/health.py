"""``/metrics``, ``/healthz`` and ``/readyz`` over plain HTTP, for loopback alone."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from .answers import JSON

_HEAD: Final = 8 * 1024


class HealthPages:
    """healthy: works as it should. ready: accepts devices; a hub that cannot store now is not ready.

    unhealthy: why not, empty when it is.
    """

    def __init__(self, metrics: CollectorRegistry, unhealthy: Callable[[], Sequence[str]]) -> None:
        self._metrics, self._unhealthy = metrics, unhealthy

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[web.Server]:
        """A factory of protocols for the listener."""
        server = web.Server(self._handle, access_log=None, max_line_size=_HEAD, max_field_size=_HEAD)
        try:
            yield server
        finally:
            await server.shutdown(1.0)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405)
        path = request.path.rstrip("/")
        if path == "/metrics":
            body = generate_latest(self._metrics)
            return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
        if path in {"/healthz", "/readyz"}:
            reasons = list(self._unhealthy())
            body = msgspec.json.encode({"status": "failing" if reasons else "ok", "reasons": reasons})
            return web.Response(status=503 if reasons else 200, body=body, headers={"Content-Type": JSON})
        return web.Response(status=404)
