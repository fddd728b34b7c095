"""AMQP 1.0 values: bytes to Python and back, keeping the AMQP type where Python's own would lose it.

A plain ``int`` encodes as long, ``float`` as double, ``str`` as string, ``bytes`` as binary, ``dict`` as map, ``list``
as list. The classes below stand for the other types; decoding gives them back, so that a correlation id can be echoed
as it came. Bounded: nesting, entries and lengths are checked before anything is made of them (limits-and-faults L-A4).

Source: AMQP 1.0 part 1 (types).
"""

import struct
import uuid
from collections.abc import Callable
from typing import Any, Final

NESTING: Final = 16
ENTRIES: Final = 4096
_UUID_KEYS: Final = 128  # a uuid's hash is a remainder: a peer can make any number of them collide
OWN: Final = 1000
_FREE_ZERO_WIDTH: Final = 8  # elements of an array that take no bytes: more of them would cost memory for nothing


class AmqpError(Exception):
    """The peer broke the protocol. condition: the error condition to answer with."""

    def __init__(self, condition: str, description: str) -> None:
        super().__init__(description)
        self.condition = condition
        self.description = description


class Symbol(str):
    __slots__ = ()


class UByte(int):
    __slots__ = ()


class UShort(int):
    __slots__ = ()


class UInt(int):
    __slots__ = ()


class ULong(int):
    __slots__ = ()


class Byte(int):
    __slots__ = ()


class Short(int):
    __slots__ = ()


class Int(int):
    __slots__ = ()


class Timestamp(int):
    """Milliseconds since 1970."""

    __slots__ = ()


class Char(str):
    __slots__ = ()


class Float(float):
    """32 bits; a plain float has 64."""

    __slots__ = ()


class Decimal:
    """A decimal32, 64 or 128, kept as it came."""

    __slots__ = ("code", "raw")

    def __init__(self, code: int, raw: bytes) -> None:
        self.code, self.raw = code, raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Decimal) and (self.code, self.raw) == (other.code, other.raw)

    def __hash__(self) -> int:
        return hash((self.code, self.raw))


class Described:
    """A value with a descriptor (a Symbol or a ULong)."""

    __slots__ = ("descriptor", "value")

    def __init__(self, descriptor: Any, value: Any) -> None:
        self.descriptor, self.value = descriptor, value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Described) and (self.descriptor, self.value) == (other.descriptor, other.value)

    # no hash: as keys of a map, values with one descriptor would all collide
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Described({self.descriptor!r}, {self.value!r})"


class Array(list[Any]):
    """An AMQP array; all items have one type. code: constructor of the items, from decoding."""

    code: int = 0


_U8, _U16, _U32, _U64 = (struct.Struct(f">{code}") for code in "BHIQ")
_I8, _I16, _I32, _I64 = (struct.Struct(f">{code}") for code in "bhiq")
_F32, _F64 = struct.Struct(">f"), struct.Struct(">d")


def _failed(what: str) -> AmqpError:
    return AmqpError("amqp:decode-error", what)


# -- decoding --------------------------------------------------------------------------------------------------------


def decode(data: bytes, at: int, end: int, depth: int = NESTING) -> tuple[Any, int]:
    """The value that begins at ``at``, and where the next one begins. Raises AmqpError decode-error.

    depth: levels allowed; OWN for bytes of our own encoding, which may also have more entries than a peer may send.
    """
    if at >= end:
        raise _failed("a value is missing")
    code = data[at]
    if code == 0:
        if depth <= 0:
            raise _failed("nested too deeply")
        descriptor, at = decode(data, at + 1, end, depth - 1)
        if isinstance(descriptor, (Described, list, dict)):
            raise _failed("a descriptor of this type")
        value, at = decode(data, at, end, depth - 1)
        return Described(descriptor, value), at
    return _decode_as(code, data, at + 1, end, depth)


