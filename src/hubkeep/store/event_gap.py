"""A range of events whose loss was accepted, as it lies in the log: a record like any other, with no event in it.

It stands where the lost records stood, keeps their sequence numbers and offsets from being given out again, and the
records before and behind it chained. Body: mark; CRC-32 (u32) over the record's place, its chain and the rest; the
first offset behind it (i64); Unix milliseconds at which the loss was accepted (i64).
"""

import struct
import zlib
from typing import Final, NamedTuple

_MARK: Final = b"\xff\xffLOST"  # a batch has fewer heads than its first two octets would say here
_BODY: Final = struct.Struct(f">{len(_MARK)}sIqq")
_COVERED: Final = struct.Struct(">IqIqqIIqq")

Row = tuple[int, int, int, int, int, int, int, bytes]  # as event_file.COLUMNS


class Gap(NamedTuple):
    """first to last: sequence numbers. accepted: Unix milliseconds."""

    partition: int
    first: int
    last: int
    next_offset: int
    accepted: int

    def __str__(self) -> str:
        return f"partition {self.partition}: sequence numbers {self.first} to {self.last}"


def gap_row(
    partition: int, first: int, count: int, first_offset: int, next_offset: int, enqueued: int, previous: int,
    accepted: int, continued: int | None,
) -> Row:  # fmt: skip
    """previous: chain of the record before. continued: what the record behind says of the one before it; None: it is
    the newest."""
    chain = zlib.crc32(b"%d %d %d" % (partition, first, accepted)) if continued is None else continued
    place = (partition, first, count, first_offset, enqueued, previous)
    body = _BODY.pack(_MARK, _sum(*place, chain, next_offset, accepted), next_offset, accepted)
    return (*place, chain, body)


def gap_of(row: Row) -> Gap | None:
    """None: a record of events, or one that is damaged."""
    body = row[7]
    try:
        if len(body) != _BODY.size or not body.startswith(_MARK):
            return None
        _mark, found, next_offset, accepted = _BODY.unpack(body)
        if found != _sum(*row[:7], next_offset, accepted):
            return None
    except (struct.error, TypeError):  # a flipped bit in a record's head turns numbers into text, or into none
        return None
    return Gap(row[0], row[1], row[1] + row[2] - 1, next_offset, accepted)


def _sum(*covered: int) -> int:
    return zlib.crc32(_COVERED.pack(*covered))
