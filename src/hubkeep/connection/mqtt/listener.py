"""The MQTT surface: what all its links share. Start at ``MqttListener.protocol``."""

import asyncio
import math
import struct
from collections.abc import Coroutine
from typing import Any, Final

from hubkeep.errors import LinkStolen
from hubkeep.limits import CONNECT_WITHIN, PUBLISH_ALLOWANCE, Limits
from hubkeep.messaging.device_to_cloud import DeviceToCloud
from hubkeep.ports import Bus, Clock, EventEncoding, FlowControlledLog, RecordRefusal, SubscriptionStore
from hubkeep.wire.amqp.messages import data_section_head
from hubkeep.wire.mqtt import MqttBounds

from ..admission import Admission
from ..authentication import Authentication
from ..deliveries import Deliveries
from ..device_registrations import DeviceRegistrations
from ..device_twins import DeviceTwins
from ..sessions import Sessions
from ..throttling import Throttles
from .link import MqttLink
from .wills import DelayedWills

_INT64 = struct.Struct(">q")
_CHECKED_AT_ONCE: Final = 500  # links


class MqttListener:
    """Collaborators and counters of the MQTT links. ``protocol`` makes one link for one connection."""

    def __init__(
        self,
        *,
        authentication: Authentication,
        to_cloud: DeviceToCloud,
        log: FlowControlledLog,
        encoding: EventEncoding,
        deliveries: Deliveries,
        subscriptions: SubscriptionStore,
        twins: DeviceTwins,
        registrations: DeviceRegistrations,
        bus: Bus,
        sessions: Sessions,
        admission: Admission,
        throttles: Throttles,
        refuse: RecordRefusal,
        clock: Clock,
        limits: Limits,
        lenient_subscriptions: bool = False,
    ) -> None:
        self.authentication, self.to_cloud, self.log, self.encoding = authentication, to_cloud, log, encoding
        self.sessions, self.admission, self.refuse, self.clock, self.limits = sessions, admission, refuse, clock, limits
        self.twins, self.bus, self.registrations = twins, bus, registrations
        self.throttles = throttles
        self.lenient_subscriptions = lenient_subscriptions
        self.deliveries, self.subscriptions = deliveries, subscriptions
        self.links: set[MqttLink] = set()
        self.wills = DelayedWills()
        self._registering: dict[str, MqttLink] = {}  # by registration id, in lower case
        self._left_behind: set[asyncio.Task[None]] = set()
        self._unchecked: list[MqttLink] = []
        self._checked_at_once = _CHECKED_AT_ONCE
        self.accepted = 0
        self.max_packet = limits.device_to_cloud_size + limits.topic_length + PUBLISH_ALLOWANCE.value
        self.stray_acknowledgements = 0  # PUBACKs for what was not in flight (L-M17)
        self.data_section_head = data_section_head
        # below this, topic and payload together cannot pass the limit, whatever the topic holds
        self.small_enough = limits.device_to_cloud_size
        self.bounds = MqttBounds(
            max_connect=limits.connect_bytes,
            max_packet=self.max_packet,
            connect_within=min(limits.connect_within, CONNECT_WITHIN.value),
            keep_alive_cap=limits.keep_alive_cap,
            topic_aliases=limits.topic_aliases,
        )

    def protocol(self) -> asyncio.Protocol:
        """A factory for listeners and WebSocket tunnels."""
        return MqttLink(self)

    def registers(self, link: MqttLink) -> None:
        """A device registers on ``link``; an older one of the same registration id goes (MQTT-3.1.4-2)."""
        assert link.principal is not None, "it has logged in"
        name = link.principal.name.lower()
        older, self._registering[name] = self._registering.get(name), link
        if older is not None:
            older.cut(LinkStolen(cause="taken-over", reason="a newer connection of the same registration id took over"))

    def registered(self, link: MqttLink) -> None:
        """The link is gone. Harmless for one on which nobody registers."""
        if link.principal is not None and self._registering.get(name := link.principal.name.lower()) is link:
            del self._registering[name]

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Work that a link leaves behind."""
        task = asyncio.get_running_loop().create_task(work)
        self._left_behind.add(task)
        task.add_done_callback(self._left_behind.discard)

    def ingress_stamp(self) -> bytes:
        """Now, as the stored form of an event begins."""
        return _INT64.pack(int(self.clock.now() * 1000))

    def check(self) -> None:
        """Ten times a second: deadlines of some links, of each at least once a second.

        Ten thousand at one go would hold the loop for 20 ms (L-O3).
        """
        monotonic, wall = self.clock.monotonic(), self.clock.now()
        if not self._unchecked:
            self._unchecked = list(self.links)
            self._checked_at_once = max(_CHECKED_AT_ONCE, len(self._unchecked) // 9 + 1)
        for link in self._unchecked[-self._checked_at_once :]:
            link.check(monotonic, wall)
        del self._unchecked[-self._checked_at_once :]
        self.wills.publish_due(monotonic)

    def close(self) -> None:
        """The hub stops: links end; what they sent is still committed and acknowledged if time allows."""
        for link in tuple(self.links):
            link.close(None)
        self.wills.publish_due(math.inf)
