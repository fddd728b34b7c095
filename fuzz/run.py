"""Mutation fuzzing of the wires and of what is read above them, from the vectors and ``corpus/``:
``python fuzz/run.py [TARGET ...] --inputs N --seed S``.

``--life-cycles N`` plays N lives of a connection of each wire instead, rule by rule (``life_cycles.py``).

The same seed gives the same inputs. What is found is printed as hex, ready for a file of tests/vectors.
"""

import argparse
import random
import sys
import time
import traceback
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from cryptography.utils import CryptographyDeprecationWarning

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from life_cycles import MACHINES, live  # all beside this file; the path is set above
from readers import READERS
from target import Target
from wires import WIRES

TARGETS = {**WIRES, **READERS}

_BYTES = (0x00, 0x01, 0x40, 0x41, 0x43, 0x44, 0x45, 0x7F, 0x80, 0xA1, 0xC0, 0xD0, 0xE0, 0xF0, 0xFE, 0xFF)
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_SIZES = (1, 1, 2, 4, 16)
_MOST = 70_000  # bytes of an input
_ALL_OF_IT, _BEHIND_ANOTHER = 0.1, 0.2
_SLOW = 2.0  # seconds for one input: the work is not bounded


def mutated(data: bytes, target: Target, chance: random.Random) -> bytes:
    """A few small changes of ``data``."""
    raw = bytearray(data)
    for _ in range((1, 1, 1, 2, 3, 5, 8)[int(chance.random() * 7)]):
        _mutate(raw, target, chance.random)
    return bytes(raw[:_MOST])


def _mutate(raw: bytearray, target: Target, draw: Callable[[], float]) -> None:
    """draw: from [0, 1); dearer ways of drawing would take longer than most of what is fuzzed."""
    at = int(draw() * (len(raw) + 1))
    kind = int(draw() * 9)
    if kind == 0 and at < len(raw):
        raw[at] ^= 1 << int(draw() * 8)
    elif kind == 1 and at < len(raw):
        raw[at] = _BYTES[int(draw() * len(_BYTES))]
    elif kind == 2 and at < len(raw):
        raw[at] = (raw[at] + (-1, 1, -2, 2)[int(draw() * 4)]) & 0xFF  # a length that is off by little
    elif kind == 3:
        del raw[at : at + _SIZES[int(draw() * 5)]]
    elif kind == 4:
        raw[at:at] = bytes([int(draw() * 256) for _ in range(_SIZES[int(draw() * 5)])])
    elif kind == 5:
        size = (2, 4)[int(draw() * 2)]
        raw[at : at + size] = (_NUMBERS[int(draw() * len(_NUMBERS))] & (1 << 8 * size) - 1).to_bytes(size)
    elif kind == 6:
        end = min(at + 1 + int(draw() * 39), len(raw))
        raw[end:end] = raw[at:end] * (1, 1, 2, 30)[int(draw() * 4)]
    elif kind == 7:
        other = target.seeds[int(draw() * len(target.seeds))][1]
        raw[at:] = other[int(draw() * (len(other) + 1)) :]
    else:
        raw += target.seeds[int(draw() * len(target.seeds))][1]


def made(target: Target, chance: random.Random) -> bytes:
    """An input: a seed, mutated, behind what stood before it; sometimes that is mutated too, or another."""
    before, data = target.seeds[int(chance.random() * len(target.seeds))]
    kind = chance.random()
    if kind < _ALL_OF_IT:
        return mutated(before + data, target, chance)
    if kind < _BEHIND_ANOTHER:
        before = target.before[int(chance.random() * len(target.before))]
    return before + mutated(data, target, chance)


def fuzz(name: str, inputs: int, seed: int, out: TextIO = sys.stdout) -> int:
    """Run one target; how many inputs broke a promise."""
    target, found, chance = TARGETS[name], 0, random.Random()
    check, clock, first = target.check, time.process_time, zlib.crc32(f"{name} {seed}".encode()) << 64
    for number in range(inputs):
        chance.seed(first + number)
        data = made(target, chance)
        began = clock()
        try:
            check(data, chance)
            took = clock() - began
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
    parser.add_argument("target", nargs="*", help=f"of {', '.join(TARGETS)}; all without one")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="per target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--life-cycles", type=int, help="how many of each wire that has some, instead of inputs")
    options = parser.parse_args()
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # of what the hub refuses by itself
    if options.life_cycles:
        return play(options.life_cycles, options.seed)
    found = 0
    for name in options.target or TARGETS:
        began = time.monotonic()
        of_target = fuzz(name, options.inputs, options.seed)
        found += of_target
        print(f"{name}: {options.inputs} inputs in {time.monotonic() - began:.0f} s, {of_target} findings", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
