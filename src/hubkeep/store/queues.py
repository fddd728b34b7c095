"""Queues of messages, feedback and MQTT subscriptions in the registry's file.

Reading one message is a prepared statement on the loop, as the look-up of an identity is: passing it to a thread would
cost several times the reading.
"""

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from hubkeep.errors import DeviceNotFound, HubError, LockLost, ModuleNotFound, QueueFull
from hubkeep.model import Feedback, Locked, Message, QueuedMessage, QueueName
from hubkeep.ports import Ended, StoredSession

from .group_commit import GroupCommit
from .locks import Locks
from .tables import IDENTITY, MQTT_SESSION, QUEUED_MESSAGE
from .writer import Prepared, unavailable

_COLUMNS: Final = (
    "sequence",
    "device_id",
    "module_id",
    "generation_id",
    "enqueued",
    "expires",
    "deliveries",
    "message",
)
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM queued_message WHERE "  # noqa: S608  # column names
_ONE: Final = f"{_SELECT} sequence = ?"
_OF_QUEUE: Final = f"{_SELECT} device_id = ? AND module_id = ? ORDER BY sequence"
_EXPIRED: Final = f"{_SELECT} expires <= ? ORDER BY expires LIMIT ?"
_VISIBLE: Final = (
    "SELECT sequence FROM queued_message WHERE device_id = ? AND module_id = ? AND expires > ? ORDER BY sequence"
)
_COUNTS: Final = (
    "SELECT device_id, count(*) FROM queued_message"
    " WHERE device_id IN (SELECT value FROM json_each(?)) AND module_id = '' GROUP BY device_id"
)
# of each queue that is asked for (device id, module id, whether to count): its place in the list, its identity's
# generation, and what waits and has not expired
_QUEUES: Final = (
    "SELECT asked.key, generation_id, CASE WHEN json_extract(asked.value, '$[2]') THEN"
    " (SELECT count(*) FROM queued_message AS waiting WHERE waiting.device_id = json_extract(asked.value, '$[0]')"
    " AND waiting.module_id = json_extract(asked.value, '$[1]') AND expires > ?) END"
    " FROM json_each(?) AS asked LEFT JOIN identity ON identity.device_id = json_extract(asked.value, '$[0]')"
    " AND identity.module_id = json_extract(asked.value, '$[1]') ORDER BY asked.key"
)
_THERE: Final = "SELECT sequence FROM queued_message WHERE sequence IN (SELECT value FROM json_each(?))"
_INSERT: Final = f"INSERT INTO queued_message ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_REMOVE: Final = "DELETE FROM queued_message WHERE sequence = ?"
_ABANDON: Final = "UPDATE queued_message SET deliveries = deliveries + 1 WHERE sequence = ?"
_DELETE_OF_DEVICES: Final = "DELETE FROM queued_message WHERE device_id IN (SELECT value FROM json_each(?))"
_DELETE_OF_MODULE: Final = "DELETE FROM queued_message WHERE device_id = ? AND module_id = ?"
_RECORD: Final = "INSERT INTO feedback_record (record) VALUES (?)"
_UNRECORD: Final = "DELETE FROM feedback_record WHERE number = ?"
_FEEDBACK: Final = "SELECT number, record FROM feedback_record ORDER BY number LIMIT ?"
_SESSION: Final = (
    "SELECT subscriptions, expiry, connected, connection_updated FROM mqtt_session"
    " JOIN identity USING (device_id, module_id) WHERE device_id = ? AND module_id = ?"
)
_encode = msgspec.msgpack.Encoder().encode
_message = msgspec.msgpack.Decoder(Message).decode
_record = msgspec.msgpack.Decoder(Feedback).decode
_filters = msgspec.msgpack.Decoder(list[tuple[bytes, int]]).decode


