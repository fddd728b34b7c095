"""What the rules need from outside, as small Protocols. Adapters: ``store``, ``bus``, ``connection/event_encoding``."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hubkeep.errors import HubError
from hubkeep.model import (
    AccessRule,
    AuditChain,
    AuditEntry,
    AuditHead,
    Authority,
    CertificateRequest,
    ChainedEntry,
    Configuration,
    ConsumerGroup,
    CredentialUse,
    Denial,
    Enrolment,
    EnrolmentKey,
    EventSource,
    Expiry,
    Feedback,
    Hold,
    HubEvent,
    Identity,
    IssuedCertificate,
    Job,
    JobCounts,
    JobPart,
    LinkInfo,
    Locked,
    Narrowing,
    PartStatus,
    Policy,
    Principal,
    QueuedMessage,
    QueueName,
    Refusal,
    Registration,
    RegistrationOperation,
    Replaced,
    Replay,
    RetentionChange,
    Status,
    SystemProperties,
    TransferJob,
    Twin,
    TwinChange,
    TwinPart,
    Upload,
)


class Clock(Protocol):
    """Time as a parameter: tests move it."""

    def now(self) -> float:
        """Unix seconds (wall clock): tokens, expiry, stamps."""

    def monotonic(self) -> float:
        """Seconds that never jump: keep-alive, time-outs."""


class Seal(Protocol):
    """Keys at rest."""

    def seal(self, secret: bytes, context: str) -> bytes:
        """Encrypt and authenticate. ``context`` names what the secret belongs to; it must be the same on opening."""

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """The secret. Raises StoreUnavailable when the seal is broken or belongs to another key or context."""


class SealedRecords(Protocol):
    """Everything of one store that is sealed."""

    async def reseal(self, prefix: bytes) -> int:
        """Seal anew what does not begin with ``prefix``; how much that was. May end in the middle and be called again.

        Raises StoreUnavailable.
        """

    async def holds(self, prefix: bytes) -> bool:
        """Whether anything, of whatever kind, begins with ``prefix``. Raises StoreUnavailable."""


class Destination(NamedTuple):
    """Where a URL leads. addresses: as text, checked; a connection goes to one of these and to no other."""

    scheme: str
    host: str
    port: int
    addresses: tuple[str, ...]


class Egress(Protocol):
    """Whom the hub may reach by itself."""

    async def destination(self, url: str) -> Destination:
        """Look up and check an http or https URL. Raises EgressRefused, with what would open it as remedy."""


class IdentityCount(NamedTuple):
    total: int
    enabled: int
    disabled: int
    connected: int


class Activity(NamedTuple):
    """One change of connection state or last activity; times in Unix seconds."""

    device_id: str
    module_id: str
    connected: bool | None  # None: unchanged
    at: float
    turned: bool = False  # it was the other way in between

    def after(self, before: "Activity | None") -> "Activity":
        """This change and the one before it as one, if that told of a connection state."""
        if before is None or before.connected is None:
            return self
        connected = before.connected if self.connected is None else self.connected
        turned = self.turned or before.turned or connected is not before.connected
        return self._replace(connected=connected, turned=turned)


class Held(NamedTuple):
    """What the registry holds of one identity. twin: only if the edit asked for it.

    siblings: devices of the hub, or modules of the device. has_device: the device is registered, or the module's is.
    """

    identity: Identity | None
    twin: Twin | None
    siblings: int
    has_device: bool


class Kept(NamedTuple):
    """What it is to hold. identity: None for none, a device's modules then go with it.

    twin: of one that is made; None: fresh. modules: made with it, where they are not there already. change: of the twin
    of one that was there; None: it stays.
    """

    identity: Identity | None
    twin: Twin | None = None
    modules: Sequence[Identity] = ()
    change: TwinChange | None = None


class IdentityEdit(NamedTuple):
    """One of many changes. edit: pure; what it raises leaves this identity as it was."""

    device_id: str
    module_id: str
    edit: Callable[[Held], Kept]
    wants_twin: bool = False


class TwinEdit(NamedTuple):
    """What a change of an identity does to its twin. fresh: the twin of one that is made.

    change: pure; raises HubError. told: called once the change is durable.
    """

    fresh: Callable[[], Twin]
    change: Callable[[Twin], TwinChange]
    told: Callable[[TwinChange], None]


class IdentityStore(Protocol):
    """Device and module identities. Keys arrive and leave unsealed; at rest they are sealed."""

    async def get(self, device_id: str, module_id: str = "") -> Identity | None: ...

    async def create(self, *identities: Identity) -> None:
        """All or none. Raises DeviceAlreadyExists, ModuleAlreadyExists; DeviceNotFound for a module without device."""

    async def modules(self, device_id: str) -> Sequence[Identity]:
        """The modules of a device by id; empty when there is none."""

    async def replace(self, identity: Identity, etag: str | None) -> bool:
        """Replace the writable fields where the stored etag is ``etag`` (None: any). False: absent or another etag."""

    async def delete(self, device_id: str, module_id: str, etag: str | None) -> bool:
        """Delete (a device with its modules) where the etag is ``etag`` (None: any). False: absent or another etag."""

    async def edit(self, edits: Sequence[IdentityEdit]) -> Sequence[tuple[Held, Kept] | HubError]:
        """Carry out each edit or its refusal, in their order, in one transaction; durable on return.

        No identity is named twice. An edit sees what those before it did. Raises StoreUnavailable: nothing was written.
        """

    async def list(self, top: int, after: str = "") -> Sequence[Identity]:
        """Devices (no modules) by id, at most ``top``, whose id sorts after ``after``."""

    async def page(self, most: int, after: tuple[str, str] = ("", "")) -> Sequence[tuple[Identity, Twin]]:
        """Devices, each before its modules, with their twins, by id and behind ``after`` (device, module)."""

    async def count(self) -> IdentityCount:
        """Devices by status, and how many are connected."""

    async def record_activity(self, changes: Iterable[Activity]) -> None:
        """Write connection state and last activity in one transaction. Unknown identities are passed over."""

    async def disconnect_all(self, at: float) -> None:
        """Every identity is disconnected: at the start of a hub that nobody can be connected to yet."""


class TwinStore(Protocol):
    """Twins live and die with their identities: a new identity has a fresh one."""

    async def get(self, device_id: str, module_id: str = "") -> Twin | None:
        """The newest durable state. None: no such identity."""

    async def change(
        self,
        device_id: str,
        module_id: str,
        change: Callable[[Twin], TwinChange],
        committed: Callable[[TwinChange], None],
    ) -> Twin | None:
        """Read, ``change`` and write as one step, durable on return; None: no such identity.

        committed: called in the order in which changes were made, even if the caller is gone. Raises what ``change``
        raises, and StoreUnavailable: then nothing was written.
        """


class ChangeEvents(Protocol):
    """What the hub tells of changes in the registry. Stores write it in the transaction of the change: none is lost.

    Everything here is pure, raises nothing, and answers with nothing where nobody wants to hear.
    """

    def wants(self, source: EventSource) -> bool: ...

    def created(self, twins: Iterable[Twin]) -> Sequence[HubEvent]:
        """Identities were made, with these twins."""

    def deleted(self, twins: Iterable[Twin], connected: Iterable[tuple[str, str]] = ()) -> Sequence[HubEvent]:
        """Identities are no more; so were their twins. connected: those of them that were (device id, module id)."""

    def twin_changed(self, before: Twin, change: TwinChange) -> Sequence[HubEvent]: ...

    def connections_turned(self, turns: Iterable[Activity]) -> Sequence[HubEvent]:
        """Connection states, as they are now."""

    def job_parts_changed(self, parts: Iterable[tuple[Job, JobPart]]) -> Sequence[HubEvent]:
        """Parts of jobs, as they are now."""


class EventOutbox(Protocol):
    """Events that are durable beside what they tell of, and wait to be passed on. wake: called when there are new ones.

    An event is kept until it is forgotten: whoever passes it on may do so twice, never not at all.
    """

    wake: Callable[[], None]

    async def waiting(self, after: int, most: int) -> Sequence[HubEvent]:
        """By number, behind ``after``."""

    async def forget(self, numbers: Sequence[int]) -> None: ...


class EventSourceStore(Protocol):
    """The sources that were switched on while the hub ran. What is stored is durable when the call returns."""

    async def all(self) -> Sequence[str]: ...

    async def put(self, source: EventSource, *, is_on: bool) -> None: ...


class RetentionStore(Protocol):
    """What the event log retains, where that was changed while the hub ran. Durable when ``put`` returns."""

    async def get(self) -> RetentionChange: ...

    async def put(self, chosen: RetentionChange) -> None: ...


class FleetRow(NamedTuple):
    """identity: without its keys. twin: the parts that were asked for, the others empty."""

    identity: Identity
    twin: Twin


class FleetStore(Protocol):
    """All twins with their identities, for queries."""

    async def rows(
        self,
        narrowings: Sequence[Narrowing],
        *,
        modules: bool,
        parts: frozenset[TwinPart],
        after: tuple[str, str],
        most: int,
    ) -> Sequence[FleetRow]:
        """Devices, or modules, that meet all ``narrowings``, by id and behind ``after`` (device, module).

        A row that does not meet them may be among the rows, one that does is never missing: the caller judges.
        Fewer than ``most`` rows mean that there are no more. What was written before the call is seen.
        """

    async def count(self, *, modules: bool) -> int:
        """All devices, or all modules."""


class JobStore(Protocol):
    """Scheduled jobs with their parts. What is stored is durable when the call returns."""

    async def add(self, job: Job, most: int) -> None:
        """Raises JobAlreadyExists; TooManyJobs: with it more than ``most`` would wait or run."""

    async def get(self, job_id: str) -> Job | None: ...

    async def put(self, job: Job) -> bool:
        """Write its newest state. False: it has ended already (in whatever way), and stays as it ended."""

    async def list(
        self, *, types: Sequence[str], statuses: Sequence[str], after: tuple[float, str] | None, most: int
    ) -> Sequence[Job]:
        """The newest first, behind ``after`` (created, id). Empty types or statuses: any."""

    async def due(self, now: float, most: int) -> Sequence[Job]:
        """Those that run, and behind them those that may begin, the longest waiting first."""

    async def counts(self, job_ids: Sequence[str]) -> Mapping[str, JobCounts]:
        """A job without parts is left out."""

    async def spread(self, job_id: str, targets: Sequence[tuple[str, str]], now: float) -> None:
        """A pending part for each target (device, module) that has none."""

    async def take(self, job_id: str, most: int, now: float) -> Sequence[JobPart]:
        """Make at most ``most`` pending parts running, and return them."""

    async def record(self, parts: Sequence[JobPart]) -> None:
        """Write the newest state of running parts; what runs no more stays as it is."""

    async def settle(self, job_id: str, statuses: Sequence[PartStatus], part: JobPart) -> None:
        """Every part of these statuses becomes as ``part``, which is of no device."""

    async def parts(
        self, *, job_ids: Sequence[str], device_ids: Sequence[str], after: tuple[str, str, str], most: int
    ) -> Sequence[tuple[Job, JobPart]]:
        """By job, device and module, behind ``after``. Empty job_ids or device_ids: any."""

    async def forget(self, ended_before: float) -> None:
        """Jobs that ended before then, with their parts."""


class TransferStore(Protocol):
    """Import and export jobs. Their URLs arrive and leave unsealed; at rest they are sealed. Durable on return."""

    async def add(self, job: TransferJob) -> None:
        """Raises JobQuotaExceeded when one waits or runs."""

    async def get(self, job_id: str) -> TransferJob | None: ...

    async def list(self, most: int) -> Sequence[TransferJob]:
        """The newest first."""

    async def active(self) -> TransferJob | None:
        """The one that waits or runs."""

    async def put(self, job: TransferJob) -> bool:
        """Write its newest state. False: it has ended already (in whatever way), and stays as it ended."""

    async def forget(self, ended_before: float) -> None: ...


class ConfigurationStore(Protocol):
    """Configurations, and the twins (device, module) that they are for. Durable when the call returns."""

    async def add(self, configuration: Configuration, most: int) -> None:
        """It gets its number. Raises ConfigurationAlreadyExists; QuotaExceeded: there would be more than ``most``."""

    async def replace(self, configuration: Configuration, revision: int) -> bool:
        """Where the stored revision is ``revision``. False: it is another one, or the configuration is deleted."""

    async def all(self) -> Sequence[Configuration]:
        """By id, deleted ones included."""

    async def forget_deleted(self) -> None:
        """Those that no twin is held by any more."""

    async def holds(self, twins: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Sequence[Hold]]:
        """A twin without any is left out."""

    async def change_holds(self, held: Sequence[Hold], released: Sequence[Hold]) -> None:
        """In one transaction."""

    async def counts(self) -> Mapping[int, tuple[int, int]]:
        """By number: twins targeted, and of them those applied. Without any it is left out."""

    async def statuses(self, twins: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Mapping[str, str]]:
        """Configuration ids to status, for each of these twins that has any."""


class AccessStore(Protocol):
    """Block and allow lists, and planned ends of identities. What is stored is durable when the call returns."""

    async def rules(self) -> Sequence[AccessRule]: ...

    async def put_rule(self, rule: AccessRule) -> None:
        """Create or replace."""

    async def remove_rule(self, name: str) -> None: ...

    async def expiries(self) -> Sequence[Expiry]: ...

    async def put_expiry(self, expiry: Expiry) -> None:
        """Create or replace; it goes with its device. Raises DeviceNotFound."""

    async def remove_expiry(self, device_id: str) -> None: ...


class GroupMembers(Protocol):
    """Devices that meet a condition which rarely changes of itself: their id, twin, and kind of credential."""

    def check(self, condition: str) -> None:
        """Raises QueryInvalid: it cannot be read, or names what changes without a word."""

    async def among(self, condition: str, device_ids: Sequence[str]) -> set[str]:
        """Those of these that meet it."""

    def members(self, condition: str) -> AsyncIterator[Sequence[str]]:
        """Their ids, some at a time."""


class SlotsUsed(NamedTuple):
    """When an identity last used each of its two keys or thumbprints, and when they were made; 0: not known."""

    device_id: str
    module_id: str
    primary_used: float
    secondary_used: float
    primary_made: float
    secondary_made: float

    @property
    def name(self) -> str:
        return f"{self.device_id}/{self.module_id}" if self.module_id else self.device_id


class CredentialUseStore(Protocol):
    """How credentials are used. An identity's rows go with it."""

    async def record(self, replaced: Sequence[Replaced], uses: Sequence[CredentialUse]) -> None:
        """In one transaction: what was known of the slots is forgotten, then the uses are added to those known.

        A use of an identity that does not exist is passed over. Raises StoreUnavailable: nothing was written.
        """

    async def of_identity(self, device_id: str, module_id: str) -> Sequence[CredentialUse]: ...

    async def of_policy(self, name: str) -> Sequence[CredentialUse]:
        """The newest first, at most a thousand."""

    async def with_old_tls(self) -> Sequence[CredentialUse]:
        """The newest first, at most a thousand."""

    async def slots_used(self, device_ids: Sequence[str]) -> Sequence[SlotsUsed]:
        """Of these devices and their modules, as far as they have two keys or thumbprints."""


