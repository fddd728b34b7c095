"""Devices that somebody else proves: an address that is asked, and answers who it is.

It gets POST with ``{"scheme", "credential", "deviceId", "moduleId", "address"}`` and answers 200 with ``{"deviceId"}``,
``moduleId`` beside it for a module. 401, 403 and 404 say no; anything else, that it cannot tell.
"""

from http import HTTPStatus
from typing import Any, Final

import msgspec

from hubkeep.connection.strict_json import json_as
from hubkeep.errors import HubError, ServerBusy, Unauthorized
from hubkeep.ports import Fetch, FetchFailed

from .plugins import Presented, Proved
from .settings import CallbackOptions

_ANSWER: Final = 16 * 1024  # bytes
_SAYS_NO: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})


class _Answer(msgspec.Struct, rename="camel"):
    device_id: str = ""
    module_id: str | None = None


class Callback:
    """See plugins.DeviceAuthenticator. secret: read once from its file."""

    def __init__(self, options: CallbackOptions, secret: str, fetch: Fetch) -> None:
        self._options, self._fetch = options, fetch
        self._headers = {"Authorization": f"Bearer {secret}"} if secret else {}

    async def prove(self, presented: Presented) -> Proved:
        asked: dict[str, Any] = {
            "scheme": presented.scheme,
            "credential": presented.credential,
            "deviceId": presented.device_id,
            "moduleId": presented.module_id,
            "address": presented.address,
        }
        try:
            content = await self._fetch(
                self._options.url,
                at_most=_ANSWER,
                within=self._options.within,
                body=msgspec.json.encode(asked),
                kind="application/json",
                headers=self._headers,
            )
            answer = json_as(_Answer, content)
        except FetchFailed as failure:
            if failure.status in _SAYS_NO:
                raise Unauthorized(
                    cause="device-callback",
                    reason=f"the callback says no: {failure.status}",
                    remedy="the callback's own log tells why",
                ) from None
            raise ServerBusy(reason=str(failure), remedy="look whether callback.url answers") from None
        except HubError as error:  # egress, or no JSON
            raise ServerBusy(reason=f"the callback: {error.reason}", remedy=error.remedy) from None
        if not answer.device_id:
            raise Unauthorized(
                cause="device-callback", reason="the callback names no device", remedy="it answers 200 with deviceId"
            )
        return Proved(answer.device_id, answer.module_id or "")
