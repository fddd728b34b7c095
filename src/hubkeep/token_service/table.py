"""Devices that have a secret each, of which a file holds salted hashes.

One JSON object a line: ``{"id": "press-07", "scrypt": "14:8:1", "salt": ..., "hash": ...}``; a module's id is
``device/module``. The device sends its id and secret as Basic. Hashing costs some 16 MiB and 50 ms for each try, so few
are made at once, and not many wait.
"""

import asyncio
import binascii
import datetime as dt
import hmac
import os
import secrets
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from hubkeep.cloud.secrets import write_secret
from hubkeep.errors import ServerBusy, Unauthorized
from hubkeep.settings import SettingsError

from .plugins import Presented, Proved

_COST: Final = "14:8:1"  # log2 of N, r, p: RFC 7914; the highest that an old row may ask for is far above it
_COST_MAX: Final = (17, 16, 4)
_SALT: Final = 16  # bytes
_SECRET: Final = 32  # bytes of a secret that is made here
_SECRET_MIN: Final = 16  # characters of one that is given
_AT_ONCE: Final = 2
_WAITING: Final = 64


class Row(msgspec.Struct, frozen=True):
    id: str
    scrypt: str
    salt: bytes
    hash: bytes
    added: str = ""

    def __repr__(self) -> str:
        return f"Row({self.id!r})"


_LINE: Final = msgspec.json.Decoder(Row)


class Table:
    """See plugins.DeviceAuthenticator. The file is read anew when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: Mapping[str, Row] = read_rows(path)
        self._stamp = _stamp(path)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._decoy = made_row("nobody", secrets.token_urlsafe(_SECRET))

    async def prove(self, presented: Presented) -> Proved:
        name, secret = _basic(presented)
        self._refresh()
        row = self._rows.get(name)
        # a decoy costs the same: time does not tell which ids there are
        if not await self._is(secret, row or self._decoy) or row is None:
            reason = "the secret is not the one in the table" if row is not None else "there is no such id in the table"
            raise Unauthorized(cause="device-secret", reason=reason, remedy=f"hubkeep token-table add {name[:128]}")
        device_id, _, module_id = name.partition("/")
        return Proved(device_id, module_id)

    async def _is(self, secret: str, row: Row) -> bool:
        if self._waiting >= _WAITING:
            raise ServerBusy(
                reason=f"{_WAITING} secrets wait to be checked", remedy="lower per_address, or add a service"
            )
        self._waiting += 1
        try:
            async with self._turns:
                found = await asyncio.to_thread(_hashed, secret, row.salt, row.scrypt)
        finally:
            self._waiting -= 1
        return hmac.compare_digest(found, row.hash)

    def _refresh(self) -> None:
        """A file that cannot be read leaves the rows that are known."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._rows = read_rows(self._path)
        except SettingsError as error:
            raise ServerBusy(reason=str(error), remedy="mend the table") from None


def read_rows(path: Path) -> dict[str, Row]:
    """By id; none where there is no file. Raises SettingsError."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    rows = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = _LINE.decode(line)
            _parameters(row.scrypt)
        except (msgspec.MsgspecError, ValueError) as error:
            raise SettingsError(f"{path}, line {number}: {error}") from None
        rows[row.id] = row
    return rows


def write_rows(path: Path, rows: Mapping[str, Row]) -> None:
    """Whole or not at all, on disk when this returns. Raises OSError."""
    write_secret(path, b"".join(msgspec.json.encode(row) + b"\n" for row in rows.values()))


def new_secret() -> str:
    return secrets.token_urlsafe(_SECRET)


def made_row(name: str, secret: str) -> Row:
    """Raises ValueError for a secret that is too short, or that Basic cannot carry."""
    if len(secret) < _SECRET_MIN or ":" in secret or not secret.isprintable():
        raise ValueError(f"a secret has {_SECRET_MIN} printable characters at least, none of them a colon")
    salt = os.urandom(_SALT)
    added = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Row(name, _COST, salt, _hashed(secret, salt, _COST), added)


def _parameters(cost: str) -> tuple[int, int, int]:
    """Raises ValueError."""
    log_n, r, p = (int(each) for each in cost.split(":"))
    if not all(0 < each <= most for each, most in zip((log_n, r, p), _COST_MAX, strict=True)):
        raise ValueError(f"scrypt {cost!r} is out of bounds")
    return log_n, r, p


def _hashed(secret: str, salt: bytes, cost: str) -> bytes:
    log_n, r, p = _parameters(cost)
    return Scrypt(salt=salt, length=32, n=2**log_n, r=r, p=p).derive(secret.encode())


def _basic(presented: Presented) -> tuple[str, str]:
    if presented.scheme != "basic":
        raise Unauthorized(
            cause="device-proof-missing",
            reason="no Basic credential was shown",
            remedy="send Authorization: Basic base64(ID:SECRET)",
        )
    try:
        # an id may hold a colon, a secret may not
        name, colon, secret = b64decode(presented.credential, validate=True).decode().rpartition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthorized(
            cause="device-proof-missing", reason="the Basic credential is not base64 of an id and a secret"
        ) from None
    if not colon or not name or not secret or len(secret) > 1024:
        raise Unauthorized(
            cause="device-proof-missing", reason="the Basic credential is not base64 of an id and a secret"
        )
    return name, secret


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        state = path.stat()
    except OSError:
        return (0, 0, 0)
    return (state.st_mtime_ns, state.st_size, state.st_ino)