class TrustProof(NamedTuple):
    """When a device last proved that it trusts a root (Unix seconds; 0: never), and from where."""

    device_id: str
    at: float
    peer: str


class TrustProofStore(Protocol):
    """root: the SHA-256 of its certificate. A device's proofs go with it."""

    async def record(self, root: str, proofs: Sequence[TrustProof]) -> None:
        """Raises StoreUnavailable: nothing was written."""

    async def of_fleet(self, root: str) -> Sequence[TrustProof]:
        """Of every enabled device, by id; at 0 where there is none."""


class AuthorityStore(Protocol):
    async def all(self) -> Sequence[Authority]: ...

    async def put(self, authority: Authority) -> None:
        """Create or replace."""

    async def remove(self, name: str) -> None: ...

    async def last_use(self, name: str, device_id: str, module_id: str) -> float:
        """When it last spoke for an identity (Unix seconds); 0: never."""

    async def used_since(self, name: str, since: float) -> int:
        """How many identities it spoke for since then."""


class CertificateUse(NamedTuple):
    """A login by certificate. serial: empty where the authority is not the hub's own."""

    authority: str
    device_id: str
    module_id: str
    serial: str
    at: float


class CertificateStore(Protocol):
    """The issuance log of the hub's own authorities. Serial numbers as in IssuedCertificate."""

    async def add(self, certificate: IssuedCertificate) -> None:
        """Before it is signed."""

    async def signed(self, authority: str, serial: str, der: bytes) -> None:
        """What was announced by ``add`` was signed."""

    async def get(self, authority: str, serial: str) -> IssuedCertificate | None:
        """On the path of every login."""

    async def of_key(self, key_sha256: str, ends_after: float) -> Sequence[IssuedCertificate]:
        """Those of a public key that had not ended by then."""

    async def find(
        self, *, device_id: str = "", module_id: str = "", serial: str = "", authority: str = "", most: int
    ) -> Sequence[IssuedCertificate]:
        """The newest first. An empty argument means any; module_id counts with device_id alone."""

    async def count(self, device_id: str, module_id: str, since: float) -> int:
        """How many were issued to an identity since then."""

    async def revoked(self, authority: str, ends_after: float) -> Sequence[IssuedCertificate]:
        """Revoked ones that had not ended by then."""

    async def revoke(self, authority: str, serial: str, at: float, reason: str) -> None: ...

    async def generation(self, device_id: str, module_id: str) -> int:
        """Of an identity's credentials; the first is 1. On the path of every login."""

    async def next_generation(self, device_id: str, module_id: str, at: float, reason: str) -> int:
        """Every certificate issued to the identity so far is void, and revoked; the new generation."""

    async def record_uses(self, uses: Sequence[CertificateUse], overlap: float) -> None:
        """Who logged in. The first login with a certificate ends the older ones of its identity, ``overlap`` seconds
        later."""


