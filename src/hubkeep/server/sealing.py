"""Where the sealing key comes from: a key file, an environment variable, or what a command prints."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hubkeep.cloud.resealing import PAIR, Resealing, ring_of
from hubkeep.cloud.secrets import KEY_BYTES, KeyFileError, SealRing, key_in, read_key_file, write_secret
from hubkeep.ports import SealedRecords
from hubkeep.settings import Sealing

_COMMAND_WITHIN: Final = 30.0  # seconds; it may ask a service elsewhere
KEY_FILE: Final = "sealing.key"


def open_ring(sealing: Sealing, folder: Path, *, create: bool) -> SealRing:
    """The seal of the keys that the settings name. folder: of the hub's own keys. create: a new data directory.

    Raises KeyFileError: what is wrong with the source, and what would do.
    """
    ring = ring_of(_read(sealing, folder, create=create), folder)
    old = _old(sealing)
    # a key that was old before the one of the pair is of no use: nothing is sealed under it
    return ring if old is None or (folder / PAIR).exists() else SealRing(ring.key, [old])


def resealing(sealing: Sealing, folder: Path, ring: SealRing, *stores: SealedRecords) -> Resealing:
    own = folder / KEY_FILE if not _is_given(sealing) else None

    def keep(key: bytes) -> None:
        if own is not None:
            write_secret(own, key)

    return Resealing(ring, folder, stores, _renewed(sealing, folder), keep)


def _renewed(sealing: Sealing, folder: Path) -> Callable[[bytes], bytes]:
    def renewed(current: bytes) -> bytes:
        if sealing.key_variable:
            raise KeyFileError(
                "a running process keeps its environment; start the hub with the new key in "
                f"{sealing.key_variable} and the old one where sealing.old_key_file or old_key_variable names it"
            )
        found = _read(sealing, folder, create=False)
        if found != current:
            return found
        if _is_given(sealing):
            where = sealing.key_file or "sealing.key_command"
            raise KeyFileError(f"{where} gives the one in force; have it give the new one first")
        return os.urandom(KEY_BYTES)

    return renewed


def _read(sealing: Sealing, folder: Path, *, create: bool) -> bytes:
    if sealing.key_command:
        return _of_command(sealing.key_command)
    if sealing.key_variable:
        return _of_variable(sealing.key_variable)
    if sealing.key_file is not None:
        return read_key_file(sealing.key_file)
    return read_key_file(folder / KEY_FILE, create=create)


def _old(sealing: Sealing) -> bytes | None:
    if sealing.old_key_file is not None:
        return read_key_file(sealing.old_key_file)
    return _of_variable(sealing.old_key_variable) if sealing.old_key_variable else None


def _is_given(sealing: Sealing) -> bool:
    return bool(sealing.key_file or sealing.key_variable or sealing.key_command)


def _of_variable(name: str) -> bytes:
    text = os.environ.get(name)
    if not text:
        raise KeyFileError(f"the sealing key: the environment variable {name} is not set, or empty")
    return _checked(text.encode(), f"the environment variable {name}")


def _of_command(command: tuple[str, ...]) -> bytes:
    what = f"the command {command[0]}"
    try:
        done = subprocess.run(  # noqa: S603  # the operator's own, from the settings
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_WITHIN, check=False
        )
    except subprocess.TimeoutExpired:
        raise KeyFileError(f"the sealing key: {what} gave none within {_COMMAND_WITHIN:.0f} seconds") from None
    except OSError as error:
        raise KeyFileError(f"the sealing key: {what} cannot be started: {error.strerror}") from None
    if done.returncode:
        # what it printed to its standard output may be the key
        told = done.stderr.decode(errors="replace").strip().splitlines()
        why = f": {told[-1][:200]}" if told else ""
        raise KeyFileError(f"the sealing key: {what} ended with status {done.returncode}{why}")
    return _checked(done.stdout, what)


def _checked(text: bytes, what: str) -> bytes:
    key = key_in(text)
    if key is None:
        raise KeyFileError(
            f"the sealing key: {what} does not give {KEY_BYTES} bytes in base64 (openssl rand -base64 32)"
        )
    return key
