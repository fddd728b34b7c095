"""File upload: a device asks, uploads, and says how it went. Source: device-protocols 5.4. Start at ``Files.begin``.

What lies between asking and telling, the transfer itself, is in ``uploads``.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from hubkeep.errors import BadRequest, BlobNotFound, UnknownUpload, UploadExpired, UrlRefused
from hubkeep.limits import Limits
from hubkeep.model import FileNotice, Principal, Upload
from hubkeep.ports import BlobStat, BlobStore, Clock, IdentityStore, UploadStore

from .blob_names import check_blob_name, key_of, name_of, staged_prefix

log = logging.getLogger(__name__)

_SWEPT_AT_ONCE: Final = 100
_DELETED_AT_ONCE: Final = 500

Announce = Callable[[FileNotice], Awaitable[None]]


class KeptFile(NamedTuple):
    """One file of a device. name: the whole blob name."""

    name: str
    stat: BlobStat


class Files:
    """announce: tells back ends of a file (None: nobody is told); it must be durable when it returns."""

    def __init__(
        self,
        uploads: UploadStore,
        blobs: BlobStore,
        identities: IdentityStore,
        announce: Announce | None,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._uploads, self._blobs, self._identities = uploads, blobs, identities
        self._announce, self._clock, self._limits = announce, clock, limits
        self._finishing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def begin(self, sender: Principal, name: str) -> Upload:
        """Allow one file. name: what the device calls it; the blob's name begins with the device's id.

        Raises BadRequest for a name that cannot be one, TooManyUploads.
        """
        blob_name = f"{sender.device_id}/{name}"
        check_blob_name(blob_name)
        now = self._clock.now()
        upload = Upload(
            upload_id=uuid.uuid4().hex,
            device_id=sender.device_id,
            generation_id=sender.generation_id,
            blob_name=blob_name,
            created=now,
            # whole seconds: the URL tells it
            expires=float(int(now) + self._limits.upload_within),
        )
        await self._uploads.open(upload, self._limits.uploads)
        return upload

    async def finish(self, sender: Principal, upload_id: str, *, success: bool) -> None:
        """The device says how an upload ended; its URL ends as well. Said twice, the first word stands.

        Raises UnknownUpload, UploadExpired, and BadRequest when nothing was uploaded that could be a success.
        """
        lock = self._finishing.setdefault(upload_id, asyncio.Lock())
        async with lock:
            upload = await self._uploads.get(upload_id)
            if upload is None or upload.device_id != sender.device_id or upload.generation_id != sender.generation_id:
                raise UnknownUpload(
                    reason="no upload of this device has this correlationId",
                    remedy="notify with the correlationId that POST /devices/{id}/files returned",
                )
            if upload.finished:
                return
            if self._clock.now() >= upload.expires:
                raise UploadExpired(remedy="ask for a new upload: POST /devices/{id}/files")
            if success:
                await self._tell(upload)
            # told first: if the hub ends in between, the device says it again, and no file goes untold
            await self._uploads.finish(upload_id)
        await self._discard_staged(upload)

    async def upload(self, upload_id: str) -> Upload:
        """An upload whose URL was genuine, if it may still be written. Raises UrlRefused.

        The device is looked at again: a URL does not outlive its device, nor its being enabled.
        """
        upload = await self._uploads.get(upload_id)
        if upload is None or upload.finished or self._clock.now() >= upload.expires:
            raise UrlRefused(cause="url-over", reason="the upload of this URL is over", remedy="ask for a new one")
        identity = await self._identities.get(upload.device_id)
        if identity is None or identity.generation_id != upload.generation_id or identity.status != "enabled":
            raise UrlRefused(cause="url-over", reason="the device of this URL was deleted or disabled")
        return upload

    async def list(self, device_id: str, most: int) -> list[KeptFile]:
        """What is kept of a device, by name; at most so many."""
        found: list[KeptFile] = []
        async for key, stat in self._blobs.list(key_of(device_id)):
            name = name_of(key)
            if name is not None:
                found.append(KeptFile(name, stat))
            if len(found) >= most:
                break
        return sorted(found)

    async def stat(self, blob_name: str) -> BlobStat:
        """Raises BlobNotFound."""
        stat = await self._blobs.stat(key_of(blob_name))
        if stat is None:
            raise BlobNotFound
        return stat

    def read(self, blob_name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Raises BlobNotFound."""
        return self._blobs.read(key_of(blob_name), start, end)

    async def sweep(self) -> None:
        """Forget uploads whose time is over, and the blocks that no list named. Whole files stay."""
        while over := await self._uploads.expired(self._clock.now(), _SWEPT_AT_ONCE):
            for upload in over:
                await self._discard_staged(upload)
            await self._uploads.forget([upload.upload_id for upload in over])

    async def _tell(self, upload: Upload) -> None:
        stat = await self._blobs.stat(key_of(upload.blob_name))
        if stat is None:
            raise BadRequest(
                "No file was uploaded.",
                reason=f"the device reports success, but {upload.blob_name} was not uploaded",
                remedy="upload to the returned URL first: Put Blob, or Put Block and then Put Block List",
            )
        if self._announce is not None:
            notice = FileNotice(
                device_id=upload.device_id, blob_name=upload.blob_name, size=stat.size, updated=stat.modified
            )
            await self._announce(notice)

    async def _discard_staged(self, upload: Upload) -> None:
        keys: list[str] = []
        async for key, _ in self._blobs.list(staged_prefix(upload.upload_id)):
            keys.append(key)
            if len(keys) >= _DELETED_AT_ONCE:
                await self._blobs.delete(keys)
                keys = []
        if keys:
            await self._blobs.delete(keys)