class DenialStore(Protocol):
    async def all(self) -> Sequence[Denial]: ...

    async def put(self, denials: Sequence[Denial]) -> None: ...

    async def remove(self, marks: Sequence[str]) -> None: ...


class CertificateRequestStore(Protocol):
    async def all(self) -> Sequence[CertificateRequest]: ...

    async def put(self, request: CertificateRequest) -> None: ...

    async def remove(self, ids: Sequence[str]) -> None: ...


class StoredList(NamedTuple):
    """A revocation list (DER), its CRLNumber, and its dates; Unix seconds. failure: of the last try to fetch it."""

    authority: str
    list: bytes
    number: int
    updated: float
    next_update: float
    fetched: float = 0.0
    failure: str = ""


class RevocationListStore(Protocol):
    async def all(self) -> Sequence[StoredList]: ...

    async def put(self, stored: StoredList) -> None: ...

    async def remove(self, authority: str) -> None: ...


class FetchFailed(Exception):
    """What was to be fetched did not come. Its text says why, for the operator."""


class Fetch(Protocol):
    """A document from an address that an administrator named; bounded, without redirects, where egress lets it."""

    async def __call__(self, url: str, *, at_most: int, within: float, body: bytes = b"", kind: str = "") -> bytes:
        """GET, or POST of ``body`` of the media type ``kind``. Raises FetchFailed, EgressRefused."""


PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
KEY_ALGORITHMS: Final = ("P-256", "P-384", "RSA-3072")


class SigningKeys(Protocol):
    """Where the private keys of the hub's own authorities lie. A key may refuse to come out: it signs where it is."""

    async def make(self, name: str, algorithm: str, place: str) -> tuple[str, PrivateKey]:
        """A new key for the authority of this name: its place, and the key. algorithm: one of ``KEY_ALGORITHMS``.

        Raises KeyUnavailable, BadRequest for a place that cannot be.
        """

    async def open(self, name: str, place: str) -> PrivateKey:
        """Raises KeyUnavailable."""

    async def remove(self, name: str, place: str) -> None:
        """A key that cannot come out of its token stays there."""


class EnrolmentCount(NamedTuple):
    individuals: int
    groups: int


class EnrolmentCondition(NamedTuple):
    """What a query asks for. None: any. id: in any case."""

    id: str | None = None
    status: Status | None = None


class EnrolmentStore(Protocol):
    """Enrolments. Keys arrive and leave unsealed; at rest they are sealed. Durable when the call returns."""

    async def fact(self, name: str, value: str) -> str:
        """What is stored under ``name``; ``value`` if nothing was."""

    async def get(self, key: EnrolmentKey) -> Enrolment | None: ...

    async def groups(self) -> Sequence[Enrolment]: ...

    async def change(
        self, key: EnrolmentKey, edit: Callable[[Enrolment | None, EnrolmentCount], Enrolment | None]
    ) -> Enrolment | None:
        """Read, ``edit`` and write as one step; None: there is none, or is none any more.

        Raises what ``edit`` raises; EnrolmentExists: what may belong to one enrolment alone is another's.
        """

    async def page(self, is_group: bool, condition: EnrolmentCondition, after: str, most: int) -> Sequence[Enrolment]:
        """By id in lower case, behind ``after``."""


