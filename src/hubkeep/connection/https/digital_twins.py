"""The service REST surface of digital twins and their commands. Source: service-protocols 2.13."""

from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import quote

import msgspec
from aiohttp import web

from hubkeep.errors import BadRequest
from hubkeep.limits import (
    HTTP_SERVICE_BODY,
    METHOD_CONNECT_MAX,
    METHOD_RESPONSE,
    METHOD_RESPONSE_MAX,
    METHOD_RESPONSE_MIN,
    Limits,
)
from hubkeep.messaging.digital_twins import Operation, digital_twin_document, patched_desired
from hubkeep.messaging.methods import Methods
from hubkeep.messaging.twins import Twins
from hubkeep.model import MethodCall

from .answers import json_answer, normal_etag
from .bodies import strict_json
from .exchange import Endpoint, Exchange


class DigitalTwinSurface:
    """A view of device twins and direct methods; nothing is kept of its own."""

    def __init__(self, twins: Twins, methods: Methods, limits: Limits) -> None:
        self._twins, self._methods, self._limits = twins, methods, limits

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("digitaltwins/get", self.get, "service"),
            Endpoint("digitaltwins/patch", self.patch, "service"),
            Endpoint("digitaltwins/command", self.command, "service", form="numbered"),
            Endpoint("digitaltwins/command/component", self.command, "service", form="numbered"),
        )

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """GET /digitaltwins/{id}"""
        twin = await self._twins.get(exchange.values["id"])
        return json_answer(digital_twin_document(twin), etag=twin.etag)

    async def patch(self, exchange: Exchange) -> web.StreamResponse:
        """PATCH /digitaltwins/{id}: a JSON Patch, written to the desired properties."""
        body = strict_json(await exchange.body(HTTP_SERVICE_BODY.value))
        try:
            operations = msgspec.convert(body, list[Operation])
        except msgspec.ValidationError as error:
            raise BadRequest("The body is no JSON Patch.", reason=str(error)) from None
        twin = await self._twins.rewrite_desired(
            exchange.values["id"],
            "",
            lambda properties: patched_desired(properties, operations, self._limits),
            etag=normal_etag(exchange.request.headers.get("If-Match", "")) or "*",
        )
        location = f"/digitaltwins/{quote(twin.device_id, safe='')}"
        return web.Response(status=HTTPStatus.ACCEPTED, headers={"ETag": f'"{twin.etag}"', "Location": location})

    async def command(self, exchange: Exchange) -> web.StreamResponse:
        """POST /digitaltwins/{id}[/components/{component}]/commands/{command}: a direct method of the device."""
        payload = await exchange.body(HTTP_SERVICE_BODY.value)
        if payload:
            strict_json(payload)
        seconds = METHOD_RESPONSE_MIN.value, METHOD_RESPONSE_MAX.value
        name, component = exchange.values["command"], exchange.values.get("component", "")
        answer = await self._methods.invoke(
            exchange.values["id"],
            "",
            MethodCall(f"{component}*{name}" if component else name, payload or b"null"),
            response_seconds=exchange.number("responsetimeoutinseconds", METHOD_RESPONSE.value, *seconds),
            connect_seconds=exchange.number("connecttimeoutinseconds", 0, 0, METHOD_CONNECT_MAX.value),
        )
        response = json_answer(msgspec.Raw(answer.payload))
        response.headers["x-ms-command-statuscode"] = str(answer.status)
        return response
