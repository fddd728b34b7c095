"""Queues of messages, feedback and MQTT subscriptions in the registry's file.

Reading one message is a prepared statement on the loop, as the look-up of an identity is: passing it to a thread would
cost several times the reading.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam as bind
from sqlalchemy import delete, insert, select, update
from sqlalchemy import func as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from hubkeep.errors import DeviceNotFound, LockLost, ModuleNotFound, QueueFull
from hubkeep.model import Feedback, Locked, Message, QueuedMessage, QueueName
from hubkeep.ports import Ended, StoredSession

from .group_commit import GroupCommit
from .locks import Locks
from .tables import FEEDBACK_RECORD, IDENTITY, MQTT_SESSION, QUEUED_MESSAGE
from .writer import unavailable

_COLUMNS: Final = "sequence, device_id, module_id, generation_id, enqueued, expires, deliveries, message"
_SELECT: Final = f"SELECT {_COLUMNS} FROM queued_message WHERE "  # noqa: S608  # column names
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

    async def put(self, message: QueuedMessage, most: int) -> QueuedMessage:
        return await self._write(lambda connection: _put(connection, message, most))

    async def lock(self, queue: QueueName, *, now: float, until: float, wall: int) -> Locked | None:
        for (sequence,) in self._read(_VISIBLE, (*queue, wall)):
            if self._locks.holds(sequence, now):
                continue
            row = next(iter(self._read(_ONE, (sequence,))), None)
            if row is None:
                continue
            again = self._locks.handed_out(sequence)
            lock = self._locks.take(queue, sequence, until)
            return Locked(lock_token=lock.token, queued=_queued(row), again=again)
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
        column = QUEUED_MESSAGE.c
        more = update(QUEUED_MESSAGE).where(column.sequence == lock.sequence).values(deliveries=column.deliveries + 1)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(more)

        try:
            await self._write(work)
        finally:
            self._locks.free(lock)

    async def end(self, messages: Sequence[Ended]) -> Sequence[int]:
        async def work(connection: AsyncConnection) -> list[int]:
            gone = []
            for sequence, feedback in messages:
                done = await connection.execute(delete(QUEUED_MESSAGE).where(QUEUED_MESSAGE.c.sequence == sequence))
                if done.rowcount:
                    gone.append(sequence)
                    if feedback is not None:
                        await connection.execute(insert(FEEDBACK_RECORD).values(record=_encode(feedback)))
            return gone

        gone = await self._write(work)
        for sequence, _ in messages:
            self._locks.forget(sequence)
        return gone

    async def waiting(self, queue: QueueName) -> Sequence[QueuedMessage]:
        return [_queued(row) for row in self._read(_OF_QUEUE, tuple(queue))]

    async def counts(self, device_ids: Sequence[str]) -> Mapping[str, int]:
        if not device_ids:
            return {}
        return dict(self._read(_COUNTS, (msgspec.json.encode(device_ids).decode(),)))

    async def expired(self, *, now: float, wall: int, most: int) -> Sequence[QueuedMessage]:
        rows = self._read(_EXPIRED, (wall, most + len(self._locks)))
        return [_queued(row) for row in rows if not self._locks.holds(row[0], now)]

    def lapsed(self, now: float) -> Sequence[QueueName]:
        return self._locks.lapsed(now)

    async def feedback(self, most: int) -> Sequence[tuple[int, Feedback]]:
        return [(number, _record(record)) for number, record in self._read(_FEEDBACK, (most,))]

    async def bundle(self, numbers: Sequence[int], message: QueuedMessage) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(FEEDBACK_RECORD).where(FEEDBACK_RECORD.c.number.in_(numbers)))
            await _put(connection, message, 0)

        await self._write(work)

    def _read(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            return self._look_up.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise unavailable(error, "read") from None


async def _put(connection: AsyncConnection, message: QueuedMessage, most: int) -> QueuedMessage:
    device_id, module_id = message.queue
    if device_id:
        owner = (IDENTITY.c.device_id == device_id) & (IDENTITY.c.module_id == module_id)
        generation = (await connection.execute(select(IDENTITY.c.generation_id).where(owner))).scalar_one_or_none()
        if generation is None:
            raise ModuleNotFound if module_id else DeviceNotFound
        message = msgspec.structs.replace(message, generation_id=generation)
    if most:
        column = QUEUED_MESSAGE.c
        queue = (column.device_id == device_id) & (column.module_id == module_id)
        # what has expired takes nobody's place, even before it is swept
        query = select(sql.count()).where(queue, column.expires > message.enqueued)
        if (await connection.execute(query)).scalar_one() >= most:
            raise QueueFull(
                reason=f"{most} messages wait for {device_id} already",
                remedy="let the device fetch them, or: hubkeep device purge",
            )
    values = {
        "device_id": device_id,
        "module_id": module_id,
        "generation_id": message.generation_id,
        "enqueued": message.enqueued,
        "expires": message.expires,
        "deliveries": message.deliveries,
        "message": _encode(message.message),
    }
    done = await connection.execute(insert(QUEUED_MESSAGE).values(values))
    assert done.inserted_primary_key is not None
    return msgspec.structs.replace(message, sequence=done.inserted_primary_key[0])


async def delete_queues(connection: AsyncConnection, device_id: str, module_id: str) -> None:
    """An identity is deleted: its messages go with it; a device's with those of its modules."""
    where = QUEUED_MESSAGE.c.device_id == device_id
    if module_id:
        where &= QUEUED_MESSAGE.c.module_id == module_id
    await connection.execute(delete(QUEUED_MESSAGE).where(where))


async def delete_queues_of(connection: AsyncConnection, gone: Sequence[tuple[str, str | None]]) -> None:
    """The same for many (device id, module id); no module id: a device with its modules."""
    devices = [{"of_device": device_id} for device_id, module_id in gone if module_id is None]
    modules = [{"of_device": device_id, "of_module": module_id} for device_id, module_id in gone if module_id]
    of_device = delete(QUEUED_MESSAGE).where(QUEUED_MESSAGE.c.device_id == bind("of_device"))
    if devices:
        await connection.execute(of_device, devices)
    if modules:
        await connection.execute(of_device.where(QUEUED_MESSAGE.c.module_id == bind("of_module")), modules)


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

        await self._write(work)
