"""What the hub says of its own state: health, metrics, status."""

import socket
from collections.abc import Iterator
from typing import Any

from hubkeep import __version__
from hubkeep.cloud.audit import Refusals
from hubkeep.cloud.replays import Replays
from hubkeep.connection.admission import Admission
from hubkeep.connection.amqp.listener import AmqpListener
from hubkeep.connection.https.listener import HttpsListener
from hubkeep.connection.mqtt.listener import MqttListener
from hubkeep.connection.sessions import Sessions
from hubkeep.connection.throttling import Throttles
from hubkeep.device.own_authorities import OwnAuthorities
from hubkeep.messaging.routing.relay import EventRelay
from hubkeep.metrics import Sample
from hubkeep.model import Retention
from hubkeep.store.event_log import SqliteEventLog
from hubkeep.store.registry import Registry

from .hub import Hub


def unhealthy(event_log: SqliteEventLog, registry: Registry, own: OwnAuthorities) -> list[str]:
    """Why the hub is not healthy; empty when it is."""
    reasons = [damage.reason for damage in event_log.damaged.values()]
    if event_log.refuse_writes is not None:
        reasons.append(event_log.refuse_writes.reason)
    if registry.failing:
        reasons.append("the registry cannot be written: its last two writes failed")
    reasons += own.failing.values()
    return reasons


def samples(
    event_log: SqliteEventLog,
    admission: Admission,
    throttles: Throttles,
    sessions: Sessions,
    refusals: Refusals,
    relay: EventRelay,
    replays: Replays,
    mqtt: MqttListener,
    amqp: AmqpListener,
    https: HttpsListener,
) -> Iterator[Sample]:
    """What the parts count, under the names of metrics.FAMILIES."""
    for surface, accepted, links in (
        ("mqtt", mqtt.accepted, len(mqtt.links)),
        ("amqp", amqp.accepted, len(amqp.links)),
        ("https", https.accepted, len(https.connections)),
    ):
        yield Sample("hubkeep_messages", accepted, surface)
        yield Sample("hubkeep_links", links, surface)
    yield Sample("hubkeep_cloud_to_device_messages", mqtt.deliveries.to_device.sent)
    yield Sample("hubkeep_stray_acknowledgements", mqtt.stray_acknowledgements)
    for source, count in relay.passed.items():
        yield Sample("hubkeep_hub_events", count, source)
    yield Sample("hubkeep_hub_events_expired", relay.expired)
    for code, count in refusals.counts.items():
        yield Sample("hubkeep_refusals", count, str(code))
    for fault, count in refusals.rows.items():
        yield Sample("hubkeep_refusals_by_row", count, fault)
    for surface, count in replays.counts.items():
        yield Sample("hubkeep_logins", count, surface)
    yield Sample("hubkeep_refusals_dropped", refusals.dropped)
    for kind, count in throttles.refused.items():
        yield Sample("hubkeep_throttled", count, kind)
    yield Sample("hubkeep_connections", admission.open)
    yield Sample("hubkeep_connections_unauthenticated", admission.unauthenticated)
    yield Sample("hubkeep_connections_refused", admission.refused)
    yield Sample("hubkeep_identities_connected", sessions.connected)
    yield Sample("hubkeep_https_requests", https.requests)
    yield Sample("hubkeep_event_log_commits", event_log.commits)
    yield Sample("hubkeep_event_log_commit_seconds", event_log.commit_seconds)
    yield Sample("hubkeep_event_log_bytes", event_log.committed_bytes)
    yield Sample("hubkeep_event_log_pending_bytes", event_log.pending_bytes)
    yield Sample("hubkeep_event_log_damages", len(event_log.damaged))
    yield Sample("hubkeep_event_log_torn_bytes", event_log.torn_bytes)
    yield Sample("hubkeep_event_log_writable", event_log.refuse_writes is None)
    for partition in range(event_log.partitions):
        state = event_log.state(partition)
        yield Sample("hubkeep_partition_first_sequence", state.first_sequence, str(partition))
        yield Sample("hubkeep_partition_last_sequence", state.last_sequence, str(partition))


def status(
    hub: Hub, event_log: SqliteEventLog, registry: Registry, sessions: Sessions, retention: Retention
) -> dict[str, Any]:
    return {
        "version": __version__,
        "mode": hub.settings.mode,
        "host_names": list(hub.settings.host_names),
        "endpoints": {kind: hub.endpoint(kind) for kind in hub.ports},
        "missing": hub.missing,
        "events_name": hub.settings.events.name,
        "retention_hours": retention.hours,
        "retention_bytes": retention.size,
        "connected": sessions.connected,
        "partitions": [event_log.state(each)._asdict() for each in range(event_log.partitions)],
        "lost": [
            {
                "partition": each.partition,
                "first_sequence": each.first,
                "last_sequence": each.last,
                "accepted": each.accepted,
            }
            for each in event_log.gaps
        ],
        "unhealthy": unhealthy(event_log, registry, hub.certification.own),
        "machine": socket.gethostname(),
    }
