"""Tokens for devices, made by the hub for holders of a policy with DeviceConnect. The answer alone holds the token."""

from collections.abc import Iterable
from typing import Annotated

import msgspec
from aiohttp import web

from hubkeep.limits import HTTP_SERVICE_BODY, MINTED_TOKEN, MINTED_TOKEN_MAX, MINTED_TOKEN_MIN

from ..device_tokens import DeviceTokens
from ..timestamps import time_stamp
from .answers import json_answer
from .bodies import documented, json_as
from .exchange import Endpoint, Exchange


class TokenBody(msgspec.Struct, rename="camel"):
    """policy: whose key signs; left out, the asker's own. An administrator may name any, and has the policy ``device``
    where it is left out."""

    expires_in_seconds: (
        Annotated[
            int,
            documented(
                minimum=MINTED_TOKEN_MIN.value,
                maximum=MINTED_TOKEN_MAX.value,
                description=f"{MINTED_TOKEN.value} if it is left out.",
            ),
        ]
        | None
    ) = None
    policy: str = ""


class DeviceTokenSurface:
    def __init__(self, tokens: DeviceTokens) -> None:
        self._tokens = tokens

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("devices/token", self.make, "service"),
            Endpoint("modules/token", self.make, "service"),
        )

    async def make(self, exchange: Exchange) -> web.StreamResponse:
        """POST /devices/{id}/tokens, /devices/{id}/modules/{module}/tokens"""
        content = await exchange.body(HTTP_SERVICE_BODY.value)
        wanted = json_as(TokenBody, content) if content else TokenBody()
        device_id, module_id = exchange.values["id"], exchange.values.get("module", "")
        principal = exchange.principal
        assert principal is not None, "the listener proves who asks"
        token = await self._tokens.make(principal, device_id, module_id, wanted.expires_in_seconds, wanted.policy)
        until = time_stamp(token.expires)
        exchange.detail = f"a token for it until {until}, signed by policy {token.policy}"
        answer = json_answer(
            {
                "token": token.text,
                "expires": until,
                "policy": token.policy,
                "deviceId": device_id,
                "moduleId": module_id or None,
            }
        )
        answer.headers["Cache-Control"] = "no-store"
        return answer
