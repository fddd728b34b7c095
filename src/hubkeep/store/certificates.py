"""The issuance log, the deny-list and revocation lists in the registry's file. All of it is public data."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import CertificateRequest, Denial, IssuedCertificate
from hubkeep.ports import CertificateUse, StoredList

from .group_commit import GroupCommit
from .many_rows import execute_rows
from .tables import AUTHORITY_USE, CERTIFICATE_REQUEST, CREDENTIAL_GENERATION, DENIAL, ISSUED, REVOCATION_LIST
from .writer import Writer, read, unavailable

_COLUMNS: Final = tuple(column.name for column in ISSUED.columns)
_LOOK_UP: Final = f"SELECT {', '.join(_COLUMNS)} FROM issued_certificate WHERE authority = ? AND serial = ?"  # noqa: S608  # column names
_GENERATION: Final = "SELECT generation FROM credential_generation WHERE device_id = ? AND module_id = ?"
_I: Final = ISSUED.c


class SqlCertificates:
    """See ports.CertificateStore."""

    def __init__(self, commits: GroupCommit, reading: AsyncEngine, look_up: sqlite3.Connection) -> None:
        self._commit, self._reading, self._look_up = commits, reading, look_up

    async def add(self, certificate: IssuedCertificate) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(insert(ISSUED).values(msgspec.structs.asdict(certificate)))

        await self._commit(work)

    async def signed(self, authority: str, serial: str, der: bytes) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(update(ISSUED).where(*_is(authority, serial)).values(certificate=der))

        await self._commit(work)

    async def get(self, authority: str, serial: str) -> IssuedCertificate | None:
        row = self._one(_LOOK_UP, (authority, serial))
        return None if row is None else IssuedCertificate(**dict(zip(_COLUMNS, row, strict=True)))

    async def of_key(self, key_sha256: str, ends_after: float) -> Sequence[IssuedCertificate]:
        return await self._rows(select(ISSUED).where(_I.key_sha256 == key_sha256, _I.not_after > ends_after))

    async def find(
        self, *, device_id: str = "", module_id: str = "", serial: str = "", authority: str = "", most: int
    ) -> Sequence[IssuedCertificate]:
        query = select(ISSUED).order_by(_I.issued.desc(), _I.serial).limit(most)
        if device_id:
            query = query.where(_I.device_id == device_id, _I.module_id == module_id)
        if serial:
            query = query.where(_I.serial == serial)
        if authority:
            query = query.where(_I.authority == authority)
        return await self._rows(query)

    async def count(self, device_id: str, module_id: str, since: float) -> int:
        same = (_I.device_id == device_id, _I.module_id == module_id, _I.issued > since)
        return int((await read(self._reading, select(func.count().label("count")).where(*same)))[0]["count"])

    async def revoked(self, authority: str, ends_after: float) -> Sequence[IssuedCertificate]:
        query = select(ISSUED).where(_I.authority == authority, _I.revoked > 0, _I.not_after > ends_after)
        return await self._rows(query.order_by(_I.serial))

    async def revoke(self, authority: str, serial: str, at: float, reason: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            alive = (*_is(authority, serial), _I.revoked == 0)
            await connection.execute(update(ISSUED).where(*alive).values(revoked=at, reason=reason))

        await self._commit(work)

    async def generation(self, device_id: str, module_id: str) -> int:
        row = self._one(_GENERATION, (device_id, module_id))
        return int(row[0]) if row else 1

    async def next_generation(self, device_id: str, module_id: str, at: float, reason: str) -> int:
        async def work(connection: AsyncConnection) -> int:
            first = insert_or(CREDENTIAL_GENERATION).values(device_id=device_id, module_id=module_id, generation=2)
            same = [CREDENTIAL_GENERATION.c.device_id, CREDENTIAL_GENERATION.c.module_id]
            more = {"generation": CREDENTIAL_GENERATION.c.generation + 1}
            upsert = first.on_conflict_do_update(index_elements=same, set_=more)
            generation = (await connection.execute(upsert.returning(CREDENTIAL_GENERATION.c.generation))).scalar_one()
            alive = (_I.device_id == device_id, _I.module_id == module_id, _I.revoked == 0, _I.not_after > at)
            await connection.execute(update(ISSUED).where(*alive).values(revoked=at, reason=reason))
            return int(generation)

        return await self._commit(work)

    async def record_uses(self, uses: Sequence[CertificateUse], overlap: float) -> None:
        async def work(connection: AsyncConnection) -> None:
            await execute_rows(connection, _SPOKE_FOR, [_spoke_for(each) for each in uses])
            own = [each for each in uses if each.serial]
            if not own:
                return
            values = [{"a": each.authority, "s": each.serial, "at": each.at} for each in own]
            for each in own:
                first = (
                    await connection.execute(select(_I.first_used).where(*_is(each.authority, each.serial)))
                ).scalar()
                if first == 0:
                    await connection.execute(_older_ones(each).values(superseded=each.at + overlap))
            await connection.execute(_FIRST, values)
            await connection.execute(_LAST, values)

        if uses:
            await self._commit(work)

    async def _rows(self, query: Any) -> Sequence[IssuedCertificate]:
        return [IssuedCertificate(**row) for row in await read(self._reading, query)]

    def _one(self, statement: str, values: tuple[str, ...]) -> Any:
        try:
            return self._look_up.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            raise unavailable(error, "read") from None


class SqlDenials:
    """See ports.DenialStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def all(self) -> Sequence[Denial]:
        return [Denial(**row) for row in await read(self._reading, select(DENIAL).order_by(DENIAL.c.at))]

    async def put(self, denials: Sequence[Denial]) -> None:
        async def work(connection: AsyncConnection) -> None:
            rows = [msgspec.structs.asdict(each) for each in denials]
            await connection.execute(delete(DENIAL).where(DENIAL.c.mark.in_([each.mark for each in denials])))
            await connection.execute(insert(DENIAL), rows)

        await self._write(work)

    async def remove(self, marks: Sequence[str]) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(DENIAL).where(DENIAL.c.mark.in_(marks)))

        await self._write(work)