class HeldRegistration(NamedTuple):
    """What is stored when a registration is settled. owner: the enrolment that made the identity, None for people.

    members: identities that the enrolment made, if it is a group.
    """

    held: Held
    record: Registration | None
    owner: EnrolmentKey | None
    members: int


class KeptRegistration(NamedTuple):
    """What is to be stored. identity: None leaves it as it is. before: the identity as it was.

    lacks: what the identity would be, were there a certificate for it: nothing is stored.
    """

    operation: RegistrationOperation
    identity: Kept | None = None
    before: Identity | None = None
    lacks: Identity | None = None


class RegistrationStore(Protocol):
    """Registration records (any case of their id), and attempts. Durable when the call returns."""

    async def get(self, registration_id: str) -> Registration | None: ...

    async def operation(self, operation_id: str) -> RegistrationOperation | None: ...

    async def settle(
        self,
        registration_id: str,
        device_id: str,
        enrolment: EnrolmentKey,
        settle: Callable[[HeldRegistration], KeptRegistration],
    ) -> KeptRegistration:
        """Identity, record and attempt in one transaction; an identity that is kept belongs to ``enrolment``.

        Raises what ``settle`` raises: then nothing was written.
        """

    async def remove(self, registration_id: str, etag: str | None) -> bool:
        """Where the etag is ``etag`` (None: any). False: absent or another etag."""

    async def page(self, group_id: str, after: str, most: int) -> Sequence[Registration]:
        """Of one group, by id in lower case, behind ``after``."""

    async def forget_operations(self, begun_before: float) -> None: ...


