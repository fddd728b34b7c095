"""The documentation is true to the code, and its links lead somewhere."""

import functools
import importlib.util
import re
import tomllib
import types
from pathlib import Path

import pytest

from hubkeep.cli import documentation

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@functools.cache
def generator() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name", ["errors", "limits", "settings", "operations", "mqtt", "queries", "api", "cli", "posture"]
)
def test_the_reference_is_current(name: str) -> None:
    assert (ROOT / "docs" / "reference" / f"{name}.md").read_text() == generator().page(name), "python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text())
    assert not [each for each in targets if not (page.parent / each).exists()]


def test_pages_that_the_code_names_exist() -> None:
    named = set()
    for path in (ROOT / "src").rglob("*.py"):
        named |= set(re.findall(r"docs/[\w/-]+\.md", path.read_text()))
    assert named
    assert not [each for each in named if not (ROOT / each).exists()]


def test_every_page_is_a_topic_of_hubkeep_help() -> None:
    assert {"threat-model", "differences", "reference/errors", "operating/first-start"} <= set(documentation.topics())


def test_every_dependency_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    names = {re.split(r"[^A-Za-z0-9_-]", each)[0] for each in wanted}
    text = (ROOT / "docs" / "decisions" / "0002-dependencies.md").read_text()
    assert not [each for each in names if f"`{each}`" not in text]
