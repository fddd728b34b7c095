"""Which devices have proved that they trust which root, in the registry's file. A device's rows go with it."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.ports import TrustProof

from .tables import IDENTITY, TRUST_PROOF
from .writer import Writer, read

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
