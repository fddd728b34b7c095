"""The hub's own metrics of a configuration as queries, which clients show and ask. Source: service-protocols 2.11."""

from collections.abc import Mapping
from typing import Final

from hubkeep.model import Configuration

_DEVICES: Final = "select deviceId from devices"
_MODULES: Final = "select deviceId, moduleId from devices.modules"
_OF_EDGE_AGENTS: Final = "select deviceId from devices.modules where moduleId = '$edgeAgent' and "
_IS_UP_TO_DATE: Final = "properties.desired.$version = properties.reported.lastDesiredVersion"


def system_queries(one: Configuration) -> Mapping[str, str]:
    """By name of the metric."""
    return {"targetedCount": _targeted(one), "appliedCount": _applied(one), **reported_queries(one)}


def reported_queries(one: Configuration) -> Mapping[str, str]:
    """What edge devices say of a deployment. Nothing of other configurations."""
    if one.kind != "modulesContent":
        return {}
    code = f"{_applied(one)} and {_IS_UP_TO_DATE} and properties.reported.lastDesiredStatus.code"
    return {"reportedSuccessfulCount": f"{code} = 200", "reportedFailedCount": f"{code} != 200"}


def _targeted(one: Configuration) -> str:
    condition = one.condition
    if one.kind == "modulesContent" and condition:
        edges = f"{_DEVICES} where capabilities.iotEdge = true"
        return edges if condition == "*" else f"{edges} and ({condition})"
    select = _MODULES if one.kind == "moduleContent" else _DEVICES
    if condition in {"", "*"}:
        return select if condition else ""
    if condition.lower().startswith("from "):  # it names its collection itself
        return f"{select.partition(' from ')[0]} {condition}"
    return f"{select} where {condition}"


def _applied(one: Configuration) -> str:
    is_applied = f"configurations.[[{one.configuration_id}]].status = 'Applied'"
    if one.kind == "modulesContent":
        return f"{_OF_EDGE_AGENTS}{is_applied}"
    return f"{_MODULES if one.kind == 'moduleContent' else _DEVICES} where {is_applied}"
