"""The hub's own events: made of changes, and put into the form that readers know. Source: service-protocols 6.5, 6.6.

Implements ports.ChangeEvents. Stores call it inside the transaction of the change and write what it answers beside it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from hubkeep.model import EventSource, HubEvent, Job, JobPart, SystemProperties, Twin, TwinChange, time_stamp
from hubkeep.ports import Activity, Clock

from ..job_documents import part_document
from .event_bodies import change_body, digital_twin_patch, twin_body
from .table import RoutingTable

_SCHEMAS: Final[Mapping[EventSource, str]] = {
    "deviceLifecycleEvents": "deviceLifecycleNotification",
    "twinChangeEvents": "twinChangeNotification",
    "digitalTwinChangeEvents": "digitalTwinChangeNotification",
    "deviceConnectionStateEvents": "deviceConnectionStateNotification",
    "deviceJobLifecycleEvents": "deviceJobLifecycleNotification",  # ours: the original documents none (S-Q15)
}
_JSON, _JSON_PATCH = "application/json", "application/json-patch+json"
_NAME_OF_PART: Final = {"canceled": "cancelled"}


class HubEvents:
    """See ports.ChangeEvents."""

    def __init__(self, table: RoutingTable, clock: Clock) -> None:
        self._table, self._clock = table, clock

    def wants(self, source: EventSource) -> bool:
        return source in self._table.wanted

    def created(self, twins: Iterable[Twin]) -> Sequence[HubEvent]:
        return self._lifecycle("create", twins)

    def deleted(self, twins: Iterable[Twin], connected: Iterable[tuple[str, str]] = ()) -> Sequence[HubEvent]:
        """Modules before their device; that they are disconnected comes first."""
        now = self._clock.now()
        cut = self.connections_turned(Activity(*key, connected=False, at=now) for key in connected)
        return [*cut, *self._lifecycle("delete", sorted(twins, key=lambda each: not each.module_id))]

    def twin_changed(self, before: Twin, change: TwinChange) -> Sequence[HubEvent]:
        wanted = self._table.wanted
        if not wanted or not change.touches:
            return ()
        twin, events = change.twin, []
        if "twinChangeEvents" in wanted:
            events.append(self._of(twin, "twinChangeEvents", change.operation, change_body(change)))
        if "digitalTwinChangeEvents" in wanted and (patch := digital_twin_patch(before, twin)):
            events.append(self._of(twin, "digitalTwinChangeEvents", "updateTwin", patch))
        return events

    def connections_turned(self, turns: Iterable[Activity]) -> Sequence[HubEvent]:
        source: EventSource = "deviceConnectionStateEvents"
        if not self.wants(source):
            return ()
        return [
            HubEvent(
                source=source,
                operation="deviceConnected" if each.connected else "deviceDisconnected",
                device_id=each.device_id,
                module_id=each.module_id,
                at=each.at,
            )
            for each in turns
        ]

    def job_parts_changed(self, parts: Iterable[tuple[Job, JobPart]]) -> Sequence[HubEvent]:
        source: EventSource = "deviceJobLifecycleEvents"
        if not self.wants(source):
            return ()
        return [
            HubEvent(
                source=source,
                operation=f"deviceJob{_NAME_OF_PART.get(part.status, part.status).capitalize()}",
                device_id=part.device_id,
                module_id=part.module_id,
                at=part.updated,
                body=msgspec.json.encode(part_document(job, part)),
            )
            for job, part in parts
        ]

    def _lifecycle(self, verb: Literal["create", "delete"], twins: Iterable[Twin]) -> Sequence[HubEvent]:
        source: EventSource = "deviceLifecycleEvents"
        if not self.wants(source):
            return ()
        return [self._of(each, source, lifecycle_operation(verb), twin_body(each)) for each in twins]

    def _of(self, twin: Twin, source: EventSource, operation: str, body: object) -> HubEvent:
        return HubEvent(
            source=source,
            operation=operation,
            device_id=twin.device_id,
            module_id=twin.module_id,
            at=self._clock.now(),
            body=msgspec.json.encode(body),
        )


def lifecycle_operation(verb: Literal["create", "delete"]) -> str:
    """The same word for devices and modules, as the original's newer documents have it (S-Q14)."""
    return f"{verb}DeviceIdentity"


class ToldMessage(NamedTuple):
    """A hub's own event as the message that goes out."""

    system: SystemProperties
    properties: Mapping[str, str | None]
    body: bytes


def as_message(event: HubEvent, hub_name: str) -> ToldMessage:
    """One that is told twice has the same correlation id."""
    system = SystemProperties(
        user_id=hub_name,
        correlation_id=f"{event.number:011x}",
        content_type=_JSON_PATCH if event.source == "digitalTwinChangeEvents" else _JSON,
        content_encoding="utf-8",
    )
    properties = {
        "hubName": hub_name,
        "deviceId": event.device_id,
        **({"moduleId": event.module_id} if event.module_id else {}),
        "opType": event.operation,
        "operationTimestamp": time_stamp(event.at),
        "iothub-message-schema": _SCHEMAS[event.source],
    }
    body = event.body
    if event.source == "deviceConnectionStateEvents":
        body = msgspec.json.encode({"sequenceNumber": f"{event.number:064X}"})
    return ToldMessage(system, properties, body)


def short_name(host_name: str) -> str:
    """The hub's name as events tell it: the first label of its host name; an address as it is."""
    first, _, rest = host_name.partition(".")
    is_address = ":" in host_name or rest.replace(".", "").isdigit()
    return host_name if is_address else first
