"""Take off not-covered.toml what tests cite by now. Run it after writing tests: ``python tests/spec/mend.py``."""

import json
import re
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))

from spec.coverage import NOT_COVERED, expanded, marks_in_source  # noqa: E402  # found through the path above

_LATER = re.compile(r'"(.*)" = "(.*)"')


def cited_by_vectors() -> set[str]:
    """Ids in the vectors' own ``spec`` members; their tests take their marks from there."""
    ids: set[str] = set()
    for path in (TESTS / "vectors").glob("*.json"):
        for found in re.findall(r'"spec": (\[[^\]]*\])', path.read_text()):
            ids.update(json.loads(found))
    return ids


def compact(ids: list[str]) -> str:
    """The ids with runs written as ranges, in the order given."""
    words: list[str] = []
    run: list[str] = []
    for each in [*ids, ""]:
        if run and each and _follows(run[-1], each):
            run.append(each)
            continue
        words += run if len(run) < 3 else [f"{run[0]}..{run[-1]}"]
        run = [each]
    return " ".join(words)


def _follows(before: str, after: str) -> bool:
    one, two = (re.fullmatch(r"(.*?)(\d+)", each) for each in (before, after))
    return bool(one and two) and one[1] == two[1] and int(two[2]) == int(one[2]) + 1  # type: ignore[index]


def main() -> None:
    covered = set(marks_in_source()) | cited_by_vectors()
    lines, gone = [], []
    for line in NOT_COVERED.read_text().splitlines():
        is_later = _LATER.fullmatch(line)
        if is_later is None:
            lines.append(line)
            continue
        left, right = is_later.groups()
        ids_are_right = re.match(r"[A-Z]+-?[A-Z]*\d", left) is None
        ids = expanded(right if ids_are_right else left)
        kept = [each for each in ids if each not in covered]
        gone += [each for each in ids if each in covered]
        if kept == ids:
            lines.append(line)
        elif kept:
            text = compact(kept)
            lines.append(f'"{left}" = "{text}"' if ids_are_right else f'"{text}" = "{right}"')
    NOT_COVERED.write_text("\n".join(lines) + "\n")
    print("taken off:", " ".join(gone) or "nothing")


if __name__ == "__main__":
    main()