def _decode_as(code: int, data: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    fixed = _FIXED.get(code)
    if fixed is not None:
        size, make = fixed
        stop = at + size
        if stop > end:
            raise _failed("a value passes its end")
        return make(data[at:stop]), stop
    variable = _VARIABLE.get(code)
    if variable is not None:
        wide, make = variable
        body = at + (4 if wide else 1)
        if body > end:
            raise _failed("a length passes its end")
        stop = body + int.from_bytes(data[at:body])
        if stop > end:
            raise _failed("a value passes its end")
        return make(data[body:stop]), stop
    if code in _COMPOUND:
        if depth <= 0:
            raise _failed("nested too deeply")
        return _decode_compound(code, data, at, end, depth - 1)
    raise _failed(f"unknown constructor 0x{code:02x}")


def _decode_compound(code: int, data: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    width = 4 if code & 0x10 else 1
    body = at + 2 * width
    if body > end:
        raise _failed("a compound value passes its end")
    stop = at + width + int.from_bytes(data[at : at + width])
    count = int.from_bytes(data[at + width : body])
    if stop > end or stop < body:
        raise _failed("a compound value passes its end")
    if count > ENTRIES and depth < NESTING:
        raise _failed("too many entries")
    if code in {0xE0, 0xF0}:
        return _decode_array(count, data, body, stop, depth), stop
    if count > stop - body:
        raise _failed("more entries than bytes")
    items: list[Any] = []
    at = body
    for _ in range(count):
        # most items of most compound values, without a call for each; what does not fit is refused by ``decode``
        kind = data[at] if at < stop else 0
        if kind in _CONSTANT:
            items.append(_CONSTANT[kind])
            at += 1
            continue
        if kind in _SHORT and at + 2 <= stop and (after := at + 2 + data[at + 1]) <= stop:
            items.append(_SHORT[kind](data[at + 2 : after]))
            at = after
            continue
        item, at = decode(data, at, stop, depth)
        items.append(item)
    if at != stop:
        raise _failed("bytes are left over in a compound value")
    if code in {0xC0, 0xD0}:
        return items, stop
    if count % 2:
        raise _failed("a map with an odd number of entries")
    if count > 2 * _UUID_KEYS and sum(type(key) is uuid.UUID for key in items[::2]) > _UUID_KEYS:
        raise _failed("too many uuids as map keys")
    try:
        return dict(zip(items[::2], items[1::2], strict=True)), stop
    except TypeError:
        raise _failed("a map key of this type") from None


def _decode_array(count: int, data: bytes, at: int, stop: int, depth: int) -> Array:
    array = Array()
    if at >= stop:
        if count:
            raise _failed("an array without a constructor")
        return array
    code = data[at]
    at += 1
    descriptor = None
    if code == 0:
        descriptor, at = decode(data, at, stop, depth)
        if at >= stop or isinstance(descriptor, (Described, list, dict)):
            raise _failed("a descriptor of this type")
        code = data[at]
        at += 1
        if code == 0:
            raise _failed("a chain of descriptors")
    if code in _ZERO_WIDTH and count > stop - at + _FREE_ZERO_WIDTH:
        raise _failed("many elements of no width")
    array.code = code
    for _ in range(count):
        item, at = _decode_as(code, data, at, stop, depth)
        array.append(item if descriptor is None else Described(descriptor, item))
    if at != stop:
        raise _failed("bytes are left over in an array")
    return array


def _boolean(raw: bytes) -> bool:
    if raw[0] > 1:
        raise _failed("a boolean that is neither 0 nor 1")
    return raw[0] == 1


def _string(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _failed("a string that is not UTF-8") from None


def _symbol(raw: bytes) -> Symbol:
    # a symbol is ASCII; Latin-1 keeps whatever else was sent without failing the whole frame
    return Symbol(raw.decode("latin-1"))


def _char(raw: bytes) -> Char:
    number = int.from_bytes(raw)
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        raise _failed("a char outside Unicode")
    return Char(chr(number))


def _unpacked(layout: struct.Struct, kind: Callable[[Any], Any]) -> Callable[[bytes], Any]:
    unpack = layout.unpack
    return lambda raw: kind(unpack(raw)[0])


_FIXED: Final[dict[int, tuple[int, Callable[[bytes], Any]]]] = {
    0x40: (0, lambda _: None),
    0x41: (0, lambda _: True),
    0x42: (0, lambda _: False),
    0x43: (0, lambda _: UInt(0)),
    0x44: (0, lambda _: ULong(0)),
    0x45: (0, lambda _: []),
    0x50: (1, lambda raw: UByte(raw[0])),
    0x51: (1, _unpacked(_I8, Byte)),
    0x52: (1, lambda raw: UInt(raw[0])),
    0x53: (1, lambda raw: ULong(raw[0])),
    0x54: (1, _unpacked(_I8, Int)),
    0x55: (1, _unpacked(_I8, int)),
    0x56: (1, _boolean),
    0x60: (2, _unpacked(_U16, UShort)),
    0x61: (2, _unpacked(_I16, Short)),
    0x70: (4, _unpacked(_U32, UInt)),
    0x71: (4, _unpacked(_I32, Int)),
    0x72: (4, _unpacked(_F32, Float)),
    0x73: (4, _char),
    0x74: (4, lambda raw: Decimal(0x74, raw)),
    0x80: (8, _unpacked(_U64, ULong)),
    0x81: (8, _unpacked(_I64, int)),
    0x82: (8, _unpacked(_F64, float)),
    0x83: (8, _unpacked(_I64, Timestamp)),
    0x84: (8, lambda raw: Decimal(0x84, raw)),
    0x94: (16, lambda raw: Decimal(0x94, raw)),
    0x98: (16, lambda raw: uuid.UUID(bytes=raw)),
}
_CONSTANT: Final = {0x40: None, 0x41: True, 0x42: False}
_ZERO_WIDTH: Final = frozenset({0x40, 0x41, 0x42, 0x43, 0x44, 0x45})
_VARIABLE: Final[dict[int, tuple[bool, Callable[[bytes], Any]]]] = {
    0xA0: (False, bytes),
    0xA1: (False, _string),
    0xA3: (False, _symbol),
    0xB0: (True, bytes),
    0xB1: (True, _string),
    0xB3: (True, _symbol),
}
_SHORT: Final = {code: make for code, (wide, make) in _VARIABLE.items() if not wide}
_COMPOUND: Final = frozenset({0xC0, 0xC1, 0xD0, 0xD1, 0xE0, 0xF0})


# -- encoding --------------------------------------------------------------------------------------------------------


def encode(value: Any) -> bytes:
    """The encoding of one value. Raises TypeError where AMQP has no type, OverflowError where it is too large."""
    encoder = _ENCODERS.get(type(value))
    if encoder is not None:
        return encoder(value)
    for kind, by_base in _ENCODERS.items():
        if isinstance(value, kind):
            return by_base(value)
    raise TypeError(f"no AMQP type for {type(value).__name__}")


def _fixed(code: int, layout: struct.Struct) -> Callable[[Any], bytes]:
    first, pack = bytes((code,)), layout.pack

    def encoder(value: Any) -> bytes:
        try:
            return first + pack(value)
        except struct.error as error:
            raise OverflowError(str(error)) from None

    return encoder


def _bytes_like(short: int, raw: bytes) -> bytes:
    size = len(raw)
    if size < 256:
        return bytes((short, size)) + raw
    return b"%c%b%b" % (short + 0x10, _U32.pack(size), raw)


def _uint(value: int) -> bytes:
    if value == 0:
        return b"\x43"
    return bytes((0x52, value)) if 0 < value < 256 else _wide_uint(value)


def _ulong(value: int) -> bytes:
    if value == 0:
        return b"\x44"
    return bytes((0x53, value)) if 0 < value < 256 else _wide_ulong(value)


def _long(value: int) -> bytes:
    return b"\x55" + _I8.pack(value) if -128 <= value < 128 else _wide_long(value)


_wide_uint, _wide_ulong, _wide_long = _fixed(0x70, _U32), _fixed(0x80, _U64), _fixed(0x81, _I64)


def compound(code: int, count: int, body: bytes) -> bytes:
    """A list (0xC0), map (0xC1) or array (0xE0) of encoded items, in its short form where that fits."""
    size = len(body)
    if size < 255 and count < 256:
        return bytes((code, size + 1, count)) + body
    return b"%c%b%b%b" % (code + 0x10, _U32.pack(size + 4), _U32.pack(count), body)


def _list(value: list[Any]) -> bytes:
    return compound(0xC0, len(value), b"".join(map(encode, value)))


def _map(value: dict[Any, Any]) -> bytes:
    return compound(0xC1, 2 * len(value), b"".join([encode(each) for pair in value.items() for each in pair]))


def _array(value: Array) -> bytes:
    """Items in the wide form of their type, so that all share one constructor. Raises TypeError when they cannot."""
    if not value:
        return b"\xe0\x02\x00\x40"
    items = [_wide_item(item) for item in value]
    constructor = items[0][0]
    if any(each != constructor for each, _ in items):
        raise TypeError("an array of items of several types")
    return compound(0xE0, len(items), constructor + b"".join([raw for _, raw in items]))


def _wide_item(item: Any) -> tuple[bytes, bytes]:
    """The constructor and the bytes behind it."""
    if isinstance(item, Described):
        constructor, raw = _wide_item(item.value)
        return b"\x00" + encode(item.descriptor) + constructor, raw
    if isinstance(item, bool):
        return b"\x56", bytes((item,))
    if isinstance(item, UInt):
        return b"\x70", _U32.pack(item)
    if isinstance(item, ULong):
        return b"\x80", _U64.pack(item)
    if type(item) is int:
        return b"\x81", _I64.pack(item)
    raw = encode(item)
    code = raw[0]
    if code in {0xA0, 0xA1, 0xA3}:
        return bytes((code + 0x10,)), _U32.pack(raw[1]) + raw[2:]
    if code in {0xC0, 0xC1, 0xE0}:
        return bytes((code + 0x10,)), _U32.pack(raw[1] + 3) + _U32.pack(raw[2]) + raw[3:]
    return raw[:1], raw[1:]


_ENCODERS: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): lambda _: b"\x40",
    bool: lambda value: b"\x41" if value else b"\x42",
    Symbol: lambda value: _bytes_like(0xA3, value.encode("latin-1")),
    Char: lambda value: b"\x73" + _U32.pack(ord(value)),
    str: lambda value: _bytes_like(0xA1, value.encode()),
    bytes: lambda value: _bytes_like(0xA0, value),
    UByte: _fixed(0x50, _U8),
    UShort: _fixed(0x60, _U16),
    UInt: _uint,
    ULong: _ulong,
    Byte: _fixed(0x51, _I8),
    Short: _fixed(0x61, _I16),
    Int: _fixed(0x71, _I32),
    Timestamp: _fixed(0x83, _I64),
    int: _long,
    Float: _fixed(0x72, _F32),
    float: _fixed(0x82, _F64),
    Decimal: lambda value: bytes((value.code,)) + value.raw,
    uuid.UUID: lambda value: b"\x98" + value.bytes,
    Described: lambda value: b"\x00" + encode(value.descriptor) + encode(value.value),
    Array: _array,
    list: _list,
    tuple: lambda value: _list(list(value)),
    dict: _map,
}
