"""A device or module identity, as the registry keeps it (service-protocols 2.3, 2.4)."""

from typing import Final, Literal

import msgspec

SYSTEM_MODULES: Final = ("$edgeAgent", "$edgeHub")  # of every edge device
Status = Literal["enabled", "disabled"]
KeySlot = Literal["primary", "secondary"]
AuthenticationType = Literal["sas", "selfSigned", "certificateAuthority", "none"]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """One identity. ``module_id`` is empty for a device. Times are Unix seconds; 0 means never.

    Keys are the decoded bytes; they are sealed wherever they rest and never part of a repr.
    """

    device_id: str
    module_id: str = ""
    generation_id: str = ""
    etag: str = ""
    status: Status = "enabled"
    status_reason: str | None = None
    status_updated: float = 0.0
    connected: bool = False
    connection_updated: float = 0.0
    last_activity: float = 0.0
    authentication: AuthenticationType = "sas"
    primary_key: bytes | None = None
    secondary_key: bytes | None = None
    primary_thumbprint: str | None = None
    secondary_thumbprint: str | None = None
    iot_edge: bool = False
    device_scope: str = ""
    parent_scopes: tuple[str, ...] = ()
    managed_by: str | None = None

    @property
    def name(self) -> str:
        """``device`` or ``device/module``: the MQTT client id, and how people write it."""
        return f"{self.device_id}/{self.module_id}" if self.module_id else self.device_id

    def __repr__(self) -> str:
        return f"Identity({self.name!r}, {self.status}, {self.authentication})"


class IdentityChange(msgspec.Struct, frozen=True):
    """Published as ``identity.changed``: live links of the identity (a device's modules included) must go.

    slots: of credentials, the keys or thumbprints that were replaced: links that used them go, and no others. Empty:
    all of them, or it is another kind of credential now.
    """

    device_id: str
    module_id: str
    change: Literal["disabled", "deleted", "credentials"]
    slots: tuple[KeySlot, ...] = ()


class IdentitiesCreated(msgspec.Struct, frozen=True):
    """Published as ``identity.created`` once they are durable, those of one request together. names: device, module."""

    names: tuple[tuple[str, str], ...]
