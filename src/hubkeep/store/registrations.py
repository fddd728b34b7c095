"""Registration records and attempts in the registry's file; an assignment and its identity are one transaction."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.sqlite import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.errors import HubError
from hubkeep.model import EnrolmentKey, Registration, RegistrationOperation
from hubkeep.ports import Held, HeldRegistration, IdentityEdit, Kept, KeptRegistration

from .group_commit import GroupCommit
from .identity_edits import Codec, edit_identities
from .outbox import SqlOutbox
from .tables import PROVISIONED, REGISTRATION, REGISTRATION_OPERATION
from .writer import read

_RECORD: Final = REGISTRATION.c
_OPERATION: Final = REGISTRATION_OPERATION.c


class SqlRegistrations:
    """See ports.RegistrationStore."""

    def __init__(self, commits: GroupCommit, reading: AsyncEngine, codec: Codec, outbox: SqlOutbox) -> None:
        self._commit, self._reading, self._codec, self._outbox = commits, reading, codec, outbox

    async def get(self, registration_id: str) -> Registration | None:
        query = select(_RECORD.content).where(_RECORD.key == registration_id.lower())
        rows = await read(self._reading, query)
        return _record(rows[0]["content"]) if rows else None

    async def owner(self, device_id: str) -> EnrolmentKey | None:
        query = select(PROVISIONED.c.is_group, PROVISIONED.c.enrolment_key).where(PROVISIONED.c.device_id == device_id)
        rows = await read(self._reading, query)
        return EnrolmentKey(bool(rows[0]["is_group"]), rows[0]["enrolment_key"]) if rows else None

    async def operation(self, operation_id: str) -> RegistrationOperation | None:
        query = select(_OPERATION.content).where(_OPERATION.operation_id == operation_id)
        rows = await read(self._reading, query)
        return _attempt(rows[0]["content"]) if rows else None

    async def put_operation(self, operation: RegistrationOperation) -> None:
        async def work(connection: AsyncConnection) -> None:
            await _put_operation(connection, operation)

        await self._commit(work)

    async def open_operations(self, begun_before: float, most: int) -> Sequence[RegistrationOperation]:
        query = select(_OPERATION.content).where(_OPERATION.is_open, _OPERATION.begun < begun_before)
        rows = await read(self._reading, query.order_by(_OPERATION.begun).limit(most))
        return [_attempt(row["content"]) for row in rows]

    async def settle(
        self,
        registration_id: str,
        device_id: str,
        enrolment: EnrolmentKey,
        settle: Callable[[HeldRegistration], KeptRegistration],
    ) -> KeptRegistration:
        async def work(connection: AsyncConnection) -> KeptRegistration:
            kept: KeptRegistration | None = None
            owner = await _owner(connection, device_id)
            members = await _members(connection, enrolment) if enrolment.is_group else 0
            record = await _stored(connection, registration_id)

            def edit(held: Held) -> Kept:
                nonlocal kept
                kept = settle(HeldRegistration(held, record, owner, members))
                return kept.identity or Kept(held.identity)

            edits = [IdentityEdit(device_id, "", edit, True)]
            outcome = (await edit_identities(connection, edits, self._codec, self._outbox))[0]
            if isinstance(outcome, HubError):
                raise outcome
            assert kept is not None, "the edit was called"
            if kept.lacks is not None:
                return kept
            if kept.identity is not None and owner is None:
                await connection.execute(
                    insert_or(PROVISIONED).values(
                        device_id=device_id, module_id="", is_group=enrolment.is_group, enrolment_key=enrolment.id
                    )
                )
            if kept.operation.registration is not None:
                await _put_record(connection, kept.operation.registration)
            await _put_operation(connection, kept.operation)
            return kept

        result: KeptRegistration = await self._commit(work)
        return result

    async def put(self, record: Registration, operation: RegistrationOperation | None = None) -> None:
        async def work(connection: AsyncConnection) -> None:
            await _put_record(connection, record)
            if operation is not None:
                await _put_operation(connection, operation)

        await self._commit(work)

    async def members(self, group: EnrolmentKey) -> int:
        mine = (_RECORD.is_group == group.is_group) & (_RECORD.enrolment_key == group.id)
        query = select(func.count().label("count")).select_from(REGISTRATION).where(mine)
        return int((await read(self._reading, query))[0]["count"])

    async def remove(self, registration_id: str, etag: str | None) -> bool:
        where = [_RECORD.key == registration_id.lower()]
        if etag is not None:
            where.append(_RECORD.etag == etag)

        async def work(connection: AsyncConnection) -> bool:
            return bool((await connection.execute(delete(REGISTRATION).where(*where))).rowcount)

        return bool(await self._commit(work, when_full=True))

    async def page(self, group_id: str, after: str, most: int) -> Sequence[Registration]:
        query = select(_RECORD.content).where(
            _RECORD.is_group, _RECORD.enrolment_key == group_id.lower(), _RECORD.key > after
        )
        rows = await read(self._reading, query.order_by(_RECORD.key).limit(most))
        return [_record(row["content"]) for row in rows]

    async def forget_operations(self, begun_before: float) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(REGISTRATION_OPERATION).where(_OPERATION.begun < begun_before))

        await self._commit(work, when_full=True)


async def _stored(connection: AsyncConnection, registration_id: str) -> Registration | None:
    query = select(_RECORD.content).where(_RECORD.key == registration_id.lower())
    content = (await connection.execute(query)).scalar_one_or_none()
    return None if content is None else _record(content)


async def _owner(connection: AsyncConnection, device_id: str) -> EnrolmentKey | None:
    query = select(PROVISIONED.c.is_group, PROVISIONED.c.enrolment_key).where(PROVISIONED.c.device_id == device_id)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else EnrolmentKey(bool(row[0]), row[1])


async def _members(connection: AsyncConnection, group: EnrolmentKey) -> int:
    mine = (PROVISIONED.c.is_group == group.is_group) & (PROVISIONED.c.enrolment_key == group.id)
    query = select(func.count()).select_from(PROVISIONED).where(mine)
    return int((await connection.execute(query)).scalar_one())


async def _put_record(connection: AsyncConnection, record: Registration) -> None:
    enrolment = record.enrolment
    values = {
        "key": record.registration_id.lower(),
        "is_group": enrolment.is_group,
        "enrolment_key": enrolment.id,
        "etag": record.etag,
        "content": msgspec.msgpack.encode(record),
    }
    statement = insert_or(REGISTRATION).values(values)
    del values["key"]
    await connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=values))


async def _put_operation(connection: AsyncConnection, operation: RegistrationOperation) -> None:
    values = {
        "operation_id": operation.operation_id,
        "key": operation.registration_id.lower(),
        "begun": operation.begun,
        "is_open": operation.registration is None,
        "content": msgspec.msgpack.encode(operation),
    }
    statement = insert_or(REGISTRATION_OPERATION).values(values)
    del values["operation_id"]
    await connection.execute(statement.on_conflict_do_update(index_elements=["operation_id"], set_=values))


def _record(content: bytes) -> Registration:
    return msgspec.msgpack.decode(content, type=Registration)


def _attempt(content: bytes) -> RegistrationOperation:
    return msgspec.msgpack.decode(content, type=RegistrationOperation)
