"""Stores of who may ask the hub for what, and of what it refused."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from hubkeep.errors import HubError
from hubkeep.model import (
    AuditChain,
    AuditEntry,
    AuditHead,
    ChainedEntry,
    LinkInfo,
    Policy,
    Refusal,
    Replay,
    RoleAssignment,
)


class PolicyStore(Protocol):
    async def all(self) -> Sequence[Policy]: ...

    async def put(self, policy: Policy) -> None: ...

    async def delete(self, name: str) -> None: ...


class RoleStore(Protocol):
    """Which people have which roles."""

    async def all(self) -> Sequence[RoleAssignment]: ...

    async def put(self, assignment: RoleAssignment) -> None:
        """Create or replace, by name; durable on return. Raises StoreUnavailable."""

    async def remove(self, name: str) -> None: ...


class ReplayStore(Protocol):
    """Tokens that were accepted from more than one address."""

    async def add(self, replays: Sequence[Replay], keep: int) -> None:
        """Append; of the oldest, forget what exceeds ``keep``."""

    async def find(self, identity: str, most: int) -> Sequence[Replay]:
        """Newest first, of one identity; empty means all."""


class RefusalStore(Protocol):
    async def add(self, refusals: Sequence[Refusal], keep: int) -> None:
        """Append; of the oldest, forget what exceeds ``keep``."""

    async def find(self, key: str, most: int) -> Sequence[Refusal]:
        """Newest first: by tracking id, or by the identity claimed; an empty key means all."""


class AuditQuery(NamedTuple):
    """Empty members ask for all. target: and what lies below it. since, until: Unix milliseconds, the end not included.
    page: the number of the entry behind which to go on. oldest: the oldest first.
    """

    chain: str = ""
    actor: str = ""
    target: str = ""
    operation: str = ""
    since: int = 0
    until: int = 0
    page: int = 0
    oldest: bool = False
    most: int = 100


class AuditStore(Protocol):
    async def append(self, entries: Sequence[AuditEntry], keep: Mapping[AuditChain, int]) -> None:
        """Durable when it returns. Of a chain with more entries than ``keep`` says, the oldest go.

        Raises StoreUnavailable: then nothing was written.
        """

    async def find(self, query: AuditQuery) -> Sequence[ChainedEntry]: ...

    async def heads(self) -> Mapping[AuditChain, AuditHead]:
        """Of the chains that have entries."""


class RecordRefusal(Protocol):
    """Every refusal is recorded with its reason; the peer gets the tracking id."""

    def __call__(self, error: HubError, link: LinkInfo, *, identity: str, operation: str, **presented: str) -> str:
        """Record ``error``, set and return its tracking id (32 hex digits). Never raises, never waits."""
