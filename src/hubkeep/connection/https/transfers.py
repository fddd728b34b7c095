"""The service REST surface of import and export jobs. Source: service-protocols 2.9."""

from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from hubkeep.device.transfers import Transfers, Wanted, without_signature
from hubkeep.errors import BadRequest
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.messaging.blob_names import check_blob_name
from hubkeep.model import TransferJob, TransferType

from ..timestamps import time_stamp
from .answers import json_answer, no_content
from .bodies import documented, json_as
from .exchange import Endpoint, Exchange

_TYPES: Final[dict[str, TransferType]] = {"import": "import", "export": "export"}
_DEVICES: Final = "devices.txt"
_CONFIGURATIONS: Final = "configurations.txt"
_BY_KEY: Final = "keyBased"


class TransferBody(msgspec.Struct, frozen=True, rename="camel"):
    """What a back end may say; everything else of a job is the hub's own."""

    type: Annotated[str, documented(enum=list(_TYPES))]
    input_blob_container_uri: str | None = None
    input_blob_name: str | None = None
    output_blob_container_uri: str | None = None
    output_blob_name: str | None = None
    exclude_keys_in_export: bool | None = None
    storage_authentication_type: Annotated[str, documented(enum=[_BY_KEY])] | None = None
    include_configurations: bool | None = None
    configurations_blob_name: str | None = None


class TransferSurface:
    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("transfers/create", self.create, "service"),
            Endpoint("transfers/list", self.list, "service"),
            Endpoint("transfers/get", self.get, "service"),
            Endpoint("transfers/cancel", self.cancel, "service"),
        )

    async def create(self, exchange: Exchange) -> web.StreamResponse:
        """POST /jobs/create"""
        body = json_as(TransferBody, await exchange.body(HTTP_SERVICE_BODY.value))
        kind = _TYPES.get(body.type.lower())
        if kind is None:
            raise BadRequest(f"The type of a job is one of {', '.join(_TYPES)}.")
        if (body.storage_authentication_type or _BY_KEY).lower() != _BY_KEY.lower():
            raise BadRequest(
                "This hub has no managed identity: storageAuthenticationType is keyBased.",
                remedy="put a signature (SAS) into the URL of the container",
            )
        wanted = Wanted(
            type=kind,
            input_url=(body.input_blob_container_uri or "") if kind == "import" else "",
            input_blob=body.input_blob_name or _DEVICES,
            output_url=body.output_blob_container_uri or "",
            output_blob=body.output_blob_name or _DEVICES,
            with_keys=not body.exclude_keys_in_export,
            with_configurations=bool(body.include_configurations),
            configurations_blob=body.configurations_blob_name or _CONFIGURATIONS,
        )
        for name in (wanted.input_blob, wanted.output_blob, wanted.configurations_blob):
            check_blob_name(name)
        return json_answer(transfer_document(await self._transfers.create(wanted)))

    async def list(self, exchange: Exchange) -> web.StreamResponse:
        """GET /jobs: the newest first."""
        return json_answer([transfer_document(each) for each in await self._transfers.list()])

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """GET /jobs/{id}"""
        return json_answer(transfer_document(await self._transfers.get(exchange.values["job"])))

    async def cancel(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /jobs/{id}"""
        await self._transfers.cancel(exchange.values["job"])
        return no_content()


def transfer_document(job: TransferJob) -> dict[str, Any]:
    """The job properties. Who may read them need not be who may write to the container: signatures are left out."""
    return {
        "jobId": job.job_id,
        "startTimeUtc": time_stamp(job.begun or job.created),
        "endTimeUtc": time_stamp(job.ended) if job.ended else None,
        "type": job.type,
        "status": job.status,
        "progress": job.progress,
        "inputBlobContainerUri": without_signature(job.input_url) or None,
        "inputBlobName": job.input_blob,
        "outputBlobContainerUri": without_signature(job.output_url),
        "outputBlobName": job.output_blob,
        "excludeKeysInExport": not job.with_keys,
        "storageAuthenticationType": _BY_KEY,
        "identity": None,
        "failureReason": job.failure or None,
        "includeConfigurations": job.with_configurations,
        "configurationsBlobName": job.configurations_blob,
    }
