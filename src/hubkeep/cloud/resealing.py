"""Seals everything at rest anew under another key while the hub serves. Start at ``Resealing``.

Crash-safe: before the first record is sealed under the new key, ``keys/resealing`` holds each of the two keys sealed
under the other. Whichever the key's source gives at the next start, the other one is at hand, and the work goes on.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from hubkeep.errors import BadRequest, HubError, StoreUnavailable
from hubkeep.ports import SealedRecords

from .secrets import FileSeal, KeyFileError, SealRing, write_secret

log = logging.getLogger(__name__)

PAIR: Final = "resealing"
DONE: Final = "resealed"
_SETTLED: Final = 1.0  # seconds: what was sealed just before the change is written by then, and found by a last pass
_AGAIN_AFTER: Final = 5.0  # seconds after a failure
_NEXT, _LAST = "sealing key/next", "sealing key/last"


class _Pair(msgspec.Struct):
    """next: the new key, sealed under the old one. last: the other way round."""

    next: bytes
    last: bytes


class ResealingState(NamedTuple):
    """key_id: names the key in force. resealed: records since the start. failure: why it does not go on for now."""

    key_id: str
    is_under_way: bool
    resealed: int
    failure: str


def ring_of(key: bytes, folder: Path) -> SealRing:
    """The seal of what the source gives, and of the key beside it while all is sealed anew. Raises KeyFileError."""
    path = folder / PAIR
    try:
        pair = msgspec.msgpack.decode(path.read_bytes(), type=_Pair)
    except FileNotFoundError:
        return SealRing(key)
    except (OSError, msgspec.MsgspecError):
        raise KeyFileError(f"{path} cannot be read: restore it, all is being sealed anew") from None
    seal = FileSeal(key)
    with contextlib.suppress(HubError):
        return SealRing(seal.unseal(pair.next, _NEXT), [key])
    with contextlib.suppress(HubError):
        return SealRing(key, [seal.unseal(pair.last, _LAST)])
    raise KeyFileError(f"{path} is of other sealing keys than the one given: put one of those two back")


class Resealing:
    """new_key: given the key in force, another one; raises KeyFileError that says why there is none. keep: puts the key
    under which all is sealed now where its source is, if that is the hub's own."""

    def __init__(
        self,
        ring: SealRing,
        folder: Path,
        stores: Sequence[SealedRecords],
        new_key: Callable[[bytes], bytes],
        keep: Callable[[bytes], None],
    ) -> None:
        self._ring, self._folder, self._stores = ring, folder, stores
        self._new_key, self._keep = new_key, keep
        self._wanted = asyncio.Event()
        self._resealed, self._failure = 0, ""
        if ring.older:
            self._wanted.set()

    @property
    def state(self) -> ResealingState:
        return ResealingState(self._ring.key_id, self._wanted.is_set(), self._resealed, self._failure)

    async def begin(self) -> None:
        """On disk when this returns. Raises BadRequest: it is under way, or the source gives no other key."""
        try:
            new = await asyncio.to_thread(self._new_key, self._ring.key)
        except KeyFileError as error:
            raise BadRequest(f"There is no other sealing key: {error}.") from None
        if self._wanted.is_set():
            raise BadRequest("Everything is being sealed anew already.")
        old = self._ring.key
        pair = _Pair(FileSeal(old).seal(new, _NEXT), FileSeal(new).seal(old, _LAST))
        try:
            write_secret(self._folder / PAIR, msgspec.msgpack.encode(pair))
        except OSError as error:
            raise StoreUnavailable(reason=f"{self._folder / PAIR} cannot be written: {error.strerror}") from None
        self._ring.turn_to(new)
        self._resealed = 0
        self._wanted.set()

    async def run(self) -> None:
        """For ever: what is begun, now or before a restart, is brought to its end."""
        while True:
            await self._wanted.wait()
            try:
                await self._carry_out()
            except (HubError, OSError) as error:
                self._failure = error.reason if isinstance(error, HubError) else f"{error.filename}: {error.strerror}"
                log.warning("not all could be sealed anew: %s", self._failure)
                await asyncio.sleep(_AGAIN_AFTER)

    async def _carry_out(self) -> None:
        older = self._ring.older
        await self._all_once()
        await asyncio.sleep(_SETTLED)
        while await self._all_once():
            pass
        for prefix in older:
            if any([await each.holds(prefix) for each in self._stores]):
                raise StoreUnavailable(reason="something is still sealed under the key before", remedy="report it")
        self._keep(self._ring.key)
        # a backup that was begun before sees by this file that the keys have changed
        write_secret(self._folder / DONE, f"{self._ring.key_id} {os.urandom(8).hex()}\n".encode())
        (self._folder / PAIR).unlink(missing_ok=True)
        self._ring.drop(older)
        self._wanted.clear()
        self._failure = ""
        log.info(
            "all %d keys are sealed under the sealing key %s; no older one is needed", self._resealed, self._ring.key_id
        )

    async def _all_once(self) -> int:
        count = 0
        for each in self._stores:
            count += await each.reseal(self._ring.prefix)
        self._resealed += count
        return count
