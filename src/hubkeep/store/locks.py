"""Who holds which queued message. Locks belong to the running hub: its end gives every message back."""

import heapq
import secrets
from typing import NamedTuple

from hubkeep.errors import LockLost
from hubkeep.model import QueueName


class Lock(NamedTuple):
    """until: monotonic seconds."""

    token: str
    queue: QueueName
    sequence: int
    until: float


class Locks:
    """Locks by token. A lock that lapsed holds nothing, even before ``lapsed`` has taken it away (L-K3)."""

    def __init__(self, newest: int = 0) -> None:
        """newest: the highest sequence when the hub started; who had those before it nobody knows."""
        self._newest = newest
        self._by_token: dict[str, Lock] = {}
        self._by_sequence: dict[int, Lock] = {}
        self._ends: list[tuple[float, str]] = []
        self._handed_out: set[int] = set()

    def __len__(self) -> int:
        return len(self._by_sequence)

    def take(self, queue: QueueName, sequence: int, until: float) -> Lock:
        """Lock a message; whoever held it has lost it."""
        if (older := self._by_sequence.get(sequence)) is not None:
            self._by_token.pop(older.token, None)
        lock = Lock(secrets.token_hex(16), queue, sequence, until)
        self._by_token[lock.token] = self._by_sequence[sequence] = lock
        heapq.heappush(self._ends, (until, lock.token))
        self._handed_out.add(sequence)
        return lock

    def get(self, token: str, now: float) -> Lock:
        """Raises LockLost for a token that holds nothing."""
        lock = self._by_token.get(token)
        if lock is None or lock.until <= now:
            raise LockLost(
                reason="the lock lapsed, or its message was settled, purged or taken back",
                remedy="receive the message again and settle it in time",
            )
        return lock

    def holds(self, sequence: int, now: float) -> bool:
        """Whether somebody holds the message."""
        lock = self._by_sequence.get(sequence)
        return lock is not None and lock.until > now

    def hides(self, sequence: int) -> bool:
        """Whether somebody holds the message, or held it until it lapsed and that has not been looked at."""
        return sequence in self._by_sequence

    def handed_out(self, sequence: int) -> bool:
        """Whether somebody may have had the message before."""
        return sequence <= self._newest or sequence in self._handed_out

    def spend(self, token: str, now: float) -> Lock:
        """The token is worth nothing more, the message still nobody else's until ``free``. Raises LockLost."""
        lock = self.get(token, now)
        del self._by_token[token]
        return lock

    def free(self, lock: Lock) -> None:
        """The message may be handed out again."""
        if self._by_sequence.get(lock.sequence) is lock:
            del self._by_sequence[lock.sequence]

    def drop(self, token: str) -> None:
        """The message is free, or gone."""
        if (lock := self._by_token.pop(token, None)) is not None:
            self.free(lock)

    def forget(self, sequence: int) -> None:
        """The message is gone for good."""
        if (lock := self._by_sequence.pop(sequence, None)) is not None:
            self._by_token.pop(lock.token, None)
        self._handed_out.discard(sequence)

    def lapsed(self, now: float) -> list[QueueName]:
        """Take away what lapsed until ``now``; whose queues they are."""
        locks = self.take_lapsed(now)
        for lock in locks:
            self.free(lock)
        return list({lock.queue: None for lock in locks})

    def take_lapsed(self, now: float) -> list[Lock]:
        """What lapsed until ``now``: tokens are worth nothing any more, messages stay hidden until ``show``."""
        locks: list[Lock] = []
        while self._ends and self._ends[0][0] <= now:
            _, token = heapq.heappop(self._ends)
            if (lock := self._by_token.pop(token, None)) is not None:
                locks.append(lock)
        return locks

    def show(self, sequence: int) -> None:
        """A message whose lock was taken away may be handed out again."""
        lock = self._by_sequence.get(sequence)
        if lock is not None and lock.token not in self._by_token:
            del self._by_sequence[sequence]
