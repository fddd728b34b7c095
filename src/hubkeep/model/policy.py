"""Shared access policies and the four permissions (service-protocols 1.4)."""

import enum

import msgspec

from .identity import KeySlot
from .networks import Networks


class Permission(enum.IntFlag):
    """The numbers of the first four are those of the service clients' object model; writing implies reading.

    The others are the provisioning service's (provisioning-and-pki 2.7). REGISTER is held by proven devices alone.
    """

    REGISTRY_READ = 1
    REGISTRY_WRITE = 3
    SERVICE_CONNECT = 4
    DEVICE_CONNECT = 8
    ENROLMENT_READ = 16
    ENROLMENT_WRITE = 48
    REGISTRATION_READ = 64
    REGISTRATION_WRITE = 192
    PROVISIONING_CONFIG = 256
    REGISTER = 512


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A named set of permissions with two keys, both always valid.

    networks: where its tokens may be used from. Keys are the decoded bytes. Event Hubs clients sign with the base64
    text of the same key (service-protocols 1.3).
    """

    name: str
    permissions: Permission
    primary_key: bytes
    secondary_key: bytes
    networks: Networks = Networks()

    def __repr__(self) -> str:
        return f"Policy({self.name!r}, {self.permissions!r})"


class PolicyKeysMade(msgspec.Struct, frozen=True):
    """Published as ``policy.keys``: these slots hold other keys now, or it is gone with both."""

    name: str
    slots: tuple[KeySlot, ...]
