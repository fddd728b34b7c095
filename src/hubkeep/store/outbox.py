"""Events of the hub that wait to be passed on, written in the transactions of the changes that they tell of."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import bindparam as bind
from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.model import HubEvent
from hubkeep.ports import ChangeEvents

from .many_rows import prepared
from .tables import HUB_EVENT
from .writer import Prepared, Writer, read

_WRITTEN: Final = tuple(column.name for column in HUB_EVENT.columns if column.name != "number")
_INSERT: Final = insert(HUB_EVENT).values({name: bind(name) for name in _WRITTEN})
_FORGET: Final = delete(HUB_EVENT).where(HUB_EVENT.c.number.in_(bind("numbers", expanding=True)))


class SqlOutbox:
    """See ports.EventOutbox. tells: what is to be told, and whether anything is."""

    def __init__(self, writer: Writer, reading: AsyncEngine, tells: ChangeEvents) -> None:
        self.tells = tells
        self.wake: Callable[[], None] = _nobody_waits
        self._write, self._reading = writer, reading
        self._has_new = False
        writer.after_commit = self._committed

    async def put(self, connection: AsyncConnection, events: Sequence[HubEvent]) -> None:
        """Write them in the transaction that is open on ``connection``; none cost nothing."""
        for text, rows in self.prepared(events, connection.dialect):
            await connection.exec_driver_sql(text, rows)

    def prepared(self, events: Sequence[HubEvent], dialect: Dialect) -> Sequence[Prepared]:
        """What writes them; nothing for none."""
        if not events:
            return ()
        self._has_new = True
        return [prepared(_INSERT, [{name: getattr(each, name) for name in _WRITTEN} for each in events], dialect)]

    async def waiting(self, after: int, most: int) -> Sequence[HubEvent]:
        query = select(HUB_EVENT).where(HUB_EVENT.c.number > after).order_by(HUB_EVENT.c.number).limit(most)
        return [HubEvent(**row) for row in await read(self._reading, query)]

    async def forget(self, numbers: Sequence[int]) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(_FORGET, {"numbers": list(numbers)})

        if numbers:
            await self._write(work, when_full=True)  # it frees space

    def _committed(self) -> None:
        if self._has_new:
            self._has_new = False
            self.wake()


class Silence:
    """See ports.ChangeEvents: nothing is told."""

    def wants(self, _source: object) -> bool:
        return False

    def created(self, twins: Iterable[Any]) -> Sequence[HubEvent]:
        return ()

    connections_turned = job_parts_changed = created

    def deleted(self, _twins: object, _connected: object = ()) -> Sequence[HubEvent]:
        return ()

    def twin_changed(self, _before: object, _change: object) -> Sequence[HubEvent]:
        return ()


def _nobody_waits() -> None:
    """Events wait for the one who passes them on."""
