"""Counters and gauges in Prometheus form, read from the parts when somebody asks: nothing is counted twice."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class Family(NamedTuple):
    kind: Literal["counter", "gauge"]
    text: str
    label: str = ""


FAMILIES: Final[Mapping[str, Family]] = {
    "hubkeep_messages": Family("counter", "Device-to-cloud messages taken.", "surface"),
    "hubkeep_cloud_to_device_messages": Family("counter", "Cloud-to-device messages queued."),
    "hubkeep_stray_acknowledgements": Family("counter", "PUBACKs of MQTT clients for what was not in flight."),
    "hubkeep_hub_events": Family("counter", "The hub's own events passed on.", "source"),
    "hubkeep_hub_events_expired": Family("counter", "The hub's own events that could not be stored in time."),
    "hubkeep_logins": Family("counter", "Credentials that were accepted.", "surface"),
    "hubkeep_refusals": Family("counter", "Refusals by error number.", "code"),
    "hubkeep_refusals_by_row": Family("counter", "Refusals by row of the specification's limits and faults.", "row"),
    "hubkeep_refusals_dropped": Family("counter", "Refusals counted and not kept."),
    "hubkeep_throttled": Family("counter", "Requests refused or delayed for their rate.", "class"),
    "hubkeep_connections": Family("gauge", "Open connections."),
    "hubkeep_connections_unauthenticated": Family("gauge", "Open connections that have not authenticated."),
    "hubkeep_connections_refused": Family("counter", "Connections closed at accept."),
    "hubkeep_links": Family("gauge", "Open links by surface.", "surface"),
    "hubkeep_identities_connected": Family("gauge", "Identities with a live link."),
    "hubkeep_https_requests": Family("counter", "HTTPS requests."),
    "hubkeep_event_log_commits": Family("counter", "Commits of the event log."),
    "hubkeep_event_log_commit_seconds": Family("counter", "Seconds spent in commits of the event log."),
    "hubkeep_event_log_bytes": Family("counter", "Bytes of events made durable."),
    "hubkeep_event_log_pending_bytes": Family("gauge", "Bytes of events received and not yet durable."),
    "hubkeep_event_log_damages": Family("gauge", "Damaged places of the event log that were found."),
    "hubkeep_event_log_torn_bytes": Family(
        "gauge", "Bytes never acknowledged that this start dropped from the log's end."
    ),
    "hubkeep_event_log_writable": Family("gauge", "1 while events can be stored."),
    "hubkeep_partition_first_sequence": Family("gauge", "Sequence number of the oldest event kept.", "partition"),
    "hubkeep_partition_last_sequence": Family("gauge", "Sequence number of the newest event.", "partition"),
}


class Sample(NamedTuple):
    """name: one of FAMILIES. label: the value of its label, where it has one."""

    name: str
    value: float
    label: str = ""


class HubMetrics(Collector):
    """Families of one hub, with samples that ``read`` gives."""

    def __init__(self, read: Callable[[], Iterable[Sample]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        families = {
            name: (CounterMetricFamily if each.kind == "counter" else GaugeMetricFamily)(
                name, each.text, labels=[each.label] if each.label else []
            )
            for name, each in FAMILIES.items()
        }
        for sample in self._read():
            families[sample.name].add_metric([sample.label] if sample.label else [], sample.value)
        return families.values()


def registry_of(metrics: HubMetrics) -> CollectorRegistry:
    """A registry of one hub's own, beside the process's numbers: several hubs may share a process."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(metrics)
    return registry
