"""Which devices have proved that they trust which root, in the registry's file. A device's rows go with it."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import Json
from hubkeep.ports import TrustProof

from .tables import IDENTITY, TRUST_PROOF, TWIN, TWIN_LEAF
from .writer import Writer, read

_REPORTED: Final = "properties.reported.hubkeep.trust.version"
_RECORD: Final = """
    INSERT INTO trust_proof (device_id, root, at, peer)
    SELECT ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM identity WHERE device_id = ? AND module_id = '')
    ON CONFLICT (device_id, root) DO UPDATE SET at = excluded.at, peer = excluded.peer
"""


class SqlTrustProofs:
    """See ports.TrustProofStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine) -> None:
        self._write, self._reading = writer, reading

    async def record(self, root: str, proofs: Sequence[TrustProof]) -> None:
        rows = [(each.device_id, root, each.at, each.peer, each.device_id) for each in proofs]

        async def work(connection: AsyncConnection) -> None:
            await connection.exec_driver_sql(_RECORD, rows)

        await self._write(work)

    async def of_fleet(self, root: str) -> Sequence[TrustProof]:
        proof, identity = TRUST_PROOF.c, IDENTITY.c
        same = (proof.device_id == identity.device_id) & (proof.root == root)
        query = (
            select(identity.device_id, proof.at, proof.peer)
            .select_from(IDENTITY.outerjoin(TRUST_PROOF, same))
            .where(identity.module_id == "", identity.status == "enabled")
            .order_by(identity.device_id)
        )
        return [
            TrustProof(row["device_id"], row["at"] or 0.0, row["peer"] or "")
            for row in await read(self._reading, query)
        ]

    async def reports(self) -> Mapping[str, Json]:
        leaf, twin = TWIN_LEAF.c, TWIN.c
        same = (twin.device_id == leaf.device_id) & (twin.module_id == leaf.module_id)
        query = (
            select(twin.device_id, twin.reported)
            .select_from(TWIN_LEAF.join(TWIN, same))
            .where(leaf.path == _REPORTED, leaf.module_id == "")
        )
        rows = await read(self._reading, query)
        return {row["device_id"]: msgspec.json.decode(row["reported"])["hubkeep"]["trust"] for row in rows}
