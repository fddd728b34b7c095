"""A twin as service clients and queries see it: one JSON document. Source: service-protocols 2.5."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from hubkeep.model import SYSTEM_MODULES, Identity, Twin, TwinSection
from hubkeep.model.timestamps import time_stamp


class _Subject(NamedTuple):
    twin: Twin
    identity: Identity
    waiting: int
    configurations: Mapping[str, str]


def sections_document(twin: Twin) -> dict[str, Any]:
    """Both sections, each with what is known of it."""
    return {"desired": _section(twin.desired), "reported": _section(twin.reported)}


def _section(section: TwinSection) -> dict[str, Any]:
    return {**section.properties, "$metadata": section.metadata, "$version": section.version}


# Every member in its place in the document. A value of None is left out.
_MEMBERS: Final[Mapping[str, Callable[[_Subject], Any]]] = {
    "deviceId": lambda of: of.twin.device_id,
    "moduleId": lambda of: of.twin.module_id or None,
    "etag": lambda of: of.twin.etag,
    "deviceEtag": lambda of: of.identity.etag,
    "status": lambda of: of.identity.status,
    "statusUpdateTime": lambda of: time_stamp(of.identity.status_updated),
    "connectionState": lambda of: "Connected" if of.identity.connected else "Disconnected",
    "lastActivityTime": lambda of: time_stamp(of.identity.last_activity),
    "cloudToDeviceMessageCount": lambda of: of.waiting,
    "authenticationType": lambda of: "none" if of.identity.module_id in SYSTEM_MODULES else of.identity.authentication,
    "x509Thumbprint": lambda of: {
        "primaryThumbprint": of.identity.primary_thumbprint,
        "secondaryThumbprint": of.identity.secondary_thumbprint,
    },
    "modelId": lambda of: of.twin.model_id,
    "version": lambda of: of.twin.version,
    "statusReason": lambda of: of.identity.status_reason or None,
    "tags": lambda of: of.twin.tags or None,
    "properties": lambda of: sections_document(of.twin),
    "capabilities": lambda of: None if of.twin.module_id else {"iotEdge": of.identity.iot_edge},
    "deviceScope": lambda of: of.identity.device_scope or None,
    "parentScopes": lambda of: list(of.identity.parent_scopes) or None,
    "configurations": lambda of: {name: {"status": status} for name, status in of.configurations.items()} or None,
}
ALL_MEMBERS: Final = tuple(_MEMBERS)


def twin_document(
    twin: Twin,
    identity: Identity,
    waiting: int,
    members: tuple[str, ...] = ALL_MEMBERS,
    configurations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The twin of service-protocols 2.5: the identity's state, tags and both sections with their metadata.

    waiting: cloud-to-device messages in its queue. members: those that are wanted; unknown ones are passed over.
    configurations: those that are for it, with their status.
    """
    subject = _Subject(twin, identity, waiting, configurations or {})
    document: dict[str, Any] = {}
    for name in members:
        member = _MEMBERS.get(name)
        if member is not None and (value := member(subject)) is not None:
            document[name] = value
    return document
