"""Frozen records in the field's words. No rules, no I/O."""

from .access import AccessRule, Expiry, Verdict
from .audit import AUDIT_CHAINS, BEFORE_FIRST, AuditChain, AuditEntry, AuditHead, ChainedEntry, entry_hash
from .authority import Authority, AuthorityKind, AuthorityState, RevocationMode
from .certificate import (
    REVOCATION_REASONS,
    CertificateRequest,
    Denial,
    DenialKind,
    Door,
    IssuedCertificate,
    RevocationReason,
)
from .configuration import Configuration, ContentKind, Hold, HoldStatus
from .consumer_group import ConsumerGroup
from .credential_use import CredentialSlot, CredentialUse, Replaced
from .enrolment import (
    Admission,
    AllocationPolicy,
    Attestation,
    AttestationType,
    Enrolment,
    EnrolmentKey,
    HubIdentity,
    ReprovisionPolicy,
    Webhook,
    enrolment_key,
)
from .fleet import INDEXED_CHARACTERS, Narrowing, Primitive, TwinPart, indexed, leaves
from .hub_event import EVENT_SOURCES, EventSource, HubEvent
from .identity import SYSTEM_MODULES, AuthenticationType, IdentitiesCreated, Identity, IdentityChange, KeySlot, Status
from .job import JOB_ENDED, Job, JobCounts, JobPart, JobStatus, JobType, PartStatus
from .message import Message, SystemProperties
from .method import MethodAnswer, MethodCall
from .networks import Networks, parse_networks, why_shut_out
from .policy import Permission, Policy
from .principal import LinkInfo, Principal, Surface
from .queued import (
    FEEDBACK,
    FILE_NOTIFICATIONS,
    Feedback,
    FeedbackStatus,
    Locked,
    MessageState,
    Outcome,
    QueuedMessage,
    QueueName,
)
from .refusal import Refusal
from .registration import (
    IssuedForm,
    LinkedHub,
    RegisterRequest,
    Registration,
    RegistrationCredential,
    RegistrationOperation,
    RegistrationStatus,
    Substatus,
    TrustBundle,
)
from .replay import Replay
from .retention import Retention, RetentionChange
from .timestamps import time_stamp
from .transfer import TRANSFER_ENDED, TransferJob, TransferStatus, TransferType
from .twin import DesiredPatch, Json, Twin, TwinChange, TwinSection, fresh_section
from .upload import FileNotice, Upload

__all__ = [
    "AUDIT_CHAINS",
    "BEFORE_FIRST",
    "EVENT_SOURCES",
    "FEEDBACK",
    "FILE_NOTIFICATIONS",
    "INDEXED_CHARACTERS",
    "JOB_ENDED",
    "REVOCATION_REASONS",
    "SYSTEM_MODULES",
    "TRANSFER_ENDED",
    "AccessRule",
    "Admission",
    "AllocationPolicy",
    "Attestation",
    "AttestationType",
    "AuditChain",
    "AuditEntry",
    "AuditHead",
    "AuthenticationType",
    "Authority",
    "AuthorityKind",
    "AuthorityState",
    "CertificateRequest",
    "ChainedEntry",
    "Configuration",
    "ConsumerGroup",
    "ContentKind",
    "CredentialSlot",
    "CredentialUse",
    "Denial",
    "DenialKind",
    "DesiredPatch",
    "Door",
    "Enrolment",
    "EnrolmentKey",
    "EventSource",
    "Expiry",
    "Feedback",
    "FeedbackStatus",
    "FileNotice",
    "Hold",
    "HoldStatus",
    "HubEvent",
    "HubIdentity",
    "IdentitiesCreated",
    "Identity",
    "IdentityChange",
    "IssuedCertificate",
    "IssuedForm",
    "Job",
    "JobCounts",
    "JobPart",
    "JobStatus",
    "JobType",
    "Json",
    "KeySlot",
    "LinkInfo",
    "LinkedHub",
    "Locked",
    "Message",
    "MessageState",
    "MethodAnswer",
    "MethodCall",
    "Narrowing",
    "Networks",
    "Outcome",
    "PartStatus",
    "Permission",
    "Policy",
    "Primitive",
    "Principal",
    "QueueName",
    "QueuedMessage",
    "Refusal",
    "RegisterRequest",
    "Registration",
    "RegistrationCredential",
    "RegistrationOperation",
    "RegistrationStatus",
    "Replaced",
    "Replay",
    "ReprovisionPolicy",
    "Retention",
    "RetentionChange",
    "RevocationMode",
    "RevocationReason",
    "Status",
    "Substatus",
    "Surface",
    "SystemProperties",
    "TransferJob",
    "TransferStatus",
    "TransferType",
    "TrustBundle",
    "Twin",
    "TwinChange",
    "TwinPart",
    "TwinSection",
    "Upload",
    "Verdict",
    "Webhook",
    "enrolment_key",
    "entry_hash",
    "fresh_section",
    "indexed",
    "leaves",
    "parse_networks",
    "time_stamp",
    "why_shut_out",
]
