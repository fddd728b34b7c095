"""Real SDK clients for ``hubkeep demo``: simulated devices, and a back end that reads everything (extra: demo)."""

import asyncio
import itertools
import json
import math
import random
import uuid
from collections.abc import Callable
from typing import Any

from azure.eventhub.aio import EventHubConsumerClient
from azure.iot.device import Message, MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient

_LOOK_EVERY = 0.1  # seconds
_LOOKS = 100


class SimulatedDevice:
    """A thermometer. sent: ids of the messages that the hub acknowledged. taken: ids of those that came for it.

    Its desired property ``interval`` is the seconds between two messages; its method ``status`` tells how many it sent.

    awaited: ids of messages that it waits for, some seconds at most, before it leaves.
    """

    def __init__(
        self,
        device_id: str,
        connection_string: str,
        trust_bundle: str,
        seconds_between: float,
        show: Callable[[str, Any], None],
    ) -> None:
        """show: called with the device's id and each message that comes for it."""
        self.device_id, self._seconds = device_id, seconds_between
        self._client = IoTHubDeviceClient.create_from_connection_string(
            connection_string, server_verification_cert=trust_bundle, keep_alive=30
        )
        self.sent: list[str] = []
        self.taken: set[str] = set()
        self.awaited: set[str] = set()
        self._show = show

    def _take(self, message: Any) -> None:
        self.taken.add(message.message_id)
        self._show(self.device_id, message)

    async def run(self, stop: asyncio.Event) -> None:
        """Connect, send until ``stop``, disconnect."""
        await self._client.connect()
        await self._client.get_twin()
        # it subscribes, and blocks until that is acknowledged: perhaps by this very loop
        await asyncio.to_thread(self._listen)
        phase = random.random() * math.tau  # noqa: S311  # no secret depends on it
        try:
            for number in itertools.count():
                temperature = round(24 + 8 * math.sin(phase + number / 8), 1)
                body = json.dumps({"temperature": temperature, "number": number})
                message = Message(body, uuid.uuid4().hex)  # type: ignore[no-untyped-call]
                message.content_type, message.content_encoding = "application/json", "utf-8"
                message.custom_properties["alarm"] = str(temperature > 30).lower()
                await self._client.send_message(message)
                self.sent.append(message.message_id)
                try:
                    await asyncio.wait_for(stop.wait(), self._seconds)
                except TimeoutError:
                    continue
                return
        finally:
            for _ in range(_LOOKS):
                if self.awaited <= self.taken:
                    break
                await asyncio.sleep(_LOOK_EVERY)
            await self._client.shutdown()

    def _listen(self) -> None:
        self._client.on_message_received = self._take
        self._client.on_twin_desired_properties_patch_received = self._on_desired
        self._client.on_method_request_received = self._on_method

    async def _on_desired(self, patch: dict[str, Any]) -> None:
        interval = patch.get("interval")
        if isinstance(interval, int | float) and interval > 0:
            self._seconds = float(interval)
            await self._client.patch_twin_reported_properties({"interval": interval})

    async def _on_method(self, request: Any) -> None:
        known = request.name == "status"
        payload: dict[str, Any] = {"sent": len(self.sent)} if known else {"methods": ["status"]}
        response = MethodResponse.create_from_method_request(request, 200 if known else 404, payload)
        await self._client.send_method_response(response)


class Backend:
    """Reads every partition from now on. received: ids of the messages."""

    def __init__(self, connection_string: str, trust_bundle: str, show: Callable[[str, Any], None]) -> None:
        """show: called with the partition's id and each event."""
        self._client = EventHubConsumerClient.from_connection_string(
            connection_string, consumer_group="$Default", connection_verify=trust_bundle
        )
        self._show = show
        self.received: set[str] = set()
        self.partitions = 0
        self._ready: set[str] = set()

    async def run(self) -> None:
        """Read until cancelled."""
        async with self._client:
            self.partitions = len(await self._client.get_partition_ids())
            readers = [
                self._client.receive(self._on_event, partition_id=str(each), starting_position="@latest")
                for each in range(self.partitions)
            ]
            await asyncio.gather(*readers)

    async def _on_event(self, context: Any, event: Any) -> None:
        message_id = event.system_properties[b"message-id"].decode()
        self.received.add(message_id)
        self._show(context.partition_id, event)
