"""Kill a hub at each system call that writes: on its first start, on a start after a kill, and under a small load.

A run without kills tells which calls there are: of each kind, and to each file of the data directory, as many as the
busiest thread makes. After each kill it starts again, and all that was acknowledged is there, once.
"""

import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import Final, NamedTuple

from faults.forked import ForkedHub, Killed, Point
from faults.writes import DEVICE, Writes

ROUNDS = 3  # of the load between a start and its kill
_CALLS: Final = (
    "pwrite64", "pwritev", "write", "writev", "sendto", "sendmsg", "fdatasync", "fsync", "ftruncate", "fallocate",
    "rename", "unlink", "mkdir", "link",
)  # fmt: skip
_MOST_PROBLEMS: Final = 20  # then the rest would say the same
_LINE: Final = re.compile(r"(\d+) +(\w+)\((?:\d+<([^>]*)>|\")")


class Moment(NamedTuple):
    """of: ``first start``, ``start`` or ``load``."""

    of: str
    point: Point


class PointsReport(NamedTuple):
    """moments: that were tried. reached: kills that came.

    missed: moments that a run, which is never quite the same, did not get to.
    """

    moments: int
    reached: Counter[str]
    missed: list[Moment]
    acknowledged: int
    problems: list[str]
    seconds: float


def kill_at_points(
    folder: Path, chosen: int | None = None, seed: int = 0, budget: float = float("inf")
) -> PointsReport:
    """chosen: how many of the moments, spread over all kinds; None for every one.

    budget: seconds after which no further kill is begun.
    """
    began, reached, missed = time.monotonic(), Counter[str](), []
    problems: list[str] = []
    done = 0
    with ForkedHub(folder / "data") as hub:
        writes = Writes(hub)
        moments = _moments(hub, writes, folder)
        if chosen is not None:
            moments = _spread(moments, chosen, random.Random(seed))
        if chosen is not None:
            random.Random(seed).shuffle(moments)  # those of every situation, should the budget end it
        for number, moment in enumerate(moments):
            if moment.of == "first start":
                is_reached, found = _first_start(hub, folder / f"data-{number}", moment.point)
            else:
                is_reached, found = _killed(hub, writes, moment)
            problems += [f"{moment.of}, {moment.point}: {each}" for each in found]
            reached[moment.of] += is_reached
            if not is_reached:
                missed.append(moment)
            done = number + 1
            if len(problems) > _MOST_PROBLEMS or time.monotonic() - began > budget:
                break
    return PointsReport(done, reached, missed, writes.acknowledged, problems, time.monotonic() - began)


def _killed(hub: ForkedHub, writes: Writes, moment: Moment) -> tuple[bool, list[str]]:
    """Leaves the hub running after a kill under the load: the next one may begin at once."""
    if moment.of == "start":
        hub.kill()
        is_reached = _is_killed_at_start(hub, moment.point)
        hub.kill()
    else:
        if not hub.is_running:
            hub.start()
        hub.trace(*moment.point.options(hub.data))
        writes.run(ROUNDS)
        is_reached = hub.is_over()
        hub.kill()
    hub.start()
    return is_reached, writes.check()


def _is_killed_at_start(hub: ForkedHub, point: Point) -> bool:
    try:
        hub.start(traced=point.options(hub.data))
    except Killed:
        return True
    return False


def _first_start(hub: ForkedHub, data: Path, point: Point) -> tuple[bool, list[str]]:
    """A directory of its own is made, and needs no repair."""
    hub.kill()
    usual, hub.data = hub.data, data
    try:
        is_reached = _is_killed_at_start(hub, point)
        hub.kill()
        hub.start()
        hub.register([DEVICE])
        writes = Writes(hub)
        writes.run(1)
        problems = writes.check()
        if writes.acknowledged != 6:
            problems.append(f"{writes.acknowledged} of 6 writes after it were acknowledged")
        return is_reached, problems
    finally:
        hub.kill()
        hub.data = usual


# -- which moments there are -------------------------------------------------------------------------------------------


def _moments(hub: ForkedHub, writes: Writes, folder: Path) -> list[Moment]:
    """Leaves a hub that was killed after one run of the load."""
    traced = ["-y", "-s", "0", "-e", f"trace={','.join(_CALLS)}"]
    files = {of: folder / f"{of.replace(' ', '-')}.trace" for of in ("first start", "load", "start")}
    hub.start(traced=[*traced, "-o", str(files["first start"])])
    hub.detach()
    hub.register([DEVICE])
    hub.trace(*traced, "-o", str(files["load"]))
    writes.run(ROUNDS)
    hub.kill()
    hub.start(traced=[*traced, "-o", str(files["start"])])
    hub.kill()
    return [
        Moment(of, Point(call, file, nth))
        for of, trace in files.items()
        for (call, file), most in sorted(_calls(trace.read_text(), hub.data).items())
        for nth in range(1, most + 1)
    ]


def _calls(trace: str, data: Path) -> Counter[tuple[str, str]]:
    """How many of each call, and of each file of the data directory, the busiest thread made."""
    made: Counter[tuple[str, str, str]] = Counter()
    for thread, call, path in _made(trace):
        file = path.removeprefix(f"{data}/") if path.startswith(f"{data}/") else ""
        made[thread, call, file] += 1
        if file:
            made[thread, call, ""] += 1  # without a file, strace counts all of the kind
    busiest: Counter[tuple[str, str]] = Counter()
    for (_, call, file), count in made.items():
        busiest[call, file] = max(busiest[call, file], count)
    # where every call of the kind goes to files that are counted, one by one is enough
    others = {call for _, call, path in _made(trace) if not path.startswith(f"{data}/")}
    return Counter({key: count for key, count in busiest.items() if key[1] or key[0] in others})


def _made(trace: str) -> Iterator[tuple[str, str, str]]:
    """Thread, call, path of each line."""
    for line in trace.splitlines():
        if found := _LINE.match(line):
            yield found[1], found[2], found[3] or ""


def _spread(moments: list[Moment], chosen: int, chance: random.Random) -> list[Moment]:
    """Seven of ten under the load, and of each situation some of each kind of call and file."""
    shares = {"load": chosen * 7 // 10, "start": chosen * 2 // 10}
    shares["first start"] = chosen - sum(shares.values())
    picked: set[Moment] = set()
    for of, share in shares.items():
        groups: dict[tuple[str, str], list[Moment]] = {}
        for each in moments:
            if each.of == of:
                groups.setdefault((each.point.calls, each.point.file), []).append(each)
        for group in groups.values():
            chance.shuffle(group)
        in_turn = list(groups.values())
        chance.shuffle(in_turn)
        turns = (each for turn in zip_longest(*in_turn) for each in turn if each is not None)
        picked.update(islice(turns, share))
    return [each for each in moments if each in picked]
