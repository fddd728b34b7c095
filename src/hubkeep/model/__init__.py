"""Frozen records in the field's words. No rules, no I/O."""

from .identity import AuthenticationType, Identity, IdentityChange, Status
from .message import Message, SystemProperties
from .policy import Permission, Policy
from .principal import LinkInfo, Principal
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

__all__ = [
    "FEEDBACK",
    "FILE_NOTIFICATIONS",
    "AuthenticationType",
    "Feedback",
    "FeedbackStatus",
    "Identity",
    "IdentityChange",
    "LinkInfo",
    "Locked",
    "Message",
    "MessageState",
    "Outcome",
    "Permission",
    "Policy",
    "Principal",
    "QueueName",
    "QueuedMessage",
    "Refusal",
    "Status",
    "SystemProperties",
]
