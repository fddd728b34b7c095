"""Keys at rest: sealed with AES-256-GCM under one key, or two while all is sealed anew.

Source: provisioning-and-pki 5.5.
"""

import contextlib
import hmac
import os
import stat
from base64 import b64decode
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hubkeep.errors import StoreUnavailable

_VERSION: Final = 1
KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_FILE_BYTES: Final = 100  # of a key file: more is none


class KeyFileError(Exception):
    """The sealing key cannot be used. The text says why and what would do."""


class FileSeal:
    """See ports.Seal. Sealed form: version (1), key id (4), nonce (12), ciphertext and tag.

    Random nonces of 96 bits allow 2^32 sealings under one key; version and key id say what is to be sealed anew then.
    """

    __slots__ = ("_aead", "prefix")

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)
        # names the key without telling anything of it
        self.prefix = bytes((_VERSION,)) + hmac.digest(key, b"hubkeep sealing key id", sha256)[:4]

    def __repr__(self) -> str:
        return "FileSeal()"

    def seal(self, secret: bytes, context: str) -> bytes:
        """Encrypt and authenticate; ``context`` is bound to it."""
        nonce = os.urandom(_NONCE_BYTES)
        return self.prefix + nonce + self._aead.encrypt(nonce, secret, context.encode())

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """Raises StoreUnavailable: another key, another context, or damaged."""
        start = len(self.prefix)
        if sealed[:start] != self.prefix:
            raise StoreUnavailable(
                reason=f"{context} is sealed under another key",
                remedy="put the sealing key of this directory back, or name it as sealing.old_key_file",
            )
        nonce, body = sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]
        try:
            return self._aead.decrypt(nonce, body, context.encode())
        except (InvalidTag, ValueError):  # ValueError: cut short
            raise StoreUnavailable(
                reason=f"the sealed {context} is damaged or was moved", remedy="restore it"
            ) from None


class SealRing:
    """See ports.Seal. Seals under one key, and opens also what is sealed under older ones, until they are dropped."""

    __slots__ = ("_current", "_older", "key")

    def __init__(self, key: bytes, older: Iterable[bytes] = ()) -> None:
        self.key, self._current = key, FileSeal(key)
        self._older = {seal.prefix: seal for each in older if (seal := FileSeal(each)).prefix != self._current.prefix}

    def __repr__(self) -> str:
        return "SealRing()"

    @property
    def prefix(self) -> bytes:
        """What everything that is sealed under the current key begins with."""
        return self._current.prefix

    @property
    def key_id(self) -> str:
        """Names the current key without telling anything of it."""
        return self.prefix[1:].hex()

    @property
    def older(self) -> tuple[bytes, ...]:
        """The prefixes of what the older keys have sealed."""
        return tuple(self._older)

    def turn_to(self, key: bytes) -> None:
        """Seal under ``key`` from now on; what is sealed under those before can still be opened."""
        self._older[self._current.prefix] = self._current
        self.key, self._current = key, FileSeal(key)
        self._older.pop(self._current.prefix, None)

    def drop(self, prefixes: Iterable[bytes]) -> None:
        """Nothing is sealed under these any more."""
        for each in prefixes:
            self._older.pop(each, None)

    def seal(self, secret: bytes, context: str) -> bytes:
        return self._current.seal(secret, context)

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """Raises StoreUnavailable, as FileSeal."""
        return self._older.get(sealed[: len(self.prefix)], self._current).unseal(sealed, context)


def open_seal(path: Path, *, create: bool) -> FileSeal:
    """The seal of a key file, as ``read_key_file`` finds or makes it. Raises KeyFileError."""
    return FileSeal(read_key_file(path, create=create))


def read_key_file(path: Path, *, create: bool = False) -> bytes:
    """The key in a file (mode 0600): its 32 bytes, or base64 of them; made if ``create`` and absent.

    Raises KeyFileError.

    create: only for a new data directory; a second key would leave everything sealed under the first unreadable.
    """
    try:
        if create and not path.exists():
            write_secret(path, os.urandom(KEY_BYTES))
        content = _read_secret(path)
    except FileNotFoundError:
        raise KeyFileError(f"{path} is missing: without it the stored keys cannot be read; restore it") from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    if len(content) == KEY_BYTES:
        return content
    if (key := key_in(content)) is not None:
        return key
    raise KeyFileError(f"{path} does not hold {KEY_BYTES} bytes: restore it")


def key_in(text: bytes) -> bytes | None:
    """The key that is written as base64 of 32 bytes, with white space around it; None where it is none."""
    try:
        key = b64decode(text.strip(), validate=True)
    except ValueError:
        return None
    return key if len(key) == KEY_BYTES else None


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read: whole or not at all, and on disk when this returns."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()  # left by a start that was cut short
    # O_EXCL: whoever else may write to this directory cannot have the secret written into a file of theirs
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(handle)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_secret(path: Path, *, at_most: int, create: int = 0) -> bytes:
    """The content of a secret file (mode 0600). create: bytes of a new one, made in hexadecimal if it is absent.

    Raises KeyFileError.
    """
    try:
        if create and not path.exists():
            write_secret(path, os.urandom(create).hex().encode())
        content = _read_secret(path, at_most).strip()
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    if not content or len(content) > at_most:
        raise KeyFileError(f"{path} holds no secret of 1 to {at_most} bytes")
    return content


def _read_secret(path: Path, at_most: int = _FILE_BYTES) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        mode = os.fstat(handle).st_mode  # of what is read, not of what bears the name a moment later
        if not stat.S_ISREG(mode):
            raise KeyFileError(f"{path} is not a file")
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyFileError(f"{path} can be read by others: chmod 600 {path}, or make new keys if it was")
        return file.read(at_most + 1)
