"""Frames and performatives: decoded with every field, encoded with every field.

Never fewer fields than the definition has: a client indexes into the decoded list (service-protocols S-R2 to S-R6).
Source: AMQP 1.0 part 2, 2.3 and 2.7; part 5, 5.3.
"""

import struct
from typing import Any, Final, NamedTuple

from .types import NESTING, AmqpError, Described, Symbol, UInt, ULong, UShort, decode, encode

AMQP_HEADER: Final = b"AMQP\x00\x01\x00\x00"
SASL_HEADER: Final = b"AMQP\x03\x01\x00\x00"
_SMALL_DESCRIPTOR: Final = b"\x00\x53"
EMPTY_FRAME: Final = b"\x00\x00\x00\x08\x02\x00\x00\x00"
_FRAME: Final = struct.Struct(">IBBH")
_LIST32: Final = struct.Struct(">II")


class Open(NamedTuple):
    container_id: str
    hostname: str | None = None
    max_frame_size: int | None = None
    channel_max: int | None = None
    idle_time_out: int | None = None
    outgoing_locales: Any = None
    incoming_locales: Any = None
    offered_capabilities: Any = None
    desired_capabilities: Any = None
    properties: dict[Any, Any] | None = None


class Begin(NamedTuple):
    remote_channel: int | None
    next_outgoing_id: int
    incoming_window: int
    outgoing_window: int
    handle_max: int | None = None
    offered_capabilities: Any = None
    desired_capabilities: Any = None
    properties: dict[Any, Any] | None = None


class Attach(NamedTuple):
    name: str
    handle: int
    role: bool  # the sender of this frame is the receiver of the link
    snd_settle_mode: int | None = None
    rcv_settle_mode: int | None = None
    source: Any = None
    target: Any = None
    unsettled: dict[Any, Any] | None = None
    incomplete_unsettled: bool | None = None
    initial_delivery_count: int | None = None
    max_message_size: int | None = None
    offered_capabilities: Any = None
    desired_capabilities: Any = None
    properties: dict[Any, Any] | None = None


class Flow(NamedTuple):
    next_incoming_id: int | None
    incoming_window: int
    next_outgoing_id: int
    outgoing_window: int
    handle: int | None = None
    delivery_count: int | None = None
    link_credit: int | None = None
    available: int | None = None
    drain: bool | None = None
    echo: bool | None = None
    properties: dict[Any, Any] | None = None


class Transfer(NamedTuple):
    handle: int
    delivery_id: int | None = None
    delivery_tag: bytes | None = None
    message_format: int | None = None
    settled: bool | None = None
    more: bool | None = None
    rcv_settle_mode: int | None = None
    state: Any = None
    resume: bool | None = None
    aborted: bool | None = None
    batchable: bool | None = None


class Disposition(NamedTuple):
    role: bool
    first: int
    last: int | None = None
    settled: bool | None = None
    state: Any = None
    batchable: bool | None = None


class Detach(NamedTuple):
    handle: int
    closed: bool | None = None
    error: Any = None


class End(NamedTuple):
    error: Any = None


class Close(NamedTuple):
    error: Any = None


class SaslInitFrame(NamedTuple):
    mechanism: str
    initial_response: bytes | None = None
    hostname: str | None = None


class SaslResponseFrame(NamedTuple):
    response: bytes


Performative = Open | Begin | Attach | Flow | Transfer | Disposition | Detach | End | Close

_NUMBER: Final[tuple[type, ...]] = (int,)  # a uint or less
_MODE: Final[tuple[type, ...]] = (int,)
_SIZE: Final[tuple[type, ...]] = (int,)
_BYTES: Final = (bytes,)
_TEXT: Final = (str,)
_FLAG: Final = (bool,)
_MAP: Final = (dict,)
_ANY: Final = (object,)
# class, number of mandatory fields, types of the fields in order
_KINDS: Final[dict[int, tuple[Any, int, tuple[tuple[type, ...], ...]]]] = {
    0x10: (Open, 1, (_TEXT, _TEXT, _NUMBER, _NUMBER, _NUMBER, _ANY, _ANY, _ANY, _ANY, _MAP)),
    0x11: (Begin, 4, (_NUMBER, _NUMBER, _NUMBER, _NUMBER, _NUMBER, _ANY, _ANY, _MAP)),
    0x12: (
        Attach,
        3,
        (_TEXT, _NUMBER, _FLAG, _MODE, _MODE, _ANY, _ANY, _MAP, _FLAG, _NUMBER, _SIZE, _ANY, _ANY, _MAP),
    ),
    0x13: (Flow, 4, (_NUMBER,) * 8 + (_FLAG, _FLAG, _MAP)),
    0x14: (Transfer, 1, (_NUMBER, _NUMBER, _BYTES, _NUMBER, _FLAG, _FLAG, _MODE, _ANY, _FLAG, _FLAG, _FLAG)),
    0x15: (Disposition, 2, (_FLAG, _NUMBER, _NUMBER, _FLAG, _ANY, _FLAG)),
    0x16: (Detach, 1, (_NUMBER, _FLAG, _ANY)),
    0x17: (End, 0, (_ANY,)),
    0x18: (Close, 0, (_ANY,)),
    0x41: (SaslInitFrame, 1, (_TEXT, _BYTES, _TEXT)),
    0x43: (SaslResponseFrame, 1, (_BYTES,)),
}
_USHORT_FIELDS: Final = {Open: {3}, Begin: {0}}
_CODES: Final = {kind: code for code, (kind, _, _) in _KINDS.items()}
_NULLABLE_FIRST: Final = frozenset({0x11, 0x13})  # remote-channel and next-incoming-id may be null
# fields of type uint and ushort; the others carry their own type
_UINT_FIELDS: Final = {
    Open: {2, 4},
    Begin: {1, 2, 3, 4},
    Attach: {1, 9},
    Flow: {0, 1, 2, 3, 4, 5, 6, 7},
    Transfer: {0, 1, 3},
    Disposition: {1, 2},
    Detach: {0},
}


