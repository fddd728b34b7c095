"""State files of ``az iot hub state``: configurations, devices with their twins, and below each its modules.

One JSON document, each part by id: ``{"configurations": {"admConfigurations", "edgeDeployments"}, "devices"}``. What it
says of the hub itself (``arm``) is passed over. Reported properties are no part of it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from .client import HubClient, device_path
from .failure import CommandFailure

_FIRST_LINE: Final = 1_000_000
_KINDS: Final = {"deviceContent": "admConfigurations", "moduleContent": "admConfigurations"}
_OWN_OF_CONFIGURATION: Final = ("createdTimeUtc", "etag", "lastUpdatedTimeUtc", "schemaVersion", "systemMetrics")
_SYSTEM: Final = "$"  # modules whose id begins so come with their device
_UPSERT: Final = "createorupdate"
STATE_MODES: Final = ("create", "createOrUpdate", "update")


def state_of(file: Path) -> Mapping[str, Any] | None:
    """What a state file holds; None for a file of records. Raises CommandFailure when it cannot be read."""
    try:
        with file.open("rb") as source:
            begin = source.readline(_FIRST_LINE).removeprefix(b"\xef\xbb\xbf").strip()
            if not begin.startswith(b"{"):
                return None
            try:
                value = json.loads(begin)
            except ValueError:
                # a record has its whole line
                value = json.loads(file.read_bytes())
    except OSError as error:
        raise CommandFailure(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        return None
    is_state = isinstance(value, dict) and "id" not in value and bool({"devices", "configurations"} & value.keys())
    return value if is_state else None


# -- from a state ------------------------------------------------------------------------------------------------------


def records_of(state: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Records, those of one list to be made before the next: parents before what is below them.

    A record of a device that is below another names it as ``parent``. Raises CommandFailure.
    """
    try:
        devices: dict[str, Any] = dict(state.get("devices") or {})
        made: set[str] = set()
        while devices:
            level = {name: each for name, each in devices.items() if _is_next(each, made, devices)}
            if not level:
                raise CommandFailure(f"devices are parents of each other: {', '.join(sorted(devices)[:5])}")
            yield [record for name, each in level.items() for record in _of_device(name, each)]
            made |= level.keys()
            devices = {name: each for name, each in devices.items() if name not in level}
    except (KeyError, TypeError, AttributeError) as error:
        raise CommandFailure(f"the state file is not as such files are: {error!r}") from None


def _is_next(device: Mapping[str, Any], made: set[str], devices: Mapping[str, Any]) -> bool:
    parent = device.get("parent")
    return not parent or parent in made or parent not in devices


def _of_device(device_id: str, device: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    identity = device["identity"]
    record = {
        "id": device_id,
        "status": identity.get("status"),
        "statusReason": identity.get("statusReason"),
        "authentication": identity["authentication"],
        "capabilities": identity.get("capabilities"),
        **_twin(device),
    }
    if device.get("parent"):
        record["parent"] = device["parent"]
    yield record
    for module_id, module in (device.get("modules") or {}).items():
        one = {"id": device_id, "moduleId": module_id, **_twin(module)}
        if module_id.startswith(_SYSTEM):
            yield {**one, "importMode": "updateTwin"}
        else:
            own = module["identity"]
            yield {**one, "managedBy": own.get("managedBy"), "authentication": own["authentication"]}


def _twin(of: Mapping[str, Any]) -> dict[str, Any]:
    twin = of.get("twin") or {}
    desired = (twin.get("properties") or {}).get("desired") or {}
    return {
        "tags": twin.get("tags") or {},
        "properties": {"desired": {name: value for name, value in desired.items() if not name.startswith("$")}},
    }


class Parents:
    """Scopes of the devices that others are below, asked of the hub once they are there."""

    def __init__(self, client: HubClient) -> None:
        self._client = client
        self._scopes: dict[str, str] = {}

    def placed(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record with the scope of its parent in place of its name. Raises CommandFailure for an unknown one."""
        if (parent := record.pop("parent", None)) is None:
            return record
        if parent not in self._scopes:
            self._scopes[parent] = self._client.get(device_path(parent)).get("deviceScope") or ""
        is_edge = bool((record.get("capabilities") or {}).get("iotEdge"))
        own = {} if is_edge else {"deviceScope": self._scopes[parent]}
        return {**record, **own, "parentScopes": [self._scopes[parent]]}


def configurations_of(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    kinds = state.get("configurations") or {}
    return [each for kind in ("admConfigurations", "edgeDeployments") for each in (kinds.get(kind) or {}).values()]


def put_configuration(client: HubClient, configuration: Mapping[str, Any], mode: str) -> None:
    """Create it, or update it where there is one and the mode lets. Raises CommandFailure."""
    wanted = {name: value for name, value in configuration.items() if name not in _OWN_OF_CONFIGURATION}
    wanted["metrics"] = {"queries": (configuration.get("metrics") or {}).get("queries") or {}}
    path = f"/configurations/{configuration['id']}"
    exists = any(each["id"] == configuration["id"] for each in client.get("/configurations"))
    mode = mode.lower()
    updates = exists if mode == _UPSERT else mode == "update"
    client.request("PUT", path, body=wanted, if_match="*" if updates else "")


# -- to a state --------------------------------------------------------------------------------------------------------


def configurations_to_state(found: list[dict[str, Any]]) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {"admConfigurations": {}, "edgeDeployments": {}}
    for each in found:
        (kind,) = each["content"]
        kept = {name: value for name, value in each.items() if name not in _OWN_OF_CONFIGURATION}
        kinds[_KINDS.get(kind, "edgeDeployments")][each["id"]] = kept
    return kinds


def device_to_state(records: list[dict[str, Any]]) -> dict[str, Any]:
    """records: of one device, itself first, its modules behind it."""
    device, *modules = records
    identity = {
        "deviceId": device["id"],
        "status": device["status"],
        "statusReason": device["statusReason"],
        "authentication": device["authentication"],
        "capabilities": device["capabilities"],
    }
    state: dict[str, Any] = {"identity": identity, "twin": _twin_to_state(device)}
    if scopes := device.get("parentScopes"):
        # ms-azure-iot-edge://PARENT-GENERATION
        state["parent"] = scopes[0].partition("://")[2].rpartition("-")[0]
    if modules:
        state["modules"] = {each["moduleId"]: _module_to_state(each) for each in modules}
    return state


def _module_to_state(module: dict[str, Any]) -> dict[str, Any]:
    authentication = module["authentication"]
    if module["moduleId"].startswith(_SYSTEM):
        authentication = {"type": "none"}  # the hub makes their keys with the device
    names = {name: module[name] for name in ("moduleId", "managedBy")}
    return {"identity": {**names, "authentication": authentication}, "twin": _twin_to_state(module)}


def _twin_to_state(record: dict[str, Any]) -> dict[str, Any]:
    twin: dict[str, Any] = {"properties": {"desired": record["properties"]["desired"]}}
    return twin | ({"tags": record["tags"]} if record["tags"] else {})
