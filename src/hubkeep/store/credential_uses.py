"""How credentials are used, in the registry's file. A device's rows go with it."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Select, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import CredentialUse, Replaced
from hubkeep.ports import SlotsUsed

from .tables import CREDENTIAL_USE, IDENTITY
from .writer import Row, Writer, read

_NAMES: Final = tuple(column.name for column in CREDENTIAL_USE.columns)
_KEY: Final = ("policy", "device_id", "module_id", "slot")
_LATEST: Final = ("surface", "tls", "client", "peer", "token_seconds", "last_used", "certificate_ends")
# a back end's row has no identity; of a device that is gone meanwhile there is none to be kept
_RECORD: Final = f"""
    INSERT INTO credential_use ({", ".join(_NAMES)})
    SELECT {", ".join("?" * len(_NAMES))}
    WHERE ? = '' OR EXISTS (SELECT 1 FROM identity WHERE device_id = ? AND module_id = ?)
    ON CONFLICT ({", ".join(_KEY)}) DO UPDATE SET
        uses = uses + excluded.uses,
        first_used = CASE WHEN first_used = 0 THEN excluded.first_used ELSE first_used END,
        old_tls = CASE WHEN excluded.old_tls = '' THEN old_tls ELSE excluded.old_tls END,
        old_tls_used = CASE WHEN excluded.old_tls = '' THEN old_tls_used ELSE excluded.old_tls_used END,
        {", ".join(f"{name} = excluded.{name}" for name in _LATEST)}
"""  # noqa: S608  # column names
_FORGET: Final = "DELETE FROM credential_use WHERE policy = ? AND device_id = ? AND module_id = ? AND slot = ?"


class SqlCredentialUses:
    """See ports.CredentialUseStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def record(self, replaced: Sequence[Replaced], uses: Sequence[CredentialUse]) -> None:
        gone = [(each.policy, each.device_id, each.module_id, each.slot) for each in replaced]
        made = [
            CredentialUse(
                policy=each.policy,
                device_id=each.device_id,
                module_id=each.module_id,
                slot=each.slot,
                created=each.at,
            )
            for each in replaced
        ]

        async def work(connection: AsyncConnection) -> None:
            if gone:
                await connection.exec_driver_sql(_FORGET, gone)
            rows = [_parameters(each) for each in (*made, *uses)]
            if rows:
                await connection.exec_driver_sql(_RECORD, rows)

        await self._write(work)

    async def of_identity(self, device_id: str, module_id: str) -> Sequence[CredentialUse]:
        query = _all().where(CREDENTIAL_USE.c.device_id == device_id, CREDENTIAL_USE.c.module_id == module_id)
        return await self._uses(query.order_by(CREDENTIAL_USE.c.policy, CREDENTIAL_USE.c.slot))

    async def of_policy(self, name: str) -> Sequence[CredentialUse]:
        query = _all().where(CREDENTIAL_USE.c.policy == name)
        return await self._uses(query.order_by(CREDENTIAL_USE.c.last_used.desc()).limit(1000))

    async def with_old_tls(self) -> Sequence[CredentialUse]:
        query = _all().where(CREDENTIAL_USE.c.old_tls != "")
        return await self._uses(query.order_by(CREDENTIAL_USE.c.old_tls_used.desc()).limit(1000))

    async def slots_used(self, device_ids: Sequence[str]) -> Sequence[SlotsUsed]:
        use, identity = CREDENTIAL_USE.c, IDENTITY.c
        same = (use.device_id == identity.device_id) & (use.module_id == identity.module_id) & (use.policy == "")

        def of(slot: str, column: Any) -> Any:
            return func.coalesce(func.max(case((use.slot == slot, column))), 0.0)

        query = (
            select(
                identity.device_id,
                identity.module_id,
                of("primary", use.last_used).label("primary_used"),
                of("secondary", use.last_used).label("secondary_used"),
                of("primary", use.created).label("primary_made"),
                of("secondary", use.created).label("secondary_made"),
            )
            .select_from(IDENTITY.outerjoin(CREDENTIAL_USE, same))
            .where(identity.device_id.in_(device_ids), identity.authentication.in_(("sas", "selfSigned")))
            .group_by(identity.device_id, identity.module_id)
        )
        return [SlotsUsed(**row) for row in await read(self._reading, query)]

    async def _uses(self, query: Select[Any]) -> Sequence[CredentialUse]:
        return [CredentialUse(**row) for row in await read(self._reading, query)]


def _all() -> Select[Any]:
    return select(*CREDENTIAL_USE.columns)


def _parameters(use: CredentialUse) -> tuple[object, ...]:
    row: Row = msgspec.structs.asdict(use)
    return (*(row[name] for name in _NAMES), use.device_id, use.device_id, use.module_id)
