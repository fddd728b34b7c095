"""What ``hubkeep provision`` made: a journal while it works, then one file, both for their owner alone.

A device stands in the journal, with its new key, before the hub is asked. So whenever the command is killed, the next
run knows what it may have made, and asks for the same.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from .failure import MISUSED, CommandFailure

Record = dict[str, Any]


class Results:
    """The newest record of each device. ``status`` of a record: started, provisioned, refused."""

    def __init__(self, file: Path, part: Path, out: BinaryIO) -> None:
        self._file, self._part, self._out = file, part, out
        self._records: dict[str, Record] = {}
        if file.exists():
            self._read(file.read_bytes(), file)
        content = out.read()
        whole = content[: content.rfind(b"\n") + 1]  # a torn last line was never acted on
        self._read(whole, part)
        out.seek(len(whole))
        out.truncate()

    def of(self, device_id: str) -> Record | None:
        return self._records.get(device_id)

    def keep(self, records: Iterable[Record]) -> None:
        """On disk when this returns."""
        held = list(records)
        self._out.write(b"".join(_line(each) for each in held))
        self._out.flush()
        os.fsync(self._out.fileno())
        self._records |= {each["id"]: each for each in held}

    def finish(self, order: Sequence[str]) -> None:
        """Put the results in the place of the journal, in one step: those of earlier runs first."""
        last = {each: self._records[each] for each in order}
        earlier = {name: each for name, each in self._records.items() if name not in last}
        new = self._file.with_name(f"{self._file.name}.new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
            out.writelines(_line(each) for each in (*earlier.values(), *last.values()))
            out.flush()
            os.fsync(out.fileno())
        new.replace(self._file)
        self._part.unlink()
        _sync_folder(self._file.parent)

    def _read(self, content: bytes, source: Path) -> None:
        try:
            for record in map(json.loads, content.splitlines()):
                self._records[record["id"]] = record
        except (ValueError, KeyError, TypeError):
            raise CommandFailure(f"{source} holds no results", "name another file: --results", MISUSED) from None


@contextlib.contextmanager
def results_in(file: Path) -> Iterator[Results]:
    """One command at a time writes to a file. Raises CommandFailure."""
    part = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise CommandFailure(f"{part} cannot be written: {error.strerror}", status=MISUSED) from None
    with os.fdopen(handle, "r+b") as out:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandFailure(f"another command is writing {file}", status=MISUSED) from None
        os.fchmod(handle, 0o600)
        _sync_folder(file.parent)
        yield Results(file, part, out)


def _line(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
