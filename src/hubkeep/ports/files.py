"""Stores of files that devices upload, and containers of others."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from hubkeep.model import (
    Upload,
)


class UploadStore(Protocol):
    """What devices were allowed to upload. What is stored is durable when the call returns."""

    async def open(self, upload: Upload, most: int) -> None:
        """Keep it. Raises TooManyUploads: with it the device would have over ``most`` unfinished, unexpired ones."""

    async def get(self, upload_id: str) -> Upload | None: ...

    async def note_block_list(self, upload_id: str, digest: str) -> None:
        """The file was made of this list of blocks."""

    async def finish(self, upload_id: str) -> None:
        """The device said how it ended."""

    async def expired(self, now: float, most: int) -> Sequence[Upload]:
        """Uploads whose time is over, the oldest first."""

    async def forget(self, upload_ids: Sequence[str]) -> None: ...

    async def signing_key(self) -> bytes:
        """The key of signed URLs: 32 random bytes, made at the first call, sealed at rest."""


class BlobStat(NamedTuple):
    """size: bytes. modified: Unix seconds. etag: as in the header, quotes included; changes with the content."""

    size: int
    modified: float
    etag: str


class BlobStore(Protocol):
    """Files by key: segments between slashes that mean nothing to any file system (messaging/blob_names).

    Every method raises StoreUnavailable when the store does not answer.
    """

    async def put(self, key: str, chunks: AsyncIterator[bytes], content_type: str = "") -> BlobStat:
        """Whole or not at all, instead of what was there; durable when it returns. Holds a few MiB at most.

        What ``chunks`` raises comes out, and nothing is left behind. Raises BlobExists where a folder has the name.
        """

    async def stat(self, key: str) -> BlobStat | None: ...

    def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes from ``start`` until before ``end``. Raises BlobNotFound."""

    def list(self, prefix: str) -> AsyncIterator[tuple[str, BlobStat]]:
        """What lies below ``prefix``, a whole path without its last slash, in no order."""

    async def delete(self, keys: Sequence[str]) -> None:
        """What is not there is passed over."""


class BlobContainer(Protocol):
    """A container of blobs that a back end names by a signed URL, elsewhere.

    Every method raises EgressRefused; ContainerRefused, naming blob and answer; ContainerUnreachable: later perhaps.
    """

    async def stat(self, blob: str) -> BlobStat: ...

    def read(self, blob: str, start: int, etag: str) -> AsyncIterator[bytes]:
        """Bytes from ``start`` to the end of this version."""

    async def put(self, blob: str, content: bytes) -> None:
        """Instead of what was there."""

    async def put_block(self, blob: str, number: int, content: bytes) -> None:
        """Keep a part until ``put_blocks``, also beyond the end of this process; instead of one of this number."""

    async def put_blocks(self, blob: str, count: int) -> None:
        """The blob is the parts from 0 to before ``count``, instead of what was there."""


class BlobContainers(Protocol):
    async def check(self, url: str) -> None:
        """Whether the container could be reached. Raises EgressRefused."""

    def open(self, url: str) -> BlobContainer: ...
