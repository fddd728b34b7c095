"""What the hub itself is like, for its posture report; and the report on a data directory that no hub serves."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from hubkeep import __version__
from hubkeep.cloud.policies import BUILT_IN, Policies, permission_words
from hubkeep.cloud.posture.posture import Posture, PosturePaths
from hubkeep.device.foreign_lists import ListStatus
from hubkeep.limits import IDENTITIES, POLICIES, Limits
from hubkeep.model import Authority, Enrolment, GroupFacts, HubFacts, ListFacts, Policy, PolicyFacts, Usage
from hubkeep.ports import Clock, FleetPosture, IdentityCount, PostureStore, Seal, StoredList
from hubkeep.settings import Settings

from .listening import most_connections
from .machine import clock_kept, components
from .posture_files import audit_faults, backed_up, outbound, roots_of, sealing_place

Settle = Callable[[], Awaitable[None]]
_RAISED: Final = 10  # times the default
_EVERYWHERE: Final = {"0.0.0.0/0", "::/0"}


class HubState:
    """See ports.HubPosture. list_of: the revocation list of an authority. usages: of limits, as they are used now; none
    where no hub runs. resealing_failure: why sealing anew does not go on; empty where it does. began: Unix seconds of
    the first start.
    """

    def __init__(
        self,
        settings: Settings,
        store: PostureStore,
        policies: Policies,
        seal: Seal,
        *,
        groups: Callable[[], Awaitable[Sequence[Enrolment]]],
        authorities: Callable[[], Sequence[Authority]],
        list_of: Callable[[str], ListStatus | StoredList | None],
        usages: Callable[[], Awaitable[Sequence[Usage]]],
        resealing_failure: Callable[[], str],
        began: float,
    ) -> None:
        self._settings, self._store, self._policies, self._seal = settings, store, policies, seal
        self._groups, self._authorities, self._list_of = groups, authorities, list_of
        self._usages, self._resealing_failure, self._began = usages, resealing_failure, began

    async def hub(self, now: float) -> HubFacts:
        settings, facts = self._settings, await self._store.facts()
        groups = await self._groups()
        roots = await asyncio.to_thread(roots_of, settings.data)
        sealing = sealing_place(settings)
        synchronised, clock_error = clock_kept()
        return HubFacts(
            began=self._began,
            rights_since=facts.get("rights-recorded", now),
            policies=tuple(map(_policy, self._policies.all())),
            right_uses=tuple(await self._store.right_uses()),
            groups=tuple(map(_group, groups)),
            authorities=tuple(self._authorities()),
            lists=tuple(self._lists()),
            chain=roots.chain,
            rollover=roots.phase,
            root=roots.root,
            backup_roots=roots.backups,
            bundle=roots.bundle,
            bundle_since=roots.bundle_since,
            switches=tuple(_switches(settings)),
            sealing_source=sealing.source,
            is_sealing_beside=sealing.is_beside,
            sealing_made=sealing.made,
            resealing_failure=self._resealing_failure(),
            issuer=settings.people.issuer,
            audit_breaks=await asyncio.to_thread(audit_faults, settings.data / "registry.db", self._seal),
            audit_exported=facts.get("audit-exported", 0.0),
            outbound=tuple(outbound(settings, groups)),
            backed_up=backed_up(settings.data),
            drilled=facts.get("restore-drill", 0.0),
            escrowed=facts.get("key-escrow", 0.0),
            components=components(),
            usages=tuple(await self._usages()),
            raised=tuple(_raised(settings.limits.resolve())),
            clock_synchronised=synchronised,
            clock_error=clock_error,
        )

    def _lists(self) -> Sequence[ListFacts]:
        found = []
        for each in self._authorities():
            if each.is_own or each.revocation == "off":
                continue
            status = self._list_of(each.name)
            if status is not None:
                facts = ListFacts(each.name, each.revocation, status.fetched, status.next_update, status.failure)
                found.append(facts)
        return found


def opened_posture(
    settings: Settings, store: PostureStore, fleet: FleetPosture, hub: HubState, clock: Clock, settle: Settle
) -> Posture:
    return Posture(
        store,
        fleet,
        hub,
        clock,
        settle,
        hub_name=settings.host_name,
        version=__version__,
        paths=PosturePaths(settings.posture.owner_path, settings.posture.firmware_path),
    )


def limits_used(limits: Limits, count: IdentityCount, connections: int, policies: int) -> Sequence[Usage]:
    """connections: open now. What is bounded for each device is used by that device alone."""
    return (
        Usage("identities", count.total, limits.identities, IDENTITIES.value),
        Usage("connections", connections, most_connections(), most_connections()),
        Usage("policies", policies, POLICIES.value, POLICIES.value),
    )


def in_turn(*settles: Settle) -> Settle:
    async def settle() -> None:
        for each in settles:
            await each()

    return settle


def _policy(policy: Policy) -> PolicyFacts:
    rights = tuple(permission_words(policy.permissions).split(", "))
    return PolicyFacts(policy.name, rights, policy.name in BUILT_IN, set(policy.networks.deny) >= _EVERYWHERE)


def _group(group: Enrolment) -> GroupFacts:
    admission = group.admission
    bounds = (("pattern", bool(admission.allowed)), ("limit", bool(admission.most)), ("end", bool(admission.expires)))
    return GroupFacts(
        name=group.id,
        attestation=group.attestation.type,
        is_enabled=group.status == "enabled",
        bounds=tuple(name for name, holds in bounds if holds),
        changed=group.updated or group.created,
    )


def _switches(settings: Settings) -> Sequence[str]:
    """Compatibility switches that are on, by the names of their settings."""
    return [
        name
        for name, is_on in (
            ("tls.old_versions", bool(settings.tls.old_versions)),
            ("tls.compat_suites", settings.tls.compat_suites),
            ("lenient_subscriptions", settings.lenient_subscriptions),
            ("listeners.plain_amqp_port", settings.listeners.plain_amqp_port is not None),
        )
        if is_on
    ]


def _raised(limits: Limits) -> Sequence[str]:
    usual = Limits()
    names = [each.name for each in dataclasses.fields(limits)]
    return [f"limits.{each}" for each in names if getattr(limits, each) > _RAISED * getattr(usual, each)]
