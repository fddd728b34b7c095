"""Transfers and messages in the forms that clients write, read without making values of them.

What has another form is left to ``performatives.parse`` and ``messages.decode_message``: nothing here refuses.
Source: AMQP 1.0 part 2, 2.3 and 2.7.5; part 3, 3.2.
"""

import struct
from itertools import product
from typing import Final

_FRAME: Final = struct.Struct(">IHHI")  # size; data offset and type; channel; the first bytes of the body
_PLAIN: Final = 0x0200  # no extended header, type AMQP
_LIST8: Final = 0x005314C0  # a transfer's descriptor, and how its list is encoded
_LIST32: Final = 0x005314D0
_U32: Final = struct.Struct(">I")
_LONGEST_TAG: Final = 32


# channel, handle, delivery id, message format, settled, where its payload lies; a plain tuple is made in no time
WholeTransfer = tuple[int, int, int, int, bool, int, int]


def _rests() -> dict[bytes, tuple[int, bool]]:
    """What may follow the message format: how many fields that are, and whether the delivery is settled.

    The fields: settled, more, rcv-settle-mode, state, resume, aborted, batchable. Left out are deliveries of which
    more is to come, resumed and aborted ones.
    """
    fields = (
        (b"\x40", b"\x41", b"\x42"),
        (b"\x40", b"\x42"),
        (b"\x40", b"\x50\x00", b"\x50\x01"),
        (b"\x40",),
        (b"\x40", b"\x42"),
        (b"\x40", b"\x42"),
        (b"\x40", b"\x41", b"\x42"),
    )
    rests = {}
    for count in range(len(fields) + 1):
        for values in product(*fields[:count]):
            rests[b"".join(values)] = (count, values[:1] == (b"\x41",))
    return rests


_RESTS: Final = _rests()


def whole_transfer(data: bytes, at: int) -> WholeTransfer | None:
    """The frame that begins at ``at``, if all of it is there and it holds a delivery in the form that clients write."""
    have = len(data)
    if have - at < 16:
        return None
    size, kind, channel, start = _FRAME.unpack_from(data, at)
    end = at + size
    if kind != _PLAIN or end > have or size < 16:
        return None
    if start == _LIST8:
        stop, count, at = at + 13 + data[at + 12], data[at + 13], at + 14
    elif start == _LIST32 and size >= 20:
        stop, count, at = at + 16 + _U32.unpack_from(data, at + 12)[0], _U32.unpack_from(data, at + 16)[0], at + 20
    else:
        return None
    if stop > end:
        return None
    try:
        code = data[at]
        if code == 0x43:
            handle, at = 0, at + 1
        elif code == 0x52:
            handle, at = data[at + 1], at + 2
        elif code == 0x70:
            handle, at = _U32.unpack_from(data, at + 1)[0], at + 5
        else:
            return None
        code = data[at]
        if code == 0x52:
            delivery_id, at = data[at + 1], at + 2
        elif code == 0x70:
            delivery_id, at = _U32.unpack_from(data, at + 1)[0], at + 5
        elif code == 0x43:
            delivery_id, at = 0, at + 1
        else:
            return None
        if data[at] != 0xA0 or data[at + 1] > _LONGEST_TAG:
            return None
        at += 2 + data[at + 1]
        code = data[at]
        if code in {0x43, 0x40}:
            message_format, at = 0, at + 1
        elif code == 0x70:
            message_format, at = _U32.unpack_from(data, at + 1)[0], at + 5
        else:
            return None
    except (IndexError, struct.error):
        return None
    if at > stop:
        return None
    rest = _RESTS.get(data[at:stop])
    if rest is None or rest[0] + 4 != count:
        return None
    return channel, handle, delivery_id, message_format, rest[1], stop, end


def data_section_start(payload: bytes) -> int:
    """Where the body of a message begins that ends with its one data section; -1 for any other message.

    What stands before it are whole sections, which are not looked into.
    """
    at, end = 0, len(payload)
    try:
        while payload[at] == 0 and payload[at + 1] == 0x53:
            section, code = payload[at + 2], payload[at + 3]
            if section == 0x75:
                if code == 0xA0:
                    return at if at + 5 + payload[at + 4] == end else -1
                if code == 0xB0:
                    return at if at + 8 + _U32.unpack_from(payload, at + 4)[0] == end else -1
                return -1
            if code in {0xC0, 0xC1}:
                at += 5 + payload[at + 4]
            elif code in {0xD0, 0xD1}:
                at += 8 + _U32.unpack_from(payload, at + 4)[0]
            elif code == 0x45:
                at += 4
            else:
                return -1
    except (IndexError, struct.error):
        return -1
    return -1
