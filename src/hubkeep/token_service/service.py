"""The token service's HTTPS surface: ``POST /token``. Start at ``TokenService.handle``.

The connections, the bounds on requests, the record of refusals and their form are the hub's own.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import math
from collections.abc import AsyncIterator
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from hubkeep.cloud.audit import Refusals
from hubkeep.connection.admission import Admission, FailedLogins, FailedPairs, source_of
from hubkeep.connection.https.answers import json_answer, refusal_answer, standard_headers
from hubkeep.connection.https.bodies import json_as, read_body
from hubkeep.connection.https.connection import HttpsConnection
from hubkeep.errors import (
    BadRequest,
    DeviceNotFound,
    HubError,
    MessageTooLarge,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    ServerBusy,
    Throttled,
    Unauthorized,
)
from hubkeep.limits import IDENTITY_ID, MINTED_TOKEN_MIN, REFUSAL_AFTER, Limits
from hubkeep.model import LinkInfo
from hubkeep.ports import Clock

from .hub import HandedToken, HubApi
from .plugins import DeviceAuthenticator, Presented, Proved
from .throttle import Rate

log = logging.getLogger(__name__)

_BODY: Final = 8 * 1024  # bytes
_CREDENTIAL: Final = 20 * 1024  # characters
_STOP_WITHIN: Final = 2.0  # seconds
_RENEW_AT: Final = 0.8  # of a token's life: time for several tries
_NOT_IN_A_PATH: Final = frozenset({".", ".."})
_Id = Annotated[str, Meta(max_length=IDENTITY_ID.value)]


class Wanted(msgspec.Struct, rename="camel"):
    """What a device asks. deviceId, moduleId: what it is, where its credential does not say."""

    device_id: _Id | None = None
    module_id: _Id | None = None
    expires_in_seconds: int | None = None


class _Asking:
    """One request; who it is, as far as it is known."""

    def __init__(self, request: web.BaseRequest, connection: HttpsConnection) -> None:
        self.request, self.connection = request, connection
        self.link: LinkInfo = connection.begin(request.headers.get("User-Agent", ""))
        self.address = self.link.peer.rpartition(":")[0]
        self.name = ""


class TokenService:
    """plugin: proves devices. made: tokens handed out since the start."""

    def __init__(
        self,
        *,
        plugin: DeviceAuthenticator,
        hub: HubApi,
        register_devices: bool,
        token_seconds: int,
        per_address: Rate,
        per_device: Rate,
        admission: Admission,
        failed: FailedLogins,
        failed_pairs: FailedPairs,
        refusals: Refusals,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._plugin, self._hub = plugin, hub
        self._register, self._seconds = register_devices, token_seconds
        self._per_address, self._per_device = per_address, per_device
        self._failed, self._failed_pairs, self._refusals = failed, failed_pairs, refusals
        self.admission, self.clock, self.limits = admission, clock, limits
        self.connections: set[HttpsConnection] = set()
        self.made = 0
        self._server: web.Server | None = None

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Requests are answered within; at the end those under way get two seconds."""
        self._server = web.Server(self.handle)
        try:
            yield
        finally:
            self._server.pre_shutdown()
            await self._server.shutdown(_STOP_WITHIN)

    def protocol(self) -> asyncio.Protocol:
        """A factory for the TLS listener."""
        assert self._server is not None, "serving() comes first"
        return HttpsConnection(self, self._server, asyncio.get_running_loop())

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. The device gets a code and a tracking id, the operator the reason."""
        connection: HttpsConnection = request.protocol  # type: ignore[assignment]  # protocol() makes no other
        asking, began = _Asking(request, connection), asyncio.get_running_loop().time()
        try:
            response: web.StreamResponse = await self._answer(asking)
        except HubError as error:
            response = await self._refusal(asking, error, began)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("a request for a token failed")
            response = await self._refusal(asking, error, began)
        response.headers.update(standard_headers())
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _answer(self, asking: _Asking) -> web.Response:
        path = asking.request.raw_path.partition("?")[0]
        if path == "/healthz":
            return web.Response(text="ok\n")
        if path != "/token":
            raise NotFound(reason=f"there is no {path[:128]!r}", remedy="POST /token")
        if asking.request.method != "POST":
            raise MethodNotAllowed(reason=f"{asking.request.method[:16]} /token", remedy="POST /token")
        self._take(self._per_address, source_of(asking.address) or asking.address, "requests from this address")
        presented, seconds = await self._presented(asking)
        proved = await self._proved(asking, presented)
        self._take(self._per_device, asking.name, "tokens for this device")
        handed = await self._handed(proved, seconds)
        if asking.connection.ticket is not None:
            asking.connection.ticket.authenticated()
        self.made += 1
        log.info("a token for %s until %s, to %s", asking.name, handed.expires, asking.address)
        return json_answer(
            {
                "token": handed.token,
                "expires": handed.expires,
                "renewAfter": self._renew_after(handed.expires),
                "hostName": self._hub.host_name,
                "deviceId": proved.device_id,
                "moduleId": proved.module_id or None,
            }
        )

    @staticmethod
    def _take(rate: Rate, name: str, what: str) -> None:
        """Raises Throttled."""
        if wait := rate.take(name):
            error = Throttled(cause="device-tokens-too-many", reason=f"too many {what} in a minute")
            error.retry_after = math.ceil(wait)
            raise error

    async def _presented(self, asking: _Asking) -> tuple[Presented, int]:
        """What it shows, and how long its token is to live. Raises BadRequest, Unauthorized; as ``read_body``."""
        content = await read_body(asking.request, _BODY)
        wanted = json_as(Wanted, content) if content else Wanted()
        device_id, module_id = wanted.device_id or "", wanted.module_id or ""
        asking.name = _name(device_id, module_id)
        seconds = self._seconds if wanted.expires_in_seconds is None else wanted.expires_in_seconds
        if not MINTED_TOKEN_MIN.value <= seconds <= self._seconds:
            raise BadRequest(f"expiresInSeconds is {MINTED_TOKEN_MIN.value} to {self._seconds}.")
        headers = asking.request.headers.getall("Authorization", [])
        if len(headers) != 1 or len(headers[0]) > _CREDENTIAL:
            raise Unauthorized(
                cause="device-proof-missing",
                reason="no Authorization header, more than one, or too long a one",
                remedy="send Authorization: Bearer ... or Basic ...",
            )
        scheme, _, credential = headers[0].partition(" ")
        return Presented(scheme.lower(), credential.strip(), device_id, module_id, asking.address), seconds

    async def _proved(self, asking: _Asking, presented: Presented) -> Proved:
        if asking.name and self._failed_pairs.blocked(asking.address, asking.name):
            raise Unauthorized(cause="pair-locked-out", reason="too many failures of this device from this address")
        proved = await self._plugin.prove(presented)
        said, asking.name = asking.name, _name(proved.device_id, proved.module_id)
        if said not in {"", asking.name}:
            raise Unauthorized(
                cause="device-proof-of-another",
                reason=f"it says that it is {said}, and is proved to be another",
                remedy="leave deviceId and moduleId out of the body",
            )
        for each in proved:
            if each in _NOT_IN_A_PATH or (each and not each.isprintable()):
                raise Unauthorized(cause="device-proof-of-another", reason="what was proved is no id of a device")
        return proved

    async def _handed(self, proved: Proved, seconds: int) -> HandedToken:
        try:
            return await self._hub.token(*proved, seconds)
        except DeviceNotFound as error:
            if not self._register:
                raise Unauthorized(cause="device-not-served", reason=error.reason, remedy=error.remedy) from None
        await self._hub.register(*proved)
        log.info("%s is registered at the hub: it was proved for the first time", _name(*proved))
        try:
            return await self._hub.token(*proved, seconds)
        except DeviceNotFound as error:
            raise ServerBusy(reason=f"{error.reason}, though it was just registered") from None

    def _renew_after(self, expires: str) -> str:
        ends = dt.datetime.fromisoformat(expires).timestamp()
        now = self.clock.now()
        at = dt.datetime.fromtimestamp(now + _RENEW_AT * (ends - now), dt.UTC)
        return at.strftime("%Y-%m-%dT%H:%M:%SZ")

    async def _refusal(self, asking: _Asking, error: Exception, began: float) -> web.Response:
        tracking_id = ""
        if isinstance(error, HubError):
            tracking_id = self.refused(error, asking.link, identity=asking.name, operation="token")
        if isinstance(error, Unauthorized):
            self._failed.note(asking.address)
            if asking.name:
                self._failed_pairs.note(asking.address, asking.name)
            # one answer, and one time, whatever was wrong (L-I1)
            await asyncio.sleep(began + REFUSAL_AFTER.value / 1000 - asyncio.get_running_loop().time())
            error = Unauthorized(cause=error.cause, reason=error.reason)  # without words of a plug-in
        answer = refusal_answer(error, tracking_id, self.clock.now())
        response = web.Response(status=answer.status, headers=answer.headers, body=answer.body)
        if isinstance(error, MethodNotAllowed):
            response.headers["Allow"] = "POST"
        if isinstance(error, MessageTooLarge | RequestTimeout) or self._failed.blocked(asking.address):
            response.force_close()
        return response

    # -- what connections tell ---------------------------------------------------------------------------------------

    def refused(self, error: HubError, link: LinkInfo, *, identity: str, operation: str, **presented: str) -> str:
        """Record a refusal; its tracking id."""
        return self._refusals.record(error, link, identity=identity, operation=operation, **presented)

    def connection_made(self, connection: HttpsConnection) -> None:
        self.connections.add(connection)

    def connection_lost(self, connection: HttpsConnection) -> None:
        self.connections.discard(connection)


def _name(device_id: str, module_id: str) -> str:
    return f"{device_id}/{module_id}" if module_id else device_id
