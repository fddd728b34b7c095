"""One batch of events as it lies in the log: the events of one partition that one commit made durable.

Body: number of heads (u16); each head with its length (u32); number of events (u32); per event the index of its head
(u16) and the length of its tail (u32); then all tails. A head is what is the same for all events of a sender, so it is
stored once per batch. The checksum covers the place of the batch, its body, and the checksum of the batch before it.
"""

import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

from hubkeep.ports import Event

_PLACE: Final = struct.Struct(">IqIqqI")


class BatchUnreadable(Exception):
    """The bytes of a batch do not say what a batch says."""


class Batch:
    """Events of one partition with consecutive sequence numbers.

    enqueued: Unix milliseconds, the same for all. offsets: of each event, rising with the bytes of the tails.
    """

    __slots__ = ("chain", "enqueued", "first_offset", "first_sequence", "head_indexes", "heads", "offsets", "tails")

    def __init__(
        self,
        first_sequence: int,
        first_offset: int,
        enqueued: int,
        heads: Sequence[bytes],
        head_indexes: Sequence[int],
        tails: Sequence[bytes],
        chain: int = 0,
    ) -> None:
        self.first_sequence, self.first_offset, self.enqueued = first_sequence, first_offset, enqueued
        self.heads, self.head_indexes, self.tails, self.chain = heads, head_indexes, tails, chain
        self.offsets: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.tails)

    @property
    def next_sequence(self) -> int:
        return self.first_sequence + len(self.tails)

    def _offsets(self) -> Sequence[int]:
        if self.offsets is None:
            self.offsets = tuple(accumulate(map(len, self.tails), initial=self.first_offset))
        return self.offsets

    @property
    def next_offset(self) -> int:
        return self._offsets()[-1]

    @property
    def last_offset(self) -> int:
        return self._offsets()[-2]

    def sequence_at_offset(self, offset: int) -> int:
        """The first sequence number whose offset is at least ``offset``."""
        offsets = self._offsets()
        index = bisect_right(offsets, offset - 1)
        return self.first_sequence + index

    def events(self, sequence: int, max_bytes: int) -> list[Event]:
        """Events from ``sequence`` on, at least one, until ``max_bytes`` of tails are passed."""
        start = max(sequence - self.first_sequence, 0)
        offsets, heads, indexes = self._offsets(), self.heads, self.head_indexes
        stop = bisect_right(offsets, offsets[start] + max_bytes, lo=start + 1, hi=len(self.tails))
        enqueued = self.enqueued
        return [
            Event(self.first_sequence + i, offsets[i], enqueued, heads[indexes[i]], self.tails[i])
            for i in range(start, stop)
        ]

    def encode(self) -> bytes:
        """The body."""
        tails = self.tails
        parts = [struct.pack(">H", len(self.heads))]
        for head in self.heads:
            parts += (struct.pack(">I", len(head)), head)
        parts += (
            struct.pack(">I", len(tails)),
            struct.pack(f">{len(tails)}H", *self.head_indexes),
            struct.pack(f">{len(tails)}I", *map(len, tails)),
        )
        parts += tails
        return b"".join(parts)

    @classmethod
    def decode(
        cls, first_sequence: int, count: int, first_offset: int, enqueued: int, chain: int, body: bytes
    ) -> "Batch":
        """Raises BatchUnreadable. Check the checksum first: this only guards against what that cannot see."""
        try:
            (heads_count,) = struct.unpack_from(">H", body)
            at, heads = 2, []
            for _ in range(heads_count):
                (length,) = struct.unpack_from(">I", body, at)
                heads.append(body[at + 4 : at + 4 + length])
                at += 4 + length
            (stored,) = struct.unpack_from(">I", body, at)
            if stored != count:
                raise BatchUnreadable(f"{stored} events where {count} are announced")
            indexes = struct.unpack_from(f">{count}H", body, at + 4)
            lengths = struct.unpack_from(f">{count}I", body, at + 4 + 2 * count)
            at += 4 + 6 * count
            if at + sum(lengths) != len(body) or (indexes and max(indexes) >= heads_count):
                raise BatchUnreadable("lengths do not add up")
            ends = list(accumulate(lengths, initial=at))
            tails = [body[start:end] for start, end in pairwise(ends)]
        except struct.error as error:
            raise BatchUnreadable(str(error)) from None
        return cls(first_sequence, first_offset, enqueued, heads, indexes, tails, chain)


class OpenBatch:
    """What waits for the next commit of one partition."""

    __slots__ = ("_indexes", "head_indexes", "heads", "tails")

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.head_indexes = array("H")
        self.tails: list[bytes] = []
        self._indexes: dict[bytes, int] = {}

    def add(self, head: bytes, tails: Sequence[bytes]) -> None:
        index = self._indexes.get(head)
        if index is None:
            index = self._indexes[head] = len(self.heads)
            self.heads.append(head)
        count = len(tails)
        if count == 1:
            self.head_indexes.append(index)
        else:
            self.head_indexes.extend((index,) * count)
        self.tails += tails


def checksum(
    partition: int, first_sequence: int, count: int, first_offset: int, enqueued: int, previous: int, body: bytes
) -> int:
    """CRC-32 over the batch's place, the checksum before it, and its body."""
    place = _PLACE.pack(partition, first_sequence, count, first_offset, enqueued, previous)
    return zlib.crc32(body, zlib.crc32(place))
