"""Live delivery: one feed for each receiver of a queue, whatever wire it is on.

A feed locks messages while its receiver has room, and gives back what was not settled when the receiver ends. Feeds
are woken through the bus when something was queued or came back; between two messages a feed costs nothing.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from hubkeep.errors import HubError, LinkStolen, LockLost
from hubkeep.messaging.cloud_to_device import QUEUE_CHANGED, CloudToDevice
from hubkeep.model import Locked, Outcome, QueueName
from hubkeep.ports import Bus

log = logging.getLogger(__name__)


class Receiver(Protocol):
    """A link that takes messages of one queue."""

    def room(self) -> int:
        """How many messages it takes now."""

    def deliver(self, message: Locked) -> None:
        """Send it, or gather it for ``write_out``. Called only while there is room."""

    def write_out(self) -> None:
        """There is no room any more, or nothing that waits: write what was gathered."""

    def idle(self) -> None:
        """It had room, and nothing more waits."""

    def failed(self, error: HubError) -> None:
        """The queue cannot be read or written now, or another receiver of the same identity took over."""


class Feed:
    """What one receiver gets of one queue. Made by ``Deliveries.open``."""

    __slots__ = ("_deliveries", "_held", "_receiver", "_running", "_stopped", "_tasks", "_woken", "queue")

    def __init__(self, deliveries: "Deliveries", queue: QueueName, receiver: Receiver) -> None:
        self._deliveries, self.queue, self._receiver = deliveries, queue, receiver
        self._held: set[str] = set()  # lock tokens
        self._running = self._woken = self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """There may be a message, or room for one."""
        self._woken = True
        if not self._running and not self._stopped and self._receiver.room() > 0:
            self._running = True
            self._start(self._run())

    def settle(self, message: Locked, outcome: Outcome) -> "asyncio.Task[HubError | None]":
        """The receiver's outcome. The task's result tells whether it was too late."""
        task = asyncio.get_running_loop().create_task(self._settle(message.lock_token, outcome))
        self._keep(task)
        return task

    def stop(self) -> None:
        """The receiver is gone: what it holds is visible again, its count the same (L-D7)."""
        if self._stopped:
            return
        self._stopped = True
        self._deliveries.forget(self)
        for token in tuple(self._held):
            self._start(self._release(token))

    def take_over(self) -> None:
        """A newer receiver of the same identity has come."""
        self.stop()
        self._receiver.failed(LinkStolen(cause="taken-over", reason="a newer receiver of the same identity took over"))

    async def _run(self) -> None:
        to_device = self._deliveries.to_device
        try:
            while self._woken and not self._stopped:
                self._woken = False
                try:
                    while not self._stopped and self._receiver.room() > 0:
                        message = await to_device.receive(self.queue)
                        if message is None:
                            self._receiver.idle()
                            break
                        self._take(message)
                finally:
                    self._receiver.write_out()
        except HubError as error:
            if not self._stopped:
                self._receiver.failed(error)
        finally:
            self._running = False

    def _take(self, message: Locked) -> None:
        if self._stopped:
            self._start(self._release(message.lock_token))
        else:
            self._held.add(message.lock_token)
            self._receiver.deliver(message)

    async def _settle(self, token: str, outcome: Outcome) -> HubError | None:
        try:
            await self._deliveries.to_device.settle(self.queue, token, outcome)
        except LockLost as error:
            return error
        except HubError as error:
            # still locked: it comes back when the lock lapses
            if not self._stopped:
                self._receiver.failed(error)
            return error
        finally:
            self._held.discard(token)
        self.wake()
        return None

    async def _release(self, token: str) -> None:
        self._held.discard(token)
        await self._deliveries.to_device.settle(self.queue, token, "released")

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._keep(asyncio.get_running_loop().create_task(work))

    def _keep(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a delivery failed", exc_info=error)


class Deliveries:
    """Who receives what, on this node. An identity's queue has one receiver: the newest."""

    def __init__(self, to_device: CloudToDevice, bus: Bus) -> None:
        self.to_device = to_device
        self._feeds: dict[QueueName, list[Feed]] = {}
        bus.subscribe(QUEUE_CHANGED, self._changed)

    def open(self, queue: QueueName, receiver: Receiver) -> Feed:
        """A feed for ``receiver``, asleep until its first ``wake``; an older receiver of the identity ends."""
        feed = Feed(self, queue, receiver)
        older = tuple(self._feeds.get(queue, ())) if queue.device_id else ()
        self._feeds.setdefault(queue, []).append(feed)
        for each in older:
            each.take_over()
        return feed

    def forget(self, feed: Feed) -> None:
        feeds = self._feeds.get(feed.queue, [])
        if feed in feeds:
            feeds.remove(feed)
        if not feeds:
            self._feeds.pop(feed.queue, None)

    def _changed(self, payload: object) -> None:
        assert isinstance(payload, QueueName)
        for feed in tuple(self._feeds.get(payload, ())):
            feed.wake()
