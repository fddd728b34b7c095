"""Frozen records in the field's words. No rules, no I/O."""

from .authority import Authority, AuthorityState
from .configuration import Configuration, ContentKind, Hold, HoldStatus
from .consumer_group import ConsumerGroup
from .fleet import INDEXED_CHARACTERS, Narrowing, Primitive, TwinPart, indexed, leaves
from .identity import SYSTEM_MODULES, AuthenticationType, IdentitiesCreated, Identity, IdentityChange, KeySlot, Status
from .job import JOB_ENDED, Job, JobCounts, JobPart, JobStatus, JobType, PartStatus
from .message import Message, SystemProperties
from .method import MethodAnswer, MethodCall
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
from .timestamps import time_stamp
from .twin import DesiredPatch, Json, Twin, TwinChange, TwinSection
from .upload import FileNotice, Upload

__all__ = [
    "FEEDBACK",
    "FILE_NOTIFICATIONS",
    "INDEXED_CHARACTERS",
    "JOB_ENDED",
    "SYSTEM_MODULES",
    "AuthenticationType",
    "Authority",
    "AuthorityState",
    "Configuration",
    "ConsumerGroup",
    "ContentKind",
    "DesiredPatch",
    "Feedback",
    "FeedbackStatus",
    "FileNotice",
    "Hold",
    "HoldStatus",
    "IdentitiesCreated",
    "Identity",
    "IdentityChange",
    "Job",
    "JobCounts",
    "JobPart",
    "JobStatus",
    "JobType",
    "Json",
    "KeySlot",
    "LinkInfo",
    "Locked",
    "Message",
    "MessageState",
    "MethodAnswer",
    "MethodCall",
    "Narrowing",
    "Outcome",
    "PartStatus",
    "Permission",
    "Policy",
    "Primitive",
    "Principal",
    "QueueName",
    "QueuedMessage",
    "Refusal",
    "Status",
    "Surface",
    "SystemProperties",
    "Twin",
    "TwinChange",
    "TwinPart",
    "TwinSection",
    "Upload",
    "indexed",
    "leaves",
    "time_stamp",
]
