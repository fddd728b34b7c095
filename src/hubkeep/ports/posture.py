"""What the posture report is made from, and what is kept of it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from hubkeep.model import FleetFacts, HubFacts, KeyFacts, PostureRun, PostureTimes, RightUse, Waiver


class FleetPosture(Protocol):
    """Aggregates over the registry: bounded work, off the event loop, of one moment."""

    async def fleet(self, times: PostureTimes) -> FleetFacts:
        """Raises StoreUnavailable."""

    async def keys(self) -> KeyFacts | None:
        """Of every symmetric key. None: they cannot be opened here. Raises StoreUnavailable."""


class HubPosture(Protocol):
    """What the hub itself is like."""

    async def hub(self, now: float) -> HubFacts: ...


class PostureStore(Protocol):
    """What is kept. Durable when a call returns; raises StoreUnavailable."""

    async def keep_run(self, run: PostureRun, keep: int) -> None:
        """Append; of the oldest, forget what exceeds ``keep``."""

    async def runs(self, most: int) -> Sequence[PostureRun]:
        """The newest first."""

    async def waivers(self) -> Mapping[str, Waiver]:
        """By check."""

    async def put_waiver(self, waiver: Waiver) -> None: ...

    async def remove_waiver(self, check: str) -> bool:
        """Whether there was one."""

    async def facts(self) -> Mapping[str, float]:
        """What people confirmed, and what the hub noted, by name: Unix seconds."""

    async def put_fact(self, name: str, at: float) -> None: ...

    async def right_uses(self) -> Sequence[RightUse]: ...

    async def record_rights(self, uses: Sequence[RightUse]) -> None: ...
