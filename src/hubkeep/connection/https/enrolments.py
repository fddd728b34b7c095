"""The provisioning service for back ends: enrolments and groups. Source: provisioning-and-pki 2.1 to 2.3."""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, Final

from aiohttp import web

from hubkeep.device.provisioning.enrolments import Enrolments
from hubkeep.device.provisioning.registrations import Registrations
from hubkeep.errors import BadRequest, HubError, PreconditionFailed, RegistrationNotFound, on_wire
from hubkeep.limits import ENROLMENT_BODY, HTTP_SERVICE_BODY, Limits
from hubkeep.model import Enrolment, Registration

from ..registration_documents import provisioning_refusal
from .answers import json_answer, no_content, normal_etag
from .bodies import json_as
from .enrolment_documents import (
    BulkBody,
    BulkMode,
    EnrolmentBody,
    attestation_document,
    enrolment_document,
    enrolment_id,
    wanted_enrolment,
)
from .enrolment_queries import asked, next_page
from .exchange import Endpoint, Exchange
from .queries import CONTINUATION, page_size

_ETAG_MISMATCH: Final = 409203  # of one record in a bulk request


class EnrolmentSurface:
    """recorded: records the refusal of a part of a request; its tracking id."""

    def __init__(
        self,
        enrolments: Enrolments,
        registrations: Registrations,
        limits: Limits,
        recorded: Callable[[HubError, Exchange], str],
    ) -> None:
        self._enrolments, self._registrations = enrolments, registrations
        self._limits, self._recorded = limits, recorded

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("enrolments/put", self.put, "service", form="provisioning"),
            Endpoint("enrolments/get", self.get, "service", form="provisioning"),
            Endpoint("enrolments/delete", self.delete, "service", form="provisioning"),
            Endpoint("enrolments/attestation", self.attestation, "service", form="provisioning"),
            Endpoint("enrolments/bulk", self.bulk, "service", form="provisioning"),
            Endpoint("enrolments/query", self.query, "service", form="provisioning"),
            Endpoint("groups/put", self.put, "service", form="provisioning"),
            Endpoint("groups/get", self.get, "service", form="provisioning"),
            Endpoint("groups/delete", self.delete, "service", form="provisioning"),
            Endpoint("groups/attestation", self.attestation, "service", form="provisioning"),
            Endpoint("groups/bulk", self.bulk, "service", form="provisioning"),
            Endpoint("groups/query", self.query, "service", form="provisioning"),
        )

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """PUT: creates without If-Match, replaces with it."""
        is_group = _is_group(exchange)
        body = json_as(EnrolmentBody, await exchange.body(ENROLMENT_BODY.value))
        wanted = wanted_enrolment(body, is_group=is_group)
        if wanted.enrolment.id.lower() != _id(exchange).lower():
            raise BadRequest("The id of the body is not the one of the address.")
        return await self._answer(await self._enrolments.put(wanted, _etag(exchange)))

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """GET: without keys."""
        return await self._answer(await self._enrolments.get(_is_group(exchange), _id(exchange)))

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE: the identities that it made stay."""
        await self._enrolments.delete(_is_group(exchange), _id(exchange), _etag(exchange) or "*")
        return no_content()

    async def attestation(self, exchange: Exchange) -> web.StreamResponse:
        """POST .../attestationmechanism: with the keys."""
        is_group = _is_group(exchange)
        found = await self._enrolments.get(is_group, _id(exchange))
        return json_answer(attestation_document(found.attestation, is_group=is_group), etag=found.etag)

    async def bulk(self, exchange: Exchange) -> web.StreamResponse:
        """POST: each record succeeds or fails alone."""
        is_group = _is_group(exchange)
        request = json_as(BulkBody, await exchange.body(HTTP_SERVICE_BODY.value))
        records = request.enrollment_groups if is_group else request.enrollments
        if not records or len(records) > self._limits.enrolments_at_once:
            raise BadRequest(f"A bulk request has 1 to {self._limits.enrolments_at_once} records.")
        errors = []
        for each in records:
            try:
                await self._carry_out(request.mode, each, is_group=is_group)
            except HubError as error:
                errors.append(self._told(error, each, exchange, is_group=is_group))
        return json_answer({"isSuccessful": not errors, "errors": errors})

    async def query(self, exchange: Exchange) -> web.StreamResponse:
        """POST .../query: an array; a header says whether there is another page."""
        is_group, most = _is_group(exchange), page_size(exchange)
        page = asked(exchange, await exchange.body(ENROLMENT_BODY.value))
        found = await self._enrolments.page(is_group, page.condition, page.after, most)
        answer = json_answer([enrolment_document(each, await self._record(each)) for each in found])
        answer.headers["x-ms-item-type"] = "EnrollmentGroup" if is_group else "Enrollment"
        if len(found) == most:
            answer.headers[CONTINUATION] = next_page(exchange, page.query, found[-1].key.id)
        return answer

    # -- parts -------------------------------------------------------------------------------------------------------

    async def _answer(self, enrolment: Enrolment) -> web.StreamResponse:
        return json_answer(enrolment_document(enrolment, await self._record(enrolment)), etag=enrolment.etag)

    async def _record(self, enrolment: Enrolment) -> Registration | None:
        """What became of an individual enrolment."""
        if not enrolment.is_group:
            with contextlib.suppress(RegistrationNotFound):
                return await self._registrations.record(enrolment.id)
        return None

    async def _carry_out(self, mode: BulkMode, record: EnrolmentBody, *, is_group: bool) -> None:
        etag = normal_etag(record.etag or "")
        if mode == "delete":
            await self._enrolments.delete(is_group, enrolment_id(record, is_group=is_group), etag or "*")
        elif mode == "create":
            await self._enrolments.put(wanted_enrolment(record, is_group=is_group))
        else:
            if mode == "updateIfMatchETag" and not etag:
                raise BadRequest("updateIfMatchETag needs an etag in each record.")
            wanted = wanted_enrolment(record, is_group=is_group)
            await self._enrolments.get(is_group, wanted.enrolment.id)  # an update makes none
            await self._enrolments.put(wanted, "*" if mode == "update" else etag)

    def _told(self, error: HubError, record: EnrolmentBody, exchange: Exchange, *, is_group: bool) -> dict[str, Any]:
        tracking_id = self._recorded(error, exchange)
        told = provisioning_refusal(error, tracking_id, 0)
        code = _ETAG_MISMATCH if isinstance(error, PreconditionFailed) else on_wire(error).number
        name = record.enrollment_group_id if is_group else record.registration_id
        return {
            ("enrollmentGroupId" if is_group else "registrationId"): name or "",
            "errorCode": code,
            "errorStatus": told["message"],
        }


def _is_group(exchange: Exchange) -> bool:
    return exchange.operation.startswith("groups/")


def _id(exchange: Exchange) -> str:
    return exchange.values["group" if _is_group(exchange) else "registration"]


def _etag(exchange: Exchange) -> str:
    return normal_etag(exchange.request.headers.get("If-Match", ""))
