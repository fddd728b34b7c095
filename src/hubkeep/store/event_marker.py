"""What was durable when the hub was last alive, and what SQLite would not say about its write-ahead log.

SQLite ends its reading of the WAL at the first frame whose checksum is wrong, and silently drops what lies behind it:
right after a torn write, wrong after a flipped bit. Two things tell the cases apart. The marker beside the log says
how far each partition was durable; it is written after each commit, without a sync of its own, so it never runs ahead
of the log. And the raw scan finds whole transactions behind a damaged frame, which no torn write leaves.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

_MAGIC: Final = b"HKM1"
_SLOT: Final = 4096
_WAL_MAGIC: Final = (0x377F0682, 0x377F0683)


class Marker:
    """Next sequence number of each partition, in two slots written in turn. A torn slot leaves the other."""

    def __init__(self, path: Path, partitions: int) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._layout = struct.Struct(f">4sQ{partitions}q")
        self._turn = 0

    def read(self) -> list[int] | None:
        """The newest whole slot; None when there is none (a new log)."""
        best: tuple[int, list[int]] | None = None
        for slot in range(2):
            raw = os.pread(self._file, self._layout.size + 4, slot * _SLOT)
            if len(raw) < self._layout.size + 4 or zlib.crc32(raw[:-4]).to_bytes(4, "big") != raw[-4:]:
                continue
            magic, turn, *sequences = self._layout.unpack(raw[:-4])
            if magic == _MAGIC and (best is None or turn > best[0]):
                best = (turn, list(sequences))
        if best is None:
            return None
        self._turn = best[0]
        return best[1]

    def write(self, next_sequences: list[int]) -> None:
        """Call after the commit has returned, before anything is acknowledged."""
        self._turn += 1
        raw = self._layout.pack(_MAGIC, self._turn, *next_sequences)
        os.pwrite(self._file, raw + zlib.crc32(raw).to_bytes(4, "big"), (self._turn % 2) * _SLOT)

    def close(self) -> None:
        os.close(self._file)


class WalDamage(NamedTuple):
    """A frame that is damaged although whole transactions lie behind it."""

    frame: int  # counted from 1
    byte_offset: int
    transactions_behind: int


def damage_in_wal(path: Path) -> WalDamage | None:
    """Scan a WAL file raw. None: absent, empty, whole, or torn at its end as a power loss leaves it.

    Format: SQLite file format, section 4 (the write-ahead log).
    """
    try:
        wal = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(wal) < 32:
        return None
    magic, _version, page_size, _checkpoint, salt1, salt2, header1, header2 = struct.unpack_from(">8I", wal)
    order = ">" if magic & 1 else "<"
    if magic not in _WAL_MAGIC or page_size < 512 or page_size & (page_size - 1):
        return WalDamage(0, 0, 0)
    sums = _checksum(wal, 0, 24, order, 0, 0)
    if sums != (header1, header2):
        return WalDamage(0, 0, 0)
    size = 24 + page_size
    damaged: int | None = None
    commits_behind = 0
    for number, at in enumerate(range(32, len(wal) - size + 1, size), 1):
        _page, commit, frame_salt1, frame_salt2, sum1, sum2 = struct.unpack_from(">6I", wal, at)
        if damaged is None:
            if (frame_salt1, frame_salt2) != (salt1, salt2):
                # either the rest of an older generation, or this frame's own salt is hit: what follows tells
                damaged = number
                continue
            sums = _checksum(wal, at, 8, order, *sums)
            sums = _checksum(wal, at + 24, page_size, order, *sums)
            if sums != (sum1, sum2):
                damaged = number
        elif (frame_salt1, frame_salt2) == (salt1, salt2) and commit:
            commits_behind += 1
    # One transaction at most can be unsynced, so one commit frame behind may be the torn transaction's own.
    if damaged is None or commits_behind < 2:
        return None
    return WalDamage(damaged, 32 + (damaged - 1) * size, commits_behind)


def _checksum(data: bytes, at: int, size: int, order: str, s0: int, s1: int) -> tuple[int, int]:
    words = struct.unpack_from(f"{order}{size // 4}I", data, at)
    for i in range(0, len(words), 2):
        s0 = (s0 + words[i] + s1) & 0xFFFFFFFF
        s1 = (s1 + words[i + 1] + s0) & 0xFFFFFFFF
    return s0, s1
