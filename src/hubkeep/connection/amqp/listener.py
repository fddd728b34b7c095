"""The AMQP surface: what all its links share. Start at ``AmqpListener.protocol``."""

import asyncio
import uuid
from collections.abc import Callable, Sequence

from hubkeep.errors import Forbidden, NotFound
from hubkeep.limits import (
    AMQP_ANNOTATIONS_ALLOWANCE,
    AMQP_CHANNEL_MAX,
    AMQP_DELIVERY_COUNTED,
    AMQP_FRAME,
    AMQP_FRAME_BEFORE_OPEN,
    AMQP_IDLE,
    AMQP_LINK_BYTES,
    AMQP_LINK_BYTES_BEFORE,
    AMQP_LINKS,
    AMQP_PARTIAL_BYTES,
    AMQP_PARTIAL_BYTES_BEFORE,
    AMQP_SESSION_WINDOW,
    AMQP_SESSIONS,
    Limits,
)
from hubkeep.messaging.consumer_groups import ConsumerGroups
from hubkeep.messaging.device_to_cloud import DeviceToCloud
from hubkeep.model import AuditEntry, ConsumerGroup, IdentityChange
from hubkeep.ports import Bus, Clock, FlowControlledLog, RecordRefusal
from hubkeep.wire.amqp import Bounds

from ..admission import Admission
from ..authentication import Authentication
from ..deliveries import Deliveries
from ..device_registrations import DeviceRegistrations
from ..device_twins import DeviceTwins
from ..event_encoding import ingress_stamp
from ..sessions import Sessions, policy_changed
from ..throttling import Throttles
from .link import AmqpLink
from .readers import Readers


class AmqpListener:
    """Collaborators of the AMQP links. created: Unix milliseconds at which the event log was made."""

    def __init__(
        self,
        *,
        authentication: Authentication,
        to_cloud: DeviceToCloud,
        log: FlowControlledLog,
        deliveries: Deliveries,
        twins: DeviceTwins,
        registrations: DeviceRegistrations,
        bus: Bus,
        sessions: Sessions,
        admission: Admission,
        throttles: Throttles,
        refuse: RecordRefusal,
        audit: Callable[[AuditEntry], None],
        clock: Clock,
        limits: Limits,
        host_name: str,
        events_name: str,
        consumer_groups: ConsumerGroups,
        created: int,
    ) -> None:
        self.authentication, self.to_cloud, self.log, self.sessions = authentication, to_cloud, log, sessions
        self.deliveries, self.twins, self.bus, self.registrations = deliveries, twins, bus, registrations
        self.admission, self.refuse, self.audit, self.clock, self.limits = admission, refuse, audit, clock, limits
        self.throttles = throttles
        self.host_name, self.events_name, self.created = host_name, events_name, created
        self.container_id = f"hubkeep-{uuid.uuid4().hex}"
        self.entity_names = frozenset({events_name.lower(), "messages/events"})
        self._groups = consumer_groups
        # a message of fewer bytes cannot pass the limit, whatever text its properties become: a boolean of one byte is
        # five letters, a float of five up to 25
        self.small_enough = limits.device_to_cloud_size // 8
        self.readers = Readers(limits)
        bus.subscribe("consumer-group.deleted", self._group_deleted)
        bus.subscribe("policy.changed", self._policy_changed)
        bus.subscribe("roles.changed", self._roles_changed)
        self.links: set[AmqpLink] = set()
        sessions.watch(self._identity_changed)
        self.accepted = 0
        self.bounds = self._bounds(AMQP_LINK_BYTES.value, AMQP_PARTIAL_BYTES.value)
        self.bounds_before = self._bounds(AMQP_LINK_BYTES_BEFORE.value, AMQP_PARTIAL_BYTES_BEFORE.value)

    def _identity_changed(self, change: IdentityChange) -> None:
        """Tokens that were put before are worth nothing now, also where no link uses them yet (L-I2, L-I3)."""
        for link in self.links:
            link.rights.drop_changed(change)

    def _policy_changed(self, name: object) -> None:
        assert isinstance(name, str)
        error = policy_changed(name)
        for link in tuple(self.links):
            if link.rights.drop_policy(name):
                link.detach_unauthorised(error, f"policy {name}")

    def _roles_changed(self, _: object) -> None:
        error = Forbidden(cause="role-missing", reason="a role of the person was changed or taken away")
        for link in tuple(self.links):
            if link.rights.has_people:
                link.detach_unauthorised(error, link.rights.name)

    def _group_deleted(self, group: object) -> None:
        assert isinstance(group, ConsumerGroup), "the bus passes what was published"
        self.readers.end_group(group.name)

    def protocol(self) -> asyncio.Protocol:
        """A factory for listeners and WebSocket tunnels."""
        return AmqpLink(self)

    def ingress_stamp(self) -> bytes:
        """Now, as the stored form of an event begins."""
        return ingress_stamp(int(self.clock.now() * 1000))

    def _bounds(self, link_bytes: int, partial_bytes: int) -> Bounds:
        """What a connection may take of the hub: more once somebody is authorised on it."""
        return Bounds(
            max_frame_before_open=AMQP_FRAME_BEFORE_OPEN.value,
            max_frame=AMQP_FRAME.value,
            channel_max=AMQP_CHANNEL_MAX.value,
            sessions=AMQP_SESSIONS.value,
            links=AMQP_LINKS.value,
            idle_time_out=AMQP_IDLE.value,
            incoming_window=AMQP_SESSION_WINDOW.value,
            delivery_kept=self.limits.device_to_cloud_size + AMQP_ANNOTATIONS_ALLOWANCE.value,
            delivery_counted=AMQP_DELIVERY_COUNTED.value,
            link_bytes=link_bytes,
            partial_bytes=partial_bytes,
        )

    def entity_of(self, path: Sequence[str]) -> int | None:
        """How many segments of ``path`` name the event hub; None when they name something else."""
        words = [each.lower() for each in path]
        if words[:1] == [self.events_name.lower()]:
            return 1
        return 2 if words[:2] == ["messages", "events"] else None

    def reader_path(self, group: str, partition: object) -> tuple[str, ...]:
        """What tokens for reading a partition are scoped against."""
        return (self.events_name, "ConsumerGroups", group, "Partitions", str(partition))

    def consumer_group(self, name: str) -> str:
        """The group's own spelling. Raises NotFound."""
        return self._groups.find(name).name

    def partition(self, text: str) -> int:
        """Raises NotFound for what is no partition id."""
        if text.isascii() and text.isdigit() and len(text) < 4 and int(text) < self.log.partitions:
            return int(text)
        raise NotFound("There is no partition of this id.", reason=f"partition {text[:20]!r} of {self.log.partitions}")

    def check(self) -> None:
        """Once a second: deadlines of all links."""
        monotonic = self.clock.monotonic()
        for link in tuple(self.links):
            link.check(monotonic)

    def close(self) -> None:
        """The hub stops: peers are told to come back (retryable)."""
        for link in tuple(self.links):
            link.close("amqp:connection:forced", "the hub is stopping")
