"""tests/accounts.py: in CI an unexpected skip fails the run, and so does a suite far over its budget."""

import os
import subprocess
import sys
from pathlib import Path

from accounts import BOOK, Accounts, Book, read_book, suite_of

TESTS = Path(__file__).parent.parent


def run(folder: Path, reason: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(f"import pytest\n\ndef test_it():\n    pytest.skip({reason!r})\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "accounts", "-p", "no:cacheprovider", "--rootdir", "."]
    clean = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    clean["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    given = clean | {"PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), clean.get("PYTHONPATH"))))} | environment
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=60, check=False)


def test_only_ci_fails_on_a_skip_that_nobody_expects(tmp_path: Path) -> None:
    at_home = run(tmp_path, "no such program")
    assert at_home.returncode == 0, at_home.stdout
    in_ci = run(tmp_path, "no such program", CI="true")
    assert in_ci.returncode == 1, in_ci.stdout
    assert "skipped and not expected: test_it.py::test_it: no such program" in in_ci.stdout
    expected = run(tmp_path, "this machine allows no network namespaces", CI="true")
    assert expected.returncode == 0, expected.stdout


def test_a_suite_fails_only_far_over_its_budget() -> None:
    accounts = Accounts(Book({"unit": 10}, ()), strict=True)
    accounts.seconds["unit"] = 29
    assert accounts.faults() == []
    accounts.seconds["unit"] = 31
    assert accounts.faults() == ["unit took 31 s, more than 3 times its budget"]
    accounts.seconds = {"new": 1.0}
    assert accounts.faults() == ["new has no budget in accounts.toml"]


def test_every_suite_has_a_budget() -> None:
    folders = {path.name for path in TESTS.iterdir() if any(path.rglob("test_*.py")) and path.is_dir()}
    assert folders <= set(read_book(BOOK.read_text()).budgets)


def test_the_suite_of_a_test() -> None:
    assert suite_of("tests/unit/store/test_x.py::test_y[a/b]") == "unit"
    assert suite_of("tests/test_x.py::test_y") == "tests"
