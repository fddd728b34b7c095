"""What is installed is locked with hashes, and nothing of it has a vulnerability that is known here."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
OF_HUB = [Requirement(each) for each in [*PROJECT["project"]["dependencies"], *EXTRAS["fast"]]]
OF_TESTS = [
    Requirement(each)
    for each in [*PROJECT["dependency-groups"]["dev"], *(one for extra in EXTRAS.values() for one in extra)]
]
LOCKS = {"hub.lock": OF_HUB, "dev.lock": [*OF_HUB, *OF_TESTS]}
VULNERABLE: dict[str, dict[str, list[str]]] = tomllib.loads((ROOT / "requirements/vulnerabilities.toml").read_text())


def locked(name: str) -> dict[str, list[tuple[Version, int]]]:
    """Package to its locked versions, one for each environment, with how many hashes each has."""
    found: dict[str, list[tuple[Version, int]]] = {}
    text = (ROOT / "requirements" / name).read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", line):
            versions = found.setdefault(canonicalize_name(match[1]), [])
            versions.append((Version(match[2]), line.count("--hash=sha256:")))
        else:
            assert not line or line.startswith("#"), line
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_what_the_project_asks_for_is_locked(name: str) -> None:
    packages = locked(name)
    wrong = [
        str(requirement)
        for requirement in LOCKS[name]
        if not (versions := packages.get(canonicalize_name(requirement.name)))
        or not all(requirement.specifier.contains(version, prereleases=True) for version, _ in versions)
    ]
    assert not wrong, "not in the lock: make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_version_has_its_hashes(name: str) -> None:
    assert not [package for package, versions in locked(name).items() if not all(hashes for _, hashes in versions)]


@pytest.mark.parametrize("name", LOCKS)
def test_no_locked_version_is_known_to_be_vulnerable(name: str) -> None:
    wrong = [
        f"{package} {version}: {', '.join(advisories)}"
        for package, versions in locked(name).items()
        for fixed, advisories in VULNERABLE.get(package, {}).items()
        for version, _ in versions
        if version < Version(fixed)
    ]
    assert not wrong, "make lock"


def test_no_version_that_the_project_admits_is_known_to_be_vulnerable() -> None:
    """Of what it asks for itself: what comes along with that is up to the lock."""
    wrong = []
    for requirement in OF_HUB:
        for fixed, advisories in VULNERABLE.get(canonicalize_name(requirement.name), {}).items():
            least = max(Version(each.version) for each in requirement.specifier if each.operator == ">=")
            if least < Version(fixed):
                wrong.append(f"{requirement} is below {fixed}: {', '.join(advisories)}")
    assert not wrong


def test_what_is_said_to_be_vulnerable_is_something_that_is_installed() -> None:
    assert set(VULNERABLE) <= {*locked("dev.lock"), *locked("hub.lock")}


def test_locks_name_no_registry() -> None:
    for name in LOCKS:
        assert "://" not in (ROOT / "requirements" / name).read_text()
