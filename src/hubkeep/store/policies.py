"""Shared access policies on SQLite, their keys sealed."""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import (
    delete,
    insert,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import Networks, Permission, Policy
from hubkeep.ports import Seal

from .tables import POLICY
from .writer import Writer, read

_NETWORKS: Final = ("allow", "deny")


class SqlPolicies:
    """See ports.PolicyStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine, seal: Seal) -> None:
        self._write, self._reading, self._seal = writer, reading, seal

    async def all(self) -> Sequence[Policy]:
        return [
            Policy(
                name=row["name"],
                permissions=Permission(row["permissions"]),
                primary_key=self._seal.unseal(row["primary_key"], f"policy/{row['name']}/primary_key"),
                secondary_key=self._seal.unseal(row["secondary_key"], f"policy/{row['name']}/secondary_key"),
                networks=Networks(**{name: tuple(msgspec.json.decode(row[name])) for name in _NETWORKS}),
            )
            for row in await read(self._reading, select(POLICY).order_by(POLICY.c.name))
        ]

    async def put(self, policy: Policy) -> None:
        values = {
            "name": policy.name,
            "permissions": int(policy.permissions),
            "primary_key": self._seal.seal(policy.primary_key, f"policy/{policy.name}/primary_key"),
            "secondary_key": self._seal.seal(policy.secondary_key, f"policy/{policy.name}/secondary_key"),
            **{name: msgspec.json.encode(getattr(policy.networks, name)).decode() for name in _NETWORKS},
        }

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(POLICY).where(POLICY.c.name == policy.name))
            await connection.execute(insert(POLICY).values(values))

        await self._write(work, when_full=True)  # a few rows in all, and a key that leaked must be replaced

    async def delete(self, name: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(POLICY).where(POLICY.c.name == name))

        await self._write(work, when_full=True)
