"""Which partition a device's events go to: as clients of the original compute it (proved-on-clients 3)."""

import functools
from typing import Final

_MASK: Final = 0xFFFFFFFF
_RANGE: Final = 32767


@functools.lru_cache(4096)  # over HTTPS it is asked with each message
def partition_of(device_id: str, partitions: int) -> int:
    """lookup3's two results over the upper-cased id, xored, as int16, mapped onto even ranges of 32767."""
    c, b = _lookup3(device_id.upper().encode())
    mixed = (c ^ b) & 0xFFFF
    short = mixed - 0x10000 if mixed & 0x8000 else mixed
    # the remainder has the sign of the dividend, as in C
    logical = abs(short) % _RANGE
    size, larger = divmod(_RANGE, partitions)
    boundary = larger * (size + 1)
    if logical < boundary:
        return logical // (size + 1)
    return larger + (logical - boundary) // size


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> (32 - by)) & _MASK


def _lookup3(data: bytes) -> tuple[int, int]:
    """Bob Jenkins' public-domain hashlittle2 with both seeds 0: returns (c, b)."""
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    at, left = 0, len(data)
    while left > 12:
        a = (a + int.from_bytes(data[at : at + 4], "little")) & _MASK
        b = (b + int.from_bytes(data[at + 4 : at + 8], "little")) & _MASK
        c = (c + int.from_bytes(data[at + 8 : at + 12], "little")) & _MASK
        a = (a - c) & _MASK ^ _rotated(c, 4)
        c = (c + b) & _MASK
        b = (b - a) & _MASK ^ _rotated(a, 6)
        a = (a + c) & _MASK
        c = (c - b) & _MASK ^ _rotated(b, 8)
        b = (b + a) & _MASK
        a = (a - c) & _MASK ^ _rotated(c, 16)
        c = (c + b) & _MASK
        b = (b - a) & _MASK ^ _rotated(a, 19)
        a = (a + c) & _MASK
        c = (c - b) & _MASK ^ _rotated(b, 4)
        b = (b + a) & _MASK
        at, left = at + 12, left - 12
    if left == 0:
        return c, b
    rest = data[at:].ljust(12, b"\0")
    a = (a + int.from_bytes(rest[:4], "little")) & _MASK
    b = (b + int.from_bytes(rest[4:8], "little")) & _MASK
    c = (c + int.from_bytes(rest[8:], "little")) & _MASK
    c = ((c ^ b) - _rotated(b, 14)) & _MASK
    a = ((a ^ c) - _rotated(c, 11)) & _MASK
    b = ((b ^ a) - _rotated(a, 25)) & _MASK
    c = ((c ^ b) - _rotated(b, 16)) & _MASK
    a = ((a ^ c) - _rotated(c, 4)) & _MASK
    b = ((b ^ a) - _rotated(a, 14)) & _MASK
    c = ((c ^ b) - _rotated(b, 24)) & _MASK
    return c, b
