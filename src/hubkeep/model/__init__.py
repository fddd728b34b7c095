"""Frozen records in the field's words. No rules, no I/O."""

from .identity import AuthenticationType, Identity, IdentityChange, Status
from .message import Message, SystemProperties
from .policy import Permission, Policy
from .principal import LinkInfo, Principal
from .refusal import Refusal

__all__ = [
    "AuthenticationType",
    "Identity",
    "IdentityChange",
    "LinkInfo",
    "Message",
    "Permission",
    "Policy",
    "Principal",
    "Refusal",
    "Status",
    "SystemProperties",
]
