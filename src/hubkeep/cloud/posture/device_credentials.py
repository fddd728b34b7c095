"""Device security, what devices prove themselves by: PC01 to PC11 (provisioning-and-pki 6.6)."""

from collections.abc import Sequence
from typing import Final

from hubkeep.model import Named, PostureState, Together

from .check import DAY, Check, Effort, Outcome, not_applicable, of_groups, of_named, passed, unknown

SAS_SHARE: Final = 0.2
POLICY_KEY_DAYS: Final = 90
_NO_DEVICES: Final = "no device is registered"
_NOBODY_HERE: Final = "no device was here within thirty days"


def _by_keys(state: PostureState) -> Outcome:
    fleet = state.fleet
    if not fleet.identities:
        return not_applicable(_NO_DEVICES)
    if not fleet.active:
        return unknown(_NOBODY_HERE)
    share = fleet.by_sas.number / fleet.active
    if share <= SAS_SHARE:
        return passed(fleet.active, f"{share:.0%} of the active devices prove themselves by a symmetric key")
    return of_named(fleet.by_sas, fleet.active, f"{share:.0%} of the active devices prove themselves by a key")


def _old_keys(state: PostureState) -> Outcome:
    found, words = state.fleet.old_keys, []
    if found.number:
        words.append(f"keys of {found.number} devices are older than 365 days")
    before = state.now - POLICY_KEY_DAYS * DAY
    made = {each.policy: each.made for each in state.fleet.policies}
    policies = [each.name for each in state.hub.policies if (made.get(each.name) or state.hub.began) < before]
    groups = [
        each.name
        for each in state.hub.groups
        if each.attestation == "symmetricKey" and each.is_enabled and each.changed < before
    ]
    if policies:
        words.append(f"keys of policies are older than {POLICY_KEY_DAYS} days: {', '.join(policies[:10])}")
    if groups:
        words.append(f"keys of enrollment groups are older than {POLICY_KEY_DAYS} days: {', '.join(groups[:10])}")
    names = (*found.names, *(f"policy {each}" for each in policies), *(f"group {each}" for each in groups))
    count = found.number + len(policies) + len(groups)
    population = state.fleet.identities + len(state.hub.policies) + len(state.hub.groups)
    outcome = of_named(Named(count, names), population, "; ".join(words))
    return outcome._replace(words={"policy": policies[0] if policies else "service"})


def _long_tokens(state: PostureState) -> Outcome:
    return _of_tokens(state, state.fleet.long_tokens, "the newest token of each was good for more than a day")


def _pasted_tokens(state: PostureState) -> Outcome:
    return _of_tokens(state, state.fleet.pasted_tokens, "the newest token of each was good for more than a year")


def _of_tokens(state: PostureState, found: Named, reason: str) -> Outcome:
    if not state.fleet.active and not found.number:
        return unknown("no token was shown within thirty days")
    return of_named(found, state.fleet.active, reason)


def _shared_keys(state: PostureState) -> Outcome:
    fleet, keys = state.fleet, state.keys
    if not fleet.identities:
        return not_applicable(_NO_DEVICES)
    groups = [*(keys.shared if keys else ()), *fleet.shared_thumbprints, *fleet.shared_public_keys]
    if not groups and keys is None:
        return unknown("the keys could not be opened: the sealing key is not here")
    return of_groups(sorted(groups, key=_size, reverse=True), fleet.identities, "each group has one key")


def _size(group: Together) -> int:
    return group.number


def _weak_material(state: PostureState) -> Outcome:
    fleet, short = state.fleet, state.keys.short if state.keys else Named()
    if not fleet.identities:
        return not_applicable(_NO_DEVICES)
    words = [f"{fleet.sha1_thumbprints.number} thumbprints are SHA-1"] if fleet.sha1_thumbprints.number else []
    if short.number:
        words.append(f"{short.number} identities have a key of less than 16 bytes")
    found = Named(fleet.sha1_thumbprints.number + short.number, (*fleet.sha1_thumbprints.names, *short.names))
    return of_named(found, fleet.identities, "; ".join(words))


