"""Device security, who may become a device: PC24 to PC26, PC28 to PC30 (provisioning-and-pki 6.6)."""

import datetime as dt
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from hubkeep.model import Authority, PostureState, Together

from .check import DAY, Check, Effort, Outcome, not_applicable, of_groups, of_hub, of_named

_ENDING_DAYS: Final = 180
_RSA_BITS: Final = 2048
_STALE_DAYS: Final = 7
_GROWTH: Final = 3.0
_FEW: Final = 10  # devices a day are no flood
_NO_AUTHORITY: Final = "no certificate authority is registered"


def _ending_authorities(state: PostureState) -> Outcome:
    trusted = [each for each in state.hub.authorities if each.state in {"active", "retiring"} and each.certificate]
    if not trusted:
        return not_applicable(_NO_AUTHORITY)
    faults = {each.name: fault for each in trusted if (fault := _fault_of(each, state.now))}
    is_dated = any("ends on" in each for each in faults.values())
    outcome = of_hub(list(faults.values()), dated=is_dated)
    return outcome._replace(words={"authority": next(iter(faults), "")})


def _fault_of(authority: Authority, now: float) -> str:
    certificate = x509.load_der_x509_certificate(authority.certificate)
    ends = certificate.not_valid_after_utc.timestamp()
    if ends < now + _ENDING_DAYS * DAY:
        return f"{authority.name} ends on {dt.datetime.fromtimestamp(ends, dt.UTC):%Y-%m-%d}"
    key, digest = certificate.public_key(), certificate.signature_hash_algorithm
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _RSA_BITS:
        return f"{authority.name} has a key of RSA {key.key_size}"
    if digest is not None and digest.name in {"sha1", "md5"}:
        return f"{authority.name} is signed with {digest.name.upper()}"
    return ""


def _unproved_authorities(state: PostureState) -> Outcome:
    registered = [each for each in state.hub.authorities if not each.is_own and each.state in {"active", "retiring"}]
    if not registered:
        return not_applicable(_NO_AUTHORITY)
    faults = {each.name: f"nobody proved to have the key of {each.name}" for each in registered if each.vouched}
    if len(registered) > 1:
        faults |= {
            each.name: f"{each.name} speaks for any identity, beside others"
            for each in registered
            if not each.allowed_ids
        }
    return of_hub(list(faults.values()))._replace(words={"authority": next(iter(faults), "")})


def _stale_lists(state: PostureState) -> Outcome:
    if not state.hub.lists:
        return not_applicable("no revocation list of somebody else's is asked for")
    faults = {}
    for each in state.hub.lists:
        if each.failure:
            faults[each.authority] = f"the list of {each.authority} could not be fetched: {each.failure}"
        elif each.next_update and each.next_update < state.now:
            days = (state.now - each.next_update) / DAY
            lets_in = ", and devices are let in all the same" if each.mode == "soft" and days > _STALE_DAYS else ""
            faults[each.authority] = f"the list of {each.authority} is {days:.0f} days over its time{lets_in}"
    return of_hub(list(faults.values()))._replace(words={"authority": next(iter(faults), "")})


def _open_groups(state: PostureState) -> Outcome:
    groups = [each for each in state.hub.groups if each.is_enabled]
    if not groups:
        return not_applicable("there is no enrollment group")
    unbounded = [each.name for each in groups if not each.bounds]
    faults = [f"{each} takes any number of devices of any name, for ever" for each in unbounded]
    return of_hub(faults)._replace(words={"group": unbounded[0] if unbounded else ""})


def _growth(state: PostureState) -> Outcome:
    if not state.hub.groups:
        return not_applicable("there is no enrollment group")
    fast = [
        each for each in state.fleet.growth if each.last_day > _FEW and each.last_day > _GROWTH * max(each.usual, 1.0)
    ]
    groups = [Together(f"{each.group}, usual are {each.usual:.1f} a day", each.last_day) for each in fast]
    outcome = of_groups(groups, state.fleet.identities, "made since yesterday", observed=True)
    return outcome._replace(words={"group": fast[0].group if fast else ""})


