"""The service REST surface of many identities at once. Source: service-protocols 2.6, 2.15."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from hubkeep.device.bulk import BulkIdentities, KeyChoice, Outcome
from hubkeep.device.keys import key_to_text
from hubkeep.errors import BadRequest, BulkRefused, Forbidden, HubError, on_wire
from hubkeep.limits import BULK_RECORDS, HTTP_SERVICE_BODY, LIST_TOP
from hubkeep.model import Identity

from ..refusal_bodies import refusal_text
from .answers import json_answer
from .bodies import documented, strict_json
from .exchange import Endpoint, Exchange
from .fleet_records import FleetRecords, error_to_json, record_to_json

_OUT_OF_REACH: Final = "who asks may do this at some devices only, and this is none of them"
Refuse = Callable[[HubError, Exchange], str]

_KEY_CHOICES: Final[Mapping[str, KeyChoice]] = {
    "primarykey": "primaryKey",
    "primary": "primaryKey",
    "secondarykey": "secondaryKey",
    "secondary": "secondaryKey",
    "both": "both",
    "swap": "swap",
}


class KeyNameBody(msgspec.Struct, rename="camel"):
    id: str
    module_id: str | None = None


class RotationBody(msgspec.Struct, rename="camel"):
    policy_key: Annotated[str, documented(enum=list(dict.fromkeys(_KEY_CHOICES.values())))]
    devices: Annotated[list[KeyNameBody], documented(minItems=1, maxItems=BULK_RECORDS.value)]


class BulkSurface:
    """refuse: records a refusal for the operator; its tracking id."""

    def __init__(self, bulk: BulkIdentities, records: FleetRecords, refuse: Refuse) -> None:
        self._bulk, self._records, self._refuse = bulk, records, refuse

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("devices/bulk", self.post, "service"),
            Endpoint("devices/keys", self.regenerate, "service"),
            Endpoint("admin/identities", self.export, "service", dated=False),
        )

    async def post(self, exchange: Exchange) -> web.StreamResponse:
        """POST /devices: 200 when every record is carried out, else 400 with those that are not."""
        records = _list_of(strict_json(await exchange.body(HTTP_SERVICE_BODY.value)))
        items = [self._records.item(each) for each in records]
        out = await out_of_reach(exchange, [item.device_id for item in items])
        outcomes = await self._bulk.carry_out(
            [
                item._replace(asked=Forbidden(cause="role-for-other-devices", reason=_OUT_OF_REACH))
                if item.device_id in out
                else item
                for item in items
            ]
        )
        errors = [
            error_to_json(item, outcome)
            for item, outcome in zip(items, outcomes, strict=True)
            if isinstance(outcome, HubError)
        ]
        failed = len(errors)
        exchange.detail = _told([f"{item.mode} {item.device_id}" for item in items], len(items) - failed)
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
        out = await out_of_reach(exchange, [device_id for device_id, _ in names])
        done = iter(await self._bulk.regenerate([each for each in names if each[0] not in out], which))
        outcomes: list[Outcome] = [
            Forbidden(cause="role-for-other-devices", reason=_OUT_OF_REACH) if device_id in out else next(done)
            for device_id, _ in names
        ]
        rotated, errors = [], []
        for (device_id, module_id), outcome in zip(names, outcomes, strict=True):
            of = {"id": device_id, "moduleId": module_id or None}
            if isinstance(outcome, Identity):
                keys = key_to_text(outcome.primary_key), key_to_text(outcome.secondary_key)
                rotated.append({**of, "primaryKey": keys[0], "secondaryKey": keys[1]})
            elif isinstance(outcome, HubError):
                errors.append({**of, "errorCode": on_wire(outcome).name, "errorStatus": refusal_text(outcome)})
        exchange.detail = _told([f"{which} {'/'.join(filter(None, name))}" for name in names], len(rotated))
        self._record(exchange, outcomes, [device_id for device_id, _ in names])
        answer = json_answer({"policyKey": body.policy_key, "rotatedKeys": rotated, "errors": errors})
        if errors:
            answer.set_status(HTTPStatus.MULTI_STATUS if rotated else HTTPStatus.BAD_REQUEST)
        return answer

    async def export(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/identities?after=&most=&keys=: records as a bulk request takes them; after: the last one's name."""
        most = exchange.number("most", LIST_TOP.value, 1, LIST_TOP.value)
        if (keys := exchange.query.get("keys", "true")) not in {"true", "false"}:
            raise BadRequest("keys is true or false.")  # what is misspelt must not tell keys
        found = await self._bulk.page(exchange.query.get("after", ""), most)
        return json_answer([record_to_json(identity, twin, keys=keys == "true") for identity, twin in found])

    def _record(self, exchange: Exchange, outcomes: Sequence[Outcome], names: Sequence[str]) -> None:
        """One refusal for the operator, whatever the number of records: a request must not push the others out."""
        failed = [(name, each) for name, each in zip(names, outcomes, strict=True) if isinstance(each, HubError)]
        if failed:
            name, first = failed[0]
            reason = f"{len(failed)} of {len(outcomes)} records refused; the first is {name[:128]!r}: {first.reason}"
            self._refuse(BulkRefused(reason=reason, remedy=first.remedy), exchange)


async def out_of_reach(exchange: Exchange, device_ids: Sequence[str]) -> set[str]:
    """Those that whoever asks may not touch, and those that are not there for them."""
    if exchange.reach is None:
        return set()
    return set(device_ids) - await exchange.reach.among(device_ids)


def _told(records: Sequence[str], done: int) -> str:
    """For the audit: how many, and as many of them as its entry holds."""
    return f"{done} of {len(records)}: {', '.join(records)}"


def _list_of(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BulkRefused("The body is a list of records.")
    _check_number(len(value))
    return value


def _check_number(count: int) -> None:
    if not 1 <= count <= BULK_RECORDS.value:
        raise BulkRefused(f"A request has 1 to {BULK_RECORDS.value} records.")