def _ending_certificates(state: PostureState) -> Outcome:
    fleet = state.fleet
    words = []
    if fleet.ending_certificates.number:
        words.append(f"{fleet.ending_certificates.number} certificates have less than a fifth of their life left")
    if fleet.failed_renewals.number:
        words.append(f"{fleet.failed_renewals.number} devices asked for a renewal and were refused")
    if not fleet.issued and not words:
        return not_applicable("the hub has issued no certificate")
    names = tuple(dict.fromkeys((*fleet.ending_certificates.names, *fleet.failed_renewals.names)))
    found = Named(max(len(names), fleet.ending_certificates.number, fleet.failed_renewals.number), names)
    return of_named(found, fleet.issued, "; ".join(words), dated=bool(fleet.ending_certificates.number))


def _by_policy(state: PostureState) -> Outcome:
    fleet = state.fleet
    if not fleet.active and not fleet.by_policy:
        return unknown(_NOBODY_HERE)
    outcome = of_groups(fleet.by_policy, fleet.active, "devices that log in with the key of a policy")
    return outcome._replace(words={"policy": fleet.by_policy[0].what} if fleet.by_policy else {})


def _lone_thumbprints(state: PostureState) -> Outcome:
    if not state.fleet.thumbprints:
        return not_applicable("no device is known by the thumbprint of its certificate")
    reason = "their certificate ends within sixty days, and they have no second thumbprint"
    return of_named(state.fleet.lone_thumbprints, state.fleet.thumbprints, reason, dated=True)


def _unfinished_rollovers(state: PostureState) -> Outcome:
    if not state.fleet.rollovers:
        return not_applicable("no key was replaced in the last year")
    reason = "thirty days after they got a new key they used the old one"
    return of_named(state.fleet.unfinished_rollovers, state.fleet.rollovers, reason)


def _onboarding(state: PostureState) -> Outcome:
    if not state.fleet.issued:
        return not_applicable("the hub has issued no certificate")
    reason = "they have a certificate of the hub's, and go on logging in with what they came with"
    return of_named(state.fleet.onboarding, state.fleet.issued, reason)


