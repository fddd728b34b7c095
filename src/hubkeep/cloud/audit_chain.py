"""Whether a chain of the audit is whole, and where not. Start at ``check_chain``."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from hubkeep.model import BEFORE_FIRST, AuditHead, ChainedEntry, entry_hash

_TOLD: Final = 20  # breaks of one chain


class ChainState(NamedTuple):
    """first, last: sequences; 0 without an entry. since, until: Unix milliseconds of these. hash: of the last.
    breaks: what is wrong and where, the first first; empty: the chain is whole.
    """

    chain: str
    entries: int
    first: int
    last: int
    since: int
    until: int
    hash: bytes
    breaks: tuple[str, ...]


class Expected(NamedTuple):
    """The end of a chain as it was noted elsewhere before."""

    chain: str
    sequence: int
    hash: bytes


def check_chain(
    chain: str, entries: Iterable[ChainedEntry], head: AuditHead | None, expected: Iterable[Expected] = ()
) -> ChainState:
    """entries: by sequence, as stored. head: None: not known; a missing end or beginning stays unseen."""
    breaks: list[str] = []
    awaited = {each.sequence: each.hash for each in expected if each.chain == chain}
    next_sequence = head.dropped + 1 if head is not None else 0
    previous = head.dropped_hash if head is not None else BEFORE_FIRST
    count, first, since, last, until = 0, 0, 0, 0, 0
    for each in entries:
        if not count:
            first, since = each.sequence, each.entry.time
            if head is None:
                next_sequence, previous = each.sequence, each.previous
        breaks += _faults(each, next_sequence, previous, awaited)
        count, last, until, previous = count + 1, each.sequence, each.entry.time, each.hash
        next_sequence = each.sequence + 1
    if head is not None:
        breaks += _faults_at_end(head, next_sequence - 1, previous)
    seen = head.sequence if head is not None else last
    breaks += [f"entry {sequence}, expected from before, is not there" for sequence in awaited if sequence > seen]
    if len(breaks) > _TOLD:
        breaks = [*breaks[:_TOLD], f"and {len(breaks) - _TOLD} more"]
    return ChainState(chain, count, first, last, since, until, previous if count else BEFORE_FIRST, tuple(breaks))


def _faults(each: ChainedEntry, next_sequence: int, previous: bytes, awaited: dict[int, bytes]) -> Iterable[str]:
    sequence = each.sequence
    if sequence > next_sequence:
        yield _missing(next_sequence, sequence - 1)
    elif sequence < next_sequence:
        yield f"entry {sequence} should have been dropped, or comes again"
    if entry_hash(each.previous, sequence, each.entry) != each.hash:
        yield f"entry {sequence} was changed or moved"
    elif sequence == next_sequence and each.previous != previous:
        yield f"entry {sequence} does not follow the one before it: one of the two was put in another's place"
    if sequence in awaited and awaited[sequence] != each.hash:
        yield f"entry {sequence} is another than expected from before"


def _faults_at_end(head: AuditHead, last: int, last_hash: bytes) -> Iterable[str]:
    if last < head.sequence:
        yield f"{_missing(last + 1, head.sequence)} at the end"
    elif last > head.sequence:
        yield f"entries behind {head.sequence}, the sealed end, were not written by the hub"
    elif last_hash != head.hash:
        yield f"entry {last} is not the one at which the hub sealed the end"


def _missing(first: int, last: int) -> str:
    return f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing"
