"""Reading the fields of a packet's body in order, never past its end; and the one error of this wire."""

from typing import Final

# MQTT 5 reason codes by the rule that was broken; anything else is a malformed packet (MQTT 5, 2.4 and 4.13).
_MALFORMED: Final = 0x81
_REASONS: Final = {
    "L-M2": 0x95,
    "L-M8": 0x82,
    "L-M11": 0x82,
    "L-M12": 0x95,
    "L-M13": 0x9B,
    "L-M16": 0x82,
    "L-M18": 0x94,
    "L-M19": 0x93,
    "MQTT-3.1.0-1": 0x82,
    "MQTT-3.1.0-2": 0x82,
    "MQTT-3.8.3-3": 0x82,
    "MQTT-3.10.3-2": 0x82,
    "MQTT5-2.2.2.2": 0x82,
    "MQTT5-3.8.2.1.2": 0xA1,
}


class MqttError(Exception):
    """The client broke the protocol. Send nothing more, close.

    rule: the requirement or the row of limits-and-faults that was broken. connack: return code to send first, if any.
    """

    def __init__(self, what: str, rule: str, *, connack: int | None = None) -> None:
        super().__init__(what)
        self.rule = rule
        self.connack = connack

    @property
    def reason(self) -> int:
        """What a DISCONNECT tells a client of MQTT 5."""
        return _REASONS.get(self.rule, _MALFORMED)


class Fields:
    """The body of one packet: ``data[at:end]``. Every read raises MqttError where the body ends before (L-M6)."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def take(self, count: int) -> bytes:
        stop = self.at + count
        if stop > self.end:
            raise MqttError("a field passes the end of its packet", "L-M6")
        taken = self.data[self.at : stop]
        self.at = stop
        return taken

    def rest(self) -> bytes:
        """What is left of the body."""
        return self.take(self.end - self.at)

    def uint8(self) -> int:
        return self.take(1)[0]

    def uint16(self) -> int:
        return int.from_bytes(self.take(2))

    def uint32(self) -> int:
        return int.from_bytes(self.take(4))

    def varint(self) -> int:
        """A variable byte integer in its shortest form (MQTT5-1.5.5-1)."""
        value = shift = 0
        while True:
            byte = self.uint8()
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                if shift and not byte:
                    raise MqttError("a variable byte integer is longer than it needs to be", "MQTT5-1.5.5-1")
                return value
            shift += 7
            if shift > 21:
                raise MqttError("a variable byte integer of more than four bytes", "MQTT5-1.5.5-1")

    def binary(self) -> bytes:
        return self.take(self.uint16())

    def utf8(self) -> bytes:
        return checked_utf8(self.binary())

    def text(self) -> str:
        return self.utf8().decode()

    def finish(self) -> None:
        if self.at != self.end:
            raise MqttError("bytes are left over at the packet's end", "L-M7")


def checked_utf8(raw: bytes) -> bytes:
    """``raw`` if it is well-formed UTF-8 without U+0000 (MQTT-1.5.3-1, MQTT-1.5.3-2)."""
    if raw.isascii():
        if 0 in raw:
            raise MqttError("U+0000 in a string", "MQTT-1.5.3-2")
        return raw
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise MqttError("a string is not UTF-8", "MQTT-1.5.3-1") from None
    if "\0" in text:
        raise MqttError("U+0000 in a string", "MQTT-1.5.3-2")
    return raw


def varint(value: int) -> bytes:
    """A variable byte integer: remaining lengths and lengths of properties."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
