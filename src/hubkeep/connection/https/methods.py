"""The service REST surface of direct methods. Source: service-protocols 2.12."""

from collections.abc import Iterable
from typing import Annotated

import msgspec
from aiohttp import web

from hubkeep.errors import BadRequest
from hubkeep.limits import (
    HTTP_SERVICE_BODY,
    METHOD_CONNECT_MAX,
    METHOD_NAME,
    METHOD_RESPONSE,
    METHOD_RESPONSE_MAX,
    METHOD_RESPONSE_MIN,
)
from hubkeep.messaging.methods import Methods
from hubkeep.model import MethodCall

from .answers import json_answer
from .bodies import PRINTABLE, documented, strict_json
from .exchange import Endpoint, Exchange

_NOTHING = msgspec.Raw(b"null")


class MethodBody(msgspec.Struct):
    name: Annotated[str, documented(minLength=1, maxLength=METHOD_NAME.value, pattern=PRINTABLE)] = msgspec.field(
        name="methodName"
    )
    payload: msgspec.Raw = msgspec.field(default_factory=lambda: _NOTHING)
    response_seconds: (
        Annotated[
            int,
            documented(
                minimum=METHOD_RESPONSE_MIN.value,
                maximum=METHOD_RESPONSE_MAX.value,
                description=f"{METHOD_RESPONSE.value} if it is left out.",
            ),
        ]
        | None
    ) = msgspec.field(default=None, name="responseTimeoutInSeconds")
    connect_seconds: Annotated[int, documented(minimum=0, maximum=METHOD_CONNECT_MAX.value)] | None = msgspec.field(
        default=None, name="connectTimeoutInSeconds"
    )


_BODY = msgspec.json.Decoder(MethodBody)


class MethodSurface:
    """Calls go out when the body is read; the answer is the device's, or form B tells why there is none."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("methods/invoke", self.invoke, "service", form="numbered"),
            Endpoint("methods/invoke/module", self.invoke, "service", form="numbered"),
        )

    async def invoke(self, exchange: Exchange) -> web.StreamResponse:
        """POST /twins/{id}[/modules/{module}]/methods"""
        body = await exchange.body(HTTP_SERVICE_BODY.value)
        strict_json(body)
        try:
            wanted = _BODY.decode(body)
        except msgspec.ValidationError as error:
            raise BadRequest("A member of the body is not valid.", reason=str(error)) from None
        answer = await self._methods.invoke(
            exchange.values["id"],
            exchange.values.get("module", ""),
            MethodCall(wanted.name, bytes(wanted.payload)),
            response_seconds=wanted.response_seconds,
            connect_seconds=wanted.connect_seconds or 0,
        )
        return json_answer({"status": answer.status, "payload": msgspec.Raw(answer.payload)})
