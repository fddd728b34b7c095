"""Connection security: TLS, the hub's certificates, sources, clock: PC18 to PC23, PC27, PC31 to PC33, PC44, PC45."""

import datetime as dt
from collections.abc import Sequence
from typing import Final

from hubkeep.model import PostureState, ServerChain, Together

from .check import DAY, Check, Effort, Outcome, not_applicable, of_groups, of_hub, of_named, passed, unknown

_LEAD_DAYS: Final = {"server": 10, "intermediate": 90, "root": 3 * 365}
_UNUSED_DAYS: Final = 30
_RECORDED: Final = ("tls.old_versions", "tls.compat_suites")
_BEHIND_DAYS: Final = 30
_CLOCK_SECONDS: Final = 2.0
_FULL: Final = 0.8
_RAISED: Final = 10  # times the default: as good as none


def _old_tls(state: PostureState) -> Outcome:
    fleet = state.fleet
    if not fleet.active and not fleet.old_tls.number:
        return unknown("nobody was here within thirty days")
    return of_named(fleet.old_tls, fleet.active, "they came with TLS 1.0 or 1.1, or a suite of CBC")


def _ending_chain(state: PostureState) -> Outcome:
    if not state.hub.chain:
        return unknown("the certificates of the listeners could not be read")
    faults = [_ends(each) for each in state.hub.chain if each.is_serving and _is_due(each, state.now)]
    return of_hub(faults, dated=bool(faults))


def _is_due(certificate: ServerChain, now: float) -> bool:
    return certificate.ends < now + _LEAD_DAYS[certificate.kind] * DAY


def _ends(certificate: ServerChain) -> str:
    day = dt.datetime.fromtimestamp(certificate.ends, dt.UTC)
    return f"{certificate.name} ({certificate.kind}) ends on {day:%Y-%m-%d}"


def _one_root(state: PostureState) -> Outcome:
    if not state.hub.chain:
        return unknown("the certificates of the listeners could not be read")
    if state.hub.backup_roots:
        return passed()
    return of_hub(["devices trust the roots that serve now, and no other that could take their place"])


def _not_ready(state: PostureState) -> Outcome:
    if state.hub.rollover == "steady":
        return not_applicable("no change of root is under way")
    reason = "they have not proved that they trust the new root"
    return of_named(state.fleet.unproved, state.fleet.devices, reason)


def _behind_on_trust(state: PostureState) -> Outcome:
    fleet, hub = state.fleet, state.hub
    if not fleet.reporting_trust:
        return unknown("no device reports which trust bundle it holds")
    if hub.bundle_since > state.now - _BEHIND_DAYS * DAY:
        return passed(fleet.reporting_trust, "the bundle is newer than thirty days")
    return of_named(fleet.behind_on_trust, fleet.reporting_trust, f"they hold an older bundle than {hub.bundle}")


def _accept_anybody(_state: PostureState) -> Outcome:
    return unknown("an active test: no device was shown a certificate that it should refuse")


def _unused_switches(state: PostureState) -> Outcome:
    before, uses = state.now - _UNUSED_DAYS * DAY, state.fleet.switch_uses
    recorded = [each for each in state.hub.switches if each in _RECORDED]
    unrecorded = [each for each in state.hub.switches if each not in _RECORDED]
    unused = [each for each in recorded if uses.get(each, 0.0) < before]
    if unused and state.hub.began > before:
        return unknown("the hub is younger than thirty days: what nobody needs is not known")
    if unused:
        return of_hub([f"{each} is on, and was of use to nobody for thirty days" for each in unused])
    if unrecorded:
        return unknown(f"on, and whether they are of use is not recorded: {', '.join(unrecorded)}")
    return passed()


def _alternating(state: PostureState) -> Outcome:
    fleet = state.fleet
    if not fleet.logins_seen:
        return unknown("nobody has logged in since yesterday")
    reason = "they changed between addresses more than five times within an hour"
    return of_groups(fleet.alternating, fleet.identities, reason, observed=True)


