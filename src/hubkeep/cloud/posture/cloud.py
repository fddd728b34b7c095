"""Cloud security: keys at rest, policies, people, the audit, what goes out, backups: PC34 to PC43."""

import datetime as dt
from collections.abc import Sequence
from typing import Final

from hubkeep.model import PolicyFacts, PostureState

from .check import DAY, Check, Effort, Outcome, not_applicable, of_groups, of_hub, passed, unknown

_BROAD: Final = ("RegistryWrite", "ServiceConnect", "DeviceConnect")
_ALL_OF_THEM: Final = "Administration"  # needs every right
_RECENT: Final = 30 * DAY
_UNUSED: Final = 90 * DAY
_YEAR: Final = 365 * DAY


def _sealing_source(state: PostureState) -> Outcome:
    hub = state.hub
    if hub.is_sealing_beside is None:
        return unknown("where the sealing key lies is not known here")
    if not hub.is_sealing_beside:
        return passed(reason=hub.sealing_source)
    return of_hub([f"{hub.sealing_source}, on the volume of the database: a copy of it opens every key"])


def _unsealed(state: PostureState) -> Outcome:
    faults = [f"{state.fleet.unsealed} identities have keys in the clear"] if state.fleet.unsealed else []
    if state.hub.sealing_made and state.hub.sealing_made < state.now - _YEAR:
        faults.append(f"the sealing key is of {_day(state.hub.sealing_made)}")
    if state.hub.resealing_failure:
        faults.append(f"sealing anew does not go on: {state.hub.resealing_failure}")
    return of_hub(faults)


def _broad_policies(state: PostureState) -> Outcome:
    broad = [each for each in state.hub.policies if set(_BROAD) <= set(each.rights)]
    used = {use.policy for use in state.hub.right_uses if not use.is_own and use.last_used >= state.now - _RECENT}
    found = [each.name for each in broad if each.name in used]
    faults = [f"programs use {each}, which holds {', '.join(_BROAD)}" for each in found]
    return of_hub(faults)._replace(words={"policy": found[0] if found else ""})


def _unused_rights(state: PostureState) -> Outcome:
    since = state.hub.rights_since
    if state.now - since < _RECENT:
        return unknown(f"uses of rights are recorded since {_day(since)}: thirty days tell what is not used")
    faults, names = [], []
    for policy in state.hub.policies:
        if fault := _unused_of(policy, state):
            faults.append(fault)
            names.append(policy.name)
    words = {"policy": names[0] if names else "", "rights": "ServiceConnect"}
    return of_hub(faults)._replace(words=words)


def _unused_of(policy: PolicyFacts, state: PostureState) -> str:
    """A built-in policy cannot be narrowed, but closed to every network."""
    uses = [each for each in state.hub.right_uses if each.policy == policy.name]
    last = max((each.last_used for each in uses), default=0.0)
    if last < state.now - _UNUSED:
        has_waited = state.now - max(state.hub.rights_since, _made(policy, state)) >= _UNUSED
        return f"{policy.name} is used by nobody" if has_waited and not policy.is_closed else ""
    if policy.is_built_in:
        return ""
    used = {each.right for each in uses if each.last_used >= state.now - _RECENT}
    idle = [each for each in policy.rights if each not in used]
    if _ALL_OF_THEM in used or not idle or not used:
        return ""
    return f"{policy.name} holds {', '.join(idle)} and does not use it"


def _made(policy: PolicyFacts, state: PostureState) -> float:
    return next((each.made for each in state.fleet.policies if each.policy == policy.name), 0.0)


def _people(state: PostureState) -> Outcome:
    if state.hub.people is None and state.hub.issuer:
        return unknown(f"people sign in at {state.hub.issuer}, which does not tell the hub of second factors")
    if state.hub.people is None:
        return unknown("nobody signs in by name: who holds the owner's key is a shared account (settings: people)")
    return of_hub(list(state.hub.people))


