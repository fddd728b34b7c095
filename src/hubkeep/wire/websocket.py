"""WebSocket frames of the server's side, without I/O (RFC 6455, section 5).

Why not a library's: they take unmasked client frames and hold whole messages; a tunnel of bytes needs neither (L-W3).
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_CONTROL_MAX: Final = 125
_PROTOCOL_ERROR, _UNSUPPORTED, _INVALID_TEXT, _TOO_BIG = 1002, 1003, 1007, 1009
_REGISTERED_CODES: Final = frozenset({*range(1000, 1004), *range(1007, 1015)})


class WebSocketError(Exception):
    """The connection is to be closed with ``code`` (RFC 6455, 7.4.1)."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Ping(NamedTuple):
    payload: bytes


class Close(NamedTuple):
    """code: None when the client gave none."""

    code: int | None


class FrameReader:
    """Client frames to bytes of their payload. A payload is handed on as it comes: only heads and control frames wait.

    max_frame: bytes of one data frame.
    """

    __slots__ = ("_held", "_in_message", "_mask", "_max_frame", "_remaining")

    def __init__(self, max_frame: int) -> None:
        self._max_frame = max_frame
        self._held = b""  # an unfinished head, or a control frame: at most 139 bytes
        self._remaining = 0  # bytes to come of the data frame
        self._mask = b""  # turned so that its first byte meets the next byte of the payload
        self._in_message = False

    def receive_data(self, data: bytes) -> Iterator[bytes | Ping | Close]:
        """What ``data`` completes, in order; an empty data frame is empty bytes. Pongs are passed over.

        Exhaust it before the next call. Raises WebSocketError after what came before the fault; then, as after a Close,
        nothing more has a meaning.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        position, size = 0, len(data)
        while position < size:
            if self._remaining:
                part = data[position : position + self._remaining]
                position += len(part)
                yield self._unmasked(part)
                continue
            first = data[position]
            _check_first(first)
            if size - position < 2:
                break
            length, head = _length(data, position, size)
            opcode = first & 0x0F
            if length > (_CONTROL_MAX if opcode & 8 else self._max_frame):
                raise WebSocketError(_PROTOCOL_ERROR if opcode & 8 else _TOO_BIG, "the frame is too long")
            if opcode & 8:
                if size - position < head + length:
                    break
                mask = data[position + head - 4 : position + head]
                payload = _xor(data[position + head : position + head + length], mask)
                position += head + length
                if opcode == _PING:
                    yield Ping(payload)
                elif opcode == _CLOSE:
                    yield _close(payload)
                    return
                continue
            if size - position < head:
                break
            if (opcode == _CONTINUATION) != self._in_message:
                raise WebSocketError(_PROTOCOL_ERROR, "a continuation without a beginning, or the reverse")
            self._in_message = not first & _FINAL
            self._mask = data[position + head - 4 : position + head]
            self._remaining = length
            position += head
            if not length:
                yield b""
        self._held = data[position:]

    def _unmasked(self, part: bytes) -> bytes:
        payload = _xor(part, self._mask)
        self._remaining -= len(part)
        turn = len(part) & 3
        self._mask = self._mask[turn:] + self._mask[:turn]
        return payload


def _check_first(first: int) -> None:
    opcode = first & 0x0F
    if first & _RESERVED:
        raise WebSocketError(_PROTOCOL_ERROR, "a reserved bit without an extension")
    if opcode == _TEXT:
        raise WebSocketError(_UNSUPPORTED, "a text frame")
    if opcode not in {_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG}:
        raise WebSocketError(_PROTOCOL_ERROR, "an unknown opcode")
    if opcode & 8 and not first & _FINAL:
        raise WebSocketError(_PROTOCOL_ERROR, "a control frame in parts")


def _length(data: bytes, position: int, size: int) -> tuple[int, int]:
    """Bytes of the payload and of the head with its mask; a length that has not come yet counts as 0."""
    second = data[position + 1]
    if not second & _MASKED:
        raise WebSocketError(_PROTOCOL_ERROR, "an unmasked frame")
    length = second & 0x7F
    if length < 126:
        return length, 6
    if data[position] & 8:
        raise WebSocketError(_PROTOCOL_ERROR, "a long control frame")
    if length == 126:
        return (struct.unpack_from(">H", data, position + 2)[0] if size - position >= 4 else 0), 8
    return (struct.unpack_from(">Q", data, position + 2)[0] if size - position >= 10 else 0), 14


def _close(payload: bytes) -> Close:
    if not payload:
        return Close(None)
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or (code not in _REGISTERED_CODES and not 3000 <= code < 5000):
        raise WebSocketError(_PROTOCOL_ERROR, "a close code that may not be sent")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise WebSocketError(_INVALID_TEXT, "a close reason that is not UTF-8") from None
    return Close(code)


def _xor(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    repeated = mask * (size // 4 + 1)
    # as two big numbers: no loop over bytes
    return (int.from_bytes(data, "little") ^ int.from_bytes(repeated[:size], "little")).to_bytes(size, "little")


def data_head(size: int) -> bytes:
    """What stands before ``size`` bytes of an unfragmented binary frame."""
    if size < 126:
        return bytes((_FINAL | _BINARY, size))
    if size < 65536:
        return struct.pack(">BBH", _FINAL | _BINARY, 126, size)
    return struct.pack(">BBQ", _FINAL | _BINARY, 127, size)


def close_frame(code: int) -> bytes:
    return struct.pack(">BBH", _FINAL | _CLOSE, 2, code)


def pong_frame(payload: bytes) -> bytes:
    return bytes((_FINAL | _PONG, len(payload))) + payload
