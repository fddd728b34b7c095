"""What is told of connection states, in the transaction that writes them: it alternates and agrees with them."""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from hubkeep.ports import Activity

from .outbox import SqlOutbox
from .tables import IDENTITY

_AT_ONCE: Final = 500  # identities of one statement
_STATES: Final = select(IDENTITY.c.device_id, IDENTITY.c.module_id, IDENTITY.c.connected)

Key = tuple[str, str]  # device id, module id


async def tell_connections(connection: AsyncConnection, states: Mapping[Key, Activity], outbox: SqlOutbox) -> None:
    """Before ``states`` are written: tell of those that turn, and of those that turned and turned back."""
    if not states or not outbox.tells.wants("deviceConnectionStateEvents"):
        return
    turns: list[Activity] = []
    keys = list(states)
    for start in range(0, len(keys), _AT_ONCE):
        among = tuple_(IDENTITY.c.device_id, IDENTITY.c.module_id).in_(keys[start : start + _AT_ONCE])
        for device_id, module_id, connected in await connection.execute(_STATES.where(among)):
            now = states[device_id, module_id]
            if now.connected is not connected:
                turns.append(now)
            elif now.turned:
                turns += (now._replace(connected=not connected), now)
    await outbox.put(connection, outbox.tells.connections_turned(turns))


async def connected_among(connection: AsyncConnection, where: ColumnElement[bool], outbox: SqlOutbox) -> Sequence[Key]:
    """Those that were connected; nothing where nobody wants to hear of that."""
    if not outbox.tells.wants("deviceConnectionStateEvents"):
        return ()
    rows = await connection.execute(_STATES.where(IDENTITY.c.connected, where))
    return [(device_id, module_id) for device_id, module_id, _ in rows]


async def tell_all_gone(connection: AsyncConnection, at: float, outbox: SqlOutbox) -> None:
    """Before all are written as disconnected."""
    if outbox.tells.wants("deviceConnectionStateEvents"):
        rows = await connection.execute(_STATES.where(IDENTITY.c.connected))
        gone = [Activity(device_id, module_id, connected=False, at=at) for device_id, module_id, _ in rows]
        await outbox.put(connection, outbox.tells.connections_turned(gone))