_EN, _IEC = "EN 303 645", "IEC 62443-4-2"
CHECKS: Final[Sequence[Check]] = (
    Check(
        id="PC01",
        area="device",
        severity="medium",
        title="More than a fifth of the devices prove themselves by symmetric keys",
        rationale="The secret is reusable, and lies on both sides.",
        remedy=(
            "Make an authority of the hub's own",
            "Let devices ask for a certificate when they register, or renew by EST",
            "What holds an issued certificate is certificateAuthority from its first log-in",
        ),
        commands=("hubkeep cert ca create devices", "hubkeep cert issue --csr device.csr {device}"),
        cost="F",
        likelihood=0.3,
        impact=3,
        effect=0.8,
        effort=Effort(80, 0.01, 0.002),
        judge=_by_keys,
        standards=(f"{_EN} 5.1-4", f"{_IEC} CR 1.2"),
    ),
    Check(
        id="PC02",
        area="device",
        severity="medium",
        title="Symmetric keys are old: a year for devices, ninety days for policies and groups",
        rationale="The longer a key lives, the more copies there are.",
        remedy=("Make the other key anew", "Wait until nobody needs the old one", "Make the old one anew"),
        commands=(
            "hubkeep key progress --retire primary",
            "hubkeep device rotate --key secondary {device}",
            "hubkeep policy rotate --key secondary {policy}",
        ),
        cost="M",
        likelihood=0.3,
        impact=3,
        effect=0.7,
        effort=Effort(2, 0.01, 0.001),
        judge=_old_keys,
        standards=(f"{_EN} 5.5-8", f"{_IEC} CR 1.5"),
    ),
    Check(
        id="PC03",
        area="device",
        severity="medium",
        title="Tokens are good for more than a day",
        rationale="Whoever finds a token may use it until it ends.",
        remedy=("Set the client's token life to an hour", "Look who shows tokens from a second address"),
        commands=("hubkeep key show {device}", "hubkeep replays"),
        cost="M",
        likelihood=0.3,
        impact=3,
        effect=0.8,
        effort=Effort(4, 0.005),
        judge=_long_tokens,
        standards=(f"{_EN} 5.1-4", f"{_IEC} CR 1.5"),
    ),
    Check(
        id="PC04",
        area="device",
        severity="high",
        title="Tokens end more than a year ahead",
        rationale="It is a key in disguise: often made by hand and pasted somewhere.",
        remedy=("Replace the script that made it", "Make the key anew that signed it"),
        commands=("hubkeep device rotate --key primary {device}",),
        cost="M",
        likelihood=0.6,
        impact=3,
        effect=0.95,
        effort=Effort(2, 0.25),
        judge=_pasted_tokens,
        is_reversible=False,
        standards=(f"{_EN} 5.1-4", f"{_IEC} CR 1.5"),
    ),
    Check(
        id="PC05",
        area="device",
        severity="high",
        title="Same key on several devices",
        rationale="Opening one of them yields all of them, and they cannot be told apart.",
        remedy=("Put them into a group with derived keys", "Register them anew"),
        commands=("hubkeep enroll create --group shared-key", "hubkeep device rotate --key primary {device}"),
        cost="M",
        likelihood=0.6,
        impact=6,
        effect=0.95,
        effort=Effort(2, 0.1),
        judge=_shared_keys,
        standards=(f"{_EN} 5.1-1", f"{_IEC} CR 1.2"),
    ),
    Check(
        id="PC06",
        area="device",
        severity="high",
        title="Weak material is accepted: SHA-1 thumbprints, short keys",
        rationale="It can be forged or guessed.",
        remedy=("Register the SHA-256 thumbprint of the certificate", "Make short keys anew"),
        commands=("hubkeep device update --thumbprint device.pem {device}",),
        cost="F",
        likelihood=0.1,
        impact=3,
        effect=0.9,
        effort=Effort(1, 0.1),
        judge=_weak_material,
        standards=(f"{_EN} 5.5-1", f"{_IEC} CR 4.3"),
    ),
    Check(
        id="PC07",
        area="device",
        severity="high",
        title="Certificates of active devices end soon, or renewals fail",
        rationale="It is an outage with a known date.",
        remedy=("Find why renewals fail", "Renew, or let the authority issue for longer"),
        commands=("hubkeep explain {device}", "hubkeep cert list --device {device}"),
        cost="M",
        likelihood=0.6,
        impact=6,
        effect=0.9,
        effort=Effort(4, 0.02),
        judge=_ending_certificates,
        standards=(f"{_EN} 5.5-8", f"{_IEC} CR 1.9"),
    ),
    Check(
        id="PC08",
        area="device",
        severity="high",
        title="Devices log in with the key of a shared access policy",
        rationale="That key opens the hub to whoever opens the device.",
        remedy=("Give each its own key", "Make the policy's keys anew"),
        commands=("hubkeep connection-string --device {device}", "hubkeep policy rotate --key primary {policy}"),
        cost="F",
        likelihood=0.6,
        impact=10,
        effect=0.95,
        effort=Effort(8, 0.05, 0.001),
        judge=_by_policy,
        standards=(f"{_EN} 5.1-1", f"{_IEC} CR 1.2"),
    ),
    Check(
        id="PC09",
        area="device",
        severity="medium",
        title="A certificate known by thumbprint ends soon, and there is no second one",
        rationale="The device is locked out on that day.",
        remedy=("Register the next certificate beside it", "Or let an authority vouch for it"),
        commands=("hubkeep device update --secondary-thumbprint next.pem {device}",),
        cost="M",
        likelihood=0.6,
        impact=3,
        effect=0.95,
        effort=Effort(1, 0.25),
        judge=_lone_thumbprints,
        standards=(f"{_EN} 5.5-8", f"{_IEC} CR 1.9"),
    ),
    Check(
        id="PC10",
        area="device",
        severity="medium",
        title="A change of keys is unfinished: the old one is in use a month after the new one",
        rationale="The old key lives on.",
        remedy=("Find who straggles", "Retire the old key"),
        commands=("hubkeep key progress --retire primary", "hubkeep device rotate --key primary {device}"),
        cost="M",
        likelihood=0.3,
        impact=3,
        effect=0.9,
        effort=Effort(1, 0.1, 0.005),
        judge=_unfinished_rollovers,
        is_reversible=False,
        standards=(f"{_EN} 5.5-8", f"{_IEC} CR 1.5"),
    ),
    Check(
        id="PC11",
        area="device",
        severity="medium",
        title="What devices came with is used for every day's sessions",
        rationale="A long-lived key from the factory is in daily use.",
        remedy=("Let the client log in with its issued certificate", "Retire the key it came with"),
        commands=("hubkeep cert list --device {device}", "hubkeep device rotate --key primary {device}"),
        cost="F",
        likelihood=0.3,
        impact=3,
        effect=0.8,
        effort=Effort(16, 0.01, 0.002),
        judge=_onboarding,
        standards=(f"{_EN} 5.1-4", f"{_IEC} CR 1.5"),
    ),
)
