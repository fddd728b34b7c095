"""What was sent, what was acknowledged, and what is read back: one instrument for every test of durability."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple


def body_of(device: str, number: int) -> bytes:
    """Every body is known from its device and number, so that any change of it shows. 60 to 290 bytes."""
    head = f"{device} {number} "
    digest = hashlib.sha256(head.encode()).hexdigest()
    return (head + digest * (1 + int(digest[0], 16) % 4)).encode()


class ReadBack(NamedTuple):
    """One event as a consumer got it."""

    partition: int
    sequence: int
    offset: int
    device: str
    body: bytes


class Findings(NamedTuple):
    """All but the first three must be 0. A message that was not acknowledged may be there once, or not."""

    attempted: int
    acknowledged: int
    read_back: int
    lost: int  # acknowledged and not read back
    altered: int
    unexpected: int  # never attempted
    order_breaks: int  # within one device
    gaps: int  # in a partition's sequence numbers
    duplicates: int
    offset_breaks: int  # offsets that do not rise

    @property
    def faults(self) -> int:
        return sum(self[3:])

    def __str__(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in self._asdict().items())


class Ledger:
    """attempted: how many messages of each device were begun, numbered from 0. acknowledged: which of them."""

    def __init__(self) -> None:
        self.attempted: dict[str, int] = {}
        self.acknowledged: dict[str, set[int]] = {}

    def add(self, device: str, attempted: int, acknowledged: Iterable[int]) -> None:
        self.attempted[device] = max(attempted, self.attempted.get(device, 0))
        self.acknowledged.setdefault(device, set()).update(acknowledged)

    def check(self, events: Iterable[ReadBack]) -> Findings:
        """events: of each partition, in the order in which the consumer got them, from the first one on."""
        count = altered = unexpected = order_breaks = gaps = duplicates = offset_breaks = 0
        seen: dict[str, set[int]] = {device: set() for device in self.attempted}
        newest: dict[str, int] = {}
        ends: dict[int, tuple[int, int]] = {}
        for event in events:
            count += 1
            sequence, offset = ends.get(event.partition, (-1, -1))
            gaps += event.sequence != sequence + 1
            offset_breaks += event.offset <= offset
            ends[event.partition] = (event.sequence, event.offset)
            number = _number(event.body)
            if number is None or event.device not in seen:
                unexpected += 1
            elif event.body != body_of(event.device, number):
                altered += 1
            elif number >= self.attempted[event.device]:
                unexpected += 1
            else:
                duplicates += number in seen[event.device]
                order_breaks += number < newest.get(event.device, -1)
                newest[event.device] = number
                seen[event.device].add(number)
        lost = sum(len(numbers - seen[device]) for device, numbers in self.acknowledged.items())
        return Findings(
            sum(self.attempted.values()),
            sum(map(len, self.acknowledged.values())),
            count,
            lost,
            altered,
            unexpected,
            order_breaks,
            gaps,
            duplicates,
            offset_breaks,
        )


def _number(body: bytes) -> int | None:
    parts = body.split(b" ")
    return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else None


def perfect(devices: Iterable[str], each: int) -> Iterator[ReadBack]:
    """What a faultless hub of one partition gives back for ``each`` messages of every device."""
    sequence = offset = 0
    for number in range(each):
        for device in devices:
            body = body_of(device, number)
            yield ReadBack(0, sequence, offset, device, body)
            sequence, offset = sequence + 1, offset + len(body)
