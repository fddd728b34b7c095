"""Block and allow lists, and planned ends of identities, in the registry's file."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.errors import DeviceNotFound
from hubkeep.model import AccessRule, Expiry

from .tables import ACCESS_RULE, EXPIRY
from .writer import Writer, read


class SqlAccess:
    """See ports.AccessStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def rules(self) -> Sequence[AccessRule]:
        rows = await read(self._reading, select(ACCESS_RULE))
        return [AccessRule(**{**row, "devices": tuple(msgspec.json.decode(row["devices"]))}) for row in rows]

    async def put_rule(self, rule: AccessRule) -> None:
        row = {**msgspec.structs.asdict(rule), "devices": msgspec.json.encode(rule.devices).decode()}

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(ACCESS_RULE).where(ACCESS_RULE.c.name == rule.name))
            await connection.execute(insert(ACCESS_RULE).values(row))

        await self._write(work)

    async def remove_rule(self, name: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(ACCESS_RULE).where(ACCESS_RULE.c.name == name))

        await self._write(work)

    async def expiries(self) -> Sequence[Expiry]:
        columns = EXPIRY.c.device_id, EXPIRY.c.at, EXPIRY.c.reason
        return [Expiry(**row) for row in await read(self._reading, select(*columns))]

    async def put_expiry(self, expiry: Expiry) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(EXPIRY).where(EXPIRY.c.device_id == expiry.device_id))
            try:
                await connection.execute(insert(EXPIRY).values(module_id="", **msgspec.structs.asdict(expiry)))
            except IntegrityError:
                raise DeviceNotFound from None

        await self._write(work)

    async def remove_expiry(self, device_id: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(EXPIRY).where(EXPIRY.c.device_id == device_id))

        await self._write(work)
