"""The provisioning service for devices: register, ask how it ended, read one's record.

Source: provisioning-and-pki 1.7.
"""

from base64 import b64encode
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from aiohttp import web

from hubkeep.device.provisioning.registrations import Registrations
from hubkeep.device.provisioning.tpm import TpmKeys
from hubkeep.limits import REGISTER_BODY, Limits
from hubkeep.model import Principal, RegisterRequest, RegistrationOperation

from ..authentication import Authentication
from ..registration_documents import operation_document, register_request, registration_document
from .answers import json_answer
from .exchange import Endpoint, Exchange

_KEY_NAME: Final = "registration"


class RegistrationSurface:
    def __init__(self, registrations: Registrations, authentication: Authentication, limits: Limits) -> None:
        self._registrations, self._authentication, self._limits = registrations, authentication, limits

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("registrations/register", self.register, "registering", form="provisioning"),
            Endpoint("registrations/poll", self.poll, "registration", form="provisioning"),
            Endpoint("registrations/own", self.own, "registration", form="provisioning"),
        )

    async def register(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /{scope}/registrations/{id}/register"""
        version = exchange.query["api-version"]
        body = await exchange.body(REGISTER_BODY.value)
        if exchange.principal is None:
            return await self._challenged(exchange, register_request(body, version, self._limits))
        principal, registration_id = _device(exchange)
        request = register_request(body, version, self._limits)
        operation = await self._registrations.register(principal, registration_id, request, exchange.link)
        return _answer(operation, exchange)

    async def _challenged(self, exchange: Exchange, request: RegisterRequest) -> web.StreamResponse:
        """A device without a token and a certificate is refused, or has a TPM that is to prove itself first."""
        scope, registration_id = exchange.values["scope"], exchange.values["registration"]
        link, operation = exchange.link, exchange.operation
        if not request.endorsement_key:
            await self._authentication.registration(scope, registration_id, None, link, operation=operation)
            raise AssertionError("nothing was shown, and nothing proves nobody")
        keys = TpmKeys(request.endorsement_key, request.storage_root_key)
        blob = await self._authentication.tpm_challenge(scope, registration_id, keys, link, operation=operation)
        told = {
            "message": "Authorization required",
            "authenticationKey": b64encode(blob).decode(),
            "keyName": _KEY_NAME,
        }
        answer = json_answer(told)
        answer.set_status(HTTPStatus.UNAUTHORIZED)
        return answer

    async def poll(self, exchange: Exchange) -> web.StreamResponse:
        """GET /{scope}/registrations/{id}/operations/{operationId}"""
        principal, registration_id = _device(exchange)
        operation_id = exchange.values["operation"]
        return _answer(await self._registrations.status(principal, registration_id, operation_id), exchange)

    async def own(self, exchange: Exchange) -> web.StreamResponse:
        """POST /{scope}/registrations/{id}: the body of a request to register is taken and means nothing here."""
        principal, registration_id = _device(exchange)
        register_request(await exchange.body(REGISTER_BODY.value), "", self._limits)
        return json_answer(registration_document(await self._registrations.own_record(principal, registration_id)))


def _device(exchange: Exchange) -> tuple[Principal, str]:
    assert exchange.principal is not None, "the listener has settled it"
    return exchange.principal, exchange.values["registration"]


def _answer(operation: RegistrationOperation, exchange: Exchange) -> web.StreamResponse:
    answer = json_answer(operation_document(operation))
    if operation.registration is None:
        scope, registration_id = exchange.values["scope"], exchange.values["registration"]
        path = "/".join(quote(each, safe="") for each in (scope, "registrations", registration_id))
        version = quote(exchange.query["api-version"], safe="")
        answer.set_status(HTTPStatus.ACCEPTED)
        answer.headers["Retry-After"] = str(operation.retry_after)
        answer.headers["Location"] = f"/{path}/operations/{operation.operation_id}?api-version={version}"
    return answer
