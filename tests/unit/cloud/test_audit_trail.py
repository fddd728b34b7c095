"""What waits to be written on the audit: nobody is told that an entry is durable while another one still writes it."""

import asyncio
from collections.abc import Mapping, Sequence

from hubkeep.cloud.audit_trail import AuditTrail
from hubkeep.connection.clock import SystemClock
from hubkeep.limits import Limits
from hubkeep.model import AuditChain, AuditEntry


class SlowStore:
    """Takes what it is given when it is let go on."""

    def __init__(self) -> None:
        self.going_on = asyncio.Semaphore(0)
        self.durable: list[str] = []

    async def append(self, entries: Sequence[AuditEntry], keep: Mapping[AuditChain, int]) -> None:
        await self.going_on.acquire()
        self.durable += [each.operation for each in entries]


def entry(operation: str) -> AuditEntry:
    return AuditEntry(chain="changes", time=0, actor="nobody", operation=operation, outcome="done")


async def let_run() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_records_waits_though_another_took_the_entry_along() -> None:
    store = SlowStore()
    trail = AuditTrail(store, SystemClock(), Limits())  # type: ignore[arg-type]
    for number in range(300):  # more than are written at once
        trail.note(entry(f"before {number}"))
    recorded = {}
    for name in ("first", "second"):
        recorded[name] = asyncio.create_task(trail.record(entry(name)))
        await let_run()
    while not all(task.done() for task in recorded.values()):
        assert all(name in store.durable for name, task in recorded.items() if task.done())
        store.going_on.release()
        await let_run()
    assert store.durable == [*(f"before {number}" for number in range(300)), "first", "second"]