def _audit(state: PostureState) -> Outcome:
    hub = state.hub
    if hub.audit_breaks is None:
        return unknown("the audit could not be read")
    faults = list(hub.audit_breaks)
    if hub.audit_exported < state.now - DAY:
        told = f"last exported on {_day(hub.audit_exported)}" if hub.audit_exported else "never exported"
        faults.append(f"the audit was {told}: whoever owns this machine can rewrite it")
    return of_hub(faults, observed=bool(hub.audit_breaks))


def _outbound(state: PostureState) -> Outcome:
    if not state.hub.outbound:
        return not_applicable("the hub reaches nobody by itself")
    return of_hub([f"{each.what} {each.url}: {each.fault}" for each in state.hub.outbound if each.fault])


def _secrets(state: PostureState) -> Outcome:
    if not state.fleet.devices:
        return not_applicable("no device is registered")
    return of_groups(state.fleet.secret_paths, state.fleet.devices, "at these paths; their values are not shown")


def _backups(state: PostureState) -> Outcome:
    hub, now = state.hub, state.now
    faults = []
    if hub.backed_up < now - DAY:
        faults.append(f"the last backup is of {_day(hub.backed_up)}" if hub.backed_up else "no backup was ever made")
    if hub.drilled < now - 90 * DAY:
        told = f"last on {_day(hub.drilled)}" if hub.drilled else "never"
        faults.append(f"that a backup can be restored was confirmed {told}")
    if not hub.escrowed:
        faults.append("nobody confirmed that the sealing key is kept elsewhere")
    return of_hub(faults)


def _components(state: PostureState) -> Outcome:
    if not state.hub.components:
        return unknown("what runs here is not known")
    faults = []
    for each in state.hub.components:
        if each.fault:
            faults.append(f"{each.name} {each.version}: {each.fault}")
        elif each.supported_until and each.supported_until < state.now:
            faults.append(f"{each.name} {each.version} has had no support since {_day(each.supported_until)}")
    return of_hub(faults)


def _day(at: float) -> str:
    return f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%d}"


