"""Mutation fuzzing of the wires, from the vectors as corpus: ``python fuzz/run.py [WIRE ...] --inputs N --seed S``.

``--life-cycles N`` plays N lives of a connection of each wire instead, rule by rule (``life_cycles.py``).

The same seed gives the same inputs. What is found is printed as hex, ready for a file of tests/vectors.
"""

import argparse
import random
import sys
import time
import traceback
from pathlib import Path
from typing import TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from life_cycles import MACHINES, live  # both beside this file; the path is set above
from wires import WIRES, Wire

_BYTES = (0x00, 0x01, 0x40, 0x41, 0x43, 0x44, 0x45, 0x7F, 0x80, 0xA1, 0xC0, 0xD0, 0xE0, 0xF0, 0xFE, 0xFF)
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_MOST = 70_000  # bytes of an input
_SLOW = 2.0  # seconds for one input: the work is not bounded


def mutated(data: bytes, wire: Wire, chance: random.Random) -> bytes:
    """A few small changes of ``data``."""
    raw = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 8))):
        _mutate(raw, wire, chance)
    return bytes(raw[:_MOST])


def _mutate(raw: bytearray, wire: Wire, chance: random.Random) -> None:
    at = chance.randrange(len(raw) + 1)
    kind = chance.randrange(9)
    if kind == 0 and at < len(raw):
        raw[at] ^= 1 << chance.randrange(8)
    elif kind == 1 and at < len(raw):
        raw[at] = chance.choice(_BYTES)
    elif kind == 2 and at < len(raw):
        raw[at] = (raw[at] + chance.choice((-1, 1, -2, 2))) & 0xFF  # a length that is off by little
    elif kind == 3:
        del raw[at : at + chance.choice((1, 1, 2, 4, 16))]
    elif kind == 4:
        raw[at:at] = chance.randbytes(chance.choice((1, 1, 2, 4, 16)))
    elif kind == 5:
        size = chance.choice((2, 4))
        raw[at : at + size] = (chance.choice(_NUMBERS) & (1 << 8 * size) - 1).to_bytes(size)
    elif kind == 6:
        end = min(at + chance.randrange(1, 40), len(raw))
        raw[end:end] = raw[at:end] * chance.choice((1, 1, 2, 30))
    elif kind == 7:
        other = chance.choice(wire.corpus)
        begin = chance.randrange(len(other) + 1)
        raw[at:] = other[begin:]
    else:
        raw += chance.choice(wire.corpus)


def fuzz(name: str, inputs: int, seed: int, out: TextIO = sys.stdout) -> int:
    """Run one wire; how many inputs broke a promise."""
    wire, found = WIRES[name], 0
    for number in range(inputs):
        chance = random.Random(f"{name} {seed} {number}")
        data = chance.choice(wire.prefixes) + mutated(chance.choice(wire.corpus), wire, chance)
        began = time.process_time()
        try:
            wire.check(data, chance)
            took = time.process_time() - began
            assert took < _SLOW, f"{took:.1f} s of work for {len(data)} bytes"
        except Exception:
            found += 1
            print(f"{name}, seed {seed}, input {number}: {data.hex(' ')}", file=out)
            traceback.print_exc(file=out)
    return found


def play(lives: int, seed: int) -> int:
    """The exit status; what broke is printed as the steps that lead there."""
    found = 0
    for name in MACHINES:
        began = time.monotonic()
        try:
            live(name, lives, seed)
        except Exception:
            found += 1
            traceback.print_exc()
        print(f"{name}: {lives} life cycles in {time.monotonic() - began:.0f} s", flush=True)
    return 1 if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wire", nargs="*", help=f"of {', '.join(WIRES)}; all without one")
    parser.add_argument("--inputs", type=int, default=100_000, help="per wire")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--life-cycles", type=int, help="how many of each wire that has some, instead of inputs")
    options = parser.parse_args()
    if options.life_cycles:
        return play(options.life_cycles, options.seed)
    found = 0
    for name in options.wire or WIRES:
        began = time.monotonic()
        of_wire = fuzz(name, options.inputs, options.seed)
        found += of_wire
        print(f"{name}: {options.inputs} inputs in {time.monotonic() - began:.0f} s, {of_wire} findings", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
