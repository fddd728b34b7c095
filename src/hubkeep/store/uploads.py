"""Uploads in the registry's file, and the key of their URLs."""

import os
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy import func as sql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hubkeep.errors import TooManyUploads
from hubkeep.model import Upload
from hubkeep.ports import Seal

from .tables import SIGNING_KEY, UPLOAD
from .writer import Row, Writer, read

_KEY_NAME: Final = "uploads"
_KEY_BYTES: Final = 32


def signing_key_context(name: str) -> str:
    """What a sealed key of the table ``signing_key`` belongs to."""
    return f"signing_key/{name}"


class SqlUploads:
    """See ports.UploadStore."""

    def __init__(self, writer: Writer, reading: AsyncEngine, seal: Seal) -> None:
        self._write, self._reading, self._seal = writer, reading, seal

    async def open(self, upload: Upload, most: int) -> None:
        column = UPLOAD.c
        in_progress = select(sql.count()).where(
            column.device_id == upload.device_id, ~column.finished, column.expires > upload.created
        )

        async def work(connection: AsyncConnection) -> None:
            if (await connection.execute(in_progress)).scalar_one() >= most:
                raise TooManyUploads(
                    reason=f"{most} uploads of the device are neither notified nor expired",
                    remedy="notify how each upload ended, also a failed one",
                )
            await connection.execute(insert(UPLOAD).values(msgspec.structs.asdict(upload)))

        await self._write(work)

    async def get(self, upload_id: str) -> Upload | None:
        rows = await read(self._reading, select(UPLOAD).where(UPLOAD.c.upload_id == upload_id))
        return _upload(rows[0]) if rows else None

    async def note_block_list(self, upload_id: str, digest: str) -> None:
        await self._change(upload_id, block_list=digest)

    async def finish(self, upload_id: str) -> None:
        await self._change(upload_id, finished=True)

    async def expired(self, now: float, most: int) -> Sequence[Upload]:
        query = select(UPLOAD).where(UPLOAD.c.expires <= now).order_by(UPLOAD.c.expires).limit(most)
        return [_upload(row) for row in await read(self._reading, query)]

    async def forget(self, upload_ids: Sequence[str]) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(UPLOAD).where(UPLOAD.c.upload_id.in_(upload_ids)))

        await self._write(work, when_full=True)

    async def signing_key(self) -> bytes:
        stored = select(SIGNING_KEY.c.key).where(SIGNING_KEY.c.name == _KEY_NAME)

        async def work(connection: AsyncConnection) -> bytes:
            sealed: bytes | None = (await connection.execute(stored)).scalar_one_or_none()
            if sealed is None:
                sealed = self._seal.seal(os.urandom(_KEY_BYTES), signing_key_context(_KEY_NAME))
                await connection.execute(insert(SIGNING_KEY).values(name=_KEY_NAME, key=sealed))
            return sealed

        return self._seal.unseal(await self._write(work), signing_key_context(_KEY_NAME))

    async def _change(self, upload_id: str, **values: Any) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(update(UPLOAD).where(UPLOAD.c.upload_id == upload_id).values(values))

        await self._write(work, when_full=True)


def _upload(row: Row) -> Upload:
    return Upload(**{**row, "finished": bool(row["finished"])})