class SqlCertificateRequests:
    """See ports.CertificateRequestStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def all(self) -> Sequence[CertificateRequest]:
        return [CertificateRequest(**row) for row in await read(self._reading, select(CERTIFICATE_REQUEST))]

    async def put(self, request: CertificateRequest) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(CERTIFICATE_REQUEST).where(CERTIFICATE_REQUEST.c.id == request.id))
            await connection.execute(insert(CERTIFICATE_REQUEST).values(msgspec.structs.asdict(request)))

        await self._write(work)

    async def remove(self, ids: Sequence[str]) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(CERTIFICATE_REQUEST).where(CERTIFICATE_REQUEST.c.id.in_(ids)))

        await self._write(work)


class SqlRevocationLists:
    """See ports.RevocationListStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def all(self) -> Sequence[StoredList]:
        rows = await read(self._reading, select(REVOCATION_LIST))
        return [StoredList(**{**row, "number": int(row["number"])}) for row in rows]

    async def put(self, stored: StoredList) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(REVOCATION_LIST).where(REVOCATION_LIST.c.authority == stored.authority))
            values = stored._asdict() | {"number": str(stored.number)}
            await connection.execute(insert(REVOCATION_LIST).values(values))

        await self._write(work)

    async def remove(self, authority: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(REVOCATION_LIST).where(REVOCATION_LIST.c.authority == authority))

        await self._write(work)


def _is(authority: str, serial: str) -> tuple[Any, Any]:
    return _I.authority == authority, _I.serial == serial


def _older_ones(use: CertificateUse) -> Any:
    """Those that its own identity no longer needs."""
    newer = select(_I.issued).where(*_is(use.authority, use.serial)).scalar_subquery()
    same = (_I.device_id == use.device_id, _I.module_id == use.module_id, _I.serial != use.serial)
    return update(ISSUED).where(*same, _I.superseded == 0, _I.not_after > use.at, _I.issued <= newer)


def _spoke_for(use: CertificateUse) -> dict[str, Any]:
    return {
        "authority": use.authority,
        "device_id": use.device_id,
        "module_id": use.module_id,
        "last_used": use.at,
    }


_SPOKE_FOR: Final = (
    insert(AUTHORITY_USE).prefix_with("OR REPLACE").values({column.name: None for column in AUTHORITY_USE.columns})
)
_ONE: Final = (_I.authority == bindparam("a"), _I.serial == bindparam("s"))
_FIRST: Final = update(ISSUED).where(*_ONE, _I.first_used == 0).values(first_used=bindparam("at"))
_LAST: Final = update(ISSUED).where(*_ONE).values(last_used=bindparam("at"))