_EN, _IEC = "EN 303 645", "IEC 62443-4-2"
CHECKS: Final[Sequence[Check]] = (
    Check(
        id="PC34",
        area="cloud",
        severity="high",
        title="The sealing key lies beside what it seals",
        rationale="A copy of the disk is a copy of all keys.",
        remedy=(
            "Name another source: sealing.key_command, or a file elsewhere",
            "Seal all anew under it",
        ),
        commands=("hubkeep key reseal", "hubkeep help operating/policies"),
        cost="M",
        likelihood=0.1,
        impact=10,
        effect=0.9,
        effort=Effort(3),
        judge=_sealing_source,
        standards=(f"{_EN} 5.4-1", f"{_IEC} CR 1.5"),
    ),
    Check(
        id="PC35",
        area="cloud",
        severity="high",
        title="Keys at rest are not sealed, or under an old key, or sealing anew is stuck",
        rationale="Whoever reads the store has the keys.",
        remedy=("Seal all anew",),
        commands=("hubkeep key reseal",),
        cost="S",
        likelihood=0.1,
        impact=10,
        effect=0.95,
        effort=Effort(0.5),
        judge=_unsealed,
        standards=(f"{_EN} 5.4-1", f"{_IEC} CR 4.1"),
    ),
    Check(
        id="PC36",
        area="cloud",
        severity="high",
        title="Programs use policies that may do everything",
        rationale="One leak is everything.",
        remedy=("Make a policy with what the program needs", "Move it there", "Make the broad key anew"),
        commands=(
            "hubkeep policy create narrow --rights ServiceConnect",
            "hubkeep policy rotate --key primary {policy}",
        ),
        cost="M",
        likelihood=0.3,
        impact=10,
        effect=0.9,
        effort=Effort(2),
        judge=_broad_policies,
        standards=(f"{_EN} 5.6-1", f"{_IEC} CR 2.1"),
    ),
    Check(
        id="PC37",
        area="cloud",
        severity="medium",
        title="Rights that nobody uses",
        rationale="Taking them away costs nothing, and a leak then opens less.",
        remedy=("Take the right away, or delete the policy; close a built-in one to all networks",),
        commands=(
            "hubkeep policy update {policy} --rights ServiceConnect",
            "hubkeep policy networks {policy} --deny 0.0.0.0/0 --deny ::/0",
        ),
        cost="S",
        likelihood=0.3,
        impact=3,
        effect=0.9,
        effort=Effort(0.5),
        judge=_unused_rights,
        standards=(f"{_EN} 5.6-1", f"{_IEC} CR 2.1"),
    ),
    Check(
        id="PC38",
        area="cloud",
        severity="high",
        title="Operators without a second factor, shared, or long gone",
        rationale="Who is phished opens the hub.",
        remedy=("Let people sign in at a provider that asks for two factors", "Take away who left"),
        commands=("hubkeep help operating/policies",),
        cost="S",
        likelihood=0.3,
        impact=10,
        effect=0.8,
        effort=Effort(4),
        judge=_people,
        standards=(f"{_EN} 5.1-4", f"{_IEC} CR 1.1"),
    ),
    Check(
        id="PC39",
        area="cloud",
        severity="high",
        title="The audit is broken, or stands on this machine alone",
        rationale="There is no evidence later.",
        remedy=("Export it daily to where the hub cannot write", "Compare a broken chain with an export"),
        commands=("hubkeep audit export audit.jsonl", "hubkeep audit verify"),
        cost="M",
        likelihood=0.1,
        impact=6,
        effect=0.8,
        effort=Effort(2),
        judge=_audit,
        standards=(f"{_EN} 5.10-1", f"{_IEC} CR 2.12"),
    ),
    Check(
        id="PC40",
        area="cloud",
        severity="medium",
        title="The hub sends in the clear, or into private networks",
        rationale="Data leaks on the way, and the hub can be used to reach inner systems.",
        remedy=("Give the endpoint TLS", "Take its network off egress.allow"),
        commands=("hubkeep enroll list --group",),
        cost="S",
        likelihood=0.3,
        impact=3,
        effect=0.9,
        effort=Effort(1),
        judge=_outbound,
        standards=(f"{_EN} 5.5-6", f"{_IEC} CR 4.1"),
    ),
    Check(
        id="PC41",
        area="cloud",
        severity="medium",
        title="Likely secrets in twins",
        rationale="Every reader of the service sees them.",
        remedy=("Move the secret to where it belongs", "Make it anew"),
        commands=("hubkeep device twin {device}",),
        cost="M",
        likelihood=0.3,
        impact=6,
        effect=0.9,
        effort=Effort(2, 0.01),
        judge=_secrets,
        is_reversible=False,
        standards=(f"{_EN} 5.4-1", f"{_IEC} CR 4.1"),
    ),
    Check(
        id="PC42",
        area="cloud",
        severity="high",
        title="No fresh backup, no restore that was tried, or no copy of the sealing key",
        rationale="The fleet is lost with the disk.",
        remedy=("Back up daily", "Restore one elsewhere", "Keep the sealing key elsewhere"),
        commands=(
            "hubkeep backup /backup/today --keys-to /vault/today",
            "hubkeep posture confirm restore-drill",
            "hubkeep posture confirm key-escrow",
        ),
        cost="M",
        likelihood=0.3,
        impact=10,
        effect=0.9,
        effort=Effort(3),
        judge=_backups,
        standards=(f"{_EN} 5.9-1", f"{_IEC} CR 7.3"),
    ),
    Check(
        id="PC43",
        area="cloud",
        severity="high",
        title="Python or OpenSSL has no support, or misses a fix",
        rationale="Known holes are open.",
        remedy=("Update the machine",),
        commands=("hubkeep help operating/upgrade",),
        cost="M",
        likelihood=0.3,
        impact=6,
        effect=0.9,
        effort=Effort(3),
        judge=_components,
        standards=(f"{_EN} 5.3-x", f"{_IEC} CR 3.4"),
    ),
)
