"""Records of identities with their twins, as bulk requests, import and export jobs carry them: to and from JSON.

Source: service-protocols 2.6, 2.9.
"""

from typing import Annotated, Any

import msgspec

from hubkeep.device.bulk import IMPORT_MODES, BulkItem, BulkRecord, import_mode
from hubkeep.device.identities import status_from_text
from hubkeep.errors import BadRequest, HubError, on_wire
from hubkeep.messaging.twins import Twins
from hubkeep.model import Identity, Twin
from hubkeep.ports import TwinEdit

from ..refusal_bodies import refusal_text
from ..strict_json import strict_json
from .answers import normal_etag
from .bodies import documented
from .service import (
    AuthenticationBody,
    CapabilitiesBody,
    Scopes,
    StatusReason,
    StatusWord,
    authentication_to_json,
    credentials_from,
)


class RecordPropertiesBody(msgspec.Struct):
    desired: Any = None
    reported: Any = None


class RecordBody(msgspec.Struct, rename="camel"):
    """What a record may say. The rest is the hub's own."""

    id: str | None = None
    device_id: str | None = None  # as some write it
    module_id: str | None = None
    e_tag: str | None = None
    etag: str | None = None
    import_mode: Annotated[str, documented(enum=["", *IMPORT_MODES])] | None = None
    status: StatusWord | None = None
    status_reason: StatusReason | None = None
    authentication: AuthenticationBody | None = None
    twin_etag: str | None = msgspec.field(name="twinETag", default=None)
    tags: Any = None
    properties: RecordPropertiesBody | None = None
    capabilities: CapabilitiesBody | None = None
    device_scope: str | None = None
    parent_scopes: Scopes | None = None
    managed_by: StatusReason | None = None


class FleetRecords:
    """See device.transfers.FleetFormat."""

    def __init__(self, twins: Twins) -> None:
        self._twins = twins

    def read(self, line: bytes) -> BulkItem:
        try:
            value = strict_json(line)
        except HubError as error:
            return BulkItem("", "", "", error)
        return self.item(value)

    def write(self, identity: Identity, twin: Twin, *, keys: bool) -> bytes:
        return msgspec.json.encode(record_to_json(identity, twin, keys=keys))

    def error(self, item: BulkItem, error: HubError) -> bytes:
        return msgspec.json.encode(error_to_json(item, error))

    def item(self, value: Any) -> BulkItem:
        named = value if isinstance(value, dict) else {}
        device_id, module_id, mode = (
            text if isinstance(text, str) else ""
            for text in (named.get("id", named.get("deviceId")), named.get("moduleId"), named.get("importMode"))
        )
        asked: BulkRecord | HubError
        try:
            asked = self._asked(msgspec.convert(value, RecordBody))
        except msgspec.ValidationError as error:
            asked = BadRequest("A member of the record is not valid.", reason=str(error))
        except HubError as error:
            asked = error
        return BulkItem(device_id, module_id, mode or "createOrUpdate", asked)

    def _asked(self, record: RecordBody) -> BulkRecord:
        device_id, module_id = record.id or record.device_id or "", record.module_id or ""
        mode = import_mode(record.import_mode)
        if mode.deletes or mode.is_of_twin:
            wanted = Identity(device_id=device_id, module_id=module_id)
        else:
            wanted = Identity(
                device_id=device_id,
                module_id=module_id,
                status=status_from_text(record.status),
                status_reason=record.status_reason,
                iot_edge=bool(record.capabilities and record.capabilities.iot_edge),
                device_scope=record.device_scope or "",
                parent_scopes=tuple(record.parent_scopes or ()),
                managed_by=record.managed_by,
                **credentials_from(record.authentication),
            )
        return BulkRecord(
            wanted=wanted,
            mode=mode,
            etag=normal_etag(record.e_tag or record.etag or ""),
            keep_authentication=record.authentication is None,
            twin=None if mode.deletes else self._twin(record, device_id, module_id, mode.is_of_twin, mode.matches),
        )

    def _twin(
        self, record: RecordBody, device_id: str, module_id: str, is_of_twin: bool, matches: bool
    ) -> TwinEdit | None:
        properties = record.properties or RecordPropertiesBody()
        parts = record.tags, properties.desired, properties.reported
        if not is_of_twin and all(part is None for part in parts):
            return None
        etag = normal_etag(record.twin_etag or "") if matches else "*"
        if not is_of_twin:
            etag = etag or "*"  # the identity's own etag is what such a mode asks for
        tags, desired, reported = parts
        return self._twins.edit(
            device_id, module_id, tags=tags, desired=desired, reported=reported, etag=etag, merge=is_of_twin
        )


def record_to_json(identity: Identity, twin: Twin, *, keys: bool) -> dict[str, Any]:
    """The record that makes this identity again (service-protocols 2.9). keys: symmetric ones included."""
    shown = identity if keys else msgspec.structs.replace(identity, primary_key=None, secondary_key=None)
    record: dict[str, Any] = {"id": identity.device_id}
    if identity.module_id:
        record |= {"moduleId": identity.module_id, "managedBy": identity.managed_by}
    record |= {
        "eTag": identity.etag,
        "status": identity.status,
        "statusReason": identity.status_reason,
        "authentication": authentication_to_json(shown),
        "twinETag": twin.etag,
        "tags": twin.tags,
        "properties": {"desired": twin.desired.properties, "reported": twin.reported.properties},
    }
    if not identity.module_id:
        record["capabilities"] = {"iotEdge": identity.iot_edge}
        record |= {"deviceScope": identity.device_scope} if identity.device_scope else {}
        record |= {"parentScopes": list(identity.parent_scopes)} if identity.parent_scopes else {}
    return record


def error_to_json(item: BulkItem, error: HubError) -> dict[str, Any]:
    """Why a record is refused (service-protocols 2.6)."""
    return {
        "deviceId": item.device_id,
        "moduleId": item.module_id or None,
        "errorCode": on_wire(error).name,
        "errorStatus": refusal_text(error),
        "operation": item.mode,
    }
