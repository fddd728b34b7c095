"""Hubs that devices may be assigned to beside this one: link, unlink, list. Source: provisioning-and-pki 2.4."""

from collections.abc import Sequence
from typing import Protocol

from hubkeep.errors import BadRequest, NotFound, QuotaExceeded
from hubkeep.limits import LINKED_HUBS
from hubkeep.model import LinkedHub
from hubkeep.ports import LinkedHubStore

from ..identities import check_id
from .allocation import Allocation

_WEIGHTS = range(1, 1001)


class ReadConnection(Protocol):
    """The host name of a service connection string. Raises BadRequest for what is none."""

    def __call__(self, text: str) -> str: ...


class LinkedHubs:
    """Kept in memory and written through; the allocation knows them at once."""

    def __init__(self, store: LinkedHubStore, allocation: Allocation, read_connection: ReadConnection) -> None:
        self._store, self._allocation, self._read_connection = store, allocation, read_connection

    async def load(self) -> None:
        self._allocation.others = await self._store.all()

    def all(self) -> Sequence[LinkedHub]:
        return self._allocation.others

    def other(self, host_name: str) -> LinkedHub | None:
        """The linked hub of this host name; None for this hub itself, and for one that is linked no more."""
        return next((each for each in self.all() if each.host_name.lower() == host_name.lower()), None)

    def is_own(self, host_name: str) -> bool:
        return any(each.is_own and each.host_name.lower() == host_name.lower() for each in self._allocation.hubs)

    async def link(self, name: str, connection: str, *, weight: int, applies: bool) -> LinkedHub:
        """connection: of a policy that may write identities and twins; empty keeps the one that is known.

        Raises BadRequest, QuotaExceeded.
        """
        check_id(name)
        if weight not in _WEIGHTS:
            raise BadRequest("allocationWeight is 1 to 1000.")
        stored = next((each for each in self.all() if each.name == name), None)
        if not connection and stored is not None:
            connection = stored.connection
        host_name = self._read_connection(connection)
        others = [each for each in self._allocation.hubs if each.name != name or each.is_own]
        if any(each.host_name.lower() == host_name.lower() for each in others):
            raise BadRequest(f"{host_name} is this hub, or is linked by another name.")
        if stored is None and len(self.all()) >= LINKED_HUBS.value:
            raise QuotaExceeded(
                reason=f"{LINKED_HUBS.value} hubs are linked already", remedy="hubkeep enroll hub remove"
            )
        hub = LinkedHub(name=name, host_name=host_name, weight=weight, applies=applies, connection=connection)
        await self._store.put(hub)
        await self.load()
        return hub

    async def unlink(self, name: str) -> None:
        """What it was assigned stays there. Raises NotFound."""
        if all(each.name != name for each in self.all()):
            raise NotFound("No hub of this name is linked.", remedy="hubkeep enroll hub list")
        await self._store.remove(name)
        await self.load()
