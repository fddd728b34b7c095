"""Counts which numbered statements of the specification the tests cover. A pytest plugin, loaded by tests/conftest.py.

A test names what it covers: ``@pytest.mark.spec("D-12", "L-M5")``. The run ends with one line per page: statements of
which a test passed (and none failed), of those that exist. tests/spec/statements.json holds the ids that exist;
not-covered.toml holds those without a test, with the reason. tests/spec/test_coverage.py compares the three.
"""

import ast
import contextlib
import functools
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(__file__).parent
TESTS: Final = FOLDER.parent
STATEMENTS: Final = FOLDER / "statements.json"
NOT_COVERED: Final = FOLDER / "not-covered.toml"
_PROPERTY: Final = "spec"
_RANGE: Final = re.compile(r"(.*?)(\d+)\.\.(.*?)(\d+)")


def expanded(text: str) -> list[str]:
    """``D-1..D-3 P-V8a`` as the single ids. Leading zeros are kept."""
    ids: list[str] = []
    for word in text.split():
        found = _RANGE.fullmatch(word)
        if found is None:
            ids.append(word)
            continue
        prefix, first, again, last = found.groups()
        if prefix != again:
            raise ValueError(f"{word} is no range")
        ids += [f"{prefix}{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return ids


@functools.cache
def surfaces() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Page to surface to ids."""
    pages: dict[str, dict[str, str]] = json.loads(STATEMENTS.read_text())["pages"]
    return {page: {surface: tuple(expanded(ids)) for surface, ids in groups.items()} for page, groups in pages.items()}


@functools.cache
def statements() -> Mapping[str, str]:
    """Id to page."""
    return {each: page for page, groups in surfaces().items() for ids in groups.values() for each in ids}


@functools.cache
def open_questions() -> frozenset[str]:
    """Ids that may be cited and are not counted."""
    return frozenset(expanded(json.loads(STATEMENTS.read_text())["open"]))


class NotCovered:
    """not-covered.toml. reasons: of single statements of what is built. later: group to its ids, not built yet."""

    def __init__(self, path: Path = NOT_COVERED) -> None:
        read = tomllib.loads(path.read_text())
        self.reasons: dict[str, str] = {}
        for ids, reason in read["built"].items():
            self.reasons.update(dict.fromkeys(expanded(ids), reason))
        self.later: dict[str, list[str]] = {group: expanded(ids) for group, ids in read["later"].items()}

    @property
    def ids(self) -> list[str]:
        """All of them; one that is listed twice stands here twice."""
        return [*self.reasons, *(each for ids in self.later.values() for each in ids)]


def marks_in_source() -> dict[str, set[str]]:
    """Id to the test files that cite it literally, whatever part of the tests is being run."""
    found: dict[str, set[str]] = {}
    for path in TESTS.rglob("*.py"):
        if "node_modules" in path.parts:
            continue
        for node in ast.walk(_parsed(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.spec":
                for each in node.args:
                    if isinstance(each, ast.Constant):
                        found.setdefault(str(each.value), set()).add(str(path.relative_to(TESTS)))
    return found


def _parsed(text: str) -> ast.AST:
    """CPython before 3.11.8 counts the depth of ``ast.parse`` for all threads together, and raises SystemError where
    another one parses at the same time (gh-106905); a worker that ran other suites has such threads."""
    for _ in range(100):
        with contextlib.suppress(SystemError):
            return ast.parse(text)
    return ast.parse(text)


def marks_of(item: pytest.Item) -> list[str]:
    return [str(each) for mark in item.iter_markers("spec") for each in mark.args]


def is_whole_run(config: pytest.Config, items: Iterable[pytest.Item]) -> bool:
    """Whether every test file was collected and nothing was left out."""
    options = config.option
    if any(getattr(options, each, None) for each in ("keyword", "markexpr", "lf", "deselect", "ignore", "ignore_glob")):
        return False
    if any("::" in each for each in config.args):
        return False
    collected = {item.path for item in items}
    return all(path in collected for path in TESTS.rglob("test_*.py") if "node_modules" not in path.parts)


class Count:
    """Outcomes by statement. Works in a single process and on the controlling side of pytest-xdist."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        ids = [each for name, value in report.user_properties if name == _PROPERTY for each in str(value).split()]
        if report.failed:
            self.failed.update(ids)
        elif report.when == "call" and report.passed:
            self.passed.update(ids)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        covered = self.passed - self.failed
        if not covered:
            return
        terminalreporter.section("statements of the specification, covered / existing")
        for page, groups in surfaces().items():
            counts = [(surface, sum(each in covered for each in ids), len(ids)) for surface, ids in groups.items()]
            have, exist = sum(each[1] for each in counts), sum(each[2] for each in counts)
            terminalreporter.write_line(f"{page}: {have} / {exist}")
            by_surface = ", ".join(f"{surface} {some}/{all_}" for surface, some, all_ in counts if some)
            if by_surface:
                terminalreporter.write_line(f"  {by_surface}")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Count(), "spec-count")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if ids := marks_of(item):
            item.user_properties.append((_PROPERTY, " ".join(ids)))
