"""What a configuration sets: paths of desired properties and their values. Pure. Source: service-protocols 2.11."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, cast, get_args

from hubkeep.errors import BadRequest
from hubkeep.limits import Limits
from hubkeep.model import SYSTEM_MODULES, ContentKind, Json

from .twin_sections import check_size, checked, merged

EDGE_AGENT: Final = "$edgeAgent"
_WHOLE: Final = "properties.desired"
_PREFIX: Final = f"{_WHOLE}."
_KINDS: Final[tuple[str, ...]] = get_args(ContentKind)


class Content(NamedTuple):
    kind: ContentKind
    settings: Json


def checked_content(content: Json | None, limits: Limits) -> Content:
    """The one kind of content that there is. Raises BadRequest."""
    kinds = [kind for kind, value in (content or {}).items() if value is not None]
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise BadRequest(f"The content has one of {', '.join(_KINDS)}.")
    kind = cast("ContentKind", kinds[0])
    settings = (content or {})[kind]
    if not isinstance(settings, dict) or not settings:
        raise BadRequest("The content has paths of desired properties and their values.")
    if kind == "modulesContent":
        for module in settings.values():
            check_module(module, limits)
        if not is_layered(settings):
            check_system_modules(settings)
    else:
        _check_paths(settings)
        checked("desired", settings_patch(settings), limits)
    return Content(kind, settings)


def check_module(settings: Any, limits: Limits) -> None:
    """What one module of an edge device is told: all it desires, or paths. Raises BadRequest."""
    if not isinstance(settings, dict):
        raise BadRequest("The content of a module has paths of desired properties and their values.")
    if _WHOLE in settings and len(settings) > 1:
        raise BadRequest(f"The content of a module has {_WHOLE}, or paths below it.")
    if not is_whole(settings):
        _check_paths(settings)
    desired = settings[_WHOLE] if is_whole(settings) else settings_patch(settings)
    check_size("desired", merged({}, checked("desired", desired, limits)), limits.twin_properties)


def check_system_modules(modules: Mapping[str, Any]) -> None:
    """Raises BadRequest unless both of an edge device's own modules are told something."""
    if not set(SYSTEM_MODULES) <= set(modules):
        raise BadRequest(f"The modulesContent of an edge device has {' and '.join(SYSTEM_MODULES)}.")


def is_layered(modules: Mapping[str, Any]) -> bool:
    """Whether a deployment only adds to another: it does not say all that the edge agent desires."""
    return not is_whole(modules.get(EDGE_AGENT, {}))


def is_whole(settings: Mapping[str, Any]) -> bool:
    """Whether it is all that a module desires, in place of what it did."""
    return _WHOLE in settings


def with_module_settings(properties: Json, settings: Mapping[str, Any]) -> Json:
    """A module's desired properties after ``settings``, as they stand for it in modulesContent and were checked."""
    if is_whole(settings):
        return merged({}, settings[_WHOLE])
    return merged(properties, settings_patch(settings))


def without_module_settings(properties: Json, settings: Mapping[str, Any]) -> Json:
    """A module's desired properties without what ``settings`` put there."""
    return {} if is_whole(settings) else without_settings(properties, settings)


def settings_patch(settings: Mapping[str, Any]) -> Json:
    """Paths and values as one patch of desired properties. Raises BadRequest where a path is below another."""
    patch: Json = {}
    for path, value in settings.items():
        *parents, last = path.removeprefix(_PREFIX).split(".")
        place = patch
        for name in parents:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise BadRequest("A path of the content is below another one.")
        if last in place:
            raise BadRequest("A path of the content is below another one.")
        place[last] = value
    return patch


def without_settings(properties: Json, settings: Mapping[str, Any]) -> Json:
    """Desired properties without what stands at the paths, and without objects that this leaves empty."""
    for path in settings:
        properties = _without(properties, path.removeprefix(_PREFIX).split("."))
    return properties


def _without(properties: Json, path: Sequence[str]) -> Json:
    name, *rest = path
    if name not in properties:
        return properties
    left = {key: value for key, value in properties.items() if key != name}
    inner = properties[name]
    if rest and isinstance(inner, dict) and (kept := _without(inner, rest)):
        return {**properties, name: kept}
    return left if not rest or isinstance(inner, dict) else properties


def _check_paths(settings: Json) -> None:
    for path in settings:
        if not path.startswith(_PREFIX):
            raise BadRequest(f"A path of the content begins with {_PREFIX}")
