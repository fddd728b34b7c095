"""The service REST surface of many identities at once. Source: service-protocols 2.6, 2.15."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from aiohttp import web

from hubkeep.device.bulk import IMPORT_MODES, BulkIdentities, BulkRecord, KeyChoice, Outcome, import_mode
from hubkeep.device.identities import status_from_text
from hubkeep.device.keys import key_to_text
from hubkeep.errors import BadRequest, BulkRefused, HubError, on_wire
from hubkeep.limits import BULK_RECORDS, HTTP_SERVICE_BODY, LIST_TOP
from hubkeep.messaging.twins import Twins
from hubkeep.model import Identity, Twin
from hubkeep.ports import TwinEdit

from ..refusal_bodies import refusal_text
from .answers import json_answer, normal_etag
from .bodies import documented, strict_json
from .exchange import Endpoint, Exchange
from .service import (
    AuthenticationBody,
    CapabilitiesBody,
    Scopes,
    StatusReason,
    StatusWord,
    authentication_to_json,
    credentials_from,
)

Refuse = Callable[[HubError, Exchange], str]

_KEY_CHOICES: Final[Mapping[str, KeyChoice]] = {
    "primarykey": "primaryKey",
    "primary": "primaryKey",
    "secondarykey": "secondaryKey",
    "secondary": "secondaryKey",
    "both": "both",
    "swap": "swap",
}


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


class KeyNameBody(msgspec.Struct, rename="camel"):
    id: str
    module_id: str | None = None


class RotationBody(msgspec.Struct, rename="camel"):
    policy_key: Annotated[str, documented(enum=list(dict.fromkeys(_KEY_CHOICES.values())))]
    devices: Annotated[list[KeyNameBody], documented(minItems=1, maxItems=BULK_RECORDS.value)]


class _Item(NamedTuple):
    """One record of the request, as far as it can be read. asked: what it asks for, or why it is refused."""

    device_id: str
    module_id: str
    mode: str
    asked: BulkRecord | HubError


class BulkSurface:
    """refuse: records a refusal for the operator; its tracking id."""

    def __init__(self, bulk: BulkIdentities, twins: Twins, refuse: Refuse) -> None:
        self._bulk, self._twins, self._refuse = bulk, twins, refuse

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("devices/bulk", self.post, "service"),
            Endpoint("devices/keys", self.regenerate, "service"),
            Endpoint("admin/identities", self.export, "service", dated=False),
        )

    async def post(self, exchange: Exchange) -> web.StreamResponse:
        """POST /devices: 200 when every record is carried out, else 400 with those that are not."""
        items = [self._item(each) for each in _list_of(strict_json(await exchange.body(HTTP_SERVICE_BODY.value)))]
        outcomes: list[Outcome] = [item.asked if isinstance(item.asked, HubError) else None for item in items]
        places = [place for place, outcome in enumerate(outcomes) if outcome is None]
        applied = await self._bulk.apply([each.asked for each in items if isinstance(each.asked, BulkRecord)])
        for place, outcome in zip(places, applied, strict=True):
            outcomes[place] = outcome
        errors = [
            {
                "deviceId": item.device_id,
                "moduleId": item.module_id or None,
                "errorCode": on_wire(outcome).name,
                "errorStatus": refusal_text(outcome),
                "operation": item.mode,
            }
            for item, outcome in zip(items, outcomes, strict=True)
            if isinstance(outcome, HubError)
        ]
        self._record(exchange, outcomes, [item.device_id for item in items])
        answer = json_answer({"isSuccessful": not errors, "errors": errors, "warnings": []})
        if errors:
            answer.set_status(HTTPStatus.BAD_REQUEST)
        return answer

    async def regenerate(self, exchange: Exchange) -> web.StreamResponse:
        """POST /devices/keys/regenerate: 200 when all keys are new, 207 when some are, 400 when none is."""
        try:
            body = msgspec.convert(strict_json(await exchange.body(HTTP_SERVICE_BODY.value)), RotationBody)
        except msgspec.ValidationError as error:
            raise BadRequest("A member of the body is not valid.", reason=str(error)) from None
        which = _KEY_CHOICES.get(body.policy_key.lower())
        if which is None:
            raise BadRequest("policyKey is primaryKey, secondaryKey, both or swap.")
        _check_number(len(body.devices))
        names = [(each.id, each.module_id or "") for each in body.devices]
        outcomes = await self._bulk.regenerate(names, which)
        rotated, errors = [], []
        for (device_id, module_id), outcome in zip(names, outcomes, strict=True):
            of = {"id": device_id, "moduleId": module_id or None}
            if isinstance(outcome, Identity):
                keys = key_to_text(outcome.primary_key), key_to_text(outcome.secondary_key)
                rotated.append({**of, "primaryKey": keys[0], "secondaryKey": keys[1]})
            elif isinstance(outcome, HubError):
                errors.append({**of, "errorCode": on_wire(outcome).name, "errorStatus": refusal_text(outcome)})
        self._record(exchange, outcomes, [device_id for device_id, _ in names])
        answer = json_answer({"policyKey": body.policy_key, "rotatedKeys": rotated, "errors": errors})
        if errors:
            answer.set_status(HTTPStatus.MULTI_STATUS if rotated else HTTPStatus.BAD_REQUEST)
        return answer

    async def export(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/identities?after=&most=&keys=: records as a bulk request takes them; after: the last one's name."""
        most = exchange.number("most", LIST_TOP.value, 1, LIST_TOP.value)
        found = await self._bulk.page(exchange.query.get("after", ""), most)
        keys = exchange.query.get("keys", "true") != "false"
        return json_answer([record_to_json(identity, twin, keys=keys) for identity, twin in found])

    def _record(self, exchange: Exchange, outcomes: Sequence[Outcome], names: Sequence[str]) -> None:
        """One refusal for the operator, whatever the number of records: a request must not push the others out."""
        failed = [(name, each) for name, each in zip(names, outcomes, strict=True) if isinstance(each, HubError)]
        if failed:
            name, first = failed[0]
            reason = f"{len(failed)} of {len(outcomes)} records refused; the first is {name[:128]!r}: {first.reason}"
            self._refuse(BulkRefused(reason=reason, remedy=first.remedy), exchange)

    def _item(self, value: Any) -> _Item:
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
        return _Item(device_id, module_id, mode or "createOrUpdate", asked)

    def _asked(self, record: RecordBody) -> BulkRecord:
        device_id, module_id = record.id or record.device_id or "", record.module_id or ""
        mode = import_mode(record.import_mode)
        wanted = Identity(device_id=device_id, module_id=module_id)
        if not (mode.deletes or mode.is_of_twin):
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


def _list_of(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BulkRefused("The body is a list of records.")
    _check_number(len(value))
    return value


def _check_number(count: int) -> None:
    if not 1 <= count <= BULK_RECORDS.value:
        raise BulkRefused(f"A request has 1 to {BULK_RECORDS.value} records.")