def _conflicts(state: PostureState) -> Outcome:
    fleet, words = state.fleet, []
    if fleet.ownership_conflicts.number:
        words.append(f"{fleet.ownership_conflicts.number} asked for an identity that another one made")
    if fleet.disabled_registrations.number:
        words.append(f"{fleet.disabled_registrations.number} registered under a disabled enrollment")
    names = (*fleet.ownership_conflicts.names, *fleet.disabled_registrations.names)
    number = fleet.ownership_conflicts.number + fleet.disabled_registrations.number
    found = fleet.ownership_conflicts._replace(number=number, names=tuple(dict.fromkeys(names)))
    return of_named(found, fleet.identities, "; ".join(words), observed=True)


_EN, _IEC = "EN 303 645", "IEC 62443-4-2"
CHECKS: Final[Sequence[Check]] = (
    Check(
        id="PC24",
        area="device",
        severity="high",
        title="A certificate authority of devices ends within half a year, or is weak",
        rationale="All devices below it stop.",
        remedy=("Register the next one beside it", "Let the old one retire"),
        commands=("hubkeep cert ca add next next.pem", "hubkeep cert ca update {authority} --state retiring"),
        cost="M",
        likelihood=0.6,
        impact=6,
        effect=0.9,
        effort=Effort(6),
        judge=_ending_authorities,
        standards=(f"{_EN} 5.5-8", f"{_IEC} CR 1.8"),
    ),
    Check(
        id="PC25",
        area="device",
        severity="medium",
        title="An authority did not prove its key, or speaks for all where there are several",
        rationale="It speaks for too many.",
        remedy=("Have it prove that it has the key", "Say whom it speaks for"),
        commands=("hubkeep cert ca verify {authority}", "hubkeep cert ca update {authority} --allow 'press-*'"),
        cost="S",
        likelihood=0.1,
        impact=6,
        effect=0.9,
        effort=Effort(0.5),
        judge=_unproved_authorities,
        standards=(f"{_EN} 5.5-4", f"{_IEC} CR 1.8"),
    ),
    Check(
        id="PC26",
        area="device",
        severity="medium",
        title="Revocation lists of others are stale, or do not come",
        rationale="Who was revoked gets in.",
        remedy=("Mend their source", "Or put the list in by hand"),
        commands=("hubkeep cert ca crl {authority} list.crl", "hubkeep cert ca show {authority}"),
        cost="S",
        likelihood=0.3,
        impact=3,
        effect=0.9,
        effort=Effort(1),
        judge=_stale_lists,
        standards=(f"{_EN} 5.5-4", f"{_IEC} CR 1.9"),
    ),
    Check(
        id="PC28",
        area="device",
        severity="high",
        title="Enrollment groups take any number of devices, of any name, for ever",
        rationale="One key that leaks makes any number of devices.",
        remedy=("Say how many, which names, until when",),
        commands=("hubkeep enroll limit {group} --most 1000 --allow 'press-*' --until 180d",),
        cost="S",
        likelihood=0.3,
        impact=6,
        effect=0.7,
        effort=Effort(0.5),
        judge=_open_groups,
        standards=(f"{_EN} 5.12-1", f"{_IEC} CR 7.6"),
    ),
    Check(
        id="PC29",
        area="device",
        severity="high",
        title="A group grows three times as fast as usual",
        rationale="Its key has leaked, or the line runs faster than planned.",
        remedy=("Stop the group", "Look at what it made"),
        commands=("hubkeep enroll disable {group} --group", "hubkeep enroll records {group}"),
        cost="S",
        likelihood=0.6,
        impact=6,
        effect=0.9,
        effort=Effort(1),
        judge=_growth,
        standards=(f"{_EN} 5.12-1", f"{_IEC} CR 7.6"),
    ),
    Check(
        id="PC30",
        area="device",
        severity="high",
        title="Registrations for what is somebody else's, or disabled",
        rationale="Somebody tries to take a device over, or there is a clone.",
        remedy=("Look who asked", "Block the device"),
        commands=("hubkeep explain {device}", "hubkeep device block --reason 'taken over' {device}"),
        cost="S",
        likelihood=0.6,
        impact=6,
        effect=0.7,
        effort=Effort(1, 0.25),
        judge=_conflicts,
        standards=(f"{_EN} 5.12-1", f"{_IEC} CR 1.4"),
    ),
)