class SqlQueues:
    """See ports.MessageQueue and ports.FeedbackStore."""

    def __init__(self, write: GroupCommit, look_up: sqlite3.Connection) -> None:
        self._write, self._look_up = write, look_up
        newest = self._read("SELECT max(sequence) FROM queued_message", ())[0][0]
        self._locks = Locks(newest or 0)
        ever = self._read("SELECT seq FROM sqlite_sequence WHERE name = 'queued_message'", ())
        self._sequence = ever[0][0] if ever else 0  # the highest that was ever given: none is used twice

    async def put(self, message: QueuedMessage, most: int) -> QueuedMessage:
        return await self._write.together(self._put_all, (message, most))

    async def lock(
        self, queue: QueueName, *, now: float, until: float, wall: int, skip_lapsed: bool = False
    ) -> Locked | None:
        row = self._oldest_visible(queue, now, wall, skip_lapsed=skip_lapsed)
        if row is None:
            return None
        sequence = row[0]
        again = self._locks.handed_out(sequence)
        lock = self._locks.take(queue, sequence, until)
        return Locked(lock_token=lock.token, queued=_queued(row), again=again)

    def _oldest_visible(self, queue: QueueName, now: float, wall: int, *, skip_lapsed: bool) -> Any:
        locks = self._locks
        try:
            with contextlib.closing(self._look_up.execute(_VISIBLE, (*queue, wall))) as sequences:
                for (sequence,) in sequences:
                    if not (locks.hides(sequence) if skip_lapsed else locks.holds(sequence, now)):
                        return self._look_up.execute(_ONE, (sequence,)).fetchone()
        except sqlite3.Error as error:
            raise unavailable(error, "read") from None
        return None

    async def locked(self, queue: QueueName, lock_token: str, now: float) -> Locked:
        lock = self._locks.get(lock_token, now)
        row = next(iter(self._read(_ONE, (lock.sequence,))), None)
        if row is None or lock.queue != queue:
            raise LockLost(reason="the message is gone, or the token is another queue's")
        return Locked(lock_token=lock_token, queued=_queued(row), again=True)

    async def release(self, lock_token: str) -> None:
        self._locks.drop(lock_token)

    async def abandon(self, lock_token: str, now: float) -> None:
        lock = self._locks.spend(lock_token, now)  # asked twice, it counts once
        try:
            await self._write.together(_abandon_all, lock.sequence, when_full=True)
        finally:
            self._locks.free(lock)

    async def count(self, sequence: int) -> None:
        await self._write.together(_abandon_all, sequence, when_full=True)

    def show(self, sequence: int) -> None:
        self._locks.show(sequence)

    async def end(self, messages: Sequence[Ended]) -> Sequence[int]:
        gone = await self._write.together(self._end_all, messages, when_full=True)
        for sequence, _ in messages:
            self._locks.forget(sequence)
        return gone

    async def waiting(self, queue: QueueName) -> Sequence[QueuedMessage]:
        return [_queued(row) for row in self._read(_OF_QUEUE, tuple(queue))]

    async def counts(self, device_ids: Sequence[str]) -> Mapping[str, int]:
        if not device_ids:
            return {}
        return dict(self._read(_COUNTS, (_json(device_ids),)))

    async def expired(self, *, now: float, wall: int, most: int) -> Sequence[QueuedMessage]:
        rows = self._read(_EXPIRED, (wall, most + len(self._locks)))
        return [_queued(row) for row in rows if not self._locks.holds(row[0], now)]

    def lapsed(self, now: float) -> Sequence[QueueName]:
        return self._locks.lapsed(now)

    async def lapsed_messages(self, now: float) -> Sequence[QueuedMessage]:
        locks = self._locks.take_lapsed(now)
        messages: dict[int, QueuedMessage] = {}
        try:
            messages.update(
                (lock.sequence, _queued(row)) for lock in locks for row in self._read(_ONE, (lock.sequence,))
            )
        finally:
            for lock in locks:
                if lock.sequence not in messages:
                    self._locks.show(lock.sequence)
        return list(messages.values())

    async def feedback(self, most: int) -> Sequence[tuple[int, Feedback]]:
        return [(number, _record(record)) for number, record in self._read(_FEEDBACK, (most,))]

    async def bundle(self, numbers: Sequence[int], message: QueuedMessage) -> None:
        await self._write.together(self._bundle_all, (numbers, message), when_full=True)

    def _read(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            return self._look_up.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise unavailable(error, "read") from None

    # -- what is written, by plans of the group commit ---------------------------------------------------------------

    def _put_all(
        self, puts: Sequence[tuple[QueuedMessage, int]]
    ) -> tuple[list[QueuedMessage | HubError], list[Prepared]]:
        """Messages, each with the most that its queue may hold, appended in their order. See ports.MessageQueue.put."""
        # what has expired takes nobody's place, even before it is swept
        limited = {message.queue: most > 0 for message, most in puts}
        asked = max(message.enqueued for message, _ in puts), _json([[*queue, most] for queue, most in limited.items()])
        queues = {
            name: _Queue(generation_id, count or 0)
            for name, (_, generation_id, count) in zip(limited, self._read(_QUEUES, asked), strict=True)
        }
        outcomes: list[QueuedMessage | HubError] = []
        rows: list[tuple[Any, ...]] = []
        for message, most in puts:
            queue = queues[message.queue]
            if (refusal := _refusal(message.queue, queue, most)) is not None:
                outcomes.append(refusal)
                continue
            queue.messages += 1
            self._sequence += 1
            stored = msgspec.structs.replace(message, sequence=self._sequence, generation_id=queue.generation_id or "")
            rows.append(_row(stored))
            outcomes.append(stored)
        return outcomes, [Prepared(_INSERT, rows)] if rows else []

    def _end_all(self, ends: Sequence[Sequence[Ended]]) -> tuple[list[Sequence[int] | HubError], list[Prepared]]:
        """Remove messages and store their feedback. Of each group the sequences that were still there."""
        sequences = [each.sequence for messages in ends for each in messages]
        there = {row[0] for row in self._read(_THERE, (_json(sequences),))}
        removed = [(sequence,) for sequence in there]
        outcomes: list[Sequence[int] | HubError] = []
        records: list[tuple[bytes]] = []
        for messages in ends:
            gone = [each for each in messages if each.sequence in there]
            there.difference_update(each.sequence for each in gone)  # to each message one end
            records += [(_encode(each.feedback),) for each in gone if each.feedback is not None]
            outcomes.append([each.sequence for each in gone])
        written = ((_REMOVE, removed), (_RECORD, records))
        return outcomes, [Prepared(text, rows) for text, rows in written if rows]

    def _bundle_all(
        self, bundles: Sequence[tuple[Sequence[int], QueuedMessage]]
    ) -> tuple[list[HubError | None], list[Prepared]]:
        """Records become messages. Only the job that gathers feedback asks for it: one at a time."""
        outcomes, statements = self._put_all([(message, 0) for _, message in bundles])
        taken = [(number,) for numbers, _ in bundles for number in numbers]
        refusals = [each if isinstance(each, HubError) else None for each in outcomes]
        return refusals, [*statements, Prepared(_UNRECORD, taken)]


class _Queue(msgspec.Struct):
    """What a put must know of its queue. generation_id: None where no identity has this name."""

    generation_id: str | None
    messages: int


def _refusal(name: QueueName, queue: _Queue, most: int) -> HubError | None:
    if name.device_id and queue.generation_id is None:
        return ModuleNotFound() if name.module_id else DeviceNotFound()
    if most and queue.messages >= most:
        return QueueFull(
            reason=f"{most} messages wait for {name.device_id} already",
            remedy="let the device fetch them, or: hubkeep device purge",
        )
    return None


def _abandon_all(sequences: Sequence[int]) -> tuple[list[HubError | None], list[Prepared]]:
    """Count one delivery more of each message."""
    return [None] * len(sequences), [Prepared(_ABANDON, [(sequence,) for sequence in sequences])]


async def delete_queues(connection: AsyncConnection, device_id: str, module_id: str) -> None:
    """An identity is deleted: its messages go with it; a device's with those of its modules."""
    where = QUEUED_MESSAGE.c.device_id == device_id
    if module_id:
        where &= QUEUED_MESSAGE.c.module_id == module_id
    await connection.execute(delete(QUEUED_MESSAGE).where(where))


def deleting_queues(devices: Sequence[str], modules: Sequence[tuple[str, str]]) -> list[Prepared]:
    """The same for many: devices with their modules, and modules (device id, module id)."""
    return [
        *([Prepared(_DELETE_OF_DEVICES, [(_json(devices),)])] if devices else ()),
        *([Prepared(_DELETE_OF_MODULE, modules)] if modules else ()),
    ]


def _row(message: QueuedMessage) -> tuple[Any, ...]:
    """In the order of ``_COLUMNS``."""
    return (
        message.sequence,
        *message.queue,
        message.generation_id,
        message.enqueued,
        message.expires,
        message.deliveries,
        _encode(message.message),
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _queued(row: tuple[Any, ...]) -> QueuedMessage:
    sequence, device_id, module_id, generation_id, enqueued, expires, deliveries, message = row
    return QueuedMessage(
        queue=QueueName(device_id, module_id),
        message=_message(message),
        enqueued=enqueued,
        expires=expires,
        sequence=sequence,
        deliveries=deliveries,
        generation_id=generation_id,
    )


class SqlSubscriptions:
    """See ports.SubscriptionStore."""

    def __init__(self, write: GroupCommit, look_up: sqlite3.Connection) -> None:
        self._write, self._look_up = write, look_up

    def session(self, device_id: str, module_id: str) -> StoredSession | None:
        try:
            row = self._look_up.execute(_SESSION, (device_id, module_id)).fetchone()
        except sqlite3.Error as error:
            raise unavailable(error, "read") from None
        if row is None:
            return None
        encoded, expiry, connected, updated = row
        return StoredSession(dict(_filters(encoded)), expiry, None if connected else updated)

    async def keep(
        self, device_id: str, module_id: str, filters: Mapping[bytes, int], expiry: int | None = None
    ) -> None:
        column = MQTT_SESSION.c
        values = {
            "device_id": device_id,
            "module_id": module_id,
            "subscriptions": _encode(list(filters.items())),
            "expiry": expiry,
        }

        async def work(connection: AsyncConnection) -> None:
            stored = (column.device_id == device_id) & (column.module_id == module_id)
            await connection.execute(delete(MQTT_SESSION).where(stored))
            owner = (IDENTITY.c.device_id == device_id) & (IDENTITY.c.module_id == module_id)
            # an identity that was deleted meanwhile leaves no session behind
            if filters and (await connection.execute(select(IDENTITY.c.etag).where(owner))).first() is not None:
                await connection.execute(insert(MQTT_SESSION).values(values))

        await self._write(work, when_full=True)  # a row for each device at most: it may go on reading
