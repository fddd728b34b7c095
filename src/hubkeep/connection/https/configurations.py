"""The service REST surface of configurations. Source: service-protocols 2.11."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web

from hubkeep.device.identities import Identities
from hubkeep.errors import BadRequest, ModuleNotFound
from hubkeep.limits import CONFIGURATIONS, HTTP_SERVICE_BODY
from hubkeep.messaging.configurations import Configurations, Measured, Wanted, settings_patch
from hubkeep.messaging.twins import Twins
from hubkeep.model import Identity

from ..timestamps import time_stamp
from .answers import json_answer, no_content, normal_etag
from .bodies import json_as
from .exchange import Endpoint, Exchange

_WHOLE = "properties.desired"


class _Metrics(msgspec.Struct, frozen=True):
    queries: dict[str, str] | None = None


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    """What a back end may say. Its ``etag`` is no condition; the header is."""

    id: str | None = None
    content: dict[str, Any] | None = None
    target_condition: str | None = None
    priority: int | None = None
    labels: dict[str, str] | None = None
    metrics: _Metrics | None = None
    schema_version: str | None = None
    content_type: str | None = None


class _Queries(msgspec.Struct, frozen=True, rename="camel"):
    target_condition: str | None = None
    custom_metric_queries: dict[str, str] | None = None


class _Content(msgspec.Struct, frozen=True, rename="camel"):
    modules_content: dict[str, dict[str, Any]]


class ConfigurationSurface:
    """settle: see ServiceSurface."""

    def __init__(
        self,
        configurations: Configurations,
        identities: Identities,
        twins: Twins,
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self._configurations, self._identities, self._twins = configurations, identities, twins
        self._settle = settle

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
        body = json_as(_Body, await exchange.body(HTTP_SERVICE_BODY.value))
        if body.id is not None and body.id != configuration_id:
            raise BadRequest("The id of the body is not the one of the address.")
        wanted = Wanted(
            content=body.content,
            condition=body.target_condition or "",
            priority=body.priority or 0,
            labels=body.labels or {},
            metrics=(body.metrics or _Metrics()).queries or {},
            schema_version=body.schema_version or "1.0",
            content_type=body.content_type,
        )
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
        body = json_as(_Queries, await exchange.body(HTTP_SERVICE_BODY.value))
        target, metrics = self._configurations.query_errors(body.target_condition, body.custom_metric_queries or {})
        return json_answer({"targetConditionError": target or None, "customMetricQueryErrors": metrics})

    async def apply(self, exchange: Exchange) -> web.StreamResponse:
        """POST /devices/{id}/applyConfigurationContent: desired properties of its modules, made where there is none."""
        body = json_as(_Content, await exchange.body(HTTP_SERVICE_BODY.value))
        device_id = exchange.values["id"]
        device = await self._identities.get(device_id)
        if device.iot_edge and not {"$edgeAgent", "$edgeHub"} <= set(body.modules_content):
            raise BadRequest("modulesContent of an edge device has $edgeAgent and $edgeHub.")
        patches = {module: _desired(settings) for module, settings in body.modules_content.items()}
        for module, (desired, is_whole) in patches.items():
            try:
                await self._identities.get(device_id, module)
            except ModuleNotFound:
                await self._identities.create(Identity(device_id=device_id, module_id=module))
            write = self._twins.replace_desired if is_whole else self._twins.update_desired
            await write(device_id, module, desired)
        return no_content()


def _desired(settings: dict[str, Any]) -> tuple[Any, bool]:
    """What a module should desire, and whether in place of all it did. Raises BadRequest."""
    if list(settings) == [_WHOLE]:
        return settings[_WHOLE], True
    if not all(path.startswith(f"{_WHOLE}.") for path in settings):
        raise BadRequest(f"A path of the content is {_WHOLE}, or begins with it and a dot.")
    return settings_patch(settings), False


def _answer(measured: Measured) -> web.Response:
    return json_answer(configuration_to_json(measured), etag=measured.configuration.etag)


def configuration_to_json(measured: Measured) -> dict[str, Any]:
    """The configuration of service-protocols 2.11."""
    one = measured.configuration
    return {
        "id": one.configuration_id,
        "schemaVersion": one.schema_version,
        "labels": one.labels,
        "content": {"moduleContent" if one.of_modules else "deviceContent": one.content},
        "contentType": one.content_type,
        "targetCondition": one.condition,
        "createdTimeUtc": time_stamp(one.created),
        "lastUpdatedTimeUtc": time_stamp(one.updated),
        "priority": one.priority,
        "systemMetrics": {
            "results": {"targetedCount": measured.targeted, "appliedCount": measured.applied},
            "queries": {"targetedCount": _targeted_query(measured), "appliedCount": _applied_query(measured)},
        },
        "metrics": {"results": dict(measured.results), "queries": one.metrics},
        "etag": one.etag,
    }


def _select(measured: Measured) -> str:
    one = measured.configuration
    return "select deviceId, moduleId from devices.modules" if one.of_modules else "select deviceId from devices"


def _targeted_query(measured: Measured) -> str:
    condition, select = measured.configuration.condition, _select(measured)
    if condition in {"", "*"}:
        return select if condition else ""
    lowered = condition.lower()
    if lowered.startswith("from "):  # it names its collection itself
        return f"{select.partition(' from ')[0]} {condition}"
    return f"{select} where {condition}"


def _applied_query(measured: Measured) -> str:
    return f"{_select(measured)} where configurations.[[{measured.configuration.configuration_id}]].status = 'Applied'"
