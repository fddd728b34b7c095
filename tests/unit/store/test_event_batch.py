"""One batch: what goes in comes out, and any damage shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubkeep.store.event_batch import Batch, BatchUnreadable, OpenBatch, checksum


def _batch(entries: list[tuple[bytes, list[bytes]]]) -> Batch:
    opened = OpenBatch()
    for head, tails in entries:
        opened.add(head, tails)
    return Batch(7, 100, 1000, opened.heads, opened.head_indexes, opened.tails)


TAILS = st.lists(st.binary(min_size=1, max_size=50), min_size=1)
ENTRIES = st.lists(st.tuples(st.binary(max_size=20), TAILS), min_size=1)


@given(ENTRIES)
def test_a_batch_comes_back_as_it_went_in(entries: list[tuple[bytes, list[bytes]]]) -> None:
    batch = _batch(entries)
    again = Batch.decode(7, len(batch), 100, 1000, 0, batch.encode())
    wanted = [(head, tail) for head, tails in entries for tail in tails]
    events = again.events(7, 1 << 30)
    assert [(event.head, event.tail) for event in events] == wanted
    assert [event.sequence for event in events] == list(range(7, 7 + len(wanted)))
    offsets = [event.offset for event in events]
    assert offsets == sorted(set(offsets))
    assert all(again.sequence_at_offset(event.offset) == event.sequence for event in events)


@given(ENTRIES, st.data())
def test_a_flipped_bit_changes_the_checksum(entries: list[tuple[bytes, list[bytes]]], data: st.DataObject) -> None:
    body = bytearray(_batch(entries).encode())
    before = checksum(1, 7, 3, 100, 1000, 5, bytes(body))
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert checksum(1, 7, 3, 100, 1000, 5, bytes(body)) != before


def test_a_body_cut_short_is_refused() -> None:
    batch = _batch([(b"head", [b"one", b"two"])])
    with pytest.raises(BatchUnreadable):
        Batch.decode(7, 2, 100, 1000, 0, batch.encode()[:-1])
    with pytest.raises(BatchUnreadable):
        Batch.decode(7, 3, 100, 1000, 0, batch.encode())
