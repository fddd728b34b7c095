"""Every quota, size and time-out: value, unit, source. Rules get them through one ``Limits`` record."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

KIB = 1024
MIB = 1024 * KIB


class Limit(NamedTuple):
    """A default with its unit and where it comes from."""

    value: int
    unit: str
    source: str


DEVICE_TO_CLOUD_SIZE = Limit(256 * KIB, "bytes per message, properties counted", "IoT Hub quotas page, read 2026-11")
PUBLISH_ALLOWANCE = Limit(4, "bytes of an MQTT packet besides topic and payload", "L-L9")
TOPIC_LENGTH = Limit(32 * KIB, "bytes of an MQTT topic or filter", "L-L10")
SUBSCRIPTIONS = Limit(50, "filters per MQTT connection", "L-L11; the classic limit is 5 (D-Q20)")
UNCOMMITTED_PUBLISHES = Limit(256, "publishes per connection received and not yet durable", "L-L12")
OUTGOING_BYTES = Limit(MIB, "bytes per connection waiting to go out", "L-L13")
OUTGOING_STALL = Limit(20, "seconds without a byte taken by the peer", "L-L13")
KEEP_ALIVE_CAP = Limit(1767, "seconds of silence allowed at most", "L-L14")
TOKEN_GRACE = Limit(300, "seconds after a token's expiry", "device-protocols 2.6")
CONNECT_BYTES = Limit(64 * KIB, "bytes of an MQTT CONNECT", "L-L5")
HANDSHAKE_WITHIN = Limit(10, "seconds for a TLS handshake", "L-L3")
CLIENT_CERTIFICATES = Limit(8, "certificates that a client may present", "L-T12")
CLIENT_CERTIFICATE_BYTES = Limit(32 * KIB, "bytes of the certificates that a client presents", "L-T12")
CERTIFICATE_SKEW = Limit(300, "seconds that a certificate is taken before it begins", "provisioning-and-pki P-V4")
CERTIFICATE_PATH = Limit(4, "authorities between a device and the registered one", "provisioning-and-pki 3.5")
MINTED_TOKEN = Limit(3600, "seconds that a token lives which the hub makes for a device", "ours, as the SDKs' own")
MINTED_TOKEN_MIN = Limit(60, "seconds that such a token lives at least", "ours")
MINTED_TOKEN_MAX = Limit(86_400, "seconds that such a token lives at most", "provisioning-and-pki 5.6")
POLICIES = Limit(100, "shared access policies", "own")
POLICY_NETWORKS = Limit(100, "networks that a policy allows, and as many that it denies", "own")
POLICY_NAME = Limit(64, "characters of a policy's name", "service-protocols 1.4")
AUTHORITIES = Limit(100, "registered certificate authorities", "device-protocols 6")
AUTHORITY_BYTES = Limit(20 * KIB, "bytes of an authority's certificate", "provisioning-and-pki 3.6")
AUTHORITY_CODE_VALID = Limit(86_400, "seconds that a verification code is good", "provisioning-and-pki 3.6")
AUTHORITY_IN_USE = Limit(30 * 86_400, "seconds that an authority counts as in use", "provisioning-and-pki 3.6")
ALLOWED_IDS = Limit(100, "patterns of the identities that an authority may speak for", "ours")
DENIALS = Limit(100_000, "entries of the deny-list", "ours: it is held in memory")
REQUEST_BYTES = Limit(8 * KIB, "bytes of a certificate request", "provisioning-and-pki 4.9")
EST_REQUEST = Limit(16 * KIB, "bytes of a certificate request in base64", "twice REQUEST_BYTES")
CRL_BYTES = Limit(10 * MIB, "bytes of an imported revocation list", "provisioning-and-pki 3.7")
CRL_GRACE = Limit(86_400, "seconds after its nextUpdate that an imported list still counts", "ours: one missed fetch")
OCSP_ANSWER = Limit(64 * KIB, "bytes of an OCSP answer", "ours: it is about one certificate")
CERTIFICATE_REQUESTS = Limit(1000, "certificate requests that wait for approval", "ours")
OCSP_REQUEST = Limit(8 * KIB, "bytes of an OCSP request", "ours: it asks about one certificate")
CERTIFICATES_PER_DAY = Limit(5, "certificates that an identity may ask for in a day", "provisioning-and-pki 4.9")
CERTIFICATES_PER_MINUTE = Limit(600, "certificates that the hub issues in a minute", "provisioning-and-pki 4.9")
CERTIFICATE_AGAIN = Limit(
    3600, "seconds in which the same request gets the same certificate", "provisioning-and-pki 4.9"
)
CERTIFICATE_DAYS = Limit(45, "days that a device's certificate lasts", "provisioning-and-pki 4.3")
CERTIFICATE_DAYS_MAX = Limit(397, "days that a device's certificate may last", "ours: what strict clients accept")
CERTIFICATE_OVERLAP = Limit(86_400, "seconds that the old certificate outlives the first use of the new one", "4.9")
ROOT_KEPT = Limit(86_400, "seconds that devices keep a root of the hub's after it is retired", "ours")
CERTIFICATE_GRACE = Limit(
    30 * 86_400, "seconds after its end that a certificate may still be renewed with, once", "provisioning-and-pki 4.12"
)
SHUTDOWN_WITHIN = Limit(5, "seconds for a peer to answer the end of TLS", "L-T13")
CONNECT_WITHIN = Limit(30, "seconds from TLS to CONNECT", "L-L4")
AMQP_AUTHENTICATE_WITHIN = Limit(60, "seconds from TLS to the first authorisation", "L-L4")
HTTP_HEAD_WITHIN = Limit(10, "seconds for an HTTP request head", "L-L4")
OPEN_CONNECTIONS_SHARE = Limit(80, "per cent of the descriptor limit", "L-L1")
UNAUTHENTICATED = Limit(2000, "connections not yet authenticated", "L-L2")
UNAUTHENTICATED_PER_SOURCE = Limit(200, "connections not yet authenticated per address; loopback not counted", "L-L2")
UNAUTHENTICATED_BYTES = Limit(64 * MIB, "bytes held for all connections not yet authenticated", "L-L6")
ARRIVALS = Limit(100, "new connections per second and address; loopback not counted", "L-L7")
ARRIVALS_BURST = Limit(500, "new connections of an address at once; loopback not counted", "L-L7")
ARRIVAL_WAIT = Limit(5, "seconds that a connection beyond them is kept waiting at most", "L-L7")
FAILED_LOGINS = Limit(20, "failed logins in 60 s per address; loopback not counted", "L-L8")
FAILED_LOGINS_PAUSE = Limit(60, "seconds that such an address is closed at accept", "L-L8")
FAILED_PAIR = Limit(
    10, "failed logins of one identity from one address; loopback not counted", "provisioning-and-pki 5.2"
)
FAILED_PAIR_WITHIN = Limit(600, "seconds in which they are counted", "provisioning-and-pki 5.2")
FAILED_PAIR_PAUSE = Limit(60, "seconds that such a pair is refused; doubled each time", "provisioning-and-pki 5.2")
FAILED_PAIR_PAUSE_MAX = Limit(3600, "seconds that such a pair is refused at most", "provisioning-and-pki 5.2")
REFUSAL_AFTER = Limit(
    10, "milliseconds from a credential to its refusal, whatever was wrong with it", "L-I1: the time tells nothing"
)
TAKEOVERS = Limit(10, "take-overs of one identity in 60 s", "L-M24")
CLOUD_TO_DEVICE_SIZE = Limit(64 * KIB, "bytes per message, properties counted", "L-L22")
CLOUD_TO_DEVICE_QUEUE = Limit(50, "messages per identity", "L-L22")
CLOUD_TO_DEVICE_TTL = Limit(3600, "seconds until a message without an expiry of its own expires", "L-L22")
CLOUD_TO_DEVICE_DELIVERIES = Limit(10, "times that a message may be abandoned", "L-L22")
CLOUD_TO_DEVICE_LOCK = Limit(60, "seconds that a receiver holds a message", "L-L22")
CLOUD_TO_DEVICE_LOCK_MIN = Limit(5, "seconds that may be asked for over HTTP", "L-L22")
CLOUD_TO_DEVICE_LOCK_MAX = Limit(300, "seconds that may be asked for over HTTP", "L-L22")
TOPIC_ALIASES = Limit(10, "topic aliases per MQTT 5 client", "device-protocols 3.15")
CLOUD_TO_DEVICE_IN_FLIGHT = Limit(16, "messages sent to an MQTT client and not acknowledged", "device-protocols 3.10")
FEEDBACK_RECORDS = Limit(64, "records of one feedback message", "device-protocols 7.3")
FEEDBACK_WAIT = Limit(15, "seconds that a record waits for others", "device-protocols 7.3")
FEEDBACK_TTL = Limit(3600, "seconds until a feedback message expires", "device-protocols 7.3")
FILE_NOTIFICATION_TTL = Limit(3600, "seconds until a file notification expires", "service-protocols 4.4")
FILE_NOTIFICATION_DELIVERIES = Limit(10, "times that a file notification may be abandoned", "service-protocols 4.4")
FILE_NOTIFICATION_LOCK = Limit(60, "seconds that a receiver holds a file notification", "service-protocols 2.14")
FEEDBACK_DELIVERIES = Limit(10, "times that a feedback message may be abandoned", "device-protocols 7.3")
AMQP_FRAME = Limit(64 * KIB, "bytes", "L-L15")
AMQP_FRAME_BEFORE_OPEN = Limit(8 * KIB, "bytes", "L-L5")
AMQP_CHANNEL_MAX = Limit(8191, "channel number", "L-L15")
AMQP_SESSIONS = Limit(1100, "sessions per connection", "L-L15")
AMQP_LINKS = Limit(8191, "links per connection", "L-L15")
AMQP_NESTING = Limit(16, "levels of compound values", "L-L16")
AMQP_ENTRIES = Limit(4096, "entries of a compound value", "L-L16")
AMQP_ANNOTATIONS_ALLOWANCE = Limit(16 * KIB, "bytes of a delivery besides the message limit", "L-L16")
AMQP_DELIVERY_COUNTED = Limit(MIB, "bytes of a delivery counted and dropped before the link goes", "L-L16")
AMQP_LINK_BYTES = Limit(16 * MIB, "bytes per connection that attaches may take, a KiB for each link counted", "ours")
AMQP_LINK_BYTES_BEFORE = Limit(512 * KIB, "the same before the first authorisation", "L-L6")
AMQP_PARTIAL_BYTES = Limit(16 * MIB, "bytes per connection of deliveries that are not whole yet", "ours")
AMQP_PARTIAL_BYTES_BEFORE = Limit(MIB, "the same before the first authorisation", "L-L6")
AMQP_TOKENS = Limit(1100, "authorisations per connection", "device-protocols 4.4: clients multiplex 1,000 devices")
AMQP_SESSION_WINDOW = Limit(2048, "transfers", "L-L17")
AMQP_CREDIT = Limit(1000, "messages of credit given to a sender", "L-L17")
AMQP_IDLE = Limit(240, "seconds of silence allowed", "service-protocols S-R17")
HTTP_HEAD = Limit(32 * KIB, "bytes", "L-L18")
HTTP_HEADERS = Limit(100, "headers", "L-L18")
HTTP_URI = Limit(8 * KIB, "bytes", "L-H2")
HTTP_DEVICE_BODY = Limit(256 * KIB, "bytes", "L-L18")
HTTP_SERVICE_BODY = Limit(MIB, "bytes", "L-L18")
HTTP_REQUEST_WITHIN = Limit(60, "seconds for a whole request", "L-L19")
HTTP_BODY_SPEED = Limit(1024, "bytes per second after the first 10 s", "L-L19")
HTTP_BODY_GRACE = Limit(10, "seconds before the body's speed counts", "L-L19")
HTTP_KEEP_ALIVE = Limit(120, "seconds between two requests of a connection", "ours: longer than clients keep one idle")
BLOB_BODY = Limit(100 * MIB, "bytes of one request of a file upload", "L-L18")
BLOB_SIZE = Limit(10 * KIB * MIB, "bytes of one uploaded file", "ours")
BLOB_NAME = Limit(1024, "characters of a blob name, the device id counted", "Azure Storage, naming of blobs")
BLOB_SEGMENTS = Limit(254, "parts of a blob name between slashes", "Azure Storage, naming of blobs")
BLOB_BLOCKS = Limit(50_000, "blocks of one uploaded file", "device-protocols 5.4")
BLOB_STAGED_BLOCKS = Limit(100_000, "blocks of one upload that no list has named yet", "Azure Storage, Put Block")
BLOCK_ID = Limit(64, "bytes of a decoded block id", "Azure Storage, Put Block")
BLOCK_LIST_BODY = Limit(8 * MIB, "bytes of a block list", "ours: 50,000 ids of 64 bytes")
BLOB_TRANSFERS = Limit(64, "bodies of file uploads read at once", "ours: each holds a few MiB at most")
BLOB_TRANSFERS_PER_DEVICE = Limit(16, "bodies of one device's file uploads read at once", "ours")
BLOB_TURN_WITHIN = Limit(30, "seconds that an upload waits for its turn", "ours")
UPLOADS = Limit(10, "file uploads of a device in progress", "device-protocols 7.3")
UPLOAD_WITHIN = Limit(3600, "seconds that a device has for an upload", "device-protocols 5.4")
FILES_STOP_SHARE = Limit(10, "per cent of the disk that uploads leave free", "L-L27: where the warning begins")
FILES_STOP = Limit(1024 * MIB, "bytes of the disk that uploads leave free, if less than the share", "L-L27")
HTTP_LINGER = Limit(1, "seconds that an unread body is thrown away, so that the peer can read the answer", "ours")
LIVE_EVENT_READERS = Limit(64, "open requests for live events", "ours")
JSON_DEPTH = Limit(32, "levels of JSON outside twin documents", "L-L20")
TWIN_DEPTH = Limit(10, "levels, the section itself the first", "L-L20")
TWIN_STRING = Limit(4 * KIB, "bytes of a text", "L-L20")
TWIN_KEY = Limit(KIB, "bytes of a key", "L-L20")
TWIN_INTEGER = Limit(2**52, "an integer is at least minus this, and below it", "L-L20")
TWIN_PROPERTIES = Limit(32 * KIB, "bytes of desired or reported properties", "L-L21")
TWIN_TAGS = Limit(8 * KIB, "bytes of tags", "L-L21")
REQUESTS_PER_TURN = Limit(50, "requests of one MQTT connection before others have their turn", "ours, for L-O3")
TWIN_REQUESTS = Limit(100, "requests of one connection that wait; more are told 429", "ours")
METHOD_PAYLOAD = Limit(128 * KIB, "bytes of a method's payload, each way", "L-L23")
METHOD_RESPONSE = Limit(30, "seconds to answer a method if the caller says nothing", "service-protocols 2.12")
METHOD_RESPONSE_MIN = Limit(5, "seconds to answer a method", "L-L23")
METHOD_RESPONSE_MAX = Limit(300, "seconds to answer a method", "L-L23")
METHOD_CONNECT_MAX = Limit(300, "seconds to wait for the device of a method", "service-protocols 2.12")
METHOD_NAME = Limit(100, "characters of a method's name", "device-protocols 7.2")
METHODS_PER_IDENTITY = Limit(100, "method calls of one device or module under way", "ours")
METHODS = Limit(5000, "method calls of the hub under way", "ours")
MODEL_ID = Limit(256, "characters of a plug and play model id", "ours")
IDENTITIES = Limit(1_000_000, "devices and modules", "L-L25, service-protocols 2.17")
MODULES_PER_DEVICE = Limit(50, "modules", "L-L25")
BULK_RECORDS = Limit(100, "records of one bulk request or key rotation", "service-protocols 2.17")
LIST_TOP = Limit(1000, "identities of one list", "service-protocols 2.3")
IDENTITY_ID = Limit(128, "characters", "service-protocols 2.3")
STATUS_REASON = Limit(128, "characters", "service-protocols 2.3")
KEY_BYTES_MIN = Limit(16, "bytes of a decoded symmetric key", "service-protocols 2.3")
KEY_BYTES_MAX = Limit(64, "bytes of a decoded symmetric key", "service-protocols 2.3")
WEB_TOKEN = Limit(16 * KIB, "characters of a web token", "L-I7")
WEB_TOKEN_EARLY = Limit(60, "seconds that a web token may begin ahead of the hub's clock", "ours")
WEB_TOKEN_TEXTS = Limit(500, "texts of a web token that roles may be given by", "ours")
PROVIDER_DOCUMENT = Limit(256 * KIB, "bytes of a document of the OpenID Connect provider", "ours")
PROVIDER_KEYS = Limit(100, "keys of the provider", "ours")
PROVIDER_WITHIN = Limit(5, "seconds for a document of the provider", "ours")
PROVIDER_KEYS_EVERY = Limit(600, "seconds between fetches of the provider's keys", "ours")
PROVIDER_KEYS_AGAIN = Limit(10, "seconds between fetches of the provider's keys, whatever tokens name", "ours")
PROVIDER_KEYS_KEPT = Limit(86_400, "seconds that its keys count while the provider cannot be reached", "ours")
SIGN_IN_WITHIN = Limit(600, "seconds from the beginning of a sign-in with a browser to its end", "ours")
BROWSER_SESSIONS = Limit(1000, "people signed in with a browser; the oldest go first", "ours")
ROLE_ASSIGNMENTS = Limit(1000, "role assignments besides those of the settings", "ours")
ROLE_VALUE = Limit(256, "characters of a claim that gives a role, and of its value", "ours")
ACCESS_RULES = Limit(200, "rules of the block and allow lists", "ours")
ACCESS_DEVICES = Limit(10_000, "devices that one rule names", "ours")
ACCESS_REASON = Limit(128, "characters of a reason", "as STATUS_REASON")
CREDENTIAL_USES_AT_ONCE = Limit(2000, "credentials whose newest use is written in one second", "ours")
ROLLOVER_NAMES = Limit(1000, "identities that one answer on a rollover names", "ours")
QUERY_TEXT = Limit(8 * KIB, "characters of a query", "L-L24")
QUERY_NESTING = Limit(16, "levels of parentheses, lists, calls and negations", "L-L24")
QUERY_PAGE = Limit(1000, "rows per page at most", "L-L24")
QUERY_PAGE_DEFAULT = Limit(100, "rows per page", "service-protocols 2.8")
QUERY_SECONDS = Limit(2, "seconds of one query; a list then goes on at its next page, a total is refused", "L-L24")
QUERY_GROUPS = Limit(10_000, "groups of one query", "ours")
JOB_ID = Limit(128, "characters of a job's id", "ours; as an identity's")
JOB_SECONDS = Limit(3600, "seconds that a job may take if its maker says nothing", "service-protocols 2.10")
JOB_SECONDS_MAX = Limit(30 * 24 * 3600, "seconds that a job may take", "ours")
JOBS_RUNNING = Limit(10, "jobs that run at once", "service-protocols 2.17, the largest tier")
JOBS_ACTIVE = Limit(1000, "jobs that wait or run", "ours")
JOB_PARTS_RUNNING = Limit(100, "devices at which one job is at work at once", "ours")
JOB_HISTORY = Limit(30 * 24 * 3600, "seconds that a job is remembered after its end", "service-protocols 2.10")
TRANSFER_LINE = Limit(MIB, "bytes of a line of an import", "ours; as the body of a bulk request")
TRANSFER_BLOCK = Limit(4 * MIB, "bytes of an export that are held before the container takes them", "ours")
TRANSFERS_LISTED = Limit(100, "import and export jobs of one list", "ours")
CONFIGURATIONS = Limit(100, "configurations", "service-protocols 2.17")
CONFIGURATION_METRICS = Limit(5, "queries of a configuration", "service-protocols 2.11")
CONFIGURATION_PERIOD = Limit(60, "seconds between evaluations of configurations if no twin changes or is made", "ours")
ENROLMENTS = Limit(1_000_000, "individual enrolments", "provisioning-and-pki 2.7")
ENROLMENT_GROUPS = Limit(200, "enrolment groups", "provisioning-and-pki 2.7: 100 of each kind")
ENROLMENTS_AT_ONCE = Limit(10, "enrolments of one bulk request", "provisioning-and-pki 2.1")
ENROLMENT_BODY = Limit(96 * KIB, "bytes of a request about enrolments", "provisioning-and-pki 2.7")
ENROLMENT_HUBS = Limit(50, "hubs that an enrolment names", "provisioning-and-pki 2.7")
REGISTER_BODY = Limit(96 * KIB, "bytes of a request to register", "provisioning-and-pki 1.4")
REGISTER_PAYLOAD = Limit(16 * KIB, "bytes of the payload of a request to register", "provisioning-and-pki 1.4")
REGISTRATIONS_PER_MINUTE = Limit(1000, "requests to register in a minute", "provisioning-and-pki 1.3")
REGISTRATION_POLLS = Limit(5, "questions in 10 s how a registration ended, for a device", "provisioning-and-pki 1.3")
REGISTRATION_ID = Limit(128, "characters of a registration id or a group's id", "provisioning-and-pki 1.1")
REGISTRATION_LINK = Limit(
    600, "seconds that a connection lasts on which a device registers", "provisioning-and-pki 1.6"
)
TPM_CHALLENGE = Limit(300, "seconds that a TPM may take to answer its challenge", "provisioning-and-pki 1.11")
REGISTRATION_ANSWERS_HELD = Limit(8, "answers that wait for a device to subscribe", "ours")
REGISTRATION_ANSWER_HELD = Limit(
    10, "seconds that an answer waits for a device to subscribe", "provisioning-and-pki 1.6"
)
LINKED_HUBS = Limit(50, "hubs that devices are assigned to", "provisioning-and-pki 2.7")
OTHER_HUB_WITHIN = Limit(10, "seconds for a linked hub to answer", "ours")
OTHER_HUB_ANSWER = Limit(256 * KIB, "bytes of what a linked hub answers", "ours")
WEBHOOK_WITHIN = Limit(5, "seconds for a webhook of custom allocation to answer", "provisioning-and-pki 2.4")
WEBHOOK_ANSWER = Limit(64 * KIB, "bytes of the answer of a webhook", "provisioning-and-pki 2.4")
REGISTRATION_OPEN = Limit(60, "seconds until a registration that is under way has failed", "provisioning-and-pki 1.3")
REGISTRATION_OPERATION_KEPT = Limit(
    86_400, "seconds that a device may ask how a registration ended", "provisioning-and-pki 1.3"
)
WEBSOCKET_FRAME = Limit(320 * KIB, "bytes", "L-L29")
WEBSOCKET_EMPTY_FRAMES = Limit(100, "empty frames per second", "L-W5")
WEBSOCKET_PINGS = Limit(10, "pings per second", "L-W5")
LOG_LINE = Limit(8 * KIB, "bytes", "L-L30")
RECEIVERS_WITHOUT_EPOCH = Limit(5, "receivers per consumer group and partition", "service-protocols 5.7")
CONSUMER_GROUP_NAME = Limit(50, "characters", "Event Hubs quotas")
CONSUMER_GROUPS = Limit(20, "besides $Default", "service-protocols 2.17")
UNCOMMITTED_BYTES = Limit(32 * MIB, "bytes received and not yet durable before sockets are left unread", "ours")
EVENT_CACHE = Limit(32 * MIB, "bytes of newest events kept in memory for readers", "ours")
RETENTION_HOURS = Limit(24, "hours that events are kept", "service-protocols 2.17")
RETENTION_BYTES = Limit(10 * KIB * MIB, "bytes of events kept at most", "ours")
TOKENS_WATCHED = Limit(50_000, "tokens of which the hub remembers where they came from", "ours: some 10 MiB")
REPLAYS_KEPT = Limit(10_000, "records of tokens that came from elsewhere", "ours")
ACTIVITY_KEPT = Limit(100_000, "identities whose connection state is kept while the registry cannot be written", "ours")
REFUSALS_KEPT = Limit(10_000, "refusals kept for hubkeep explain", "ours")
AUDIT_CHANGES = Limit(500_000, "changes kept in the audit", "ours")
AUDIT_COMMANDS = Limit(100_000, "messages and calls of back ends kept in the audit", "ours")
AUDIT_DISCLOSURES = Limit(100_000, "answers that held keys kept in the audit", "ours")
AUDIT_LOGINS = Limit(300_000, "log-ins kept in the audit", "ours")
AUDIT_REFUSALS = Limit(100_000, "refusals kept in the audit", "ours")
AUDIT_WAITING = Limit(20_000, "entries of the audit that wait to be written, changes aside", "ours")
AUDIT_PAGE = Limit(1000, "entries of one page of the audit", "ours")
POSTURE_RUNS = Limit(1000, "posture runs kept", "ours: daily, nearly three years")
POSTURE_WAIVER_DAYS = Limit(180, "days for which a risk may be accepted", "provisioning-and-pki 6.5")
POSTURE_REASON = Limit(512, "characters of a reason, or of who gives it", "ours")
POSTURE_NAMES = Limit(10, "names of identities that a finding lists", "ours")
POSTURE_GROUPS = Limit(1000, "kinds of clients, versions and addresses that a finding weighs", "ours")
DISK_STOP_SHARE = Limit(5, "per cent of the disk that must stay free for writes", "L-L27")
DISK_STOP = Limit(512 * MIB, "bytes of the disk that must stay free for writes, if less than the share", "L-L27")

THROTTLED_DEVICES = Limit(
    50_000, "devices of which the hub remembers how fast they ask, of one kind", "ours: some 8 MiB"
)
THROTTLE_WAIT = Limit(30, "seconds that a PUBACK is delayed before the connection is closed", "L-O1")
OFFENDERS = Limit(1000, "devices and policies of which refusals by rate are counted one by one", "ours")

# What is asked for, as rates count it.
OperationClass = Literal[
    "connects",
    "telemetry",
    "twin-reads",
    "twin-updates",
    "methods",
    "devicebound-sends",
    "devicebound-receives",
    "uploads",
    "registry",
    "queries",
    "jobs",
]
Tier = Literal["F1", "S1", "S2", "S3"]


class TierRate(NamedTuple):
    """A second: the larger of ``least`` and ``per_unit`` for every unit. over: the seconds that it is counted over.

    Of methods: bytes.
    """

    per_unit: float
    least: float = 0.0
    over: float = 1.0

    def of(self, units: int) -> float:
        return max(self.least, self.per_unit * units)


class TierLimits(NamedTuple):
    """quota: messages a day and unit. metered: bytes that count as one message. jobs: that run at once."""

    quota: int
    metered: int
    jobs: int
    rates: Mapping[OperationClass, TierRate]


def _rates(
    often: float, reads: float, updates: float, seldom: float, receives: float, methods: float
) -> Mapping[OperationClass, TierRate]:
    """seldom, receives: a minute, which is what they are counted over."""
    return {
        "connects": TierRate(often, 100),
        "telemetry": TierRate(often, 100),
        "twin-reads": TierRate(reads, 100),
        "twin-updates": TierRate(updates, 50),
        "methods": TierRate(methods * KIB),
        "devicebound-sends": TierRate(seldom / 60, over=60),
        "devicebound-receives": TierRate(receives / 60, over=60),
        "uploads": TierRate(seldom / 60, over=60),
        "registry": TierRate(seldom / 60, over=60),
    }


# Source: device-protocols 7.4; jobs: service-protocols 2.17. The free tier is one unit with the rates of S1.
TIERS: Mapping[Tier, TierLimits] = {
    "F1": TierLimits(8_000, KIB // 2, 1, _rates(12, 10, 5, 100, 1000, 160)),
    "S1": TierLimits(400_000, 4 * KIB, 1, _rates(12, 10, 5, 100, 1000, 160)),
    "S2": TierLimits(6_000_000, 4 * KIB, 5, _rates(120, 500, 250, 100, 1000, 480)),
    "S3": TierLimits(300_000_000, 4 * KIB, 10, _rates(6000, 500, 250, 5000, 50_000, 24 * KIB)),
}


def _default(limit: Limit) -> Any:
    return dataclasses.field(default=limit.value)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits in force: the defaults above, changed by settings. Injected; never read from the module."""

    device_to_cloud_size: int = _default(DEVICE_TO_CLOUD_SIZE)
    topic_length: int = _default(TOPIC_LENGTH)
    subscriptions: int = _default(SUBSCRIPTIONS)
    uncommitted_publishes: int = _default(UNCOMMITTED_PUBLISHES)
    outgoing_bytes: int = _default(OUTGOING_BYTES)
    outgoing_stall: int = _default(OUTGOING_STALL)
    keep_alive_cap: int = _default(KEEP_ALIVE_CAP)
    token_grace: int = _default(TOKEN_GRACE)
    minted_token: int = _default(MINTED_TOKEN)
    minted_token_max: int = _default(MINTED_TOKEN_MAX)
    connect_bytes: int = _default(CONNECT_BYTES)
    handshake_within: int = _default(HANDSHAKE_WITHIN)
    connect_within: int = _default(CONNECT_WITHIN)
    amqp_authenticate_within: int = _default(AMQP_AUTHENTICATE_WITHIN)
    http_head_within: int = _default(HTTP_HEAD_WITHIN)
    unauthenticated: int = _default(UNAUTHENTICATED)
    unauthenticated_per_source: int = _default(UNAUTHENTICATED_PER_SOURCE)
    unauthenticated_bytes: int = _default(UNAUTHENTICATED_BYTES)
    arrivals: int = _default(ARRIVALS)
    arrivals_burst: int = _default(ARRIVALS_BURST)
    failed_logins: int = _default(FAILED_LOGINS)
    failed_logins_pause: int = _default(FAILED_LOGINS_PAUSE)
    takeovers: int = _default(TAKEOVERS)
    certificates_per_day: int = _default(CERTIFICATES_PER_DAY)
    certificates_per_minute: int = _default(CERTIFICATES_PER_MINUTE)
    certificate_days: int = _default(CERTIFICATE_DAYS)
    certificate_overlap: int = _default(CERTIFICATE_OVERLAP)
    certificate_grace: int = _default(CERTIFICATE_GRACE)
    root_kept: int = _default(ROOT_KEPT)
    cloud_to_device_size: int = _default(CLOUD_TO_DEVICE_SIZE)
    cloud_to_device_queue: int = _default(CLOUD_TO_DEVICE_QUEUE)
    cloud_to_device_ttl: int = _default(CLOUD_TO_DEVICE_TTL)
    cloud_to_device_deliveries: int = _default(CLOUD_TO_DEVICE_DELIVERIES)
    cloud_to_device_lock: int = _default(CLOUD_TO_DEVICE_LOCK)
    cloud_to_device_in_flight: int = _default(CLOUD_TO_DEVICE_IN_FLIGHT)
    topic_aliases: int = _default(TOPIC_ALIASES)
    feedback_wait: int = _default(FEEDBACK_WAIT)
    feedback_ttl: int = _default(FEEDBACK_TTL)
    feedback_deliveries: int = _default(FEEDBACK_DELIVERIES)
    file_notification_ttl: int = _default(FILE_NOTIFICATION_TTL)
    file_notification_deliveries: int = _default(FILE_NOTIFICATION_DELIVERIES)
    file_notification_lock: int = _default(FILE_NOTIFICATION_LOCK)
    amqp_credit: int = _default(AMQP_CREDIT)
    amqp_tokens: int = _default(AMQP_TOKENS)
    blob_body: int = _default(BLOB_BODY)
    blob_size: int = _default(BLOB_SIZE)
    blob_blocks: int = _default(BLOB_BLOCKS)
    blob_staged_blocks: int = _default(BLOB_STAGED_BLOCKS)
    blob_transfers: int = _default(BLOB_TRANSFERS)
    blob_transfers_per_device: int = _default(BLOB_TRANSFERS_PER_DEVICE)
    blob_turn_within: int = _default(BLOB_TURN_WITHIN)
    uploads: int = _default(UPLOADS)
    upload_within: int = _default(UPLOAD_WITHIN)
    files_stop_share: int = _default(FILES_STOP_SHARE)
    files_stop: int = _default(FILES_STOP)
    identities: int = _default(IDENTITIES)
    access_rules: int = _default(ACCESS_RULES)
    access_devices: int = _default(ACCESS_DEVICES)
    modules_per_device: int = _default(MODULES_PER_DEVICE)
    twin_depth: int = _default(TWIN_DEPTH)
    twin_string: int = _default(TWIN_STRING)
    twin_key: int = _default(TWIN_KEY)
    twin_integer: int = _default(TWIN_INTEGER)
    twin_properties: int = _default(TWIN_PROPERTIES)
    twin_tags: int = _default(TWIN_TAGS)
    twin_requests: int = _default(TWIN_REQUESTS)
    method_payload: int = _default(METHOD_PAYLOAD)
    method_response: int = _default(METHOD_RESPONSE)
    method_response_min: int = _default(METHOD_RESPONSE_MIN)
    method_response_max: int = _default(METHOD_RESPONSE_MAX)
    method_connect_max: int = _default(METHOD_CONNECT_MAX)
    method_name: int = _default(METHOD_NAME)
    methods_per_identity: int = _default(METHODS_PER_IDENTITY)
    methods: int = _default(METHODS)
    model_id: int = _default(MODEL_ID)
    job_id: int = _default(JOB_ID)
    job_seconds: int = _default(JOB_SECONDS)
    job_seconds_max: int = _default(JOB_SECONDS_MAX)
    jobs_running: int = _default(JOBS_RUNNING)
    jobs_active: int = _default(JOBS_ACTIVE)
    job_parts_running: int = _default(JOB_PARTS_RUNNING)
    job_history: int = _default(JOB_HISTORY)
    configurations: int = _default(CONFIGURATIONS)
    configuration_metrics: int = _default(CONFIGURATION_METRICS)
    configuration_period: int = _default(CONFIGURATION_PERIOD)
    enrolments: int = _default(ENROLMENTS)
    enrolment_groups: int = _default(ENROLMENT_GROUPS)
    enrolments_at_once: int = _default(ENROLMENTS_AT_ONCE)
    register_payload: int = _default(REGISTER_PAYLOAD)
    registrations_per_minute: int = _default(REGISTRATIONS_PER_MINUTE)
    registration_polls: int = _default(REGISTRATION_POLLS)
    receivers_without_epoch: int = _default(RECEIVERS_WITHOUT_EPOCH)
    consumer_groups: int = _default(CONSUMER_GROUPS)
    uncommitted_bytes: int = _default(UNCOMMITTED_BYTES)
    event_cache: int = _default(EVENT_CACHE)
    activity_kept: int = _default(ACTIVITY_KEPT)
    refusals_kept: int = _default(REFUSALS_KEPT)
    audit_changes: int = _default(AUDIT_CHANGES)
    audit_commands: int = _default(AUDIT_COMMANDS)
    audit_disclosures: int = _default(AUDIT_DISCLOSURES)
    audit_logins: int = _default(AUDIT_LOGINS)
    audit_refusals: int = _default(AUDIT_REFUSALS)
    tokens_watched: int = _default(TOKENS_WATCHED)
    replays_kept: int = _default(REPLAYS_KEPT)
    disk_stop_share: int = _default(DISK_STOP_SHARE)
    disk_stop: int = _default(DISK_STOP)