class PolicyStore(Protocol):
    async def all(self) -> Sequence[Policy]: ...

    async def put(self, policy: Policy) -> None: ...

    async def delete(self, name: str) -> None: ...


class ReplayStore(Protocol):
    """Tokens that were accepted from more than one address."""

    async def add(self, replays: Sequence[Replay], keep: int) -> None:
        """Append; of the oldest, forget what exceeds ``keep``."""

    async def find(self, identity: str, most: int) -> Sequence[Replay]:
        """Newest first, of one identity; empty means all."""


class RefusalStore(Protocol):
    async def add(self, refusals: Sequence[Refusal], keep: int) -> None:
        """Append; of the oldest, forget what exceeds ``keep``."""

    async def find(self, key: str, most: int) -> Sequence[Refusal]:
        """Newest first: by tracking id, or by the identity claimed; an empty key means all."""


class AuditQuery(NamedTuple):
    """Empty members ask for all. target: and what lies below it. since, until: Unix milliseconds, the end not included.
    page: the number of the entry behind which to go on. oldest: the oldest first.
    """

    chain: str = ""
    actor: str = ""
    target: str = ""
    operation: str = ""
    since: int = 0
    until: int = 0
    page: int = 0
    oldest: bool = False
    most: int = 100


class AuditStore(Protocol):
    async def append(self, entries: Sequence[AuditEntry], keep: Mapping[AuditChain, int]) -> None:
        """Durable when it returns. Of a chain with more entries than ``keep`` says, the oldest go.

        Raises StoreUnavailable: then nothing was written.
        """

    async def find(self, query: AuditQuery) -> Sequence[ChainedEntry]: ...

    async def heads(self) -> Mapping[AuditChain, AuditHead]:
        """Of the chains that have entries."""


class Ended(NamedTuple):
    """A message that leaves its queue for good, and what is told of it (None: nobody asked)."""

    sequence: int
    feedback: Feedback | None


class MessageQueue(Protocol):
    """Messages that wait, by queue, oldest first. now, until: monotonic seconds; wall: Unix milliseconds.

    What is stored is durable when the call returns. A lock belongs to the running hub: none outlives it.
    """

    async def put(self, message: QueuedMessage, most: int) -> QueuedMessage:
        """Append; returned with sequence and generation id. Raises QueueFull, DeviceNotFound, ModuleNotFound.

        most: unexpired messages that the queue may hold with it; 0 for any number.
        """

    async def lock(
        self, queue: QueueName, *, now: float, until: float, wall: int, skip_lapsed: bool = False
    ) -> Locked | None:
        """Hide and return the oldest visible message that has not expired; None when there is none.

        skip_lapsed: those whose lock lapsed wait for ``lapsed_messages``.
        """

    async def locked(self, queue: QueueName, lock_token: str, now: float) -> Locked:
        """The message that this token holds in this queue. Raises LockLost."""

    async def release(self, lock_token: str) -> None:
        """Visible again, in its old place, its count the same. Harmless when the lock is gone."""

    async def abandon(self, lock_token: str, now: float) -> None:
        """Visible again, in its old place, its count one higher. Raises LockLost."""

    async def count(self, sequence: int) -> None:
        """One delivery more of a message of ``lapsed_messages``."""

    def show(self, sequence: int) -> None:
        """A message of ``lapsed_messages`` may be locked again. Harmless when it is gone."""

    async def end(self, messages: Sequence[Ended]) -> Sequence[int]:
        """Remove messages and store their feedback, in one transaction. The sequences that were still there."""

    async def waiting(self, queue: QueueName) -> Sequence[QueuedMessage]:
        """Every message, locked and expired ones included."""

    async def counts(self, device_ids: Sequence[str]) -> Mapping[str, int]:
        """Messages in the queues of these devices (not their modules'); a device without any is left out."""

    async def expired(self, *, now: float, wall: int, most: int) -> Sequence[QueuedMessage]:
        """Messages of any queue whose time is over and that nobody holds."""

    def lapsed(self, now: float) -> Sequence[QueueName]:
        """Queues in which locks lapsed since the last call; their messages are visible again."""

    async def lapsed_messages(self, now: float) -> Sequence[QueuedMessage]:
        """Instead of ``lapsed``: the messages whose locks lapsed, which nobody may lock before ``show``."""


