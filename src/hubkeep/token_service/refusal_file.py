"""Refusals of the token service: one JSON object a line, the newest last, bounded."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from hubkeep.errors import StoreUnavailable
from hubkeep.model import Refusal

_LINE = msgspec.json.Decoder(Refusal)


class RefusalFile:
    """See ports.RefusalStore. The file holds at most twice as many as are kept, and is then made anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = -1  # lines in the file, once known

    async def add(self, refusals: Sequence[Refusal], keep: int) -> None:
        """Raises StoreUnavailable."""
        try:
            await asyncio.to_thread(self._add, refusals, keep)
        except OSError as error:
            raise StoreUnavailable(reason=f"{self._path}: {error.strerror}") from None

    async def find(self, key: str, most: int) -> Sequence[Refusal]:
        return await asyncio.to_thread(read_refusals, self._path, key, most)

    def _add(self, refusals: Sequence[Refusal], keep: int) -> None:
        if self._count < 0:
            self._count = sum(1 for _ in _lines(self._path))
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "ab") as file:
            file.writelines(msgspec.json.encode(each) + b"\n" for each in refusals)
        self._count += len(refusals)
        if self._count > 2 * keep:
            kept = list(_lines(self._path))[-keep:]
            temporary = self._path.with_suffix(".new")
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.writelines(kept)
            temporary.replace(self._path)
            self._count = len(kept)


def read_refusals(path: Path, key: str, most: int) -> Sequence[Refusal]:
    """Newest first, by tracking id or identity as claimed; an empty key means all. Lines that were torn are none."""
    plain = key.replace("-", "").lower()
    found = []
    for line in reversed(list(_lines(path))):
        try:
            refusal = _LINE.decode(line)
        except msgspec.MsgspecError:
            continue
        if not key or refusal.identity == key or refusal.tracking_id == plain:
            found.append(refusal)
        if len(found) >= most:
            break
    return found


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except FileNotFoundError:
        return
