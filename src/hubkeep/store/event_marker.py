"""How far each partition was durable when the hub was last alive.

It is written after each commit, before anything is acknowledged and without a sync of its own: after a kill it is
exact, after a loss of power it may lag, and it never runs ahead of the log.
"""

import errno
import os
import struct
import zlib
from pathlib import Path
from typing import Final

_MAGIC: Final = b"HKM1"
_SLOT: Final = 4096


class Marker:
    """Next sequence number of each partition, in two slots written in turn. A torn slot leaves the other."""

    def __init__(self, path: Path, partitions: int) -> None:
        self.path = path
        self.damaged_slots = 0
        self._file = -1
        self._layout = struct.Struct(f">4sQ{partitions}q")
        self._turn = 0

    def open(self) -> None:
        """Call first; makes the file where there is none. Raises OSError."""
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> list[int] | None:
        """The newest whole slot; None when there is none: a new log, or a marker that was lost or damaged."""
        best: tuple[int, list[int]] | None = None
        self.damaged_slots = 0
        for slot in range(2):
            raw = os.pread(self._file, self._layout.size + 4, slot * _SLOT)
            if not any(raw):
                continue  # never written
            if len(raw) < self._layout.size + 4 or zlib.crc32(raw[:-4]).to_bytes(4, "big") != raw[-4:]:
                self.damaged_slots += 1
                continue
            magic, turn, *sequences = self._layout.unpack(raw[:-4])
            if magic == _MAGIC and (best is None or turn > best[0]):
                best = (turn, list(sequences))
        if best is None:
            return None
        self._turn = best[0]
        return best[1]

    def reserve(self) -> None:
        """Take the space of both slots, so that a disk that is full later does not stop ``write``. Raises OSError."""
        try:
            os.posix_fallocate(self._file, 0, 2 * _SLOT)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:  # some file systems cannot promise space
                raise

    def write(self, next_sequences: list[int]) -> None:
        """Call after the commit has returned, before anything is acknowledged. Raises OSError."""
        self._turn += 1
        raw = self._layout.pack(_MAGIC, self._turn, *next_sequences)
        os.pwrite(self._file, raw + zlib.crc32(raw).to_bytes(4, "big"), (self._turn % 2) * _SLOT)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
