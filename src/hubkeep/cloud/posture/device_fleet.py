"""Device security, which devices there are and what they run: PC12 to PC17 (provisioning-and-pki 6.6)."""

import re
from collections.abc import Sequence
from typing import Final

from hubkeep.model import Named, PostureState, Together

from .check import DAY, Check, Effort, Outcome, not_applicable, of_groups, of_named, passed, unknown

_NO_DEVICES: Final = "no device is registered"
_YEAR: Final = 365 * DAY
# Clients as they name themselves, and what is known against them.
OLD_AGENTS: Final[Sequence[tuple[re.Pattern[str], str]]] = tuple(
    (re.compile(pattern, re.IGNORECASE), why)
    for pattern, why in (
        (r"azure-iot-device-iothub-py/[01]\.|azure-iothub-device-client-py/", "version 1 for Python has no support"),
        (r"com\.microsoft\.azure\.sdk\.iot\.iot-device-client/1\.", "version 1 for Java has no support"),
        (r"iothubclient/1\.[0-9](\.|\b)", "the long-term support of this version for C has ended"),
    )
)


def _never_here(state: PostureState) -> Outcome:
    if not state.fleet.identities:
        return not_applicable(_NO_DEVICES)
    return of_named(state.fleet.never_here, state.fleet.identities, "made over thirty days ago, and never here")


def _silent(state: PostureState) -> Outcome:
    if not state.fleet.identities:
        return not_applicable(_NO_DEVICES)
    return of_named(state.fleet.silent, state.fleet.identities, "last here over ninety days ago, and enabled")


def _half_blocked(state: PostureState) -> Outcome:
    fleet, words = state.fleet, []
    if fleet.half_blocked.number:
        words.append(f"{fleet.half_blocked.number} may not register, and are enabled at the hub")
    if fleet.half_open.number:
        words.append(f"{fleet.half_open.number} are disabled at the hub, and their enrollment is enabled")
    found = Named(
        fleet.half_blocked.number + fleet.half_open.number, (*fleet.half_blocked.names, *fleet.half_open.names)
    )
    outcome = of_named(found, fleet.identities, "; ".join(words))
    return outcome._replace(words={"enrolment": fleet.half_open.names[0] if fleet.half_open.names else ""})


def _ownerless(state: PostureState) -> Outcome:
    if not state.fleet.devices:
        return not_applicable(_NO_DEVICES)
    return of_named(state.fleet.ownerless, state.fleet.devices, "no enrollment made them, and they have no tag owner")


def _agents(state: PostureState) -> Outcome:
    known = [each for each in state.fleet.agents if each.what]
    if not known:
        return unknown("no device has told what program it is")
    old = [Together(f"{each.what}: {why}", each.number, each.names) for each in known if (why := fault_of(each.what))]
    return of_groups(old, max(state.fleet.active, sum(each.number for each in known)))


def fault_of(agent: str) -> str:
    """What is known against a client that names itself so; empty for nothing."""
    return next((why for pattern, why in OLD_AGENTS if pattern.search(agent)), "")


def _firmware(state: PostureState) -> Outcome:
    fleet = state.fleet
    if not fleet.devices:
        return not_applicable(_NO_DEVICES)
    if not fleet.firmware:
        return unknown("no device reports its firmware's version (posture.firmware_path)")
    newest = max(each.first_seen for each in fleet.firmware)
    old = [each for each in fleet.firmware if each.first_seen and each.first_seen < newest - _YEAR]
    groups = [Together(each.value, each.devices, each.names) for each in old]
    if fleet.without_firmware.number:
        groups.append(Together("not reported", *fleet.without_firmware))
    if not groups:
        return passed(fleet.devices)
    return of_groups(groups, fleet.devices, "a version a year behind the newest one, or none reported")


_EN, _IEC = "EN 303 645", "IEC 62443-4-2"
CHECKS: Final[Sequence[Check]] = (
    Check(
        id="PC12",
        area="device",
        severity="low",
        title="Identities that never connected, a month after they were made",
        rationale="A credential that nobody uses is one that nobody watches.",
        remedy=("Disable or delete them", "Give identities an end when they are made"),
        commands=("hubkeep device block --reason unused {device}", "hubkeep device expire --at 30d {device}"),
        cost="S",
        likelihood=0.1,
        impact=3,
        effect=0.95,
        effort=Effort(0.5, 0.002),
        judge=_never_here,
        standards=(f"{_EN} 5.6-1", f"{_IEC} CR 1.3"),
    ),
    Check(
        id="PC13",
        area="device",
        severity="medium",
        title="Devices that have been silent for ninety days are enabled",
        rationale="What was stolen or scrapped stays valid.",
        remedy=("Disable them; whoever comes back is unblocked",),
        commands=("hubkeep device block --reason silent {device}",),
        cost="S",
        likelihood=0.3,
        impact=3,
        effect=0.9,
        effort=Effort(0.5, 0.002, 0.001),
        judge=_silent,
        standards=(f"{_EN} 5.5-4", f"{_IEC} CR 1.3"),
    ),
    Check(
        id="PC14",
        area="device",
        severity="high",
        title="Half blocked: disabled in provisioning and enabled at the hub, or the reverse",
        rationale="The operator believes that the device is off.",
        remedy=("Block it at both places",),
        commands=("hubkeep device block {device}", "hubkeep enroll disable {device}"),
        cost="S",
        likelihood=0.6,
        impact=3,
        effect=1.0,
        effort=Effort(0.25, 0.01),
        judge=_half_blocked,
        standards=(f"{_EN} 5.5-4", f"{_IEC} CR 2.6"),
    ),
    Check(
        id="PC15",
        area="device",
        severity="low",
        title="Identities without an owner",
        rationale="Nobody rotates their keys.",
        remedy=("Give them a tag owner, or register them through an enrollment",),
        commands=("hubkeep device twin --tag owner=TEAM {device}",),
        cost="S",
        likelihood=0.3,
        impact=1,
        effect=0.8,
        effort=Effort(0.5, 0.002),
        judge=_ownerless,
        standards=(f"{_EN} 5.4-2", f"{_IEC} CR 7.8"),
    ),
    Check(
        id="PC16",
        area="device",
        severity="medium",
        title="Client libraries that have no support any more",
        rationale="Old faults are in them, and roots that have ended.",
        remedy=("Update the library with the next firmware",),
        commands=("hubkeep key show {device}",),
        cost="F",
        likelihood=0.3,
        impact=3,
        effect=0.9,
        effort=Effort(24, 0.01, 0.002),
        judge=_agents,
        standards=(f"{_EN} 5.3-x", f"{_IEC} EDR 3.10"),
    ),
    Check(
        id="PC17",
        area="device",
        severity="medium",
        title="Firmware that is not reported, or a year behind the newest",
        rationale="It is not patched.",
        remedy=("Report the version; update what is old",),
        commands=("hubkeep device twin {device}",),
        cost="F",
        likelihood=0.3,
        impact=6,
        effect=0.8,
        effort=Effort(24, 0.01, 0.005),
        judge=_firmware,
        standards=(f"{_EN} 5.3-x", f"{_IEC} EDR 3.10"),
    ),
)
