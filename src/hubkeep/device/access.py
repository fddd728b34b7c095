"""Block and allow lists for devices and groups of them, and the day on which an identity ends.

Whether a device may be here is answered from memory, at every login and again when a link opens. A group that a
condition describes is kept as a set of ids, which follows the twins. Source: provisioning-and-pki 3.7 (P-L1, P-L4).
"""

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from hubkeep.errors import (
    BadRequest,
    DeviceBlocked,
    DeviceNotFound,
    HubError,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
)
from hubkeep.limits import ACCESS_REASON, Limits
from hubkeep.model import AccessRule, Expiry, IdentitiesCreated, IdentityChange, TwinChange
from hubkeep.ports import AccessStore, Bus, Clock, GroupMembers

from .identities import Identities, check_id

log = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_ANY: Final = "*"
_AT_ONCE: Final = 200  # devices that are looked up by one query
Judge = Callable[[str, str], HubError | None]


class AccessLists:
    """All rules and expiries, in memory; the store is read once and written through.

    A device that any rule blocks is out, whatever else is said of it. Once any rule allows somebody, who is not
    allowed is out as well. ``access.changed`` tells on the bus that answers may be others now.
    """

    def __init__(
        self,
        store: AccessStore,
        identities: Identities,
        members: GroupMembers,
        bus: Bus,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._store, self._identities, self._members = store, identities, members
        self._bus, self._clock, self._limits = bus, clock, limits
        self._rules: dict[str, AccessRule] = {}
        self._groups: dict[str, set[str]] = {}  # by rule: who meets its condition
        self._listed: dict[str, frozenset[str]] = {}
        self._in_force: tuple[str, ...] = ()
        self._expiries: dict[str, Expiry] = {}
        self._next_expiry = 0.0
        self._changing = asyncio.Lock()
        self._moved: set[str] = set()  # devices whose groups may be others now
        self._woken = asyncio.Event()
        self._is_watching = False
        bus.subscribe("twin.changed", self._twin_changed)
        bus.subscribe("identity.created", self._identities_created)
        bus.subscribe("identity.changed", self._identity_changed)

    async def load(self) -> None:
        """Once, before anybody logs in."""
        for rule in await self._store.rules():
            self._install(rule, await self._members_of(rule))
        for expiry in await self._store.expiries():
            self._expiries[expiry.device_id] = expiry
        self._next_expiry = min((each.at for each in self._expiries.values()), default=0.0)
        self._in_force = self._now_in_force()
        self._is_watching = bool(self._rules)

    # -- the answer --------------------------------------------------------------------------------------------------

    def refusal(self, device_id: str, authority: str) -> HubError | None:
        """Why a device, or a module of it, may not be here though its credential is good.

        authority: the registered one that vouched for its certificate; empty for another credential.
        """
        if not self._rules and not self._expiries:
            return None
        now = self._clock.now()
        expiry = self._expiries.get(device_id)
        if expiry is not None and now >= expiry.at:
            return _expired(expiry)
        rules = [rule for rule in self._rules.values() if rule.is_in_force(now)]
        return self._judged(rules, device_id, authority)

    def refusal_to_register(self, device_id: str, authority: str) -> HubError | None:
        """The same of a device that may be new: what an allow list says by a condition is no reason yet, since its
        twin, which the condition is about, is made by its registration.
        """
        now = self._clock.now()
        rules = [rule for rule in self._rules.values() if rule.is_in_force(now)]
        if any(rule.verdict == "allow" and rule.condition for rule in rules):
            rules = [rule for rule in rules if rule.verdict == "block"]
        expiry = self._expiries.get(device_id)
        if expiry is not None and now >= expiry.at:
            return _expired(expiry)
        return self._judged(rules, device_id, authority)

    def judge_with(self, rule: AccessRule, members: set[str]) -> Judge:
        """What the answers would be with ``rule`` in its place, of whose condition these are the members."""
        others = [each for each in self._rules.values() if each.name != rule.name]
        now = self._clock.now()
        rules = [each for each in (*others, rule) if each.is_in_force(now) or each is rule]

        def judge(device_id: str, authority: str) -> HubError | None:
            return self._judged(rules, device_id, authority, {rule.name: members | set(rule.devices)})

        return judge

    def _judged(
        self,
        rules: Sequence[AccessRule],
        device_id: str,
        authority: str,
        groups: Mapping[str, set[str]] | None = None,
    ) -> HubError | None:
        allowing: list[AccessRule] = []
        is_allowed = False
        for rule in rules:
            if groups is not None and rule.name in groups:
                covers = device_id in groups[rule.name] or (bool(authority) and authority == rule.authority)
            else:
                covers = self._covers(rule, device_id, authority)
            if covers and rule.verdict == "block":
                reason = f"the device is blocked by {rule.name!r}" + (f": {rule.reason}" if rule.reason else "")
                return DeviceBlocked(cause="device-blocked", reason=reason, remedy=f"hubkeep access show {rule.name}")
            if rule.verdict == "allow":
                allowing.append(rule)
                is_allowed = is_allowed or covers
        if allowing and not is_allowed:
            names = ", ".join(repr(each.name) for each in allowing[:5])
            return DeviceBlocked(
                cause="device-not-allowed",
                reason=f"only devices on an allow list may connect, and it is on none of them: {names}",
                remedy="hubkeep access list; hubkeep access allow NAME --device ID",
            )
        return None

    def _covers(self, rule: AccessRule, device_id: str, authority: str) -> bool:
        if rule.authority:
            return authority == rule.authority
        return device_id in (self._groups[rule.name] if rule.condition else self._listed[rule.name])

    # -- rules -------------------------------------------------------------------------------------------------------

    def all(self) -> Sequence[AccessRule]:
        return sorted(self._rules.values(), key=lambda each: each.name)

    def get(self, name: str) -> AccessRule:
        """Raises NotFound."""
        if (found := self._rules.get(name)) is None:
            raise NotFound("There is no such rule.", remedy="hubkeep access list")
        return found

    def members(self, name: str) -> int | None:
        """How many devices a rule names or its condition finds; None where an authority decides."""
        rule = self.get(name)
        if rule.authority:
            return None
        return len(self._groups[name] if rule.condition else self._listed[name])

    async def preview(self, wanted: AccessRule) -> Judge:
        """The answers that ``put`` would make, with nothing stored. Raises BadRequest, QueryInvalid."""
        self._check(wanted)
        return self.judge_with(wanted, await self._members_of(wanted))

    async def put(self, wanted: AccessRule, etag: str) -> AccessRule:
        """Create or replace, in force on return. etag: empty to create alone, a stored one, or ``*``.

        Raises BadRequest, QueryInvalid, QuotaExceeded, PreconditionFailed, StoreUnavailable.
        """
        self._check(wanted)
        async with self._changing:
            before = self._rules.get(wanted.name)
            if before is None and etag not in {"", _ANY}:
                raise PreconditionFailed
            if before is not None and etag not in {_ANY, before.etag}:
                raise PreconditionFailed
            if before is None and len(self._rules) >= self._limits.access_rules:
                raise QuotaExceeded(remedy="delete some, or raise limits.access_rules")
            created = before.created if before is not None else self._clock.now()
            rule = msgspec.structs.replace(wanted, created=created, etag=secrets.token_hex(8))
            self._is_watching = True  # what changes while the members are looked up is looked at again
            members = await self._members_of(rule)
            await self._store.put_rule(rule)
            self._install(rule, members)
            self._tell()
            return rule

    async def delete(self, name: str, etag: str) -> None:
        """Raises NotFound, PreconditionFailed, StoreUnavailable."""
        async with self._changing:
            rule = self.get(name)
            if etag not in {_ANY, rule.etag}:
                raise PreconditionFailed
            await self._store.remove_rule(name)
            del self._rules[name]
            self._groups.pop(name, None)
            self._listed.pop(name, None)
            self._tell()

    def _check(self, rule: AccessRule) -> None:
        if not _NAME.fullmatch(rule.name):
            raise BadRequest("A name has 1 to 64 letters, digits and inner - _ .")
        if bool(rule.devices) + bool(rule.condition) + bool(rule.authority) != 1:
            raise BadRequest("A rule is for devices, for a condition or for an authority: give one of them.")
        if len(rule.devices) > self._limits.access_devices:
            raise BadRequest(f"A rule names at most {self._limits.access_devices} devices: use a condition.")
        for device_id in rule.devices:
            check_id(device_id)
        if rule.condition:
            self._members.check(rule.condition)
        _check_reason(rule.reason)
        if rule.ends and rule.ends <= max(rule.begins, 0):
            raise BadRequest("A rule ends after it begins.")

    def _install(self, rule: AccessRule, members: set[str]) -> None:
        self._rules[rule.name] = rule
        self._groups.pop(rule.name, None)
        self._listed.pop(rule.name, None)
        if rule.condition:
            self._groups[rule.name] = members
        else:
            self._listed[rule.name] = frozenset(rule.devices)

    def _now_in_force(self) -> tuple[str, ...]:
        now = self._clock.now()
        return tuple(rule.etag for rule in self._rules.values() if rule.is_in_force(now))

    def _tell(self) -> None:
        self._in_force = self._now_in_force()
        self._bus.publish("access.changed", None)

    # -- groups follow the twins -------------------------------------------------------------------------------------

    async def _members_of(self, rule: AccessRule) -> set[str]:
        found: set[str] = set()
        if rule.condition:
            async for ids in self._members.members(rule.condition):
                found.update(ids)
        return found

    def _twin_changed(self, change: object) -> None:
        assert isinstance(change, TwinChange)
        if not change.twin.module_id:
            self._look_again(change.twin.device_id)

    def _identities_created(self, created: object) -> None:
        assert isinstance(created, IdentitiesCreated)
        for device_id, module_id in created.names:
            if not module_id:
                self._look_again(device_id)

    def _identity_changed(self, change: object) -> None:
        assert isinstance(change, IdentityChange)
        if change.module_id:
            return
        if change.change == "deleted":
            self._expiries.pop(change.device_id, None)
        self._look_again(change.device_id)

    def _look_again(self, device_id: str) -> None:
        if self._is_watching:
            self._moved.add(device_id)
            self._woken.set()

    async def follow(self) -> None:
        """One background task of the hub: members of groups come and go with their twins."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                while self._moved:
                    await self._follow([self._moved.pop() for _ in range(min(len(self._moved), _AT_ONCE))])
            except HubError as error:
                log.warning("access lists: %s", error.reason)
                await self._try_again()
            except Exception:
                log.exception("access lists: a group could not be looked up")
                await self._try_again()

    async def _try_again(self) -> None:
        await asyncio.sleep(1)
        self._woken.set()

    async def _follow(self, device_ids: Sequence[str]) -> None:
        try:
            for name, members in tuple(self._groups.items()):
                rule = self._rules.get(name)
                if rule is None:
                    continue
                included = await self._members.among(rule.condition, device_ids)
                if self._groups.get(name) is not members:  # replaced meanwhile
                    self._moved.update(device_ids)
                    continue
                for device_id in device_ids:
                    if (device_id in included) != (device_id in members):
                        (members.add if device_id in included else members.discard)(device_id)
                        self._bus.publish("access.changed", device_id)
        except BaseException:
            self._moved.update(device_ids)
            raise

    # -- the day on which an identity ends ---------------------------------------------------------------------------

    def expiry(self, device_id: str) -> Expiry | None:
        return self._expiries.get(device_id)

    async def expire(self, expiry: Expiry) -> None:
        """The device is disabled at that time, at once if it is past. Raises BadRequest, DeviceNotFound."""
        _check_reason(expiry.reason)
        await self._identities.get(expiry.device_id)
        await self._store.put_expiry(expiry)
        self._expiries[expiry.device_id] = expiry
        self._next_expiry = min(self._next_expiry or expiry.at, expiry.at)
        self._bus.publish("access.changed", expiry.device_id)
        await self.tend()

    async def keep(self, device_id: str) -> None:
        """The device ends on no day any more. Raises BadRequest, DeviceNotFound."""
        await self._identities.get(device_id)
        await self._store.remove_expiry(device_id)
        self._expiries.pop(device_id, None)

    async def tend(self) -> None:
        """Once a second: rules that begin or end, identities whose day has come."""
        if self._rules and self._now_in_force() != self._in_force:
            self._tell()
        now = self._clock.now()
        if not self._expiries or now < self._next_expiry:
            return
        for expiry in [each for each in self._expiries.values() if now >= each.at]:
            with contextlib.suppress(DeviceNotFound):
                await self._end(expiry)
            await self._store.remove_expiry(expiry.device_id)
            if self._expiries.get(expiry.device_id) == expiry:
                del self._expiries[expiry.device_id]
        self._next_expiry = min((each.at for each in self._expiries.values()), default=0.0)

    async def _end(self, expiry: Expiry) -> None:
        identity = await self._identities.get(expiry.device_id)
        if identity.status != "disabled":
            reason = _expired(expiry).reason[: ACCESS_REASON.value]
            disabled = msgspec.structs.replace(identity, status="disabled", status_reason=reason)
            await self._identities.update(disabled, _ANY, keep_authentication=True)


def _expired(expiry: Expiry) -> DeviceBlocked:
    return DeviceBlocked(
        cause="device-expired",
        reason="the identity expired as planned" + (f": {expiry.reason}" if expiry.reason else ""),
        remedy=f"hubkeep device unblock {expiry.device_id}",
    )


def _check_reason(reason: str) -> None:
    if len(reason) > ACCESS_REASON.value or not reason.isprintable():
        raise BadRequest(f"A reason has at most {ACCESS_REASON.value} printable characters.")