def _bursts(state: PostureState) -> Outcome:
    bursts = state.fleet.bursts
    groups = [Together(each.source, each.last_day) for each in bursts]
    faults = [f"{each.last_day} failed from {each.source}, usual are {each.usual:g} a day" for each in bursts]
    return of_hub(faults, observed=bool(faults))._replace(groups=tuple(groups[:10]))


def _barred(state: PostureState) -> Outcome:
    reason = "good or bad, the credential is of an identity that is disabled, blocked, deleted or revoked"
    return of_named(state.fleet.barred, state.fleet.identities, reason, observed=True)


def _limits(state: PostureState) -> Outcome:
    if not state.hub.usages:
        return unknown("no hub runs: what is used of its limits is not known")
    faults = [f"{each} is over {_RAISED} times its default" for each in state.hub.raised]
    faults += [
        f"{each.used} of {each.limit} {each.name} are used"
        for each in state.hub.usages
        if each.limit and each.used > _FULL * each.limit
    ]
    return of_hub(faults)


def _clock(state: PostureState) -> Outcome:
    hub = state.hub
    if hub.clock_synchronised is None:
        return unknown("this machine does not say whether its clock is synchronised")
    faults = [] if hub.clock_synchronised else ["no time source keeps the clock of this machine"]
    if hub.clock_synchronised and hub.clock_error > _CLOCK_SECONDS:
        faults.append(f"the clock may be off by {hub.clock_error:.1f} s")
    return of_hub(faults)


