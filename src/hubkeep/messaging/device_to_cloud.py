"""Device-to-cloud messages: sized, stamped, put into the log. Start at ``accept``."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from hubkeep.errors import HubError, MessageTooLarge
from hubkeep.limits import Limits
from hubkeep.model import Message, Principal
from hubkeep.ports import Clock, EventEncoding, EventLog

from .partitions import partition_of

_AT_ONCE: Final = 200  # messages encoded before others get their turn


class Sender(msgspec.Struct, frozen=True):
    """Everything about a sender that its messages have in common, settled once when it connects."""

    principal: Principal
    partition: int
    head: bytes


class DeviceToCloud:
    """Telemetry from a trusted identity to the event log."""

    def __init__(self, log: EventLog, encoding: EventEncoding, clock: Clock, limits: Limits) -> None:
        self.log, self._encoding, self._clock, self._limits = log, encoding, clock, limits

    def sender(self, principal: Principal, model_id: str | None = None) -> Sender:
        """Settle partition and identity annotations of ``principal``."""
        partition = partition_of(principal.device_id, self.log.partitions)
        return Sender(principal, partition, self._encoding.head(principal, model_id=model_id))

    def accept(
        self, sender: Sender, messages: Sequence[Message], on_durable: Callable[[HubError | None], None]
    ) -> None:
        """Put messages into their partition's open batch, all or none; ``on_durable`` runs once they are on disk.

        Raises MessageTooLarge, BadRequest, StoreUnavailable: then nothing was stored and nothing is acknowledged.
        """
        self.log.append(sender.partition, sender.head, self._tails(sender, messages), on_durable)

    def sections(self, sender: Sender, message: Message) -> bytes:
        """What is stored of a message's properties (EventEncoding.sections). Raises MessageTooLarge, BadRequest."""
        self._check_size(message)
        return self._encoding.sections(sender.principal, message.system, message.properties)

    def append(self, sender: Sender, tails: Sequence[bytes], on_durable: Callable[[HubError | None], None]) -> None:
        """``accept`` for messages that are encoded already. Raises StoreUnavailable."""
        self.log.append(sender.partition, sender.head, tails, on_durable)

    def _check_size(self, message: Message) -> None:
        limit = self._limits.device_to_cloud_size
        if (size := message.size()) > limit:
            raise MessageTooLarge(
                reason=f"{size} bytes with properties; the limit is {limit}", remedy="send less at once"
            )

    def _tails(self, sender: Sender, messages: Sequence[Message]) -> list[bytes]:
        ingress = int(self._clock.now() * 1000)
        for message in messages:
            self._check_size(message)
        encoding, principal = self._encoding, sender.principal
        return [
            encoding.tail(ingress, encoding.sections(principal, message.system, message.properties), message.body)
            for message in messages
        ]

    async def store(self, sender: Sender, messages: Sequence[Message]) -> None:
        """``accept``, and wait until the messages are durable. Raises what ``accept`` raises.

        Of many messages some are encoded at a time, so that others get their turn; they are stored all or none.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_durable(error: HubError | None) -> None:
            if not done.done():
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)

        tails: list[bytes] = []
        for start in range(0, len(messages), _AT_ONCE):
            if start:
                await asyncio.sleep(0)
            tails += self._tails(sender, messages[start : start + _AT_ONCE])
        self.log.append(sender.partition, sender.head, tails, on_durable)
        await done
