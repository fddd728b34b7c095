"""Backups of a data directory while its hub runs, and their way back.

A backup is a folder: the databases, each as of one moment; certificates, uploaded files, and a manifest with the
SHA-256 of every file. Keys stay sealed in the registry; what opens them, and the private keys of the certificates, go
into a folder of their own, so that neither alone is enough. What only the running hub means by itself stays out: lock,
marker, and the operator's connection string, which the next start writes anew.
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from hubkeep import __version__
from hubkeep.bus.in_process import InProcessBus
from hubkeep.cloud.policies import Policies
from hubkeep.cloud.resealing import DONE, PAIR
from hubkeep.cloud.secrets import KeyFileError
from hubkeep.errors import HubError
from hubkeep.settings import Sealing
from hubkeep.store.durable_files import sync
from hubkeep.store.registry import locked, open_registry
from hubkeep.store.snapshot import OnProgress, check_event_log, copy_database
from hubkeep.store.start_failures import DataDirectoryInUse, NotPermitted, SchemaTooNew

from .data_directory import DESCRIPTION
from .failures import StartFailure
from .posture_files import BACKED_UP, note_backup
from .sealing import KEY_FILE, open_ring

MANIFEST: Final = "manifest.json"
_FORMAT: Final = 1
_DATABASES: Final = ("registry.db", "events.db")  # uploads that the registry knows of are copied after it
_KEYS: Final = "keys"
_UPLOADS: Final = "files"
# of the running hub alone
_BESIDE: Final = {f"{database}{ending}" for database in _DATABASES for ending in ("-wal", "-shm")}
_LEFT_OUT: Final = {"admin", "hubkeep.lock", "events.mark", BACKED_UP, *_BESIDE}
_CHUNK: Final = 1024 * 1024


class BackupFailure(StartFailure):
    """A backup that cannot be made or put back. cause: why. cure: the ways out."""


class Part(msgspec.Struct, frozen=True):
    """A file of a backup. path: below its folder. size: bytes. sha256: hexadecimal."""

    path: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a folder holds: keys, or all the rest. created: Unix seconds. version: of the hub that made it."""

    format: int
    version: str
    created: int
    mode: str
    keys: bool
    parts: list[Part]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


def back_up(data: Path, to: Path, keys_to: Path | None, begun: Callable[[int], None], progress: OnProgress) -> Manifest:
    """Copy ``data`` into the new folder ``to``, its keys into ``keys_to`` if that is given; whole or not at all.

    begun: told the bytes to come. progress: told the bytes copied since it was told last. Raises BackupFailure.
    """
    mode = _mode_of(data)
    with _failures(f"{data} cannot be backed up"), _unmoved(data):
        files = [path for path in _files(data) if path.name not in _LEFT_OUT]
        begun(sum(path.stat().st_size for path in files))
        keys = [path for path in files if path.relative_to(data).parts[0] == _KEYS]
        others = [path for path in files if path.relative_to(data).parts[0] not in {_KEYS, _UPLOADS, *_DATABASES}]
        with contextlib.ExitStack() as stack:
            sealing_before = _sealing_files(data)
            if keys_to is not None:
                target = stack.enter_context(_new_folder(keys_to))
                _describe(target, mode, [_copied(path, data, target, progress) for path in keys], keys=True)
            target = stack.enter_context(_new_folder(to))
            parts = [_snapshot(data / name, target / name, progress) for name in _DATABASES]
            # an upload that was taken back meanwhile is gone, and nothing that was promised
            for path in (*others, *_files(data / _UPLOADS)):
                with contextlib.suppress(FileNotFoundError):
                    parts.append(_copied(path, data, target, progress))
            if keys_to is not None and _sealing_files(data) != sealing_before:
                raise BackupFailure("all was sealed under a new key meanwhile", "back it up again")
            manifest = _describe(target, mode, parts, keys=False)
        note_backup(data, manifest.created)
        return manifest


def restore(
    backup: Path,
    keys: Path,
    data: Path,
    begun: Callable[[int], None],
    progress: OnProgress,
    sealing: Sealing | None = None,
) -> Manifest:
    """Put a backup and its keys into the new folder ``data``, each file checked; whole or not at all.

    sealing: where the sealing key comes from; None: from among the keys.

    Raises BackupFailure: files that are missing or changed, keys that do not open the registry, a newer schema.
    """
    with _failures(f"{backup} cannot be restored"):
        manifest, of_keys = _read(backup, keys=False), _read(keys, keys=True)
        begun(manifest.size + of_keys.size)
        with _new_folder(data) as target:
            for folder, parts in ((backup, manifest.parts), (keys, of_keys.parts)):
                for part in parts:
                    _check(part, _copied(_inside(folder, part.path), folder, target, progress), folder)
            check_event_log(target / "events.db")
            asyncio.run(_opens(target, sealing or Sealing()))
        return manifest


