"""Automatic device management: what some of the fleet should desire, and how far it is (service-protocols 2.11)."""

from base64 import b64encode
from typing import Literal

import msgspec

from .twin import Json

HoldStatus = Literal["Targeted", "Applied"]
# what a configuration is for: devices, modules, or the modules of edge devices (an edge deployment)
ContentKind = Literal["deviceContent", "moduleContent", "modulesContent"]


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Times: Unix seconds.

    number: the hub's own name of it, never used twice; 0 until it is stored. content: paths of desired properties
    (``properties.desired.speed``) to values; of ``modulesContent``, those of each module by its id. condition: of its
    targets; empty for nobody. is_deleted: what it set has still to be taken back.
    """

    configuration_id: str
    kind: ContentKind
    content: Json
    condition: str
    priority: int
    created: float
    updated: float
    labels: dict[str, str] = {}
    metrics: dict[str, str] = {}
    schema_version: str = "1.0"
    content_type: str | None = None
    number: int = 0
    revision: int = 1
    is_deleted: bool = False

    @property
    def etag(self) -> str:
        """Base64 of a decimal count."""
        return b64encode(str(self.revision).encode()).decode()


class Hold(msgspec.Struct, frozen=True):
    """A twin that a configuration is for. is_touched: its content is in the twin, or may be."""

    number: int
    device_id: str
    module_id: str
    status: HoldStatus
    is_touched: bool = False
