"""Which key, thumbprint or authority every device and back end last used: before one is retired, nobody may need it.

Uses gather in memory and go to the store at most once a minute for each credential.
Source: provisioning-and-pki 5.2 to 5.4.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, Literal, NamedTuple

from hubkeep.errors import HubError
from hubkeep.limits import CREDENTIAL_USES_AT_ONCE
from hubkeep.model import (
    CredentialSlot,
    CredentialUse,
    IdentityChange,
    KeySlot,
    LinkInfo,
    PolicyKeysMade,
    Principal,
    Replaced,
)
from hubkeep.ports import Bus, Clock, CredentialUseStore, GroupMembers, SlotsUsed

_EVERY: Final = 60.0  # seconds between two writes for one credential
_OLD: Final = ("TLSv1", "TLSv1.1")
_SLOTS: Final[tuple[KeySlot, ...]] = ("primary", "secondary")
_EVERYBODY: Final = "*"
Standing = Literal["confirmed", "outgoing", "unknown"]
_Key = tuple[str, str, str, CredentialSlot]  # policy, device, module


class _Seen:
    """Uses since the last write."""

    __slots__ = ("count", "ends", "first", "last", "link", "old_tls", "old_tls_at", "token_seconds", "written")

    def __init__(self) -> None:
        self.count, self.first, self.last, self.written = 0, 0.0, 0.0, 0.0
        self.link = LinkInfo("https")
        self.token_seconds, self.ends = 0, 0.0
        self.old_tls, self.old_tls_at = "", 0.0


class Rollover(NamedTuple):
    """How far a slot may be retired. confirmed: last used the other one. outgoing: last used this one, the longest
    silent last. unknown: used neither since the other was made. Both name identities and when they were last seen.
    """

    confirmed: int
    outgoing: Sequence[tuple[str, float]]
    unknown: Sequence[tuple[str, float]]


class CredentialUses:
    """``note`` is on the path of every login: it writes nothing."""

    def __init__(self, store: CredentialUseStore, members: GroupMembers, bus: Bus, clock: Clock) -> None:
        self._store, self._members, self._clock = store, members, clock
        self._seen: dict[_Key, _Seen] = {}
        self._replaced: list[Replaced] = []
        self._writing = asyncio.Lock()
        bus.subscribe("identity.changed", self._identity_changed)
        bus.subscribe("policy.keys", self._policy_keys_made)

    def note(self, principal: Principal, link: LinkInfo) -> None:
        """A credential was found good."""
        key = (principal.policy, principal.device_id, principal.module_id, principal.key or "authority")
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen()
        now = self._clock.now()
        seen.count += 1
        seen.first = seen.first or now
        seen.last, seen.link = now, link
        if principal.auth_type == "x509":
            seen.ends = principal.expires
        else:
            seen.token_seconds = max(0, int(principal.expires - now)) if principal.expires else 0
        if link.tls in _OLD or link.old_suite:
            seen.old_tls = link.tls if link.tls in _OLD else f"{link.tls} {link.old_suite}"
            seen.old_tls_at = now

    async def flush(self) -> None:
        """Once a second. Raises StoreUnavailable: what was to be written waits on."""
        await self._flush(_EVERY)

    async def _flush(self, every: float) -> None:
        """every: seconds since a use was written, before which a newer one waits."""
        async with self._writing:  # who asks waits for what another one is writing
            await self._write_due(every)

    async def _write_due(self, every: float) -> None:
        replaced, self._replaced = self._replaced, []
        now = self._clock.monotonic()
        due = [
            key for key, seen in self._seen.items() if seen.count and (not seen.written or now - seen.written >= every)
        ]
        written = {key: self._seen[key] for key in due[: CREDENTIAL_USES_AT_ONCE.value]}
        uses = [_use(key, seen) for key, seen in written.items()]
        if not uses and not replaced:
            return
        counts = {key: seen.count for key, seen in written.items()}
        for seen in written.values():
            seen.count, seen.first, seen.written = 0, 0.0, now
        try:
            await self._store.record(replaced, uses)
        except HubError:
            self._replaced = replaced + self._replaced
            for key, seen in written.items():
                seen.count, seen.first = seen.count + counts[key], seen.first or seen.last
            raise
        self._forget_idle(now)

    def _forget_idle(self, now: float) -> None:
        idle = [key for key, seen in self._seen.items() if not seen.count and now - seen.written > _EVERY]
        for key in idle:
            del self._seen[key]

    # -- what was used -----------------------------------------------------------------------------------------------

    async def of_identity(self, device_id: str, module_id: str = "") -> Sequence[CredentialUse]:
        """By policy and slot, those not written yet included."""
        await self.flush_all()
        return await self._store.of_identity(device_id, module_id)

    async def of_policy(self, name: str) -> Sequence[CredentialUse]:
        """Of its back ends and of devices that it stood for, the newest first."""
        await self.flush_all()
        return await self._store.of_policy(name)

    async def with_old_tls(self) -> Sequence[CredentialUse]:
        """Everybody who came with TLS 1.0 or 1.1, the newest first."""
        await self.flush_all()
        return await self._store.with_old_tls()

    async def flush_all(self) -> None:
        """Whoever asks wants to see the last login."""
        # as many turns as what waits now needs: those that log in meanwhile are never all written
        for _ in range(len(self._seen) // CREDENTIAL_USES_AT_ONCE.value + 1):
            await self._flush(0.0)

    async def rollover(self, retire: KeySlot, condition: str = "", since: float = 0.0, most: int = 1000) -> Rollover:
        """Who of those that meet ``condition`` stands on the key or thumbprint that is to be retired.

        since: uses before it (Unix seconds) tell nothing. most: names of each kind. Raises QueryInvalid.
        """
        if condition:
            self._members.check(condition)
        await self.flush_all()
        confirmed = 0
        outgoing: list[tuple[str, float]] = []
        unknown: list[tuple[str, float]] = []
        async for used in self._slots_used(condition or _EVERYBODY):
            standing = standing_of(used, retire, since)
            if standing == "confirmed":
                confirmed += 1
            else:
                seen = max(used.primary_used, used.secondary_used)
                (outgoing if standing == "outgoing" else unknown).append((used.name, seen))
        for named in (outgoing, unknown):
            named.sort(key=lambda each: each[1], reverse=True)
        return Rollover(confirmed, outgoing[:most], unknown[:most])

    async def _slots_used(self, condition: str) -> AsyncIterator[SlotsUsed]:
        async for device_ids in self._members.members(condition):
            for used in await self._store.slots_used(device_ids):
                yield used

    # -- what is in the slots ----------------------------------------------------------------------------------------

    def _identity_changed(self, change: object) -> None:
        assert isinstance(change, IdentityChange)
        if change.change == "disabled":
            return
        gone = change.slots or ("primary", "secondary", "authority")
        for key in [key for key in self._seen if key[1:3] == (change.device_id, change.module_id) and key[3] in gone]:
            if not key[0]:
                del self._seen[key]
        if change.change == "credentials":
            self._replace("", change.device_id, change.module_id, change.slots or _SLOTS)

    def _policy_keys_made(self, made: object) -> None:
        assert isinstance(made, PolicyKeysMade)
        for key in [key for key in self._seen if key[0] == made.name and key[3] in made.slots]:
            del self._seen[key]
        self._replace(made.name, "", "", made.slots)

    def _replace(self, policy: str, device_id: str, module_id: str, slots: Iterable[KeySlot]) -> None:
        at = self._clock.now()
        self._replaced += [Replaced(policy, device_id, module_id, slot, at) for slot in slots]


def standing_of(used: SlotsUsed, retire: KeySlot, since: float = 0.0) -> Standing:
    """A use from before the other key was made, or from before ``since``, tells nothing."""
    of = {"primary": (used.primary_used, used.primary_made), "secondary": (used.secondary_used, used.secondary_made)}
    retired_used, _ = of[retire]
    other_used, other_made = of["secondary" if retire == "primary" else "primary"]
    known = max(retired_used, other_used)
    if not known or known < max(since, other_made):
        return "unknown"
    return "outgoing" if retired_used > other_used else "confirmed"


def _use(key: _Key, seen: _Seen) -> CredentialUse:
    policy, device_id, module_id, slot = key
    return CredentialUse(
        policy=policy,
        device_id=device_id,
        module_id=module_id,
        slot=slot,
        first_used=seen.first,
        last_used=seen.last,
        uses=seen.count,
        surface=seen.link.surface,
        tls=seen.link.tls,
        client=seen.link.client,
        peer=seen.link.peer,
        token_seconds=seen.token_seconds,
        old_tls=seen.old_tls,
        old_tls_used=seen.old_tls_at,
        certificate_ends=seen.ends,
    )