def parse(body: bytes, at: int, end: int) -> tuple[Any, int]:
    """The performative of a frame and where its payload begins. Raises AmqpError decode-error, invalid-field."""
    code: Any
    if body.startswith(_SMALL_DESCRIPTOR, at) and at + 3 <= end:  # as everybody writes it
        code = body[at + 2]
        fields, stop = decode(body, at + 3, end, NESTING - 1)
    else:
        value, stop = decode(body, at, end)
        code, fields = (value.descriptor, value.value) if isinstance(value, Described) else (None, None)
    if not isinstance(fields, list):
        raise AmqpError("amqp:decode-error", "a frame body that is no performative")
    if isinstance(code, Symbol):
        code = _SYMBOLS.get(code, -1)
    if code not in _KINDS:
        raise AmqpError("amqp:decode-error", "an unknown performative")
    kind, mandatory, types = _KINDS[code]
    if len(fields) > len(types) or len(fields) < mandatory:
        raise AmqpError("amqp:decode-error", f"{kind.__name__.lower()} with {len(fields)} fields")
    for index, (field, allowed) in enumerate(zip(fields, types, strict=False)):
        if field is None:
            if index < mandatory and not (index == 0 and code in _NULLABLE_FIRST):
                raise AmqpError("amqp:decode-error", f"{kind.__name__.lower()} without its field {index + 1}")
        elif not isinstance(field, allowed) or (isinstance(field, int) and not _fits(field, allowed)):
            raise AmqpError("amqp:decode-error", f"{kind.__name__.lower()} with a wrong field {index + 1}")
    return kind(*fields), stop


def _fits(number: int, kind: tuple[type, ...]) -> bool:
    """What the hub repeats in its answers must be encodable there."""
    return 0 <= number <= (0xFFFFFFFF if kind is not _MODE else 2) or (kind is _SIZE and number >= 0)


_SYMBOLS: Final = {
    f"amqp:{name}:list": code
    for name, code in {
        "open": 0x10,
        "begin": 0x11,
        "attach": 0x12,
        "flow": 0x13,
        "transfer": 0x14,
        "disposition": 0x15,
        "detach": 0x16,
        "end": 0x17,
        "close": 0x18,
        "sasl-init": 0x41,
        "sasl-response": 0x43,
    }.items()
}


def frame(channel: int, body: bytes, kind: int = 0) -> bytes:
    """A frame around an encoded performative (and payload). kind: 0 AMQP, 1 SASL."""
    return _FRAME.pack(8 + len(body), 2, kind, channel) + body


def encode_performative(performative: Performative) -> bytes:
    """All fields, as list32 behind a small ulong."""
    kind = type(performative)
    unsigned, short = _UINT_FIELDS.get(kind, set()), _USHORT_FIELDS.get(kind, set())
    parts = []
    for index, field in enumerate(performative):
        if field is None:
            parts.append(b"\x40")
        elif index in unsigned:
            parts.append(encode(UInt(field)))
        elif index in short:
            parts.append(encode(UShort(field)))
        else:
            parts.append(encode(field))
    body = b"".join(parts)
    return b"\x00\x53%c\xd0%b%b" % (_CODES[kind], _LIST32.pack(len(body) + 4, len(parts)), body)


def error(condition: str, description: str, info: dict[str, Any] | None = None) -> Described:
    """An error value with its three elements (S-R6)."""
    information = {Symbol(key): value for key, value in info.items()} if info else None
    return Described(ULong(0x1D), [Symbol(condition), description, information])


ACCEPTED: Final = Described(ULong(0x24), [])
RELEASED: Final = Described(ULong(0x26), [])


def rejected(condition: str, description: str, info: dict[str, Any] | None = None) -> Described:
    return Described(ULong(0x25), [error(condition, description, info)])


def outcome_name(state: Any) -> str:
    """accepted, rejected, released, modified, received; empty for none of these."""
    if not isinstance(state, Described):
        return ""
    names = {0x23: "received", 0x24: "accepted", 0x25: "rejected", 0x26: "released", 0x27: "modified"}
    if isinstance(state.descriptor, Symbol):
        return state.descriptor.split(":")[1] if state.descriptor.count(":") == 2 else ""
    return names.get(state.descriptor, "")
