"""A device or module twin, and one change of it (service-protocols 2.5, 6.6)."""

from base64 import b64encode
from typing import Any, Literal

import msgspec

from .timestamps import NEVER

Json = dict[str, Any]


class TwinSection(msgspec.Struct, frozen=True):
    """Desired or reported properties.

    metadata: mirrors the properties; every object and leaf holds ``$lastUpdated``, in desired ``$lastUpdatedVersion``.
    version: rises by one with every change of the section.
    """

    properties: Json
    metadata: Json
    version: int


def fresh_section() -> TwinSection:
    return TwinSection({}, {"$lastUpdated": NEVER}, 1)


class Twin(msgspec.Struct, frozen=True, kw_only=True):
    """version: rises with every change of any part. revision: rises with changes of tags and desired; it is the etag.

    model_id: the plug and play model that the device named when it connected; empty for none.
    """

    device_id: str
    module_id: str = ""
    version: int = 2
    revision: int = 1
    model_id: str = ""
    tags: Json = {}
    desired: TwinSection = msgspec.field(default_factory=fresh_section)
    reported: TwinSection = msgspec.field(default_factory=fresh_section)

    @property
    def etag(self) -> str:
        """Base64 of an eight-byte counter, as service clients know it."""
        return b64encode(self.revision.to_bytes(8)).decode()


class TwinChange(msgspec.Struct, frozen=True, kw_only=True):
    """Published as ``twin.changed`` once it is durable, in the order of versions. twin: as it is after the change.

    tags, desired, reported: what was written to each part, with null for what was removed; None: not touched.
    """

    operation: Literal["updateTwin", "replaceTwin"]
    twin: Twin
    tags: Json | None = None
    desired: Json | None = None
    reported: Json | None = None

    @property
    def touches(self) -> bool:
        """Whether there is anything to tell."""
        return any(part is not None for part in (self.tags, self.desired, self.reported))


class DesiredPatch(msgspec.Struct, frozen=True):
    """Published to one identity's live links: what changed of its desired properties, and the version after it."""

    patch: Json
    version: int
