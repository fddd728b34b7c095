"""What people may do: the built-in roles, who has them, and for which devices. Start at ``Roles.reach``.

Deny by default: who has no role may do nothing. Source: service-protocols 1.5, 1.6.
"""

import asyncio
import re
from collections.abc import Collection, Sequence
from typing import Final, get_args

import msgspec

from hubkeep.errors import BadRequest, NotFound, QuotaExceeded
from hubkeep.limits import ACCESS_REASON, ROLE_ASSIGNMENTS, ROLE_VALUE
from hubkeep.model import Person, RoleAssignment, RoleName
from hubkeep.ports import Bus, Clock, GroupMembers, RoleStore

# The data actions of the original without its prefix and suffix; the last four are ours, for what it has no action for.
DATA_ACTIONS: Final = frozenset(
    {
        *("devices/read", "devices/write", "devices/delete", "statistics/read"),
        *("twins/read", "twins/write", "directMethods/invoke"),
        *("jobs/read", "jobs/write", "jobs/delete"),
        *("configurations/read", "configurations/write", "configurations/delete"),
        *("configurations/testQueries", "configurations/applyToEdgeDevice"),
        *("cloudToDeviceMessages/send", "cloudToDeviceMessages/feedback", "cloudToDeviceMessages/queue/purge"),
        "fileUpload/notifications",
        *("cloudToDeviceMessages/read", "events/read", "files/read"),
    }
)
MANAGE_HUB: Final = "hub/manage"
MANAGE_PROVISIONING: Final = "provisioning/manage"
ROLES: Final[dict[RoleName, frozenset[str]]] = {
    "reader": frozenset(each for each in DATA_ACTIONS if each.endswith("/read")),
    "contributor": DATA_ACTIONS,
    "registry-contributor": frozenset(each for each in DATA_ACTIONS if each.startswith("devices/")),
    "twin-contributor": frozenset(each for each in DATA_ACTIONS if each.startswith("twins/")),
    "administrator": DATA_ACTIONS | {MANAGE_HUB, MANAGE_PROVISIONING},
}
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


class Reach:
    """Where somebody may do something: everywhere, at the devices that meet one of ``conditions``, or nowhere."""

    __slots__ = ("_members", "conditions", "is_whole")

    def __init__(self, members: GroupMembers, conditions: Sequence[str], *, is_whole: bool) -> None:
        self._members, self.is_whole = members, is_whole
        self.conditions = () if is_whole else tuple(dict.fromkeys(conditions))

    def __bool__(self) -> bool:
        return self.is_whole or bool(self.conditions)

    async def among(self, device_ids: Collection[str]) -> set[str]:
        """Those of these devices that are within. A device that does not exist is within no condition."""
        wanted = list(dict.fromkeys(device_ids))
        if self.is_whole:
            return set(wanted)
        found: set[str] = set()
        for condition in self.conditions:
            found |= await self._members.among(condition, wanted)
        return found

    async def first(self, most: int) -> Sequence[str]:
        """The first ids, in order, of the devices within, where there are conditions."""
        found: set[str] = set()
        for condition in self.conditions:
            count = 0
            async for ids in self._members.members(condition):
                found.update(ids)
                count += len(ids)
                if count >= most:
                    break
        return sorted(found)[:most]


class Roles:
    """All assignments, in memory; the store is read once and written through. fixed: those of the settings.

    ``roles.changed`` tells on the bus that answers are others now.
    """

    def __init__(
        self, store: RoleStore, fixed: Sequence[RoleAssignment], members: GroupMembers, bus: Bus, clock: Clock
    ) -> None:
        self._store, self._members, self._bus, self._clock = store, members, bus, clock
        self._fixed = {each.name: each for each in fixed}
        self._stored: dict[str, RoleAssignment] = {}
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Raises BadRequest, QueryInvalid for one of the settings that cannot be."""
        for each in self._fixed.values():
            self._check(each)
        self._stored = {each.name: each for each in await self._store.all()}

    @property
    def nowhere(self) -> Reach:
        return Reach(self._members, (), is_whole=False)

    # -- the answer --------------------------------------------------------------------------------------------------

    def held(self, person: Person) -> Sequence[RoleAssignment]:
        """What the person's own claims give."""
        return [each for each in self.all() if (each.claim, each.value) in person.claims]

    def reach(self, person: Person, actions: Collection[str]) -> Reach:
        """Where the person may do what needs all of ``actions``; none: everywhere, for everybody.

        One assignment must give them all: two halves at different devices make no whole.
        """
        if not actions:
            return Reach(self._members, (), is_whole=True)
        giving = [each for each in self.held(person) if ROLES[each.role].issuperset(actions)]
        conditions = [each.devices for each in giving]
        return Reach(self._members, conditions, is_whole="" in conditions)

    # -- assignments -------------------------------------------------------------------------------------------------

    def all(self) -> Sequence[RoleAssignment]:
        return [*self._fixed.values(), *self._stored.values()]

    def get(self, name: str) -> RoleAssignment | None:
        return self._fixed.get(name) or self._stored.get(name)

    async def put(self, wanted: RoleAssignment) -> RoleAssignment:
        """Create or replace, in force and durable on return. Raises BadRequest, QueryInvalid, QuotaExceeded,
        StoreUnavailable."""
        self._check(wanted)
        if wanted.name in self._fixed:
            raise BadRequest("This assignment stands in the settings: change it there.")
        async with self._changing:
            before = self._stored.get(wanted.name)
            if before is None and len(self._stored) >= ROLE_ASSIGNMENTS.value:
                raise QuotaExceeded(reason=f"{ROLE_ASSIGNMENTS.value} role assignments exist", remedy="remove some")
            created = before.created if before is not None else self._clock.now()
            made = msgspec.structs.replace(wanted, created=created, is_fixed=False)
            await self._store.put(made)
            self._stored[made.name] = made
        self._bus.publish("roles.changed", None)
        return made

    async def remove(self, name: str) -> RoleAssignment:
        """What it allowed ends. Raises NotFound, BadRequest for one of the settings, StoreUnavailable."""
        if name in self._fixed:
            raise BadRequest("This assignment stands in the settings: take it away there.")
        async with self._changing:
            if (before := self._stored.get(name)) is None:
                raise NotFound("There is no such assignment.", remedy="hubkeep access role list")
            await self._store.remove(name)
            del self._stored[name]
        self._bus.publish("roles.changed", None)
        return before

    def _check(self, wanted: RoleAssignment) -> None:
        if not _NAME.fullmatch(wanted.name):
            raise BadRequest("A name has 1 to 64 letters, digits and inner - _ .")
        if wanted.role not in ROLES:
            raise BadRequest(f"The roles are: {', '.join(get_args(RoleName))}.")
        for text in (wanted.claim, wanted.value):
            if not 1 <= len(text) <= ROLE_VALUE.value or not text.isprintable():
                raise BadRequest(f"A claim and its value have 1 to {ROLE_VALUE.value} printable characters.")
        if len(wanted.reason) > ACCESS_REASON.value or not (wanted.reason == "" or wanted.reason.isprintable()):
            raise BadRequest(f"A reason has at most {ACCESS_REASON.value} printable characters.")
        if wanted.devices and wanted.role == "administrator":
            raise BadRequest("The administrator's role is for the whole hub: it cannot be limited to some devices.")
        if wanted.devices:
            self._members.check(wanted.devices)
