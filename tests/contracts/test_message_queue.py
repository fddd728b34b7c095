"""What every adapter of ports.MessageQueue and ports.FeedbackStore does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hubkeep.cloud.secrets import open_seal
from hubkeep.errors import DeviceNotFound, LockLost, ModuleNotFound, QueueFull
from hubkeep.model import FEEDBACK, Feedback, Identity, Locked, Message, QueuedMessage, QueueName
from hubkeep.ports import Ended
from hubkeep.store.queues import SqlQueues
from hubkeep.store.registry import Registry, open_registry

PUMP = QueueName("pump")
CAMERA = QueueName("pump", "camera")


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    seal = open_seal(tmp_path / "keys" / "sealing.key", create=True)
    async with open_registry(tmp_path / "registry.db", seal) as registry:
        await registry.identities.create(Identity(device_id="pump", etag="1", generation_id="7"))
        await registry.identities.create(Identity(device_id="pump", module_id="camera", etag="1", generation_id="8"))
        yield registry


@pytest.fixture
def queues(registry: Registry) -> SqlQueues:
    return registry.queues


def message(body: bytes, queue: QueueName = PUMP, expires: int = 1000) -> QueuedMessage:
    return QueuedMessage(queue=queue, message=Message(body=body), enqueued=0, expires=expires)


async def lock(queues: SqlQueues, queue: QueueName = PUMP, now: float = 0, wall: int = 0) -> Locked | None:
    return await queues.lock(queue, now=now, until=now + 60, wall=wall)


def body(locked: Locked | None) -> bytes | None:
    return None if locked is None else locked.queued.message.body


async def test_messages_are_handed_out_oldest_first_each_to_one(queues: SqlQueues) -> None:
    for each in (b"1", b"2"):
        await queues.put(message(each), 50)
    first, second = await lock(queues), await lock(queues)
    assert (body(first), body(second), await lock(queues)) == (b"1", b"2", None)
    assert first is not None
    assert (first.queued.generation_id, first.queued.sequence) == ("7", 1)
    assert await lock(queues, CAMERA) is None


async def test_a_lost_lock_makes_the_message_visible_again(queues: SqlQueues) -> None:
    await queues.put(message(b"open valve"), 50)
    first = await lock(queues, now=0)
    assert first is not None
    assert await lock(queues, now=59) is None
    again = await lock(queues, now=60)
    assert again is not None
    assert (first.again, again.again) == (False, True)
    for token in (first.lock_token, "never"):
        with pytest.raises(LockLost):
            await queues.locked(PUMP, token, now=61)
        with pytest.raises(LockLost):
            await queues.abandon(token, now=61)
    assert (await queues.locked(PUMP, again.lock_token, now=61)).queued == again.queued
    with pytest.raises(LockLost):
        await queues.locked(CAMERA, again.lock_token, now=61)
    assert list(queues.lapsed(61)) == []
    assert list(queues.lapsed(120)) == [PUMP]
    assert list(queues.lapsed(120)) == []


async def test_a_message_whose_lock_lapsed_can_be_kept_hidden_until_it_was_counted(queues: SqlQueues) -> None:
    for each in (b"1", b"2"):
        await queues.put(message(each), 50)
    first = await lock(queues)
    assert first is not None
    assert body(await queues.lock(PUMP, now=61, until=121, wall=0, skip_lapsed=True)) == b"2"
    with pytest.raises(LockLost):
        await queues.abandon(first.lock_token, now=61)
    (lapsed,) = await queues.lapsed_messages(61)
    assert lapsed == first.queued
    assert list(await queues.lapsed_messages(61)) == []
    assert await queues.lock(PUMP, now=61, until=121, wall=0, skip_lapsed=True) is None
    await queues.count(lapsed.sequence)
    queues.show(lapsed.sequence)
    again = await queues.lock(PUMP, now=61, until=121, wall=0, skip_lapsed=True)
    assert again is not None
    assert (body(again), again.queued.deliveries, again.again) == (b"1", 1, True)
    await queues.end([Ended(lapsed.sequence, None)])
    queues.show(lapsed.sequence)


async def test_many_that_wait_for_one_commit_have_their_own_outcomes(queues: SqlQueues) -> None:
    """Puts, ends and abandons of many callers at once, some of them refused."""
    stored = await asyncio.gather(*(queues.put(message(b"%d" % each), 8) for each in range(10)), return_exceptions=True)
    assert [each.sequence if isinstance(each, QueuedMessage) else type(each) for each in stored] == [
        *range(1, 9),
        QueueFull,
        QueueFull,
    ]
    held = [await lock(queues) for _ in range(8)]
    tokens = [each.lock_token for each in held if each is not None]
    told = Feedback(message_id="m", status="Success", at=1, device_id="pump", module_id="", generation_id="7")
    outcomes = await asyncio.gather(
        queues.end([Ended(1, told), Ended(2, None)]),
        queues.put(message(b"x", QueueName("nobody")), 50),
        queues.end([Ended(2, told), Ended(3, told), Ended(99, told)]),
        queues.put(message(b"y", CAMERA), 1),
        queues.abandon(tokens[3], now=1),
        queues.put(message(b"z", CAMERA), 1),
        queues.put(message(b"f", FEEDBACK), 0),
        queues.abandon(tokens[4], now=1),
        return_exceptions=True,
    )
    assert [type(each) for each in outcomes] == [
        list,
        DeviceNotFound,
        list,
        QueuedMessage,
        type(None),
        QueueFull,
        QueuedMessage,
        type(None),
    ]
    assert (outcomes[0], outcomes[2]) == ([1, 2], [3])
    assert [record.message_id for _, record in await queues.feedback(10)] == ["m", "m"]
    left = [(each.message.body, each.deliveries) for each in await queues.waiting(PUMP)]
    assert left == [(b"3", 1), (b"4", 1), (b"5", 0), (b"6", 0), (b"7", 0)]
    assert [(each.message.body, each.sequence, each.generation_id) for each in await queues.waiting(CAMERA)] == [
        (b"y", 9, "8")
    ]
    assert [each.sequence for each in await queues.waiting(FEEDBACK)] == [10]
    await queues.end([Ended(10, None)])
    assert (await queues.put(message(b"next"), 50)).sequence == 11, "a sequence number is never used twice"


async def test_what_comes_back_keeps_its_place(queues: SqlQueues) -> None:
    for each in (b"1", b"2", b"3"):
        await queues.put(message(each), 50)
    first, second = await lock(queues), await lock(queues)
    assert first is not None
    assert second is not None
    await queues.release(second.lock_token)
    await queues.release(second.lock_token)
    await queues.abandon(first.lock_token, now=1)
    again = [await lock(queues) for _ in range(3)]
    assert [body(each) for each in again] == [b"1", b"2", b"3"]
    assert [each.queued.deliveries for each in again if each is not None] == [1, 0, 0]


async def test_an_abandon_that_is_asked_twice_counts_once(queues: SqlQueues) -> None:
    await queues.put(message(b"1"), 50)
    locked = await lock(queues)
    assert locked is not None
    first, second = await asyncio.gather(
        *(queues.abandon(locked.lock_token, now=1) for _ in range(2)), return_exceptions=True
    )
    assert first is None
    assert isinstance(second, LockLost)
    again = await lock(queues)
    assert again is not None
    assert again.queued.deliveries == 1


async def test_a_message_ends_once_and_its_feedback_with_it(queues: SqlQueues) -> None:
    put = await queues.put(message(b"1"), 50)
    locked = await lock(queues)
    assert locked is not None
    told = Feedback(message_id="m", status="Success", at=5, device_id="pump", module_id="", generation_id="7")
    first, second = await asyncio.gather(
        queues.end([Ended(put.sequence, told)]), queues.end([Ended(put.sequence, told), Ended(99, told)])
    )
    assert (list(first), list(second)) == ([put.sequence], [])
    ((number, record),) = await queues.feedback(10)
    assert record == told
    with pytest.raises(LockLost):
        await queues.locked(PUMP, locked.lock_token, now=1)
    await queues.bundle([number], message(b"[]", FEEDBACK))
    assert await queues.feedback(10) == []
    assert body(await lock(queues, FEEDBACK)) == b"[]"


async def test_a_full_queue_takes_no_more_until_something_ends_or_expires(queues: SqlQueues) -> None:
    puts = [await queues.put(message(b"%d" % each, expires=10 if each else 5), 3) for each in range(3)]
    with pytest.raises(QueueFull):
        await queues.put(message(b"4"), 3)
    await queues.put(message(b"module", CAMERA), 3)
    await queues.end([Ended(puts[1].sequence, None)])
    await queues.put(message(b"5"), 3)
    late = QueuedMessage(queue=PUMP, message=Message(body=b"6"), enqueued=5, expires=1000)
    assert (await queues.put(late, 3)).sequence > puts[2].sequence, "what has expired takes nobody's place"
    assert await queues.counts(["pump", "other"]) == {"pump": 4}
    both = await asyncio.gather(*(queues.put(late, 4) for _ in range(3)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in both) == ["QueueFull", "QueueFull", "QueuedMessage"]


async def test_what_has_expired_is_not_handed_out_and_is_found_unless_it_is_held(queues: SqlQueues) -> None:
    for each in (b"1", b"2"):
        await queues.put(message(each, expires=100), 50)
    held = await lock(queues, wall=99)
    assert body(held) == b"1"
    assert await lock(queues, wall=100) is None
    assert await queues.expired(now=1, wall=99, most=10) == []
    assert [each.message.body for each in await queues.expired(now=1, wall=100, most=10)] == [b"2"]
    assert [each.message.body for each in await queues.expired(now=60, wall=100, most=10)] == [b"1", b"2"]


async def test_an_identity_has_to_be_there_and_takes_its_messages_along(registry: Registry) -> None:
    queues = registry.queues
    with pytest.raises(DeviceNotFound):
        await queues.put(message(b"x", QueueName("nobody")), 50)
    with pytest.raises(ModuleNotFound):
        await queues.put(message(b"x", QueueName("pump", "other")), 50)
    await queues.put(message(b"x"), 50)
    await queues.put(message(b"x", CAMERA), 50)
    await registry.identities.delete("pump", "camera", None)
    assert [len(await queues.waiting(each)) for each in (PUMP, CAMERA)] == [1, 0]
    await registry.identities.delete("pump", "", None)
    assert await queues.waiting(PUMP) == []


async def test_what_was_stored_is_there_after_a_restart_and_nobody_holds_it(tmp_path: Path) -> None:
    seal = open_seal(tmp_path / "keys" / "sealing.key", create=True)
    async with open_registry(tmp_path / "registry.db", seal) as registry:
        await registry.identities.create(Identity(device_id="pump", etag="1", generation_id="7"))
        await registry.queues.put(message(b"1"), 50)
        before = await lock(registry.queues)
        assert before is not None
        await registry.subscriptions.keep("pump", "", {b"a/#": 1, b"b/#": 0})
    async with open_registry(tmp_path / "registry.db", seal) as registry:
        with pytest.raises(LockLost):
            await registry.queues.locked(PUMP, before.lock_token, now=1)
        after = await lock(registry.queues)
        assert after is not None
        assert (body(after), after.again) == (b"1", True)
        assert (await registry.queues.put(message(b"2"), 50)).sequence == before.queued.sequence + 1
        session = registry.subscriptions.session("pump", "")
        assert session is not None
        assert session.filters == {b"a/#": 1, b"b/#": 0}
        await registry.subscriptions.keep("nobody", "", {b"a/#": 1})
        assert registry.subscriptions.session("nobody", "") is None
        await registry.subscriptions.keep("pump", "", {})
        assert registry.subscriptions.session("pump", "") is None
