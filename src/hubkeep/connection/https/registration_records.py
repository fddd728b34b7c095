"""The provisioning service for back ends and operators: records, derived keys, the service itself.

Source: provisioning-and-pki 1.9, 2.1.
"""

from collections.abc import Iterable

from aiohttp import web

from hubkeep.device.keys import key_to_text
from hubkeep.device.provisioning.allocation import Allocation
from hubkeep.device.provisioning.enrolments import Enrolments
from hubkeep.device.provisioning.ids import check_registration_id
from hubkeep.device.provisioning.registrations import Registrations
from hubkeep.device.provisioning.symmetric_key import device_keys
from hubkeep.errors import BadRequest
from hubkeep.limits import ENROLMENT_BODY

from ..registration_documents import registration_document
from .answers import json_answer, no_content, normal_etag
from .enrolment_queries import asked, next_page
from .exchange import Endpoint, Exchange
from .queries import CONTINUATION, page_size


class RegistrationRecordSurface:
    def __init__(self, enrolments: Enrolments, registrations: Registrations, allocation: Allocation) -> None:
        self._enrolments, self._registrations, self._allocation = enrolments, registrations, allocation

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("registrations/get", self.get, "service", form="provisioning"),
            Endpoint("registrations/delete", self.delete, "service", form="provisioning"),
            Endpoint("registrations/query", self.query, "service", form="provisioning"),
            Endpoint("groups/key", self.key, "service", dated=False),
            Endpoint("admin/provisioning", self.service, "service", dated=False),
        )

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """GET /registrations/{id}"""
        record = await self._registrations.record(exchange.values["registration"])
        return json_answer(registration_document(record), etag=record.etag)

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /registrations/{id}: enrolment and identity stay."""
        etag = normal_etag(exchange.request.headers.get("If-Match", "")) or "*"
        await self._registrations.delete_record(exchange.values["registration"], etag)
        return no_content()

    async def query(self, exchange: Exchange) -> web.StreamResponse:
        """POST /registrations/{id of a group}/query: an array."""
        most = page_size(exchange)
        page = asked(exchange, await exchange.body(ENROLMENT_BODY.value))
        found = await self._registrations.page(exchange.values["group"], page.after, most)
        answer = json_answer([registration_document(each) for each in found])
        answer.headers["x-ms-item-type"] = "DeviceRegistration"
        if len(found) == most:
            answer.headers[CONTINUATION] = next_page(exchange, page.query, found[-1].registration_id.lower())
        return answer

    async def key(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/enrollmentgroups/{id}/keys/{registration}: what one device of the group is given."""
        registration_id = exchange.values["registration"]
        check_registration_id(registration_id)
        group = await self._enrolments.get(True, exchange.values["group"])
        if group.attestation.type != "symmetricKey":
            raise BadRequest("The devices of this group attest by certificates.")
        primary, secondary = device_keys(group, registration_id)
        keys = {"primaryKey": key_to_text(primary), "secondaryKey": key_to_text(secondary)}
        return json_answer({"registrationId": registration_id, **keys})

    async def service(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/provisioning"""
        hubs = [
            {"hostName": each.host_name, "allocationWeight": each.weight, "applyAllocationPolicy": each.applies}
            for each in self._allocation.hubs
        ]
        return json_answer({"idScope": self._enrolments.id_scope, "linkedHubs": hubs})
