"""Brings edge deployments to the modules of the edge devices they are for. Source: service-protocols 2.11.

Of the deployments that are for a device, the one of the highest priority that is whole is its base; those above it that
are layered are laid upon it, the lowest first. The edge agent's twin shows which; what a module was told by a
deployment that is for its device no more is taken back.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from hubkeep.errors import HubError, ModuleNotFound
from hubkeep.model import Configuration, Hold, HoldStatus, Json
from hubkeep.ports import ConfigurationStore

from .configuration_content import EDGE_AGENT, is_layered, with_module_settings, without_module_settings
from .fleet_queries import FleetQueries
from .twin_sections import difference
from .twins import Twins

log = logging.getLogger(__name__)

_EDGE_DEVICES: Final = "SELECT * FROM devices WHERE capabilities.iotEdge = true"

EnsureModule = Callable[[str, str], Awaitable[object]]
Belongs = Callable[[dict[str, Any]], bool]
Target = tuple[Configuration, Belongs]


class Plan(NamedTuple):
    """What one device's modules should be told. applied: the base last, those that are laid upon it before it."""

    targeted: Sequence[Configuration]
    applied: Sequence[Configuration]

    @staticmethod
    def of(targeted: Sequence[Configuration]) -> "Plan":
        """targeted: the highest priority first."""
        for place, each in enumerate(targeted):
            if not is_layered(each.content):
                return Plan(targeted, targeted[: place + 1])
        return Plan(targeted, targeted)

    def modules(self, taken_back: Sequence[Configuration]) -> list[str]:
        return list(dict.fromkeys(module for each in (*reversed(self.applied), *taken_back) for module in each.content))

    def desired(self, module: str, properties: Json, taken_back: Sequence[Configuration]) -> Json:
        """What ``module`` should desire that desires ``properties`` now."""
        for each in taken_back:
            properties = without_module_settings(properties, each.content.get(module, {}))
        for each in reversed(self.applied):
            properties = with_module_settings(properties, each.content.get(module, {}))
        return properties

    def statuses(self) -> dict[int, HoldStatus]:
        applied = {each.number for each in self.applied}
        return {each.number: "Applied" if each.number in applied else "Targeted" for each in self.targeted}


class EdgeDeployments:
    """ensure_module: registers a module of a device where it is not."""

    def __init__(
        self, store: ConfigurationStore, queries: FleetQueries, twins: Twins, ensure_module: EnsureModule
    ) -> None:
        self._store, self._queries, self._twins, self._ensure_module = store, queries, twins, ensure_module

    async def evaluate(self, deployments: Mapping[int, Configuration], targets: Sequence[Target]) -> None:
        """deployments: all by number, deleted ones too. targets: the live ones, the highest priority first."""
        async for documents in self._queries.documents(self._queries.parse(_EDGE_DEVICES)):
            edges = [document for _, document in documents if document["capabilities"]["iotEdge"]]
            held = await self._store.holds([(each["deviceId"], EDGE_AGENT) for each in edges])
            for document in edges:
                device_id = document["deviceId"]
                plan = Plan.of([each for each, belongs in targets if belongs(document)])
                await self._bring(device_id, plan, held.get((device_id, EDGE_AGENT), ()), deployments)

    async def _bring(
        self, device_id: str, plan: Plan, held: Sequence[Hold], known: Mapping[int, Configuration]
    ) -> None:
        applied = {each.number for each in plan.applied}
        taken_back = [known[each.number] for each in held if each.is_touched and each.number not in applied]
        statuses = plan.statuses()
        try:
            due = [
                module for module in plan.modules(taken_back) if await self._is_due(device_id, module, plan, taken_back)
            ]
            if not due and not taken_back and {each.number: each.status for each in held} == statuses:
                return
            await self._ensure_module(device_id, EDGE_AGENT)
            # noted before it is written, so that it is taken back whenever the hub stops
            touched = applied | {each.number for each in held if each.is_touched}
            before = {each.number: each.status for each in held}
            await self._keep(device_id, {number: before.get(number, "Targeted") for number in statuses}, touched)
            for module in due:
                await self._tell(device_id, module, plan, taken_back)
            await self._keep(device_id, statuses, applied, [each for each in held if each.number not in statuses])
        except HubError as error:
            log.warning("a deployment is not brought to %s: %s", device_id, error.reason)

    async def _is_due(self, device_id: str, module: str, plan: Plan, taken_back: Sequence[Configuration]) -> bool:
        try:
            properties = (await self._twins.get(device_id, module)).desired.properties
        except ModuleNotFound:
            return any(module in each.content for each in plan.applied)
        return bool(difference(properties, plan.desired(module, properties, taken_back)))

    async def _tell(self, device_id: str, module: str, plan: Plan, taken_back: Sequence[Configuration]) -> None:
        await self._ensure_module(device_id, module)

        def rewrite(properties: Json) -> Json:
            return plan.desired(module, properties, taken_back)

        await self._twins.rewrite_desired(device_id, module, rewrite)

    async def _keep(
        self,
        device_id: str,
        statuses: Mapping[int, HoldStatus],
        touched: set[int],
        released: Sequence[Hold] = (),
    ) -> None:
        held = [
            Hold(number, device_id, EDGE_AGENT, status, is_touched=number in touched)
            for number, status in statuses.items()
        ]
        await self._store.change_holds(held, released)
