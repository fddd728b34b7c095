"""What stands in the bodies of the hub's own events. Pure. Source: service-protocols 6.6."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hubkeep.model import Json, Twin, TwinChange

from ..digital_twins import digital_twin_document
from ..twin_document import sections_document

_ABOUT: Final = "$metadata"


def twin_body(twin: Twin) -> Json:
    """The whole twin, as it was made, replaced or deleted."""
    return {
        "deviceId": twin.device_id,
        **({"moduleId": twin.module_id} if twin.module_id else {}),
        "etag": twin.etag,
        "version": twin.version,
        **({"tags": twin.tags} if twin.tags else {}),
        "properties": sections_document(twin),
    }


def change_body(change: TwinChange) -> Json:
    """What changed, each section with what is known of that alone; null stands for what was removed."""
    twin = change.twin
    if change.operation == "replaceTwin":
        return twin_body(twin)
    sections = {
        name: {
            **patch,
            _ABOUT: _metadata_of(patch, section.metadata),
            "$version": section.version,
        }
        for name, patch, section in (
            ("desired", change.desired, twin.desired),
            ("reported", change.reported, twin.reported),
        )
        if patch is not None
    }
    return {
        "version": twin.version,
        **({} if change.tags is None else {"tags": change.tags}),
        **({"properties": sections} if sections else {}),
    }


def _metadata_of(patch: Json, metadata: Json) -> Json:
    known = {name: value for name, value in metadata.items() if name.startswith("$")}
    for name, value in patch.items():
        if name in metadata:
            about = metadata[name]
            known[name] = _metadata_of(value, about) if isinstance(value, dict) else about
    return known


def digital_twin_patch(before: Twin, after: Twin) -> list[Json]:
    """The JSON Patch from one state of the digital twin to the next; empty when it shows no difference."""
    return list(_operations("", digital_twin_document(before), digital_twin_document(after)))


def _operations(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Json]:
    """What is known of them comes before values. A value is replaced whole: to its model it is one thing."""
    for name in sorted(before.keys() | after.keys(), key=lambda each: (each != _ABOUT, each)):
        place = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        if name not in after:
            yield {"op": "remove", "path": place}
        elif name not in before:
            yield {"op": "add", "path": place, "value": after[name]}
        elif before[name] != after[name]:
            if _has_parts(path, name, before[name], after[name]):
                yield from _operations(place, before[name], after[name])
            else:
                yield {"op": "replace", "path": place, "value": after[name]}


def _has_parts(path: str, name: str, before: Any, after: Any) -> bool:
    """Components, ``$metadata``, and in it what is known of one property."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return False
    is_component = _ABOUT in before and _ABOUT in after
    return name == _ABOUT or is_component or path.endswith(f"/{_ABOUT}")
