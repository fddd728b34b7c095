"""The registry's tables, for SQLAlchemy Core. Changes go through ``migrations``; this is what the newest one leaves."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

METADATA: Final = MetaData()
HEAD: Final = "0041"  # the newest migration

IDENTITY: Final = Table(
    "identity",
    METADATA,
    Column("device_id", String, primary_key=True),
    Column("module_id", String, primary_key=True),  # empty for a device
    Column("generation_id", String, nullable=False),
    Column("etag", String, nullable=False),
    Column("status", String, nullable=False),
    Column("status_reason", String),
    Column("status_updated", Float, nullable=False),
    Column("connected", Boolean, nullable=False),
    Column("connection_updated", Float, nullable=False),
    Column("last_activity", Float, nullable=False),
    Column("authentication", String, nullable=False),
    Column("primary_key", LargeBinary),  # sealed
    Column("secondary_key", LargeBinary),  # sealed
    Column("primary_thumbprint", String),
    Column("secondary_thumbprint", String),
    Column("iot_edge", Boolean, nullable=False),
    Column("device_scope", String, nullable=False),
    Column("parent_scopes", Text, nullable=False),  # JSON array
    Column("managed_by", String),
)
# who is connected, without reading a million rows at each start
Index("identity_connected", IDENTITY.c.connected, sqlite_where=IDENTITY.c.connected)

# One row, kept in the same transaction as the identities: counting a million rows would cost every create and page.
DEVICE_COUNT: Final = Table(
    "device_count",
    METADATA,
    Column("total", Integer, nullable=False),
    Column("disabled", Integer, nullable=False),
    Column("connected", Integer, nullable=False),
    Column("modules", Integer, nullable=False, server_default="0"),  # of all devices; the others count devices alone
)

# What queries look twins up by: one row for each text, number and truth value in tags and properties (model/fleet.py).
TWIN_LEAF: Final = Table(
    "twin_leaf",
    METADATA,
    Column("path", String, primary_key=True),
    Column("value", String, primary_key=True),
    Column("device_id", String, primary_key=True),
    Column("module_id", String, primary_key=True),
    sqlite_with_rowid=False,
)

# One row for each identity, made with it and gone with it. Sections are JSON objects.
TWIN: Final = Table(
    "twin",
    METADATA,
    Column("device_id", String, primary_key=True),
    Column("module_id", String, primary_key=True),  # empty for a device
    Column("version", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("model_id", String, nullable=False),
    Column("tags", Text, nullable=False),
    Column("desired", Text, nullable=False),
    Column("desired_metadata", Text, nullable=False),
    Column("desired_version", BigInteger, nullable=False),
    Column("reported", Text, nullable=False),
    Column("reported_metadata", Text, nullable=False),
    Column("reported_version", BigInteger, nullable=False),
    ForeignKeyConstraint(["device_id", "module_id"], ["identity.device_id", "identity.module_id"], ondelete="CASCADE"),
)

POLICY: Final = Table(
    "policy",
    METADATA,
    Column("name", String, primary_key=True),
    Column("permissions", Integer, nullable=False),
    Column("primary_key", LargeBinary, nullable=False),  # sealed
    Column("secondary_key", LargeBinary, nullable=False),  # sealed
    Column("allow", Text, nullable=False),  # JSON array of networks
    Column("deny", Text, nullable=False),  # JSON array of networks
)

REPLAY: Final = Table(
    "replay",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("surface", String, nullable=False),
    Column("identity", String, nullable=False, index=True),
    Column("key", String, nullable=False),
    Column("address", String, nullable=False),
    Column("first_address", String, nullable=False),
    Column("first_time", Float, nullable=False),
    Column("client", String, nullable=False),
    Column("fingerprint", String, nullable=False),
)
REFUSAL: Final = Table(
    "refusal",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("tracking_id", String, nullable=False, index=True),
    Column("time", Float, nullable=False),
    Column("surface", String, nullable=False),
    Column("peer", String, nullable=False),
    Column("identity", String, nullable=False, index=True),
    Column("operation", String, nullable=False),
    Column("code", Integer, nullable=False),
    Column("name", String, nullable=False),
    Column("cause", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("remedy", Text, nullable=False),
    Column("presented", Text, nullable=False),  # JSON object
)

# Cloud-to-device messages, and with an empty device_id what waits for back ends (model.QueueName).
# Locks are the running hub's own: they are not here.
QUEUED_MESSAGE: Final = Table(
    "queued_message",
    METADATA,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("device_id", String, nullable=False),
    Column("module_id", String, nullable=False),
    Column("generation_id", String, nullable=False),
    Column("enqueued", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False, index=True),
    Column("deliveries", Integer, nullable=False),
    Column("message", LargeBinary, nullable=False),  # MessagePack
    sqlite_autoincrement=True,  # a sequence number is never used twice
)
Index("queued_message_queue", QUEUED_MESSAGE.c.device_id, QUEUED_MESSAGE.c.module_id, QUEUED_MESSAGE.c.sequence)

FEEDBACK_RECORD: Final = Table(
    "feedback_record",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("record", LargeBinary, nullable=False),  # MessagePack
    sqlite_autoincrement=True,
)

# Sessions of MQTT clients that are not clean; one without subscriptions leaves nothing.
MQTT_SESSION: Final = Table(
    "mqtt_session",
    METADATA,
    Column("device_id", String, primary_key=True),
    Column("module_id", String, primary_key=True),
    Column("subscriptions", LargeBinary, nullable=False),  # MessagePack: filter to QoS
    Column("expiry", Integer),  # seconds after the end of its connection; NULL: never
    ForeignKeyConstraint(["device_id", "module_id"], ["identity.device_id", "identity.module_id"], ondelete="CASCADE"),
)

UPLOAD: Final = Table(
    "upload",
    METADATA,
    Column("upload_id", String, primary_key=True),
    Column("device_id", String, nullable=False, index=True),
    Column("generation_id", String, nullable=False),
    Column("blob_name", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False, index=True),
    Column("block_list", String, nullable=False),
    Column("finished", Boolean, nullable=False),
)

# Of the Event Hubs-compatible endpoint, besides those that settings name.
CONSUMER_GROUP: Final = Table(
    "consumer_group",
    METADATA,
    Column("name", String, primary_key=True),
    Column("created", Float, nullable=False),
)

# Certificate authorities that speak for devices.
AUTHORITY: Final = Table(
    "authority",
    METADATA,
    Column("name", String, primary_key=True),
    Column("certificate", LargeBinary, nullable=False),  # DER
    Column("sha256", String, nullable=False, unique=True),
    Column("state", String, nullable=False),
    Column("etag", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("code", String, nullable=False),
    Column("code_expires", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("chain", Text, nullable=False),  # JSON array of base64
    Column("key", String, nullable=False),
    Column("vouched", Boolean, nullable=False),
    Column("allowed_ids", Text, nullable=False),  # JSON array
    Column("days", Float, nullable=False),
    Column("revocation", String, nullable=False),
    Column("crl_url", String, nullable=False),
    Column("ocsp_url", String, nullable=False),
    Column("manual_approval", Boolean, nullable=False),
)

# What the hub's own authorities issued: written before it is signed.
ISSUED: Final = Table(
    "issued_certificate",
    METADATA,
    Column("authority", String, primary_key=True),
    Column("serial", String, primary_key=True),
    Column("device_id", String, nullable=False),
    Column("module_id", String, nullable=False),
    Column("identity_generation", String, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("key_sha256", String, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("issued", Float, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("not_after", Float, nullable=False),
    Column("door", String, nullable=False),
    Column("first_used", Float, nullable=False),
    Column("last_used", Float, nullable=False),
    Column("superseded", Float, nullable=False),
    Column("revoked", Float, nullable=False),
    Column("reason", String, nullable=False),
)
Index("issued_to", ISSUED.c.device_id, ISSUED.c.module_id, ISSUED.c.issued)
Index("issued_key", ISSUED.c.key_sha256)
Index("issued_when", ISSUED.c.issued)
Index("issued_revoked", ISSUED.c.authority, ISSUED.c.not_after, sqlite_where=ISSUED.c.revoked > 0)

# Certificates of an older generation than this are void; no row: the first generation.
CREDENTIAL_GENERATION: Final = Table(
    "credential_generation",
    METADATA,
    Column("device_id", String, primary_key=True),
    Column("module_id", String, primary_key=True),
    Column("generation", Integer, nullable=False),
)

# Which identities an authority spoke for, and when last.
AUTHORITY_USE: Final = Table(
    "authority_use",
    METADATA,
    Column("authority", String, primary_key=True),
    Column("device_id", String, primary_key=True),
    Column("module_id", String, primary_key=True),
    Column("last_used", Float, nullable=False),
)

# Certificates and keys that nobody may show.
DENIAL: Final = Table(
    "denial",
    METADATA,
    Column("mark", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("value", String, nullable=False),
    Column("issuer", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("at", Float, nullable=False),
    Column("by", String, nullable=False),
    Column("until", Float, nullable=False),
)

# Requests of devices for certificates that somebody approves.
CERTIFICATE_REQUEST: Final = Table(
    "certificate_request",
    METADATA,
    Column("id", String, primary_key=True),
    Column("authority", String, nullable=False),
    Column("device_id", String, nullable=False),
    Column("module_id", String, nullable=False),
    Column("identity_generation", String, nullable=False),
    Column("state", String, nullable=False),
    Column("asked", Float, nullable=False),
    Column("decided", Float, nullable=False),
    Column("by", String, nullable=False),
)

# Of each authority the newest revocation list: signed here, fetched, or uploaded.
REVOCATION_LIST: Final = Table(
    "revocation_list",
    METADATA,
    Column("authority", String, primary_key=True),
    Column("list", LargeBinary, nullable=False),  # DER
    Column("number", String, nullable=False),  # CRLNumber has up to 20 octets
    Column("updated", Float, nullable=False),
    Column("next_update", Float, nullable=False),
    Column("fetched", Float, nullable=False),
    Column("failure", String, nullable=False),
)

# Keys that the hub signs with, by what for.
SIGNING_KEY: Final = Table(
    "signing_key",
    METADATA,
    Column("name", String, primary_key=True),
    Column("key", LargeBinary, nullable=False),  # sealed
)

# Scheduled jobs, those that ended included, until their history is over. task: JSON object.
JOB: Final = Table(
    "job",
    METADATA,
    Column("job_id", String, primary_key=True),
    Column("type", String, nullable=False),
    Column("task", Text, nullable=False),
    Column("condition", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("start", Float, nullable=False),
    Column("max_seconds", Integer, nullable=False),
    Column("begun", Float, nullable=False),
    Column("ended", Float, nullable=False),
    Column("status", String, nullable=False, index=True),
    Column("failure", Text, nullable=False),
    Column("is_spread", Boolean, nullable=False),
)
Index("job_created", JOB.c.created, JOB.c.job_id)

# One row for each identity that a job is for. answer, error: JSON objects.
JOB_PART: Final = Table(
    "job_part",
    METADATA,
    Column("job_id", String, primary_key=True),
    Column("device_id", String, primary_key=True),
    Column("module_id", String, primary_key=True),
    Column("status", String, nullable=False),
    Column("started", Float, nullable=False),
    Column("ended", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("answer", Text),
    Column("error", Text),
    ForeignKeyConstraint(["job_id"], ["job.job_id"], ondelete="CASCADE"),
    sqlite_with_rowid=False,
)
Index("job_part_status", JOB_PART.c.job_id, JOB_PART.c.status)
Index("job_part_device", JOB_PART.c.device_id)

# Import and export jobs, those that ended included, until their history is over. *_url: sealed, until it has ended.
TRANSFER_JOB: Final = Table(
    "transfer_job",
    METADATA,
    Column("job_id", String, primary_key=True),
    Column("type", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("begun", Float, nullable=False),
    Column("ended", Float, nullable=False),
    Column("status", String, nullable=False, index=True),
    Column("failure", Text, nullable=False),
    Column("input_url", LargeBinary, nullable=False),
    Column("input_blob", Text, nullable=False),
    Column("output_url", LargeBinary, nullable=False),
    Column("output_blob", Text, nullable=False),
    Column("with_keys", Boolean, nullable=False),
    Column("with_configurations", Boolean, nullable=False),
    Column("configurations_blob", Text, nullable=False),
    Column("progress", Integer, nullable=False),
    Column("etag", String, nullable=False),
    Column("after", String, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("blocks", Integer, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
)
Index("transfer_job_created", TRANSFER_JOB.c.created)

# Automatic device management. content, labels, metrics: JSON objects.
CONFIGURATION: Final = Table(
    "configuration",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("configuration_id", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("content", Text, nullable=False),
    Column("condition", Text, nullable=False),
    Column("priority", BigInteger, nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("labels", Text, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("schema_version", String, nullable=False),
    Column("content_type", String),
    Column("revision", Integer, nullable=False),
    Column("is_deleted", Boolean, nullable=False),
    sqlite_autoincrement=True,  # a deleted one is remembered until what it set is taken back
)

CONFIGURATION_HOLD: Final = Table(
    "configuration_hold",
    METADATA,
    Column("device_id", String, primary_key=True),
    Column("module_id", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("status", String, nullable=False),
    Column("is_touched", Boolean, nullable=False),
    ForeignKeyConstraint(["device_id", "module_id"], ["identity.device_id", "identity.module_id"], ondelete="CASCADE"),
    sqlite_with_rowid=False,
)
Index("configuration_hold_number", CONFIGURATION_HOLD.c.number, CONFIGURATION_HOLD.c.status)

# Individual enrolments and groups. key: the id in lower case. content: MessagePack, without keys.
ENROLMENT: Final = Table(
    "enrolment",
    METADATA,
    Column("is_group", Boolean, primary_key=True),
    Column("key", String, primary_key=True),
    Column("id", String, nullable=False),
    Column("status", String, nullable=False),
    Column("etag", String, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("primary_key", LargeBinary),  # sealed
    Column("secondary_key", LargeBinary),  # sealed
    sqlite_with_rowid=False,
)

# What may belong to one enrolment alone: certificates, authorities, endorsement keys.
ENROLMENT_EXCLUSIVE: Final = Table(
    "enrolment_exclusive",
    METADATA,
    Column("name", String, primary_key=True),
    Column("is_group", Boolean, nullable=False),
    Column("key", String, nullable=False),
    ForeignKeyConstraint(["is_group", "key"], ["enrolment.is_group", "enrolment.key"], ondelete="CASCADE"),
    sqlite_with_rowid=False,
)
Index("enrolment_exclusive_owner", ENROLMENT_EXCLUSIVE.c.is_group, ENROLMENT_EXCLUSIVE.c.key)

# One row, kept in the same transaction as the enrolments: counting a million rows would cost every create.
ENROLMENT_COUNT: Final = Table(
    "enrolment_count",
    METADATA,
    Column("individuals", Integer, nullable=False),
    Column("groups", Integer, nullable=False),
)

# Facts of the provisioning service that never change: the id scope.
PROVISIONING_FACT: Final = Table(
    "provisioning_fact",
    METADATA,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

# What became of each registration id. key: the id in lower case. content: MessagePack.
REGISTRATION: Final = Table(
    "registration",
    METADATA,
    Column("key", String, primary_key=True),
    Column("is_group", Boolean, nullable=False),
    Column("enrolment_key", String, nullable=False),
    Column("etag", String, nullable=False),
    Column("content", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
Index("registration_enrolment", REGISTRATION.c.is_group, REGISTRATION.c.enrolment_key, REGISTRATION.c.key)

# Attempts to register, for as long as devices may ask how they ended. content: MessagePack.
REGISTRATION_OPERATION: Final = Table(
    "registration_operation",
    METADATA,
    Column("operation_id", String, primary_key=True),
    Column("key", String, nullable=False),
    Column("begun", Float, nullable=False, index=True),
    Column("is_open", Boolean, nullable=False),
    Column("content", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
Index(
    "registration_operation_open",
    REGISTRATION_OPERATION.c.is_open,
    sqlite_where=REGISTRATION_OPERATION.c.is_open,
)

# Which enrolment made an identity: nobody else's registration may take it over. Gone with the identity.
PROVISIONED: Final = Table(
    "provisioned",
    METADATA,
    Column("device_id", String, primary_key=True),
    Column("module_id", String, nullable=False),  # always empty
    Column("is_group", Boolean, nullable=False),
    Column("enrolment_key", String, nullable=False),
    ForeignKeyConstraint(["device_id", "module_id"], ["identity.device_id", "identity.module_id"], ondelete="CASCADE"),
    sqlite_with_rowid=False,
)
Index("provisioned_enrolment", PROVISIONED.c.is_group, PROVISIONED.c.enrolment_key)

# Other hubs that devices are assigned to. connection: sealed.
LINKED_HUB: Final = Table(
    "linked_hub",
    METADATA,
    Column("name", String, primary_key=True),
    Column("host_name", String, nullable=False, unique=True),
    Column("weight", Integer, nullable=False),
    Column("applies", Boolean, nullable=False),
    Column("connection", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

# Events of the hub that wait to be passed on.
HUB_EVENT: Final = Table(
    "hub_event",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("source", String, nullable=False),
    Column("operation", String, nullable=False),
    Column("device_id", String, nullable=False),
    Column("module_id", String, nullable=False),
    Column("at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_autoincrement=True,  # a number never comes twice: connection states are ordered by it
)

# Those that were switched on while the hub ran.
EVENT_SOURCE: Final = Table("event_source", METADATA, Column("source", String, primary_key=True))

# What was chosen while the hub ran: one row or none; NULL: as settings say. size: bytes.
RETENTION: Final = Table("retention", METADATA, Column("hours", Float), Column("size", BigInteger))

# Block and allow lists. devices: a JSON list. begins, ends: Unix seconds, 0 for none.
ACCESS_RULE: Final = Table(
    "access_rule",
    METADATA,
    Column("name", String, primary_key=True),
    Column("verdict", String, nullable=False),
    Column("devices", Text, nullable=False),
    Column("condition", Text, nullable=False),
    Column("authority", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("begins", Float, nullable=False),
    Column("ends", Float, nullable=False),
    Column("created", Float, nullable=False),
    Column("etag", String, nullable=False),
)

# Roles of people. claim, value: what a token must hold. devices: a condition, empty for the whole hub.
ROLE_ASSIGNMENT: Final = Table(
    "role_assignment",
    METADATA,
    Column("name", String, primary_key=True),
    Column("role", String, nullable=False),
    Column("claim", String, nullable=False),
    Column("value", String, nullable=False),
    Column("devices", Text, nullable=False),
    Column("reason", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("created_by", String, nullable=False),
)

# Devices that are to be disabled; module_id is empty.
EXPIRY: Final = Table(
    "identity_expiry",
    METADATA,
    Column("device_id", String, primary_key=True),
    Column("module_id", String, primary_key=True),
    Column("at", Float, nullable=False),
    Column("reason", String, nullable=False),
    ForeignKeyConstraint(["device_id", "module_id"], ["identity.device_id", "identity.module_id"], ondelete="CASCADE"),
    sqlite_with_rowid=False,
)

# How each credential was last used; a trigger takes an identity's rows with it. device_id: empty for back ends.
CREDENTIAL_USE: Final = Table(
    "credential_use",
    METADATA,
    Column("policy", String, primary_key=True),
    Column("device_id", String, primary_key=True),
    Column("module_id", String, primary_key=True),
    Column("slot", String, primary_key=True),
    Column("created", Float, nullable=False),
    Column("first_used", Float, nullable=False),
    Column("last_used", Float, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("surface", String, nullable=False),
    Column("tls", String, nullable=False),
    Column("client", String, nullable=False),
    Column("peer", String, nullable=False),
    Column("token_seconds", Integer, nullable=False),
    Column("old_tls", String, nullable=False),
    Column("old_tls_used", Float, nullable=False),
    Column("certificate_ends", Float, nullable=False),
    sqlite_with_rowid=False,
)
Index("credential_use_device", CREDENTIAL_USE.c.device_id, CREDENTIAL_USE.c.module_id)

# Chained by hash within each chain (model/audit.py); a trigger refuses every UPDATE.
AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("chain", String, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("previous", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("time", BigInteger, nullable=False),  # Unix milliseconds
    Column("actor", String, nullable=False),
    Column("credential", String, nullable=False),
    Column("surface", String, nullable=False),
    Column("peer", String, nullable=False),
    Column("operation", String, nullable=False),
    Column("target", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("detail", Text, nullable=False),
    Column("tracking_id", String, nullable=False),
    sqlite_autoincrement=True,  # a number never comes twice: pages are told apart by it
)
Index("audit_chain", AUDIT.c.chain, AUDIT.c.sequence, unique=True)

# Where each chain ends (model.AuditHead), sealed.
AUDIT_HEAD: Final = Table(
    "audit_head",
    METADATA,
    Column("chain", String, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)

# Which devices have proved that they trust which root of the hub; a trigger takes a device's rows with it.
TRUST_PROOF: Final = Table(
    "trust_proof",
    METADATA,
    Column("device_id", String, primary_key=True),
    Column("root", String, primary_key=True),
    Column("at", Float, nullable=False),
    Column("peer", String, nullable=False),
    sqlite_with_rowid=False,
)

# Posture reports: what is kept of each (model.PostureRun, MessagePack).
POSTURE_RUN: Final = Table(
    "posture_run",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("content", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

# Risks that somebody has accepted (model.Waiver, MessagePack), by check.
POSTURE_WAIVER: Final = Table(
    "posture_waiver",
    METADATA,
    Column("check", String, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

# When something that matters to the report was done, or began to be recorded: Unix seconds.
POSTURE_FACT: Final = Table(
    "posture_fact",
    METADATA,
    Column("name", String, primary_key=True),
    Column("at", Float, nullable=False),
)

# When each right of each policy was last used. is_own: by the hub's own commands.
RIGHT_USE: Final = Table(
    "right_use",
    METADATA,
    Column("policy", String, primary_key=True),
    Column("right", String, primary_key=True),
    Column("is_own", Boolean, primary_key=True),
    Column("last_used", Float, nullable=False),
    sqlite_with_rowid=False,
)