_EN, _IEC = "EN 303 645", "IEC 62443-4-2"
CHECKS: Final[Sequence[Check]] = (
    Check(
        id="PC18",
        area="connection",
        severity="medium",
        title="Devices come with TLS below 1.2, or with suites for old devices",
        rationale="These are weak, or keep no forward secrecy.",
        remedy=("Update the clients", "Take the listener off tls.old_versions, and tls.compat_suites away"),
        commands=("hubkeep key show {device}",),
        cost="F",
        likelihood=0.3,
        impact=6,
        effect=0.95,
        effort=Effort(16, 0.05, 0.005),
        judge=_old_tls,
        standards=(f"{_EN} 5.5-1", f"{_IEC} CR 4.3"),
    ),
    Check(
        id="PC19",
        area="connection",
        severity="critical",
        title="The hub's own certificates end soon",
        rationale="Every device stays away from that day on.",
        remedy=("Start the hub anew: it renews its certificate", "For a root: begin to change it"),
        commands=("hubkeep doctor", "hubkeep cert root prepare"),
        cost="L",
        likelihood=0.6,
        impact=10,
        effect=0.95,
        effort=Effort(2),
        judge=_ending_chain,
        standards=(f"{_EN} 5.5-3", f"{_IEC} CR 1.8"),
    ),
    Check(
        id="PC20",
        area="connection",
        severity="high",
        title="No root waits behind the one that serves",
        rationale="After a compromise there is no way out: devices trust nothing else.",
        remedy=("Make the next root, and let devices take the new bundle",),
        commands=("hubkeep cert root prepare", "hubkeep cert rehearse"),
        cost="M",
        likelihood=0.1,
        impact=10,
        effect=0.8,
        effort=Effort(4),
        judge=_one_root,
        standards=(f"{_EN} 5.5-3", f"{_IEC} EDR 3.12"),
    ),
    Check(
        id="PC21",
        area="connection",
        severity="high",
        title="A change of root is under way, and devices have not proved that they trust the new one",
        rationale="They will be cut off.",
        remedy=("Bring them the bundle; let them try the canary name", "Switch when none is missing"),
        commands=("hubkeep cert rehearse",),
        cost="F",
        likelihood=0.6,
        impact=6,
        effect=0.9,
        effort=Effort(8, 0.01, 0.01),
        judge=_not_ready,
        standards=(f"{_EN} 5.5-3", f"{_IEC} EDR 3.12"),
    ),
    Check(
        id="PC22",
        area="connection",
        severity="medium",
        title="Devices are a month behind the trust bundle",
        rationale="They are the stragglers of the next change.",
        remedy=("Look what they report went wrong",),
        commands=("hubkeep device twin {device}",),
        cost="M",
        likelihood=0.3,
        impact=3,
        effect=0.8,
        effort=Effort(4, 0.05),
        judge=_behind_on_trust,
        standards=(f"{_EN} 5.5-3", f"{_IEC} EDR 3.12"),
    ),
    Check(
        id="PC23",
        area="connection",
        severity="critical",
        title="Devices accept a wrong server certificate",
        rationale="Anybody on the path owns the device's secrets.",
        remedy=("Have the firmware verify the hub's certificate", "Make the device's key anew"),
        commands=("hubkeep device rotate --key primary {device}",),
        cost="F",
        likelihood=0.6,
        impact=6,
        effect=0.95,
        effort=Effort(40, 0.02, 0.02),
        judge=_accept_anybody,
        is_reversible=False,
        standards=(f"{_EN} 5.5-3", f"{_IEC} CR 3.8"),
    ),
    Check(
        id="PC27",
        area="connection",
        severity="low",
        title="Switches for old clients are on, and nobody needs them",
        rationale="They are surface without use.",
        remedy=("Take them out of the settings, and start the hub anew",),
        commands=("hubkeep doctor",),
        cost="S",
        likelihood=0.1,
        impact=3,
        effect=1.0,
        effort=Effort(0.25),
        judge=_unused_switches,
        standards=(f"{_EN} 5.6-1", f"{_IEC} CR 7.7"),
    ),
    Check(
        id="PC31",
        area="connection",
        severity="medium",
        title="One identity alternates between addresses",
        rationale="It is a clone, or two units have one identity.",
        remedy=("Find both", "Block it, and give each a credential of its own"),
        commands=(
            "hubkeep audit list --actor {device} --chain logins",
            "hubkeep device block --reason cloned {device}",
        ),
        cost="M",
        likelihood=0.6,
        impact=3,
        effect=0.9,
        effort=Effort(1, 1.0),
        judge=_alternating,
        standards=(f"{_EN} 5.5-4", f"{_IEC} CR 2.6"),
    ),
    Check(
        id="PC32",
        area="connection",
        severity="medium",
        title="Failed log-ins come in bursts",
        rationale="Somebody guesses, tokens have expired, or a clock is wrong.",
        remedy=("Look at the causes", "Close the listener to that network"),
        commands=("hubkeep explain", "hubkeep audit list --chain refusals"),
        cost="S",
        likelihood=0.6,
        impact=3,
        effect=0.7,
        effort=Effort(1),
        judge=_bursts,
        standards=(f"{_EN} 5.1-5", f"{_IEC} CR 1.11"),
    ),
    Check(
        id="PC33",
        area="connection",
        severity="medium",
        title="Identities that may not be here try to be",
        rationale="A stolen unit is online, or a forgotten one.",
        remedy=("Find where it is", "Clean up what it was"),
        commands=("hubkeep explain {device}",),
        cost="M",
        likelihood=0.6,
        impact=3,
        effect=0.6,
        effort=Effort(1, 0.25),
        judge=_barred,
        standards=(f"{_EN} 5.10-1", f"{_IEC} CR 6.2"),
    ),
    Check(
        id="PC44",
        area="connection",
        severity="medium",
        title="Limits are as good as off, or nearly reached",
        rationale="One device can starve all others.",
        remedy=("Set the limit; delete what is not used; give the hub a larger machine",),
        commands=("hubkeep help reference/limits", "hubkeep device list"),
        cost="S",
        likelihood=0.3,
        impact=6,
        effect=0.8,
        effort=Effort(1),
        judge=_limits,
        standards=(f"{_EN} 5.9-1", f"{_IEC} CR 7.1"),
    ),
    Check(
        id="PC45",
        area="connection",
        severity="high",
        title="The hub's clock is not kept, or is off",
        rationale="What should have expired lives, and what is good is refused.",
        remedy=("Let a time service keep the clock",),
        commands=("hubkeep doctor",),
        cost="S",
        likelihood=0.3,
        impact=6,
        effect=0.95,
        effort=Effort(0.5),
        judge=_clock,
        standards=(f"{_EN} 5.5-1", f"{_IEC} CR 2.11"),
    ),
)
