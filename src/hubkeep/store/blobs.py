"""Files in a folder, an S3 bucket or Azure Blob Storage, through obstore. Start at ``open_blobs``."""

import asyncio
import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, LocalStore, S3Store

from hubkeep.errors import BlobExists, BlobNotFound, HubError, StoreUnavailable
from hubkeep.limits import KIB, MIB, Limits
from hubkeep.ports import BlobStat
from hubkeep.settings import Files

from .durable_files import sync

_INCOMING: Final = ".staging/incoming"
_PART: Final = 5 * MIB  # S3 takes no smaller ones
_LOCAL_PART: Final = 512 * KIB
_PARTS_AT_ONCE: Final = 2
_READ: Final = 256 * KIB
_ATTEMPTS: Final = 50
_IN_THE_WAY: Final = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY})
_CHECKED_EVERY: Final = 8 * MIB
_SECRETS: Final = re.compile(r"(?i)(sig|signature|key|token|secret|credential|authorization)[^\s&,]*[=:][^\s&,]+")


def open_blobs(settings: Files, directory: Path, limits: Limits) -> "ObjectBlobs":
    """The store that the settings name. directory: the data directory. Raises StoreUnavailable."""
    try:
        if settings.store == "local":
            return LocalBlobs(settings.folder or directory / "files", limits)
        kinds: dict[str, Any] = {"s3": S3Store, "azure": AzureStore}
        plain = settings.options.get("endpoint", "").startswith("http://")
        store = kinds[settings.store](
            settings.bucket,
            prefix=settings.prefix or None,
            config=dict(settings.options),
            client_options={"allow_http": plain},
        )
    except (BaseError, OSError, ValueError) as error:
        raise StoreUnavailable(
            reason=f"the store of files cannot be opened: {_said(error)}", remedy="settings: files"
        ) from None
    return ObjectBlobs(store)


class ObjectBlobs:
    """See ports.BlobStore. Object stores write whole or not at all and answer once it is durable."""

    part = _PART

    def __init__(self, store: Any) -> None:
        self._store = store

    async def put(self, key: str, chunks: AsyncIterator[bytes], content_type: str = "") -> BlobStat:
        attributes = {"Content-Type": content_type} if content_type else None
        await self._write(key, chunks, attributes)
        return await self._stored(key)

    async def stat(self, key: str) -> BlobStat | None:
        with _refused():
            try:
                return _stat(await obstore.head_async(self._store, key))
            except FileNotFoundError:
                return None

    async def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        with _refused():
            try:
                if start >= end:
                    return
                found = await obstore.get_async(self._store, key, options={"range": (start, end)})
            except FileNotFoundError:
                raise BlobNotFound from None
            async for chunk in found.stream(min_chunk_size=_READ):
                yield bytes(chunk)

    async def list(self, prefix: str) -> AsyncIterator[tuple[str, BlobStat]]:
        with _refused():
            async for page in obstore.list(self._store, prefix, chunk_size=500):
                for each in page:
                    yield each["path"], _stat(each)

    async def delete(self, keys: Sequence[str]) -> None:
        with _refused():
            try:
                await obstore.delete_async(self._store, list(keys))
            except FileNotFoundError:
                # a folder's deletes end at the first one that is not there
                for key in keys:
                    with contextlib.suppress(FileNotFoundError):
                        await obstore.delete_async(self._store, key)

    async def close(self) -> None:
        """Nothing is held open."""

    async def _stored(self, key: str) -> BlobStat:
        stat = await self.stat(key)
        if stat is None:
            raise StoreUnavailable(reason=f"{key} was written and is not there")
        return stat

    async def _write(self, key: str, chunks: AsyncIterator[bytes], attributes: dict[str, str] | None) -> None:
        refusal: list[BaseException] = []

        async def watched() -> AsyncIterator[bytes]:
            # what the sender did wrong comes out as it is, not as the store tells it
            try:
                async for chunk in chunks:
                    yield chunk
            except Exception as error:
                refusal.append(error)
                raise

        try:
            await obstore.put_async(
                self._store,
                key,
                watched(),
                attributes=attributes,
                chunk_size=self.part,
                max_concurrency=_PARTS_AT_ONCE,
            )
        except (BaseError, OSError) as error:
            raise refusal[0] if refusal else _unavailable(error) from None


