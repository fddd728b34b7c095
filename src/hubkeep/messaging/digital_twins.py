"""A device's twin as its plug and play model sees it: components, properties, acknowledgements. Pure.

Source: service-protocols 2.13.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from hubkeep.errors import BadRequest
from hubkeep.limits import Limits
from hubkeep.model import Json, Twin

from .twin_sections import checked

_MARK: Final = "__t"  # of a component, with the value ``c``
_OPERATIONS: Final = ("add", "replace", "remove")
_ACKNOWLEDGED: Final = {"ac": "ackCode", "av": "ackVersion", "ad": "ackDescription"}


class Operation(msgspec.Struct, frozen=True):
    """One operation of a JSON Patch. value: nothing where it removes."""

    op: str
    path: str
    value: Any = None


def digital_twin_document(twin: Twin) -> Json:
    """``$dtId``, properties, components, and beside them what is known of each in ``$metadata``."""
    document: Json = {"$dtId": twin.device_id}
    about: Json = {"$model": twin.model_id} if twin.model_id else {}
    reported, desired = twin.reported, twin.desired
    for name in dict.fromkeys((*reported.properties, *desired.properties)):
        sides = reported.properties.get(name), desired.properties.get(name)
        if any(_is_component(side) for side in sides):
            inner: Json = {}
            about_inner: Json = {}
            document[name] = inner
            inner_reported, inner_desired = (side if isinstance(side, dict) else {} for side in sides)
            for each in dict.fromkeys((*inner_reported, *inner_desired)):
                if each != _MARK:
                    _tell(
                        each,
                        (inner_reported, reported.metadata.get(name, {})),
                        (inner_desired, desired.metadata.get(name, {})),
                        inner,
                        about_inner,
                    )
            inner["$metadata"] = about_inner
        else:
            _tell(
                name, (reported.properties, reported.metadata), (desired.properties, desired.metadata), document, about
            )
    document["$metadata"] = about
    return document


def _tell(name: str, reported: tuple[Json, Json], desired: tuple[Json, Json], values: Json, about: Json) -> None:
    """One property: its value to ``values``, the rest to ``about``. Each section comes with its metadata."""
    known: Json = {}
    if name in desired[0]:
        known["desiredValue"] = desired[0][name]
        known["desiredVersion"] = desired[1].get(name, {}).get("$lastUpdatedVersion")
    if name in reported[0]:
        value = reported[0][name]
        if isinstance(value, dict) and "value" in value and ("ac" in value or "av" in value):
            known |= {told: value[short] for short, told in _ACKNOWLEDGED.items() if short in value}
            value = value["value"]
        values[name] = value
        known["lastUpdateTime"] = reported[1].get(name, {}).get("$lastUpdated")
    about[name] = known


def patched_desired(properties: Json, operations: Sequence[Operation], limits: Limits) -> Json:
    """Desired properties after a JSON Patch of the digital twin. Raises BadRequest."""
    for each in operations:
        if each.op not in _OPERATIONS:
            raise BadRequest(f"An operation is one of {', '.join(_OPERATIONS)}.")
        if each.op != "remove" and each.value is None:
            raise BadRequest("A value is missing.")
        component, name = _place(each.path)
        if component:
            inner = properties.get(component)
            inner = dict(inner) if isinstance(inner, dict) else {}
            changed = {**dict(_without(inner, name)), **_value(each, name), _MARK: "c"}
            properties = {**properties, component: changed}
        else:
            properties = {**dict(_without(properties, name)), **_value(each, name, properties.get(name))}
    return checked("desired", properties, limits)


def _value(operation: Operation, name: str, before: Any = None) -> Json:
    """What stands at ``name`` afterwards; a component is told by its $metadata, or was one before."""
    if operation.op == "remove":
        return {}
    value = operation.value
    if isinstance(value, dict) and ("$metadata" in value or _is_component(before)):
        value = {key: member for key, member in value.items() if key != "$metadata"} | {_MARK: "c"}
    return {name: value}


def _without(properties: Json, name: str) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in properties.items() if key != name)


def _place(path: str) -> tuple[str, str]:
    """``/component/property`` or ``/property`` (a JSON pointer) as component, which may be empty, and name."""
    start, *steps = path.split("/")
    if start or not 1 <= len(steps) <= 2 or not all(steps) or any(step.startswith("$") for step in steps):
        raise BadRequest("A path is /property, /component or /component/property.")
    named = [step.replace("~1", "/").replace("~0", "~") for step in steps]
    return (named[0], named[1]) if len(named) == 2 else ("", named[0])


def _is_component(value: Any) -> bool:
    return isinstance(value, dict) and value.get(_MARK) == "c"