class FeedbackStore(Protocol):
    """Feedback records that wait to be sent together."""

    async def feedback(self, most: int) -> Sequence[tuple[int, Feedback]]:
        """The oldest records with their numbers."""

    async def bundle(self, numbers: Sequence[int], message: QueuedMessage) -> None:
        """Replace these records by one queued message, in one transaction."""


class StoredSession(NamedTuple):
    """filters: to granted QoS. expiry: seconds that it outlives its connection; None for ever.

    ended: Unix seconds at which the identity's last connection went; None while it has one.
    """

    filters: Mapping[bytes, int]
    expiry: int | None
    ended: float | None

    def is_over(self, now: float) -> bool:
        """now: Unix seconds."""
        return self.expiry is not None and self.ended is not None and now >= self.ended + self.expiry


class SubscriptionStore(Protocol):
    """What MQTT clients have subscribed, for their next connection (device-protocols 3.3)."""

    def session(self, device_id: str, module_id: str) -> StoredSession | None:
        """None when nothing is stored."""

    async def keep(
        self, device_id: str, module_id: str, filters: Mapping[bytes, int], expiry: int | None = None
    ) -> None:
        """Store them instead of what was stored, durably; empty ones are forgotten."""


class UploadStore(Protocol):
    """What devices were allowed to upload. What is stored is durable when the call returns."""

    async def open(self, upload: Upload, most: int) -> None:
        """Keep it. Raises TooManyUploads: with it the device would have over ``most`` unfinished, unexpired ones."""

    async def get(self, upload_id: str) -> Upload | None: ...

    async def note_block_list(self, upload_id: str, digest: str) -> None:
        """The file was made of this list of blocks."""

    async def finish(self, upload_id: str) -> None:
        """The device said how it ended."""

    async def expired(self, now: float, most: int) -> Sequence[Upload]:
        """Uploads whose time is over, the oldest first."""

    async def forget(self, upload_ids: Sequence[str]) -> None: ...

    async def signing_key(self) -> bytes:
        """The key of signed URLs: 32 random bytes, made at the first call, sealed at rest."""


class BlobStat(NamedTuple):
    """size: bytes. modified: Unix seconds. etag: as in the header, quotes included; changes with the content."""

    size: int
    modified: float
    etag: str


class BlobStore(Protocol):
    """Files by key: segments between slashes that mean nothing to any file system (messaging/blob_names).

    Every method raises StoreUnavailable when the store does not answer.
    """

    async def put(self, key: str, chunks: AsyncIterator[bytes], content_type: str = "") -> BlobStat:
        """Whole or not at all, instead of what was there; durable when it returns. Holds a few MiB at most.

        What ``chunks`` raises comes out, and nothing is left behind. Raises BlobExists where a folder has the name.
        """

    async def stat(self, key: str) -> BlobStat | None: ...

    def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes from ``start`` until before ``end``. Raises BlobNotFound."""

    def list(self, prefix: str) -> AsyncIterator[tuple[str, BlobStat]]:
        """What lies below ``prefix``, a whole path without its last slash, in no order."""

    async def delete(self, keys: Sequence[str]) -> None:
        """What is not there is passed over."""


class BlobContainer(Protocol):
    """A container of blobs that a back end names by a signed URL, elsewhere.

    Every method raises EgressRefused; ContainerRefused, naming blob and answer; ContainerUnreachable: later perhaps.
    """

    async def stat(self, blob: str) -> BlobStat: ...

    def read(self, blob: str, start: int, etag: str) -> AsyncIterator[bytes]:
        """Bytes from ``start`` to the end of this version."""

    async def put(self, blob: str, content: bytes) -> None:
        """Instead of what was there."""

    async def put_block(self, blob: str, number: int, content: bytes) -> None:
        """Keep a part until ``put_blocks``, also beyond the end of this process; instead of one of this number."""

    async def put_blocks(self, blob: str, count: int) -> None:
        """The blob is the parts from 0 to before ``count``, instead of what was there."""


class BlobContainers(Protocol):
    async def check(self, url: str) -> None:
        """Whether the container could be reached. Raises EgressRefused."""

    def open(self, url: str) -> BlobContainer: ...


class ConsumerGroupStore(Protocol):
    """Those that were made while the hub ran. What is stored is durable when the call returns."""

    async def all(self) -> Sequence[ConsumerGroup]: ...

    async def add(self, group: ConsumerGroup) -> None: ...

    async def remove(self, name: str) -> None: ...


class RecordRefusal(Protocol):
    """Every refusal is recorded with its reason; the peer gets the tracking id."""

    def __call__(self, error: HubError, link: LinkInfo, *, identity: str, operation: str, **presented: str) -> str:
        """Record ``error``, set and return its tracking id (32 hex digits). Never raises, never waits."""


class Event(NamedTuple):
    """One stored event. head and tail: see EventEncoding."""

    sequence: int
    offset: int
    enqueued: int  # Unix milliseconds, never going down within a partition
    head: bytes
    tail: bytes


class PartitionState(NamedTuple):
    """first_sequence: of the oldest retained event. last_*: of the newest; -1 and 0 when nothing was ever stored."""

    first_sequence: int
    last_sequence: int
    last_offset: int
    last_enqueued: int

    @property
    def is_empty(self) -> bool:
        return self.last_sequence < self.first_sequence


class EventLog(Protocol):
    """Telemetry, by partition, in order, durable before it is acknowledged.

    All methods run on the hub's event loop.
    """

    partitions: int
    pending_bytes: int  # appended and not yet durable

    def append(
        self,
        partition: int,
        head: bytes,
        tails: Sequence[bytes],
        on_durable: Callable[[HubError | None], None] | None,
    ) -> None:
        """Put events into the open batch; ``on_durable(None)`` runs once they are on disk, or with the refusal.

        Raises StoreUnavailable when nothing can be stored now: then nothing was stored, nothing is acknowledged.
        """

    def state(self, partition: int) -> PartitionState: ...

    async def read(self, partition: int, sequence: int, max_bytes: int) -> Sequence[Event]:
        """Events from ``sequence`` on (the oldest retained if that is gone); empty when there is none yet.

        Raises EventLogDamaged naming the range that does not match its checksum or is missing.
        """

    def read_cached(self, partition: int, sequence: int, max_bytes: int) -> Sequence[Event] | None:
        """The same without waiting, from memory; None when they are not there and ``read`` must be asked."""

    async def sequence_at_offset(self, partition: int, offset: int) -> int:
        """The sequence number of the first event whose offset is at least ``offset``."""

    async def sequence_after_time(self, partition: int, milliseconds: int) -> int:
        """The sequence number of the first event enqueued after ``milliseconds``."""

    def on_commit(self, partition: int, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` after each commit to the partition. Returns what ends that."""


