"""The service REST surface of configurations. Source: service-protocols 2.11."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from hubkeep.device.identities import Identities
from hubkeep.errors import BadRequest, ConfigurationNotFound, HubError, StoreUnavailable, on_wire
from hubkeep.limits import CONFIGURATION_METRICS, CONFIGURATIONS, HTTP_SERVICE_BODY, Limits
from hubkeep.messaging.configuration_content import check_module, check_system_modules, with_module_settings
from hubkeep.messaging.configuration_queries import system_queries
from hubkeep.messaging.configurations import Configurations, Measured, Wanted
from hubkeep.messaging.twins import Twins

from ..refusal_bodies import refusal_text
from ..timestamps import time_stamp
from .answers import json_answer, no_content, normal_etag
from .bodies import documented, json_as
from .exchange import Endpoint, Exchange

_UPSERT: Final = "createOrUpdateIfMatchETag"


class MetricsBody(msgspec.Struct, frozen=True):
    queries: Annotated[dict[str, str], documented(maxProperties=CONFIGURATION_METRICS.value)] | None = None


class ConfigurationBody(msgspec.Struct, frozen=True, rename="camel"):
    """What a back end may say. Its ``etag`` is no condition; the header is."""

    id: str | None = None
    content: dict[str, Any] | None = None
    target_condition: str | None = None
    priority: Annotated[int, documented(minimum=0, maximum=2**31 - 1)] | None = None
    labels: dict[str, str] | None = None
    metrics: MetricsBody | None = None
    schema_version: str | None = None
    content_type: str | None = None


class _Record(ConfigurationBody, frozen=True, rename="camel"):
    """One of an import."""

    import_mode: str | None = None


class QueriesBody(msgspec.Struct, frozen=True, rename="camel"):
    target_condition: str | None = None
    custom_metric_queries: dict[str, str] | None = None


class ContentBody(msgspec.Struct, frozen=True, rename="camel"):
    modules_content: dict[str, dict[str, Any]]


class ConfigurationSurface:
    """settle: see ServiceSurface."""

    def __init__(
        self,
        configurations: Configurations,
        identities: Identities,
        twins: Twins,
        settle: Callable[[], Awaitable[None]],
        limits: Limits,
    ) -> None:
        self._configurations, self._identities, self._twins = configurations, identities, twins
        self._settle, self._limits = settle, limits

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("configurations/list", self.list, "service"),
            Endpoint("configurations/get", self.get, "service"),
            Endpoint("configurations/put", self.put, "service"),
            Endpoint("configurations/delete", self.delete, "service"),
            Endpoint("configurations/test", self.test, "service"),
            Endpoint("configurations/apply", self.apply, "service"),
        )

    async def list(self, exchange: Exchange) -> web.StreamResponse:
        """GET /configurations"""
        top = exchange.number("top", CONFIGURATIONS.value, 1, CONFIGURATIONS.value)
        return json_answer([configuration_to_json(each) for each in await self._configurations.list(top)])

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """GET /configurations/{id}"""
        await self._settle()
        return _answer(await self._configurations.get(exchange.values["configuration"]))

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /configurations/{id}: creates without If-Match, updates with it."""
        configuration_id = exchange.values["configuration"]
        body = json_as(ConfigurationBody, await exchange.body(HTTP_SERVICE_BODY.value))
        if body.id is not None and body.id != configuration_id:
            raise BadRequest("The id of the body is not the one of the address.")
        wanted = _wanted(body)
        if etag := normal_etag(exchange.request.headers.get("If-Match", "")):
            return _answer(await self._configurations.update(configuration_id, wanted, etag))
        return _answer(await self._configurations.create(configuration_id, wanted))

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /configurations/{id}"""
        etag = normal_etag(exchange.request.headers.get("If-Match", ""))
        await self._configurations.delete(exchange.values["configuration"], etag or "*")
        return no_content()

    async def test(self, exchange: Exchange) -> web.StreamResponse:
        """POST /configurations/testQueries: faults as text."""
        body = json_as(QueriesBody, await exchange.body(HTTP_SERVICE_BODY.value))
        target, metrics = self._configurations.query_errors(body.target_condition, body.custom_metric_queries or {})
        return json_answer({"targetConditionError": target or None, "customMetricQueryErrors": metrics})

    async def apply(self, exchange: Exchange) -> web.StreamResponse:
        """POST /devices/{id}/applyConfigurationContent: desired properties of its modules, made where there is none."""
        body = json_as(ContentBody, await exchange.body(HTTP_SERVICE_BODY.value))
        device_id = exchange.values["id"]
        device = await self._identities.get(device_id)
        if device.iot_edge:
            check_system_modules(body.modules_content)
        for settings in body.modules_content.values():
            check_module(settings, self._limits)
        for module, settings in body.modules_content.items():
            await self._identities.ensure_module(device_id, module)
            rewrite = functools.partial(with_module_settings, settings=settings)
            await self._twins.rewrite_desired(device_id, module, rewrite)
        return no_content()


def _wanted(body: ConfigurationBody) -> Wanted:
    return Wanted(
        content=body.content,
        condition=body.target_condition or "",
        priority=body.priority or 0,
        labels=body.labels or {},
        metrics=(body.metrics or MetricsBody()).queries or {},
        schema_version=body.schema_version or "1.0",
        content_type=body.content_type,
    )


class ConfigurationLines:
    """See device.transfers.ConfigurationFormat. A line is a configuration with its ``importMode``, an upsert."""

    def __init__(self, configurations: Configurations) -> None:
        self._configurations = configurations

    async def lines(self) -> AsyncIterator[bytes]:
        for each in await self._configurations.list(CONFIGURATIONS.value):
            yield msgspec.json.encode({**configuration_to_json(each), "importMode": _UPSERT})

    async def put(self, line: bytes) -> bytes | None:
        configuration_id = ""
        try:
            body = json_as(_Record, line)
            configuration_id = body.id or ""
            if (body.import_mode or _UPSERT).lower() != _UPSERT.lower():
                raise BadRequest(f"The import mode of a configuration is {_UPSERT}.")
            await self._put(configuration_id, _wanted(body))
        except StoreUnavailable:
            raise
        except HubError as error:
            code, text = on_wire(error).name, refusal_text(error)
            return msgspec.json.encode({"configurationId": configuration_id, "errorCode": code, "errorStatus": text})
        return None

    async def _put(self, configuration_id: str, wanted: Wanted) -> None:
        """An etag of another hub says nothing here: what exists is updated, unless it has other content."""
        try:
            await self._configurations.update(configuration_id, wanted, "*")
        except ConfigurationNotFound:
            await self._configurations.create(configuration_id, wanted)


def _answer(measured: Measured) -> web.Response:
    return json_answer(configuration_to_json(measured), etag=measured.configuration.etag)


def configuration_to_json(measured: Measured) -> dict[str, Any]:
    """The configuration of service-protocols 2.11."""
    one = measured.configuration
    return {
        "id": one.configuration_id,
        "schemaVersion": one.schema_version,
        "labels": one.labels,
        "content": {one.kind: one.content},
        "contentType": one.content_type,
        "targetCondition": one.condition,
        "createdTimeUtc": time_stamp(one.created),
        "lastUpdatedTimeUtc": time_stamp(one.updated),
        "priority": one.priority,
        "systemMetrics": {
            "results": {"targetedCount": measured.targeted, "appliedCount": measured.applied, **measured.reported},
            "queries": system_queries(one),
        },
        "metrics": {"results": dict(measured.results), "queries": one.metrics},
        "etag": one.etag,
    }
