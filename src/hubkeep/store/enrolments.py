"""Enrolments in the registry's file. Keys are sealed."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.errors import EnrolmentExists
from hubkeep.model import Enrolment, EnrolmentKey
from hubkeep.ports import EnrolmentCondition, EnrolmentCount, Seal

from .group_commit import GroupCommit
from .tables import ENROLMENT, ENROLMENT_COUNT, ENROLMENT_EXCLUSIVE, PROVISIONING_FACT
from .writer import Row, Writer, read, unavailable

_KEYS: Final = ("primary_key", "secondary_key")
_COLUMNS: Final = tuple(column.name for column in ENROLMENT.columns)
_LOOK_UP: Final = f"SELECT {', '.join(_COLUMNS)} FROM enrolment WHERE is_group = ? AND key = ?"  # noqa: S608  # column names


class SqlEnrolments:
    """See ports.EnrolmentStore."""

    def __init__(
        self,
        writer: Writer,
        commits: GroupCommit,
        reading: AsyncEngine,
        look_up: sqlite3.Connection,
        seal: Seal,
    ) -> None:
        self._write, self._commit, self._reading, self._look_up, self._seal = writer, commits, reading, look_up, seal

    async def fact(self, name: str, value: str) -> str:
        async def work(connection: AsyncConnection) -> str:
            wanted = insert_or(PROVISIONING_FACT).values(name=name, value=value).on_conflict_do_nothing()
            await connection.execute(wanted)
            stored = select(PROVISIONING_FACT.c.value).where(PROVISIONING_FACT.c.name == name)
            return str((await connection.execute(stored)).scalar_one())

        return await self._write(work)

    async def get(self, key: EnrolmentKey) -> Enrolment | None:
        try:
            row = self._look_up.execute(_LOOK_UP, (key.is_group, key.id)).fetchone()
        except sqlite3.Error as error:
            raise unavailable(error, "read") from None
        return None if row is None else self._enrolment(dict(zip(_COLUMNS, row, strict=True)))

    async def groups(self) -> Sequence[Enrolment]:
        query = select(ENROLMENT).where(ENROLMENT.c.is_group).order_by(ENROLMENT.c.key)
        return [self._enrolment(row) for row in await read(self._reading, query)]

    async def change(
        self, key: EnrolmentKey, edit: Callable[[Enrolment | None, EnrolmentCount], Enrolment | None]
    ) -> Enrolment | None:
        async def work(connection: AsyncConnection) -> Enrolment | None:
            row = (await connection.execute(select(ENROLMENT).where(*_is(key)))).mappings().one_or_none()
            counts = (await connection.execute(select(ENROLMENT_COUNT))).one()
            stored = None if row is None else self._enrolment(dict(row))
            enrolment = edit(stored, EnrolmentCount(*counts))
            if enrolment is not None and enrolment is not stored:
                self._write.check_room()  # deletions go on while the disk is full
                await self._check_exclusive(connection, enrolment)
            if enrolment is not stored:
                await self._put(connection, key, stored, enrolment)
            return enrolment

        result: Enrolment | None = await self._commit(work, when_full=True)
        return result

    async def page(self, is_group: bool, condition: EnrolmentCondition, after: str, most: int) -> Sequence[Enrolment]:
        column = ENROLMENT.c
        query = select(ENROLMENT).where(column.is_group == is_group, column.key > after)
        if condition.id is not None:
            query = query.where(column.key == condition.id.lower())
        if condition.status is not None:
            query = query.where(column.status == condition.status)
        rows = await read(self._reading, query.order_by(column.key).limit(most))
        return [self._enrolment(row) for row in rows]

    @staticmethod
    async def _check_exclusive(connection: AsyncConnection, enrolment: Enrolment) -> None:
        """Before anything is written: a work that refuses leaves those beside it alone."""
        column = ENROLMENT_EXCLUSIVE.c
        wanted = list(enrolment.attestation.exclusive)
        if len(set(wanted)) < len(wanted):
            raise EnrolmentExists("The primary and the secondary certificate are the same.")
        taken = select(column.is_group, column.key).where(column.name.in_(wanted))
        for is_group, key in await connection.execute(taken):
            if (bool(is_group), key) != enrolment.key:
                raise EnrolmentExists(
                    "A certificate or endorsement key belongs to another enrollment already.",
                    reason=f"it belongs to {EnrolmentKey(bool(is_group), key)}",
                )

    async def _put(
        self, connection: AsyncConnection, key: EnrolmentKey, stored: Enrolment | None, enrolment: Enrolment | None
    ) -> None:
        if stored is not None:
            owned = ENROLMENT_EXCLUSIVE.c
            await connection.execute(
                delete(ENROLMENT_EXCLUSIVE).where(owned.is_group == key.is_group, owned.key == key.id)
            )
        if enrolment is None:
            await connection.execute(delete(ENROLMENT).where(*_is(key)))
        elif stored is None:
            await connection.execute(insert(ENROLMENT).values(self._row(enrolment)))
        else:
            await connection.execute(update(ENROLMENT).where(*_is(key)).values(self._row(enrolment)))
        if enrolment is not None and enrolment.attestation.exclusive:
            rows = [{"name": each, "is_group": key.is_group, "key": key.id} for each in enrolment.attestation.exclusive]
            await connection.execute(insert(ENROLMENT_EXCLUSIVE), rows)
        if (stored is None) != (enrolment is None):
            counted = ENROLMENT_COUNT.c.groups if key.is_group else ENROLMENT_COUNT.c.individuals
            change = 1 if stored is None else -1
            await connection.execute(update(ENROLMENT_COUNT).values({counted.name: counted + change}))

    def _row(self, enrolment: Enrolment) -> Row:
        key, attestation = enrolment.key, enrolment.attestation
        without = msgspec.structs.replace(attestation, primary_key=None, secondary_key=None)
        sealed = {
            name: None
            if (value := getattr(attestation, name)) is None
            else self._seal.seal(value, enrolment_context(key, name))
            for name in _KEYS
        }
        content = msgspec.msgpack.encode(msgspec.structs.replace(enrolment, attestation=without))
        return {
            "is_group": key.is_group,
            "key": key.id,
            "id": enrolment.id,
            "status": enrolment.status,
            "etag": enrolment.etag,
            "content": content,
            **sealed,
        }

    def _enrolment(self, row: Row) -> Enrolment:
        enrolment = msgspec.msgpack.decode(row["content"], type=Enrolment)
        keys = {
            name: None if row[name] is None else self._seal.unseal(row[name], enrolment_context(enrolment.key, name))
            for name in _KEYS
        }
        attestation = msgspec.structs.replace(enrolment.attestation, **keys)
        return msgspec.structs.replace(enrolment, attestation=attestation)


def enrolment_context(key: EnrolmentKey, name: str) -> str:
    """What a sealed key belongs to: it cannot be moved to another enrolment. No id holds a slash."""
    return f"enrolment/{key}/{name}"


def _is(key: EnrolmentKey) -> tuple[Any, Any]:
    return ENROLMENT.c.is_group == key.is_group, ENROLMENT.c.key == key.id
