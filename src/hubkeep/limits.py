"""Every quota, size and time-out: value, unit, source. Rules get them through one ``Limits`` record."""

import dataclasses
from typing import Any, NamedTuple

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
CONNECT_WITHIN = Limit(30, "seconds from TLS to CONNECT", "L-L4")
AMQP_AUTHENTICATE_WITHIN = Limit(60, "seconds from TLS to the first authorisation", "L-L4")
HTTP_HEAD_WITHIN = Limit(10, "seconds for an HTTP request head", "L-L4")
OPEN_CONNECTIONS_SHARE = Limit(80, "per cent of the descriptor limit", "L-L1")
UNAUTHENTICATED = Limit(2000, "connections not yet authenticated", "L-L2")
UNAUTHENTICATED_PER_SOURCE = Limit(200, "connections not yet authenticated per address; loopback not counted", "L-L2")
FAILED_LOGINS = Limit(20, "failed logins in 60 s per address; loopback not counted", "L-L8")
FAILED_LOGINS_PAUSE = Limit(60, "seconds that such an address is closed at accept", "L-L8")
REFUSAL_AFTER = Limit(
    10, "milliseconds from a credential to its refusal, whatever was wrong with it", "L-I1: the time tells nothing"
)
TAKEOVERS = Limit(10, "take-overs of one identity in 60 s", "L-M24")
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
HTTP_LINGER = Limit(1, "seconds that an unread body is thrown away, so that the peer can read the answer", "ours")
LIVE_EVENT_READERS = Limit(64, "open requests for live events", "ours")
JSON_DEPTH = Limit(32, "levels of JSON outside twin documents", "L-L20")
IDENTITIES = Limit(1_000_000, "device and module identities", "L-L25")
MODULES_PER_DEVICE = Limit(50, "modules", "L-L25")
LIST_TOP = Limit(1000, "identities of one list", "service-protocols 2.3")
IDENTITY_ID = Limit(128, "characters", "service-protocols 2.3")
STATUS_REASON = Limit(128, "characters", "service-protocols 2.3")
KEY_BYTES_MIN = Limit(16, "bytes of a decoded symmetric key", "service-protocols 2.3")
KEY_BYTES_MAX = Limit(64, "bytes of a decoded symmetric key", "service-protocols 2.3")
WEBSOCKET_FRAME = Limit(320 * KIB, "bytes", "L-L29")
WEBSOCKET_EMPTY_FRAMES = Limit(100, "empty frames per second", "L-W5")
WEBSOCKET_PINGS = Limit(10, "pings per second", "L-W5")
LOG_LINE = Limit(8 * KIB, "bytes", "L-L30")
RECEIVERS_WITHOUT_EPOCH = Limit(5, "receivers per consumer group and partition", "service-protocols 5.7")
CONSUMER_GROUPS = Limit(20, "besides $Default", "service-protocols 2.17")
UNCOMMITTED_BYTES = Limit(32 * MIB, "bytes received and not yet durable before sockets are left unread", "ours")
EVENT_CACHE = Limit(32 * MIB, "bytes of newest events kept in memory for readers", "ours")
RETENTION_HOURS = Limit(24, "hours that events are kept", "service-protocols 2.17")
RETENTION_BYTES = Limit(10 * KIB * MIB, "bytes of events kept at most", "ours")
REFUSALS_KEPT = Limit(10_000, "refusals kept for hubkeep explain", "ours")
DISK_STOP_SHARE = Limit(5, "per cent of the disk that must stay free for writes", "L-L27")
DISK_STOP = Limit(512 * MIB, "bytes of the disk that must stay free for writes, if less than the share", "L-L27")


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
    connect_bytes: int = _default(CONNECT_BYTES)
    handshake_within: int = _default(HANDSHAKE_WITHIN)
    connect_within: int = _default(CONNECT_WITHIN)
    amqp_authenticate_within: int = _default(AMQP_AUTHENTICATE_WITHIN)
    http_head_within: int = _default(HTTP_HEAD_WITHIN)
    unauthenticated: int = _default(UNAUTHENTICATED)
    unauthenticated_per_source: int = _default(UNAUTHENTICATED_PER_SOURCE)
    failed_logins: int = _default(FAILED_LOGINS)
    failed_logins_pause: int = _default(FAILED_LOGINS_PAUSE)
    takeovers: int = _default(TAKEOVERS)
    amqp_credit: int = _default(AMQP_CREDIT)
    amqp_tokens: int = _default(AMQP_TOKENS)
    identities: int = _default(IDENTITIES)
    receivers_without_epoch: int = _default(RECEIVERS_WITHOUT_EPOCH)
    consumer_groups: int = _default(CONSUMER_GROUPS)
    uncommitted_bytes: int = _default(UNCOMMITTED_BYTES)
    event_cache: int = _default(EVENT_CACHE)
    refusals_kept: int = _default(REFUSALS_KEPT)
    disk_stop_share: int = _default(DISK_STOP_SHARE)
    disk_stop: int = _default(DISK_STOP)
