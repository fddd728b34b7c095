"""The accounts of a test run: what was skipped, and the seconds that each suite took. A plugin of tests/conftest.py.

tests/accounts.toml holds both sides. On a laptop a missing program is one named skip; in CI (``CI=true``) a skip
without a row there fails the run, so that no test stops running unnoticed. A suite may take three times its budget
of seconds before CI fails: the budgets are there to show what grows, not to measure the machine.
"""

import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

BOOK: Final = Path(__file__).parent / "accounts.toml"
_MARGIN: Final = 3.0  # times its budget, before a suite fails CI
_KEY: Final = pytest.StashKey["Accounts"]()


class Book(NamedTuple):
    """budgets: suite to seconds, summed over all workers. skips: patterns of the reasons that CI expects."""

    budgets: Mapping[str, float]
    skips: tuple[re.Pattern[str], ...]


class Accounts:
    """Of one run, on the process that collects the reports of all workers."""

    def __init__(self, book: Book, *, strict: bool) -> None:
        self.book, self.strict = book, strict
        self.seconds: dict[str, float] = defaultdict(float)
        self.skipped: dict[str, str] = {}  # test to reason

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[suite_of(report.nodeid)] += report.duration
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.strict and self.faults() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.seconds:
            return
        terminalreporter.section("seconds of each suite / its budget")
        terminalreporter.write_line("  ".join(self.lines()))
        for fault in self.faults():
            terminalreporter.write_line(fault, red=self.strict, yellow=not self.strict)

    def lines(self) -> Iterable[str]:
        for suite, used in sorted(self.seconds.items()):
            budget = self.book.budgets.get(suite)
            yield f"{suite} {used:.0f}/{budget:.0f}" if budget is not None else f"{suite} {used:.0f}/none"

    def faults(self) -> list[str]:
        """What CI does not let pass."""
        unexpected = [
            f"skipped and not expected: {test}: {reason}"
            for test, reason in self.skipped.items()
            if not any(pattern.search(reason) for pattern in self.book.skips)
        ]
        over = [
            f"{suite} took {used:.0f} s, more than {_MARGIN:.0f} times its budget"
            for suite, used in sorted(self.seconds.items())
            if used > _MARGIN * self.book.budgets.get(suite, float("inf"))
        ]
        unknown = [f"{suite} has no budget in {BOOK.name}" for suite in self.seconds if suite not in self.book.budgets]
        return unexpected + over + unknown

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.skipped[report.nodeid] = reason.removeprefix("Skipped: ")


def suite_of(nodeid: str) -> str:
    """``tests/unit/store/test_x.py::test_y`` is of the suite ``unit``."""
    parts = Path(nodeid.partition("::")[0]).parts
    inside = parts[parts.index("tests") + 1 :] if "tests" in parts else parts
    return inside[0] if len(inside) > 1 else "tests"


def read_book(text: str) -> Book:
    """tests/accounts.toml."""
    content = tomllib.loads(text)
    return Book(content["budgets"], tuple(re.compile(each["reason"]) for each in content.get("skips", ())))


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    accounts = Accounts(read_book(BOOK.read_text()), strict=os.environ.get("CI", "").lower() == "true")
    config.stash[_KEY] = accounts
    config.pluginmanager.register(accounts, "accounts-of-the-run")
