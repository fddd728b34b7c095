"""What the posture report is computed from: facts of a hub at one moment. No judgement (provisioning-and-pki 6.5)."""

from typing import NamedTuple

import msgspec

from .authority import Authority


class Named(NamedTuple):
    """How many there are, and the names of some. A name: ``device``, ``device/module``, ``policy NAME``."""

    number: int = 0
    names: tuple[str, ...] = ()


class Together(NamedTuple):
    """Some that have ``what`` in common: a fingerprint, a value, a policy, an address."""

    what: str
    number: int
    names: tuple[str, ...] = ()


class PostureTimes(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the store. All are Unix seconds, but for token_seconds, pasted_seconds and overdue_seconds.

    recent: who was here since counts as active. silent, unseen: last here, or made, before it. old_key: made before it.
    ending: a thumbprint's certificate ends before it. token_seconds,
    pasted_seconds: lives of tokens that are too long. overdue_seconds: after a newer key the older one should be idle.
    root, bundle: of the hub's own certificates, see HubFacts.
    """

    now: float
    recent: float
    silent: float
    unseen: float
    old_key: float
    ending: float
    token_seconds: int
    pasted_seconds: int
    overdue_seconds: float
    root: str = ""
    bundle: int = 0
    owner_path: str = "tags.owner"
    firmware_path: str = "properties.reported.firmwareVersion"


class FirmwareVersion(NamedTuple):
    """first_seen: Unix seconds when the first device reported it, among those that were looked at; 0: not known."""

    value: str
    devices: int
    first_seen: float
    names: tuple[str, ...] = ()


class GroupGrowth(NamedTuple):
    """Devices of an enrolment group that were made within the last day, and on an average day of the thirty before."""

    group: str
    last_day: int
    usual: float


class Burst(NamedTuple):
    """Failed log-ins from one address: within the last day, and on the median day of the week before."""

    source: str
    last_day: int
    usual: float


class PolicyUse(NamedTuple):
    """made: when its older key was; 0: not known. last_used: by anybody; 0: never. Unix seconds."""

    policy: str
    made: float
    last_used: float


class FleetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Aggregates over the registry, made in bounded work at a million identities.

    identities: enabled ones, modules included. active: those that were here of late. switch_uses: when compatibility
    switches were last of use, by their name; those that are not recorded are not there.
    """

    identities: int = 0
    devices: int = 0
    active: int = 0
    by_sas: Named = Named()
    old_keys: Named = Named()
    long_tokens: Named = Named()
    pasted_tokens: Named = Named()
    shared_thumbprints: tuple[Together, ...] = ()
    shared_public_keys: tuple[Together, ...] = ()
    sha1_thumbprints: Named = Named()
    ending_certificates: Named = Named()
    failed_renewals: Named = Named()
    by_policy: tuple[Together, ...] = ()
    policies: tuple[PolicyUse, ...] = ()
    lone_thumbprints: Named = Named()
    thumbprints: int = 0
    unfinished_rollovers: Named = Named()
    rollovers: int = 0
    onboarding: Named = Named()
    issued: int = 0
    never_here: Named = Named()
    silent: Named = Named()
    half_blocked: Named = Named()
    half_open: Named = Named()
    ownerless: Named = Named()
    agents: tuple[Together, ...] = ()
    firmware: tuple[FirmwareVersion, ...] = ()
    without_firmware: Named = Named()
    old_tls: Named = Named()
    behind_on_trust: Named = Named()
    reporting_trust: int = 0
    unproved: Named = Named()
    growth: tuple[GroupGrowth, ...] = ()
    ownership_conflicts: Named = Named()
    disabled_registrations: Named = Named()
    alternating: tuple[Together, ...] = ()
    bursts: tuple[Burst, ...] = ()
    barred: Named = Named()
    secret_paths: tuple[Together, ...] = ()
    unsealed: int = 0
    switch_uses: dict[str, float] = {}
    logins_seen: int = 0


class KeyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What opening every symmetric key tells. shared: by a fingerprint that tells nothing of the key."""

    examined: int = 0
    shared: tuple[Together, ...] = ()
    short: Named = Named()


class RightUse(NamedTuple):
    """When a right of a policy was last used (Unix seconds). is_own: by the hub's own commands."""

    policy: str
    right: str
    last_used: float
    is_own: bool


class PolicyFacts(NamedTuple):
    """rights: in words. is_closed: to every network."""

    name: str
    rights: tuple[str, ...]
    is_built_in: bool
    is_closed: bool = False


class ServerChain(NamedTuple):
    """A certificate that listeners show, or one above it. kind: ``server``, ``intermediate`` or ``root``."""

    name: str
    kind: str
    ends: float
    is_serving: bool


class ListFacts(NamedTuple):
    """A revocation list of somebody else's. Times are Unix seconds; 0: never."""

    authority: str
    mode: str
    fetched: float
    next_update: float
    failure: str


class GroupFacts(NamedTuple):
    """An enrolment group. bounds: which of pattern, limit, end and approval it has. changed: Unix seconds."""

    name: str
    attestation: str
    is_enabled: bool
    bounds: tuple[str, ...]
    changed: float


class Outbound(NamedTuple):
    """An address that the hub reaches by itself. what: webhook, file store. fault: why it is not safe; empty: it is."""

    what: str
    url: str
    fault: str


class Usage(NamedTuple):
    """Of a limit. usual: its default."""

    name: str
    used: int
    limit: int
    usual: int


class Component(NamedTuple):
    """A version that runs here. supported_until: Unix seconds; 0: not known. fault: what is known against it."""

    name: str
    version: str
    supported_until: float
    fault: str = ""


class HubFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub itself is like: settings, keys, certificates, machine. None: not to be had here.

    began: Unix seconds of the first start. rights_since: since when uses of rights are recorded. clock_error: seconds
    that the machine may be off. issuer: where people sign in.
    root: the incoming one, by its SHA-256. bundle: the newest version of the trust bundle.
    """

    began: float = 0.0
    rights_since: float = 0.0
    policies: tuple[PolicyFacts, ...] = ()
    right_uses: tuple[RightUse, ...] = ()
    groups: tuple[GroupFacts, ...] = ()
    authorities: tuple[Authority, ...] = ()
    lists: tuple[ListFacts, ...] = ()
    chain: tuple[ServerChain, ...] = ()
    rollover: str = "steady"
    root: str = ""
    backup_roots: int = 0
    bundle: int = 0
    bundle_since: float = 0.0
    switches: tuple[str, ...] = ()
    sealing_source: str = ""
    is_sealing_beside: bool | None = None
    sealing_made: float = 0.0
    resealing_failure: str = ""
    issuer: str = ""
    people: tuple[str, ...] | None = None
    audit_breaks: tuple[str, ...] | None = None
    audit_exported: float = 0.0
    outbound: tuple[Outbound, ...] = ()
    backed_up: float = 0.0
    drilled: float = 0.0
    escrowed: float = 0.0
    components: tuple[Component, ...] = ()
    usages: tuple[Usage, ...] = ()
    raised: tuple[str, ...] = ()
    clock_synchronised: bool | None = None
    clock_error: float = 0.0


class PostureState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that checks look at. now: Unix seconds."""

    now: float
    fleet: FleetFacts = FleetFacts()
    keys: KeyFacts | None = None
    hub: HubFacts = HubFacts()


class Waiver(msgspec.Struct, frozen=True, kw_only=True):
    """A risk that somebody accepts until a day. Times are Unix seconds. risk, affected: when it was given."""

    check: str
    owner: str
    reason: str
    until: float
    given: float = 0.0
    risk: float = 0.0
    affected: int = 0


class PostureRun(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is kept of a report. at: Unix seconds. states: by check. severities: open findings by severity.

    first_seen: by check that was open, as ISO 8601. by: who asked; empty: the hub itself, daily.
    """

    at: float
    index: int
    risk: float
    states: dict[str, str]
    severities: dict[str, int]
    risks: dict[str, float]
    first_seen: dict[str, str]
    by: str = ""