async def _opens(directory: Path, sealing: Sealing) -> None:
    """That the keys open what is sealed. Raises as ``open_registry``."""
    seal = open_ring(sealing, directory / _KEYS, create=False)
    async with open_registry(directory / "registry.db", seal, is_expected=True) as registry:
        await Policies(registry.policies, InProcessBus()).load(published=False)


def _mode_of(data: Path) -> str:
    try:
        return str(msgspec.json.decode((data / DESCRIPTION).read_bytes())["mode"])
    except FileNotFoundError:
        raise BackupFailure(f"{data} is no data directory of a hub", "name it with --data") from None


@contextlib.contextmanager
def _unmoved(data: Path) -> Iterator[None]:
    """While no hub runs, none may start: it would migrate and checkpoint what is being copied."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(DataDirectoryInUse):  # a hub runs: its databases are copied as of one moment
            stack.enter_context(locked(data))
        yield


def _files(folder: Path) -> list[Path]:
    """Of all files below, for ever in the same order; what is no plain file is left out."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _sealing_files(data: Path) -> list[bytes]:
    """What changes when everything is sealed anew: keys from before it may not open what is stored after it."""
    paths = [data / _KEYS / name for name in (KEY_FILE, PAIR, DONE)]
    return [path.read_bytes() if path.exists() else b"" for path in paths]


def _snapshot(source: Path, to: Path, progress: OnProgress) -> Part:
    copy_database(source, to, progress)
    return Part(to.name, to.stat().st_size, _digest(to))


def _copied(path: Path, folder: Path, target: Path, progress: OnProgress) -> Part:
    """Copy one file for its owner alone, on disk when this returns."""
    name = path.relative_to(folder)
    to = target / name
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as source, os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            out.write(chunk)
            size += len(chunk)
            progress(len(chunk))
        out.flush()
        os.fsync(out.fileno())
    return Part(str(name), size, digest.hexdigest())


def _digest(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _describe(folder: Path, mode: str, parts: list[Part], *, keys: bool) -> Manifest:
    manifest = Manifest(_FORMAT, __version__, int(time.time()), mode, keys, parts)
    path = folder / MANIFEST
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    path.chmod(0o600)
    sync(path)
    return manifest


def _read(folder: Path, *, keys: bool) -> Manifest:
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError):
        raise BackupFailure(f"{folder} is no backup: {MANIFEST} is missing or cannot be read", "") from None
    if manifest.format > _FORMAT:
        raise BackupFailure(f"{folder} was made by Hubkeep {manifest.version}", "restore it with that version")
    if manifest.keys is not keys:
        wanted = "the keys" if keys else "the data"
        raise BackupFailure(f"{folder} is not the folder of {wanted}", "hubkeep restore BACKUP --keys-from KEYS")
    return manifest


def _inside(folder: Path, name: str) -> Path:
    """The file that a manifest names; a manifest that was tampered with reads nothing else."""
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts or not path.resolve().is_relative_to(folder.resolve()):
        raise BackupFailure(f"{folder}: {name!r} lies outside", "the manifest was changed: use another backup")
    if not path.is_file():
        raise BackupFailure(f"{path} is missing", "use another backup")
    return path


def _check(wanted: Part, found: Part, folder: Path) -> None:
    if wanted != found:
        raise BackupFailure(f"{folder / wanted.path} is not what was backed up", "use another backup")


@contextlib.contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` that takes its name when all went well, and goes when it did not."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise BackupFailure(f"{path} is not empty", "name a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of one that was cut short
    partial.mkdir(mode=0o700)
    try:
        yield partial
        for folder in (partial, *(each for each in partial.rglob("*") if each.is_dir())):
            sync(folder)
        partial.replace(path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextlib.contextmanager
def _failures(what: str) -> Iterator[None]:
    try:
        yield
    except HubError as error:
        raise BackupFailure(f"{what}: {error.reason}", error.remedy) from None
    except (SchemaTooNew, NotPermitted, KeyFileError) as error:
        raise BackupFailure(f"{what}: {error}", "") from None
    except OSError as error:
        raise BackupFailure(f"{what}: {error.filename}: {error.strerror}", "check owner, mode and space") from None
