"""The wire facts beside this file, read. Bytes are hex; ``61*256`` stands for 256 times 61."""

import json
import struct
import uuid
from pathlib import Path
from typing import Any

from hubkeep.wire.amqp import types

FOLDER = Path(__file__).parent
KINDS: dict[str, Any] = {
    "boolean": bool, "ubyte": types.UByte, "ushort": types.UShort, "uint": types.UInt, "ulong": types.ULong,
    "byte": types.Byte, "short": types.Short, "int": types.Int, "long": int, "timestamp": types.Timestamp,
    "double": float, "float": types.Float, "char": types.Char, "string": str, "symbol": types.Symbol, "uuid": uuid.UUID,
}  # fmt: skip
DECIMALS = {4: 0x74, 8: 0x84, 16: 0x94}


def load(name: str) -> dict[str, Any]:
    """One file: ``cases``, and what they share."""
    read: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return read


def octets(text: str) -> bytes:
    parts = (token.partition("*") for token in text.split())
    return b"".join(bytes.fromhex(part) * int(times or 1) for part, _, times in parts)


def typed(value: list[Any]) -> Any:
    """``["uint", 7]`` and its like as the decoder makes them."""
    kind, *rest = value
    if kind == "null":
        return None
    if kind == "described":
        return types.Described(typed(rest[0]), typed(rest[1]))
    if kind == "list":
        return [typed(each) for each in rest[0]]
    if kind == "repeated":
        return [typed(rest[1])] * rest[0]
    if kind == "array":
        return types.Array(typed(each) for each in rest[0])
    if kind == "map":
        return {typed(key): typed(each) for key, each in rest[0]}
    if kind == "binary":
        return octets(rest[0])
    if kind == "decimal":
        raw = octets(rest[0])
        return types.Decimal(DECIMALS[len(raw)], raw)
    return KINDS[kind](rest[0])


def exactly(value: Any) -> Any:
    """A form in which values are equal only if their AMQP types are too, and floats bit by bit."""
    if isinstance(value, types.Described):
        return "described", exactly(value.descriptor), exactly(value.value)
    if isinstance(value, dict):
        return "map", [(exactly(key), exactly(each)) for key, each in value.items()]
    if isinstance(value, list):
        return type(value).__name__, [exactly(each) for each in value]
    if isinstance(value, float):
        return type(value).__name__, struct.pack(">d", value)
    return type(value).__name__, value


def corpus(name: str) -> list[bytes]:
    """The bytes of every case of a file, good and bad, with what stands before them."""
    return [before + data for before, data in apart(name)]


def apart(name: str) -> list[tuple[bytes, bytes]]:
    """Of every case of a file what stands before it, and its own bytes, for fuzzing to begin with."""
    read = load(name)
    texts = [case["client"] if "client" in case else [case["hex"]] for case in read["cases"]]
    texts += [[each[1]] for each in read.get("refused", [])]
    before = read.get("before", {})
    prefixes = [
        octets(before[case["before"]])
        if "before" in case
        else octets(read["connect"])
        if "after_connect" in case
        else b""
        for case in read["cases"]
    ]
    prefixes += [b""] * (len(texts) - len(prefixes))
    return [(prefix, b"".join(map(octets, parts))) for prefix, parts in zip(prefixes, texts, strict=True)]
