"""The device surface of file upload: asking and telling. Source: device-protocols 5.4. The transfer: ``blobs``."""

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from aiohttp import web

from hubkeep.errors import BadRequest, UploadsOff
from hubkeep.limits import HTTP_DEVICE_BODY
from hubkeep.messaging.files import Files
from hubkeep.messaging.signed_urls import signed_query
from hubkeep.messaging.uploads import Uploads

from ..timestamps import time_stamp
from .answers import json_answer, no_content
from .bodies import strict_json
from .exchange import Endpoint, Exchange

_MOST_LISTED: Final = 1000


class FileUpload(NamedTuple):
    """What the listener needs for file upload. key: of signed URLs. container: the first part of their path."""

    files: Files
    uploads: Uploads
    key: bytes
    container: str

    def __repr__(self) -> str:
        return f"FileUpload({self.container!r})"


class FileSurface:
    """Handlers of file upload. parts: None on a hub that keeps no files. host: where a device is told to upload to."""

    def __init__(self, parts: FileUpload | None, host: Callable[[web.BaseRequest], str]) -> None:
        self._parts, self._host = parts, host

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("files/begin", self.begin, "device", dated=False),
            Endpoint("files/notify", self.notify, "device", dated=False),
            Endpoint("files/notify/id", self.notify, "device", dated=False),
            Endpoint("files/list", self.list, "service", dated=False),
        )

    async def begin(self, exchange: Exchange) -> web.StreamResponse:
        """POST /devices/{id}/files: where to upload one file, for an hour."""
        asked = _members(strict_json(await exchange.body(HTTP_DEVICE_BODY.value)))
        name = asked.get("blobName")
        if not isinstance(name, str):
            raise BadRequest("The blobName is missing or no text.")
        assert exchange.principal is not None
        parts = self._on()
        upload = await parts.files.begin(exchange.principal, name)
        return json_answer(
            {
                "correlationId": upload.upload_id,
                "hostName": self._host(exchange.request),
                "containerName": parts.container,
                "blobName": upload.blob_name,
                "sasToken": signed_query(parts.key, parts.container, upload),
            }
        )

    async def notify(self, exchange: Exchange) -> web.StreamResponse:
        """POST .../files/notifications with the correlation id in the body, or behind it in the path."""
        told = _members(strict_json(await exchange.body(HTTP_DEVICE_BODY.value)))
        upload_id = exchange.values.get("upload") or told.get("correlationId")
        if not isinstance(upload_id, str):
            raise BadRequest("The correlationId is missing or no text.")
        success = told.get("isSuccess")
        if not isinstance(success, bool):
            raise BadRequest("isSuccess is missing, or neither true nor false.")
        assert exchange.principal is not None
        await self._on().files.finish(exchange.principal, upload_id, success=success)
        return no_content()

    async def list(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/devices/{id}/files: what is kept of a device, by name."""
        top = exchange.number("top", _MOST_LISTED, 1, _MOST_LISTED)
        parts = self._on()
        found = await parts.files.list(exchange.values["id"], top)
        return json_answer(
            [
                {
                    "name": each.name,
                    "size": each.stat.size,
                    "modified": time_stamp(each.stat.modified),
                    "path": f"/{parts.container}/{quote(each.name)}",
                }
                for each in found
            ]
        )

    def _on(self) -> FileUpload:
        if self._parts is None:
            raise UploadsOff(reason="files.store is off", remedy="settings: files.store = local, s3 or azure")
        return self._parts


def _members(value: Any) -> dict[str, Any]:
    """The members of a JSON object by their camelCase names; .NET clients write them in PascalCase."""
    if not isinstance(value, dict):
        raise BadRequest("The body is no JSON object.")
    return {name[:1].lower() + name[1:]: member for name, member in value.items()}
