"""The posture of a data directory that no hub serves: the same report, without what only a running hub knows."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hubkeep.bus.in_process import InProcessBus
from hubkeep.cloud.policies import Policies
from hubkeep.cloud.posture.posture import Posture
from hubkeep.connection.clock import SystemClock
from hubkeep.model import Usage, time_stamp
from hubkeep.settings import Settings
from hubkeep.store.posture_facts import RegistryPosture
from hubkeep.store.registry import locked, open_registry

from .data_directory import DESCRIPTION
from .failures import start_failures
from .posture import HubState, in_turn, opened_posture
from .sealing import open_ring

Json = dict[str, Any]


def offline_posture(
    settings: Settings, only: Sequence[str], fixed: Sequence[str], *, is_summary: bool, keep: bool
) -> tuple[Json, list[Json]]:
    """A report and those that were kept, as the API tells them. Raises StartFailure, HubError."""
    return asyncio.run(_reported(settings, only, fixed, is_summary=is_summary, keep=keep))


async def _reported(
    settings: Settings, only: Sequence[str], fixed: Sequence[str], *, is_summary: bool, keep: bool
) -> tuple[Json, list[Json]]:
    directory = settings.data
    with start_failures(), locked(directory):
        seal = open_ring(settings.sealing, directory / "keys", create=False)
        async with open_registry(directory / "registry.db", seal, is_expected=True) as registry:
            policies = Policies(registry.policies, InProcessBus())
            await policies.load()
            authorities = await registry.authorities.all()
            lists = {each.authority: each for each in await registry.revocation_lists.all()}
            hub = HubState(
                settings,
                registry.posture,
                policies,
                seal,
                groups=registry.enrolments.groups,
                authorities=lambda: authorities,
                list_of=lists.get,
                usages=_none,
                resealing_failure=lambda: "",
                began=_began(directory),
            )
            fleet = RegistryPosture(directory / "registry.db", seal)
            posture = opened_posture(settings, registry.posture, fleet, hub, SystemClock(), in_turn())
            return await _told(posture, only, fixed, is_summary=is_summary, keep=keep)


async def _told(
    posture: Posture, only: Sequence[str], fixed: Sequence[str], *, is_summary: bool, keep: bool
) -> tuple[Json, list[Json]]:
    report = await (posture.run("offline") if keep else posture.report(only, fixed, is_summary=is_summary))
    runs = [{**msgspec.to_builtins(each), "at": time_stamp(each.at)} for each in await posture.history(365)]
    told: Json = msgspec.to_builtins(report)
    return told, runs


async def _none() -> Sequence[Usage]:
    return ()


def _began(directory: Path) -> float:
    """The description is written once, by the first start."""
    return (directory / DESCRIPTION).stat().st_mtime
