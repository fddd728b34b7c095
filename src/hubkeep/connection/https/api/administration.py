"""The hub's own administration, which clients made for IoT Hub never see."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from hubkeep.errors import NotFound, PolicyNotFound, QuotaExceeded, ResourceLimit
from hubkeep.limits import AUDIT_PAGE, HTTP_SERVICE_BODY, OperationClass, Tier
from hubkeep.model import AuditChain, EventSource

from ..events import RetentionBody, SourceSwitch
from ..policies import PolicyBody, RegenerateBody
from .rows import JSON, Answer, Body, Count, Described, Parameter, Time, Told, empty, given


class RecordedRefusal(Told, rename=None):
    """What was presented (never a secret), which check failed, and what would mend it."""

    tracking_id: str
    time: Time
    surface: Literal["https", "mqtt", "amqp"]
    peer: str
    identity: str
    operation: str
    code: Annotated[int, Meta(ge=400000, le=599999)]
    name: str
    cause: str
    reason: str
    remedy: str
    presented: dict[str, str]


class RecordedReplay(Told, rename=None):
    """A token that was accepted from another address than before. fingerprint: tells tokens apart, and nothing more."""

    time: Time
    surface: Literal["https", "mqtt", "amqp"]
    identity: str
    key: Literal["primary", "secondary", ""]
    address: str
    first_address: str
    first_time: Time
    client: str
    fingerprint: str


_Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class AuditedEntry(Told):
    """Who did what to what. hash: SHA-256 over ``previous`` and a JSON array of sequence, chain, milliseconds, actor,
    credential, surface, peer, operation, target, outcome, detail and trackingId.
    """

    number: Count
    sequence: Count
    time: Time
    milliseconds: Count
    chain: AuditChain
    actor: str
    credential: str
    surface: str
    peer: str
    operation: str
    target: str
    outcome: str
    detail: str
    tracking_id: str
    previous: _Hash
    hash: _Hash


class AuditEnd(Told):
    """Where a chain ends. dropped: the last entry of its beginning that is not kept any more."""

    chain: AuditChain
    sequence: Count
    hash: _Hash
    dropped: Count


class PartitionStatus(Told, rename=None):
    first_sequence: int
    last_sequence: int
    last_offset: int
    last_enqueued: int


class LostEvents(Told, rename=None):
    """accepted: Unix milliseconds at which an operator accepted the loss; readers pass over the range."""

    partition: int
    first_sequence: int
    last_sequence: int
    accepted: int


class HubStatus(Told, rename=None):
    """missing: listeners that are not where clients look for them, and why. unhealthy: reasons; empty is well."""

    version: str
    mode: Literal["dev", "serve"]
    host_names: list[str]
    endpoints: dict[str, str]
    missing: dict[str, str]
    events_name: str
    retention_hours: float
    retention_bytes: int
    connected: Count
    partitions: list[PartitionStatus]
    lost: list[LostEvents]
    unhealthy: list[str]
    machine: str


class SealingState(Told):
    """keyId: names the key in force, and tells nothing of it. resealed: records, of those sealed anew. failure: why
    it does not go on for now."""

    key_id: str
    resealing: bool
    resealed: Count
    failure: str


class PolicyNetworks(Told):
    """Where its tokens may be used from: denying wins, allowing closes the rest, neither is everywhere."""

    allow: list[str]
    deny: list[str]


class PolicyWithKeys(Told):
    name: str
    rights: Annotated[str, Meta(description="Joined by a comma and a space.")]
    primary_key: str
    secondary_key: str
    networks: PolicyNetworks


class ConsumerGroup(Told):
    """fixed: it is always there."""

    name: str
    created: Time | None
    fixed: bool


class EventSourceState(Told):
    """enabled: the built-in endpoint gets its events. fixed: settings name it, and it stays on."""

    source: EventSource
    enabled: bool
    fixed: bool


class RetentionLimits(Told):
    """Events go at this age, and the oldest beyond so many bytes."""

    hours: float
    bytes: int


class RetentionState(RetentionLimits):
    """default: what settings say."""

    default: RetentionLimits


class ThrottleRate(Told):
    rate: float
    burst: float


class ThrottleOffender(Told):
    identity: str
    operation_class: OperationClass = msgspec.field(name="class")
    refused: int
    per_second: float


class ThrottleState(Told):
    """refused: by class, since the start."""

    hub: dict[OperationClass, ThrottleRate]
    device: dict[OperationClass, ThrottleRate]
    refused: dict[OperationClass, int]
    offenders: list[ThrottleOffender]


class TierQuota(Told):
    """used: messages of the day that had most, each counted once per meteredBytes."""

    used: int
    of_day: int
    metered_bytes: int


class TierClass(Told):
    """over: what each tier would have refused or delayed."""

    operation_class: OperationClass = msgspec.field(name="class")
    unit: Literal["operations", "bytes"]
    count: int
    peak_per_second: float
    peak_per_minute: float
    allowed_per_second: float
    over: dict[Tier, int]


class TierReport(Told):
    """fits: the smallest tier that would have refused nothing; empty: none."""

    tier: Tier
    units: int
    report_only: bool
    seconds: float
    fits: Tier | Literal[""]
    quota: dict[Tier, TierQuota]
    jobs_at_once: dict[Tier, int]
    classes: list[TierClass]


_LIMIT: Final = HTTP_SERVICE_BODY.value
_SEALING: Final = given(SealingState, "How it is now.")
_POLICY: Final = given(PolicyWithKeys, "The policy.")

ROWS: Final[Mapping[str, Described]] = {
    "admin/audit": Described(
        "Show who did what",
        given(list[AuditedEntry], "The newest first, or the oldest."),
        query=(
            Parameter("chain", AuditChain, "Of this kind alone."),
            Parameter("actor", str, "A device, device/module, or `policy NAME`."),
            Parameter("target", str, "What was acted on, and what lies below it."),
            Parameter("operation", str, "As the list of operations names it."),
            Parameter("from", str, "Not before this time (ISO 8601)."),
            Parameter("to", str, "Before this time (ISO 8601)."),
            Parameter("order", Literal["newest", "oldest"], "`newest` first by default."),
            Parameter("page", Annotated[int, Meta(ge=0, le=2**62)], "Go on behind the entry of this number."),
            Parameter("most", Annotated[int, Meta(ge=1, le=AUDIT_PAGE.value)], "At most so many: 100 by default."),
        ),
    ),
    "admin/audit/heads": Described(
        "Show where the chains of the audit end",
        given(list[AuditEnd], "Kept elsewhere, an end shows later that nothing before it was taken away."),
    ),
    "admin/refusals": Described(
        "Show what was refused, and why",
        given(list[RecordedRefusal], "The newest first."),
        query=(
            Parameter("key", str, "A tracking id, or an identity as it was claimed."),
            Parameter("most", Annotated[int, Meta(ge=1, le=1000)], "At most so many: 20 by default."),
        ),
    ),
    "admin/replays": Described(
        "Show tokens that came from more than one address",
        given(list[RecordedReplay], "The newest first."),
        text="A token is taken from wherever it comes; one that came from elsewhere may be in other hands.",
        query=(
            Parameter("identity", str, "Of this device, `device/module` or `policy NAME` alone."),
            Parameter("most", Annotated[int, Meta(ge=1, le=1000)], "At most so many: 20 by default."),
        ),
    ),
    "admin/throttles": Described(
        "Show rates, and whom they refused most",
        given(ThrottleState, "Rates in force, refusals by class, and the devices and policies behind them."),
        query=(Parameter("most", Annotated[int, Meta(ge=1, le=1000)], "At most so many: 20 by default."),),
    ),
    "admin/tier": Described(
        "Show what a tier of Azure IoT Hub would have made of the traffic",
        given(TierReport, "Counted since the start, for every tier."),
        refusals=(NotFound,),
    ),
    "admin/events": Described(
        "Watch events as they come",
        {200: Answer("JSON lines without end; empty ones tell that it lives.", None, "application/x-ndjson")},
        query=(
            Parameter("device", str, "Of this device alone."),
            Parameter("from", Literal["latest", "earliest"], "Where to begin; `latest` by default."),
        ),
        refusals=(ResourceLimit,),
    ),
    "admin/status": Described("Show how the hub is", given(HubStatus, "Its listeners, its log, its health.")),
    "admin/policies": Described("List shared access policies, with their keys", given(list[PolicyWithKeys], "All.")),
    "admin/policies/get": Described("Get a shared access policy, with its keys", _POLICY, refusals=(PolicyNotFound,)),
    "admin/policies/put": Described(
        "Make a shared access policy, or change it",
        _POLICY,
        text="Keys that are left out stay, or are made. Links that were opened with what it was before are cut. "
        "The rights of built-in policies are fixed. Networks that would shut out whoever asks are refused without "
        "shutMeOut.",
        body=Body({JSON: PolicyBody}, _LIMIT),
        refusals=(QuotaExceeded,),
    ),
    "admin/policies/delete": Described(
        "Delete a shared access policy",
        empty("It is gone; links that were opened with it are cut. Built-in ones stay."),
        refusals=(PolicyNotFound,),
    ),
    "admin/policies/regenerate": Described(
        "Replace a key of a shared access policy",
        _POLICY,
        text="The other key stays valid; links that were opened with the old one are cut.",
        body=Body({JSON: RegenerateBody}, _LIMIT),
        refusals=(PolicyNotFound,),
    ),
    "admin/sealing": Described("Show under which key everything is sealed", _SEALING),
    "admin/sealing/reseal": Described(
        "Seal everything anew under a new key",
        _SEALING,
        text="It goes on after a restart too. Where the hub does not make the key itself, its source must give another "
        "one first.",
    ),
    "admin/trust-bundle": Described(
        "Get the root certificates that clients must trust",
        {200: Answer("Certificates (PEM).", None, "application/x-pem-file")},
    ),
    "admin/openapi": Described(
        "Get this document",
        {200: Answer("OpenAPI 3.1.", dict[str, Any])},
        text="OpenAPI 3.1; the same for every hub of a version.",
    ),
    "admin/groups/list": Described("List consumer groups", given(list[ConsumerGroup], "By name, `$Default` first.")),
    "admin/groups/put": Described(
        "Make a consumer group",
        given(ConsumerGroup, "The group; harmless where it is there already."),
        refusals=(QuotaExceeded,),
    ),
    "admin/groups/delete": Described("Delete a consumer group", empty("It is gone; its readers are detached.")),
    "admin/sources/list": Described(
        "List the hub's own events", given(list[EventSourceState], "All sources, and which of them are switched on.")
    ),
    "admin/sources/put": Described(
        "Switch a source of the hub's own events",
        given(EventSourceState, "The source as it is now: what happens from now on is told, or is not."),
        text="The name in any case. A source that settings name cannot be switched off.",
        body=Body({JSON: SourceSwitch}, HTTP_SERVICE_BODY.value),
    ),
    "admin/retention/get": Described("Show how long events are kept", given(RetentionState, "What is in force.")),
    "admin/retention/patch": Described(
        "Change how long events are kept",
        given(RetentionState, "What is in force from now on, restarts included."),
        text="What is left out stays as it is; null takes it back to what settings say. The newest events of each "
        "partition always stay.",
        body=Body({JSON: RetentionBody}, HTTP_SERVICE_BODY.value),
    ),
}
