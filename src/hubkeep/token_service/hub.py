"""What the token service asks of the hub, over its public HTTPS API."""

import asyncio
import ssl
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from hubkeep.errors import DeviceNotFound, ServerBusy, Unauthorized
from hubkeep.ports import Clock
from hubkeep.settings import SettingsError
from hubkeep.wire import sas

from .settings import HubAccess

_WITHIN: Final = 10.0  # seconds
_ANSWER: Final = 64 * 1024  # bytes
_CONNECTIONS: Final = 32
_TOKEN_KEPT: Final = 60.0  # seconds: the hub knows a token again that a connection showed before
_VERSION: Final = "api-version=2021-04-12"
_NOT_THERE: Final = frozenset({"DeviceNotFound", "ModuleNotFound"})


class HandedToken(msgspec.Struct, frozen=True):
    """token: the secret. expires: as the hub writes it."""

    token: str
    expires: str

    def __repr__(self) -> str:
        return f"HandedToken(expires={self.expires!r})"


class _Answer(NamedTuple):
    status: int
    code: str
    text: str
    tracking_id: str
    content: bytes


class _Signer:
    """A policy's own tokens, each used for a while."""

    def __init__(self, connection_string: str, what: str, clock: Clock, seconds: int) -> None:
        try:
            parsed = sas.parse_connection_string(connection_string)
            self.policy, self._key = parsed.parts["SharedAccessKeyName"], parsed.key
        except (ValueError, KeyError) as error:
            raise SettingsError(f"{what}: no connection string of a policy: {error}") from None
        host, colon, port = parsed.host.rpartition(":")
        self.host, self.port = (host, int(port)) if colon and port.isdigit() else (parsed.host, 443)
        self._clock, self._seconds = clock, seconds
        self._token, self._until = "", 0.0

    def token(self) -> str:
        now = self._clock.now()
        if not self._until - _TOKEN_KEPT <= now < self._until:  # also where the clock was set back
            self._until = now + _TOKEN_KEPT
            # what the hub makes does not outlive what it was asked with
            self._token = sas.make(self.host, self._key, int(now) + self._seconds, self.policy)
        return self._token


class HubApi:
    """Use as a context. token_seconds: the longest life that tokens are asked for. Raises SettingsError."""

    def __init__(self, access: HubAccess, clock: Clock, token_seconds: int, *, registers: bool) -> None:
        text = _secret(access.connection_string, access.connection_string_file, "hub.connection_string")
        self._signer = _Signer(text, "hub.connection_string", clock, token_seconds + 2 * int(_TOKEN_KEPT))
        self._registrar: _Signer | None = None
        if registers:
            what = "hub.registry_connection_string"
            text = _secret(access.registry_connection_string, access.registry_connection_string_file, what)
            self._registrar = _Signer(text, what, clock, 600)
        self.host_name = self._signer.host
        address, _, port = access.address.rpartition(":") if ":" in access.address else (access.address, "", "")
        if port and not port.isdigit():
            raise SettingsError("hub.address: HOST or HOST:PORT")
        self._origin = f"https://{address or self.host_name}:{port or self._signer.port}"
        try:
            self._tls = ssl.create_default_context(cafile=access.trust_bundle)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"hub.trust_bundle: {access.trust_bundle}: {error}") from None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=self._tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=_WITHIN),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def token(self, device_id: str, module_id: str, seconds: int) -> HandedToken:
        """Raises DeviceNotFound; Unauthorized: the hub lets it in by no token; ServerBusy."""
        answer = await self._ask("POST", f"{_path(device_id, module_id)}/tokens", {"expiresInSeconds": seconds})
        if answer.code in _NOT_THERE:
            raise DeviceNotFound(
                reason=f"{_name(device_id, module_id)} is proved, and is not registered at the hub",
                remedy="register it, or switch on register_devices",
            )
        if answer.status == 400:
            raise Unauthorized(
                cause="device-not-served",
                reason=f"the hub makes no token for it: {answer.text}",
                remedy=f"at the hub: hubkeep explain {answer.tracking_id}",
            )
        if answer.status != 200:
            raise _no_help(answer, self._signer.policy, "DeviceConnect")
        return msgspec.json.decode(answer.content, type=HandedToken)

    async def register(self, device_id: str, module_id: str) -> None:
        """With keys that nobody is told; one that is there already stays as it is. Raises Unauthorized, ServerBusy."""
        assert self._registrar is not None
        steps = [("", {"deviceId": device_id, "status": "enabled"})]
        if module_id:
            steps.append((module_id, {"deviceId": device_id, "moduleId": module_id}))
        for module, body in steps:
            answer = await self._ask("PUT", _path(device_id, module), body, self._registrar)
            if answer.status in {200, 409}:
                continue
            if answer.status in {400, 403, 413}:
                raise Unauthorized(
                    cause="device-not-served",
                    reason=f"the hub does not register it: {answer.text}",
                    remedy=f"at the hub: hubkeep explain {answer.tracking_id}",
                )
            raise _no_help(answer, self._registrar.policy, "RegistryWrite")

    async def _ask(self, method: str, path: str, body: Any, signer: _Signer | None = None) -> _Answer:
        assert self._session is not None
        headers = {"Authorization": (signer or self._signer).token(), "Host": self.host_name}
        url = URL(f"{self._origin}{path}?{_VERSION}", encoded=True)
        try:
            async with self._session.request(
                method, url, json=body, headers=headers, allow_redirects=False, server_hostname=self.host_name
            ) as response:
                content = await response.content.read(_ANSWER)
                return _told(response.status, response.headers.get("iothub-errorcode", ""), content)
        except (TimeoutError, asyncio.CancelledError, aiohttp.ClientError, OSError) as error:
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ServerBusy(
                reason=f"the hub does not answer at {self._origin}: {error or type(error).__name__}",
                remedy="is it running? hub.address, hub.trust_bundle and the connection string say where it is",
            ) from None


def _told(status: int, code: str, content: bytes) -> _Answer:
    text = tracking_id = ""
    if status >= 400:
        try:
            body = msgspec.json.decode(content)
            text = str(body["Message"]).partition(";")[2]
            tracking_id = str(body["ExceptionMessage"]).removeprefix("Tracking ID:").partition("-")[0]
        except (msgspec.MsgspecError, KeyError, TypeError):
            text = "an answer that is none of a hub"
    return _Answer(status, code, text, tracking_id, content)


def _no_help(answer: _Answer, policy: str, right: str) -> ServerBusy:
    reason = f"the hub answered {answer.status} {answer.code}: {answer.text}"
    if answer.status == 401:
        return ServerBusy(
            reason=f"{reason} (to policy {policy!r})",
            remedy=f"the policy needs {right} and its right key; at the hub: hubkeep explain {answer.tracking_id}",
        )
    return ServerBusy(reason=reason, remedy=f"at the hub: hubkeep explain {answer.tracking_id}")


def _path(device_id: str, module_id: str) -> str:
    path = f"/devices/{quote(device_id, safe='')}"
    return f"{path}/modules/{quote(module_id, safe='')}" if module_id else path


def _name(device_id: str, module_id: str) -> str:
    return f"{device_id}/{module_id}" if module_id else device_id


def _secret(text: str, path: Path | None, what: str) -> str:
    """Raises SettingsError."""
    if text:
        return text
    if path is None:
        raise SettingsError(f"{what}: is needed, or {what}_file")
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{what}_file: {path}: {error}") from None
