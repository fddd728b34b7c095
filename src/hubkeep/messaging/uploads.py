"""The transfer of one file: whole, or in blocks that a list puts together. Source: device-protocols 5.4.

Bodies pass through in pieces; how many pass at once is bounded, and so is what one device may keep waiting.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from typing import Final, Literal
from weakref import WeakValueDictionary

from hubkeep.errors import BlobExists, InvalidBlockList, MessageTooLarge, PreconditionFailed, ServerBusy
from hubkeep.limits import Limits
from hubkeep.model import Upload
from hubkeep.ports import BlobStat, BlobStore, UploadStore

from .blob_names import key_of, staged_key, staged_prefix

_COUNTED: Final = 1000  # uploads whose staged blocks are counted in memory; others are counted anew

Condition = Literal["", "absent"] | str  # noqa: PYI051  # "" any; "absent" nothing there yet; else the etag that must be there


class _Staged:
    """What one upload has staged. A block put twice counts twice until it is counted anew."""

    __slots__ = ("blocks", "size")

    def __init__(self) -> None:
        self.blocks = self.size = 0


class Uploads:
    """Writes of files that signed URLs have opened already."""

    def __init__(self, uploads: UploadStore, blobs: BlobStore, limits: Limits) -> None:
        self._uploads, self._blobs, self._limits = uploads, blobs, limits
        self._most_staged = 2 * limits.blob_size  # bytes; clients put blocks again that got no answer
        self._staged: OrderedDict[str, _Staged] = OrderedDict()
        self._all = asyncio.Semaphore(limits.blob_transfers)
        self._by_device: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._composing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def put_blob(
        self, upload: Upload, chunks: AsyncIterator[bytes], *, condition: Condition = "", content_type: str = ""
    ) -> BlobStat:
        """The whole file in one request. Raises BlobExists, PreconditionFailed: then nothing has changed."""
        key = key_of(upload.blob_name)
        await self._check(key, condition)
        async with self._turn(upload):
            return await self._blobs.put(key, self._conditional(chunks, key, condition), content_type)

    async def put_block(self, upload: Upload, block: bytes, chunks: AsyncIterator[bytes]) -> None:
        """One block, kept until a list names it or the upload ends. Raises MessageTooLarge at the limits of both."""
        async with self._turn(upload):
            staged = await self._count(upload)
            await self._blobs.put(staged_key(upload.upload_id, block), self._counted(upload, staged, chunks))
            staged.blocks += 1

    async def put_block_list(
        self, upload: Upload, blocks: Sequence[bytes], *, condition: Condition = "", content_type: str = ""
    ) -> BlobStat:
        """Make the file of its blocks, in this order. The same list again, as clients repeat it, is answered the same.

        Raises InvalidBlockList for a block that was not put, MessageTooLarge, BlobExists, PreconditionFailed.
        """
        if len(blocks) > self._limits.blob_blocks:
            raise InvalidBlockList(reason=f"the list names {len(blocks)} blocks, over {self._limits.blob_blocks}")
        key, digest = key_of(upload.blob_name), sha256(b"".join(sha256(each).digest() for each in blocks)).hexdigest()
        lock = self._composing.setdefault(upload.upload_id, asyncio.Lock())
        async with lock:
            current = await self._uploads.get(upload.upload_id)
            sizes = await self._sizes(upload)
            if current is not None and current.block_list == digest and not sizes:
                done = await self._blobs.stat(key)
                if done is not None:
                    return done
            await self._check(key, condition)
            self._check_list(blocks, sizes)
            async with self._turn(upload):
                composed = self._concatenated(upload, blocks, sizes)
                stat = await self._blobs.put(key, self._conditional(composed, key, condition), content_type)
            await self._uploads.note_block_list(upload.upload_id, digest)
            await self._blobs.delete([staged_key(upload.upload_id, each) for each in sizes])
            self._staged.pop(upload.upload_id, None)
            return stat

    # -- conditions --------------------------------------------------------------------------------------------------

    async def _check(self, key: str, condition: Condition) -> None:
        if not condition:
            return
        stat = await self._blobs.stat(key)
        if condition == "absent":
            if stat is not None:
                raise BlobExists(reason=f"{key} is there already", remedy="upload with overwrite, or another name")
        elif stat is None or condition not in {"*", stat.etag}:
            raise PreconditionFailed(reason=f"{key} is not the version that If-Match names")

    async def _conditional(self, chunks: AsyncIterator[bytes], key: str, condition: Condition) -> AsyncIterator[bytes]:
        """``chunks``; at their end the condition is looked at again, so that of two slow uploads one fails."""
        async for chunk in chunks:
            yield chunk
        await self._check(key, condition)

    def _check_list(self, blocks: Sequence[bytes], sizes: dict[bytes, int]) -> None:
        missing = next((each for each in blocks if each not in sizes), None)
        if missing is not None:
            raise InvalidBlockList(
                reason=f"the list names block {missing.hex()}, which was not put",
                remedy="put every block before the list; blocks of an earlier list are used up",
            )
        if sum(sizes[each] for each in blocks) > self._limits.blob_size:
            raise MessageTooLarge(reason=f"the file would be larger than {self._limits.blob_size} bytes")

    # -- staged blocks -----------------------------------------------------------------------------------------------

    async def _sizes(self, upload: Upload) -> dict[bytes, int]:
        """Every staged block of an upload with its size."""
        found: dict[bytes, int] = {}
        async for key, stat in self._blobs.list(staged_prefix(upload.upload_id)):
            found[bytes.fromhex(key.rpartition("/")[2])] = stat.size
        return found

    async def _count(self, upload: Upload) -> _Staged:
        """The upload's count, made anew where it is unknown or too high. Raises MessageTooLarge at its limits."""
        staged = self._staged.get(upload.upload_id)
        if staged is None or not self._has_room(staged):
            sizes = await self._sizes(upload)
            staged = self._staged.setdefault(upload.upload_id, _Staged())
            staged.blocks, staged.size = len(sizes), sum(sizes.values())
            while len(self._staged) > _COUNTED:
                self._staged.popitem(last=False)
        if not self._has_room(staged):
            raise MessageTooLarge(
                reason=f"{staged.blocks} blocks of {staged.size} bytes wait for a list that names them",
                remedy="put the block list, or ask for a new upload",
            )
        return staged

    def _has_room(self, staged: _Staged) -> bool:
        return staged.blocks < self._limits.blob_staged_blocks and staged.size < self._most_staged

    async def _counted(self, upload: Upload, staged: _Staged, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            staged.size += len(chunk)
            if staged.size > self._most_staged:
                raise MessageTooLarge(reason=f"blocks of over {self._most_staged} bytes wait for a list")
            yield chunk

    async def _concatenated(
        self, upload: Upload, blocks: Sequence[bytes], sizes: dict[bytes, int]
    ) -> AsyncIterator[bytes]:
        for block in blocks:
            async for chunk in self._blobs.read(staged_key(upload.upload_id, block), 0, sizes[block]):
                yield chunk

    # -- turns -------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _turn(self, upload: Upload) -> AsyncIterator[None]:
        """Wait for a place among the transfers of the device and of the hub. Raises ServerBusy after half a minute."""
        own = self._by_device.setdefault(upload.device_id, asyncio.Semaphore(self._limits.blob_transfers_per_device))
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._limits.blob_turn_within):
                    await held.enter_async_context(own)
                    await held.enter_async_context(self._all)
            except TimeoutError:
                raise ServerBusy(reason="too many uploads at once", remedy="limits: blob_transfers") from None
            yield