class LocalBlobs(ObjectBlobs):
    """A folder. What is written is synced and only then takes its name, and so do the folders above it."""

    part = _LOCAL_PART

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder.absolute()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._limits = limits
        # what a hub that was killed had begun to receive
        shutil.rmtree(self._folder / _INCOMING, ignore_errors=True)
        self._disk = ThreadPoolExecutor(4, "hubkeep-files")
        super().__init__(LocalStore(self._folder, automatic_cleanup=True, mkdir=True))

    async def put(self, key: str, chunks: AsyncIterator[bytes], content_type: str = "") -> BlobStat:
        """content_type: a folder does not keep it."""
        incoming = f"{_INCOMING}/{uuid.uuid4().hex}"
        await self._on_disk(self._check_room)
        await self._write(incoming, self._with_room(chunks), None)
        await self._on_disk(self._settle, self._folder / incoming, self._folder / key)
        return await self._stored(key)

    async def close(self) -> None:
        self._disk.shutdown()

    async def _with_room(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        count = 0
        async for chunk in chunks:
            count += len(chunk)
            if count >= _CHECKED_EVERY:
                count = 0
                await self._on_disk(self._check_room)
            yield chunk

    def _check_room(self) -> None:
        """Uploads stop before telemetry does (L-L27)."""
        usage = shutil.disk_usage(self._folder)
        floor = min(usage.total * self._limits.files_stop_share // 100, self._limits.files_stop)
        if usage.free < floor:
            raise StoreUnavailable(
                reason=f"{usage.free >> 20} MiB are free on the disk of {self._folder}, "
                f"and uploads leave {floor >> 20} MiB",
                remedy="free space: the hub goes on by itself",
            )

    def _settle(self, incoming: Path, path: Path) -> None:
        try:
            sync(incoming)
            self._name(incoming, path)
        except OSError as error:
            incoming.unlink(missing_ok=True)
            if error.errno in _IN_THE_WAY:
                reason = f"{path}: {error.strerror}: a folder and a file cannot have one name"
                raise BlobExists(reason=reason) from None
            raise
        for folder in path.parents:
            with contextlib.suppress(FileNotFoundError):  # its only file was deleted again meanwhile
                sync(folder)
            if folder == self._folder:
                break

    @staticmethod
    def _name(incoming: Path, path: Path) -> None:
        for _ in range(_ATTEMPTS):
            # whoever deletes the last file of a folder tidies the folder away, also one that was just made
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                incoming.replace(path)
            except FileNotFoundError:
                continue
            except FileExistsError:
                if path.parent.exists() and not path.parent.is_dir():
                    raise
                continue
            return
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    async def _on_disk(self, work: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)
        except OSError as error:
            raise _unavailable(error) from None


def _stat(meta: Any) -> BlobStat:
    etag = meta["e_tag"] or f"{meta['size']:x}-{meta['last_modified'].timestamp():.6f}"
    return BlobStat(meta["size"], meta["last_modified"].timestamp(), etag if etag.startswith('"') else f'"{etag}"')


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        raise _unavailable(error) from None


def _unavailable(error: BaseException) -> HubError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return StoreUnavailable(reason="the disk of the files is full", remedy="free space: the hub goes on by itself")
    return StoreUnavailable(reason=f"the store of files fails: {_said(error)}", remedy="check disk, network, settings")


def _said(error: BaseException) -> str:
    """The first line: what follows is the library's own state, which holds addresses and perhaps more."""
    return _SECRETS.sub(r"\1=[hidden]", str(error).partition("\n")[0])[:300]