class FlowControlledLog(EventLog, Protocol):
    """A log that tells its writers when to wait."""

    @property
    def congested(self) -> bool:
        """More is waiting for the disk than the hub wants to hold: leave sockets unread until ``when_relieved``."""

    def when_relieved(self, call: Callable[[], None]) -> None:
        """Call once when ``congested`` has become false."""


class EventEncoding(Protocol):
    """The stored form of an event, encoded once.

    head: what is the same for all events of one sender (identity annotations); it is stored once per batch.
    sections: what depends on the properties alone; senders repeat themselves, so callers may keep it.
    tail: ingress time, sections and body, ready for readers.
    """

    def head(self, sender: Principal, *, source: str = "Telemetry", model_id: str | None = None) -> bytes: ...

    def sections(self, sender: Principal, system: SystemProperties, properties: Mapping[str, str | None]) -> bytes: ...

    def tail(self, ingress: int, sections: bytes, body: bytes) -> bytes:
        """ingress: Unix milliseconds."""

    def hub_head(self, device_id: str, module_id: str, source: str) -> bytes:
        """Of an event that the hub tells by itself: no credential stands behind it."""

    def hub_sections(self, system: SystemProperties, properties: Mapping[str, str | None]) -> bytes: ...


METHODS_SERVED = "methods.served"  # published with the subject when a device begins to listen for methods


class NobodyServes(Exception):
    """A request on the bus that nobody answers: for a method, the device is not online."""


def method_subject(device_id: str, module_id: str) -> str:
    """Where the method calls of one identity are asked. No id holds a slash."""
    return f"method/{device_id}/{module_id}"


def desired_subject(device_id: str, module_id: str) -> str:
    """Where the desired patches of one identity are published. No id holds a slash."""
    return f"twin.desired/{device_id}/{module_id}"


class Bus(Protocol):
    """Passing-on between the hub's parts and, scaled out, its nodes. At most once, no storage."""

    def publish(self, subject: str, payload: object) -> None: ...

    def subscribe(self, subject: str, handler: Callable[[object], None]) -> Callable[[], None]:
        """Returns what unsubscribes."""

    async def request(self, subject: str, payload: object) -> object:
        """The answer of whoever serves ``subject``; how long to wait is the caller's. Raises NobodyServes at once."""

    def serve(self, subject: str, answer: Callable[[object], Awaitable[object]]) -> Callable[[], None]:
        """Answer requests on ``subject`` in the place of who did so before. Returns what ends that."""
