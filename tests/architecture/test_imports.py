"""What the folders promise: who may import whom, how, and that names say what they hold."""

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hubkeep

PACKAGE = Path(hubkeep.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

LEAVES = {"wire", "limits", "causes", "model", "metrics"}
RULES = {"device", "messaging", "cloud"}
OF_RULES = {"model", "ports", "errors", "limits", "query", "metrics"}
# Part by part: the parts of hubkeep that it may import. docs/architecture.md says why.
MAY_IMPORT: dict[str, set[str]] = {
    **{leaf: set() for leaf in LEAVES},
    "errors": {"causes"},
    "query": {"model", "errors", "metrics"},
    "ports": {"model", "errors"},
    "settings": {"limits", "metrics"},
    **dict.fromkeys(RULES, OF_RULES),
    "connection": OF_RULES | RULES | {"wire", "settings"},
    **{adapters: OF_RULES | {"settings"} for adapters in ("store", "bus", "endpoints")},
    "console": OF_RULES | RULES | {"connection", "settings"},
    "background": OF_RULES | RULES,
    "token_service": OF_RULES | {"cloud", "connection", "wire", "settings"},
    "server": OF_RULES
    | RULES
    | {
        "wire",
        "settings",
        "connection",
        "store",
        "bus",
        "endpoints",
        "console",
        "background",
        "token_service",
        "__init__",
    },
    # the demo runs the SDK clients of testing; sitecustomize runs in other people's programs and imports nothing
    "cli": {"server", "settings", "wire", "errors", "causes", "limits", "testing", "token_service", "__init__"},
    "testing": {"server", "settings", "wire", "errors"},
    "__init__": set(),
    "__main__": {"cli"},
}
# `wire` turns bytes into values: it waits for nothing, reads no clock, opens nothing, and logs nothing.
IO = {
    "aiohttp",
    "asyncio",
    "concurrent",
    "ctypes",
    "datetime",
    "http",
    "importlib",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "socketserver",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "urllib.request",
    "uvloop",
}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc", "base", "shared"}
RUN_BY_ALEMBIC = Path("store/migrations/env.py")  # as a script, outside its package
# Adapters are named by the composition root alone.
ADAPTERS = ("store", "bus", "endpoints")


def part_of(path: Path) -> str:
    return path.with_suffix("").parts[0]


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse((PACKAGE / path).read_text())


def imports(path: Path) -> Iterator[tuple[ast.stmt, str, int]]:
    """Each import of a module: statement, dotted name as written, level (0: absolute)."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for each in node.names:
                yield node, each.name, 0
        elif isinstance(node, ast.ImportFrom):
            yield node, node.module or "", node.level


def imported(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line, and the imported module's path below hubkeep (empty parts left out); other packages are passed over."""
    folder = path.parent.parts
    for node, name, level in imports(path):
        below = tuple(name.split(".")) if name else ()
        if level:
            below = (*folder[: len(folder) - level + 1], *below)
        elif below[:1] == ("hubkeep",):
            below = below[1:]
        else:
            continue
        if not below and isinstance(node, ast.ImportFrom):  # from hubkeep import limits, __version__
            for each in node.names:
                is_part = each.name in MAY_IMPORT
                yield node.lineno, (each.name if is_part else "__init__",)
        else:
            yield node.lineno, below or ("__init__",)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_part_imports_only_what_lies_below_it(path: Path) -> None:
    part = part_of(path)
    assert part in MAY_IMPORT, f"{part} is no part of the table: docs/architecture.md, and here"
    wrong = [
        f"line {line}: {'.'.join(below)}" for line, below in imported(path) if below[0] not in MAY_IMPORT[part] | {part}
    ]
    assert not wrong, f"{part} may import {sorted(MAY_IMPORT[part])}"


@pytest.mark.parametrize("path", [each for each in MODULES if each != RUN_BY_ALEMBIC], ids=str)
def test_imports_are_relative_inside_a_part_and_absolute_across_parts(path: Path) -> None:
    part, depth = part_of(path), len(path.parts) - 1
    wrong = []
    for node, name, level in imports(path):
        if level > depth:
            wrong.append(f"line {node.lineno}: {'.' * level}{name} leaves the part")
        elif not level and name.split(".")[:2] == ["hubkeep", part]:
            wrong.append(f"line {node.lineno}: {name} is of the same part")
    assert not wrong


@pytest.mark.parametrize("path", [each for each in MODULES if part_of(each) == "wire"], ids=str)
def test_wire_does_no_io_and_knows_no_clock(path: Path) -> None:
    wrong = [name for _, name, level in imports(path) if not level and (name in IO or name.split(".")[0] in IO)]
    assert not wrong
    tree = tree_of(path)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


@pytest.mark.parametrize("path", [each for each in MODULES if part_of(each) in RULES | {"query", "model"}], ids=str)
def test_rules_know_no_wire_no_database_and_no_socket(path: Path) -> None:
    forbidden = {"aiohttp", "sqlite3", "sqlalchemy", "aiosqlite", "alembic", "socket", "ssl", "http", "psycopg", "nats"}
    assert not [name for _, name, level in imports(path) if not level and name.split(".")[0] in forbidden]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_only_the_composition_root_names_adapters(path: Path) -> None:
    part = part_of(path)
    if part == "server":
        return
    assert not [below for _, below in imported(path) if below[0] in ADAPTERS and below[0] != part]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_names_are_the_fields_own(path: Path) -> None:
    words = {word for part in path.with_suffix("").parts for word in part.split("_")}
    assert not words & FORBIDDEN_NAMES
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ClassDef):
            assert not node.name.endswith(("Manager", "Helper", "Helpers", "Utils", "Util")), node.name


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_says_what_it_is(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree) or not tree.body, "a module begins with what it is for"


def test_what_is_imported_is_asked_for_in_the_project_file() -> None:
    """A package that only comes along with another one is gone the day that the other drops it."""
    import tomllib

    project = tomllib.loads((PACKAGE.parent.parent / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    names = {each.lower().replace("-", "_").split("[")[0].split(">")[0].split("=")[0].strip() for each in wanted}
    # packages whose import name is another one, and those that only programs under test have
    names |= {"prometheus_client", "azure", "pydantic", "pytest", "certifi", "pkcs11", "uamqp", "jwt"}
    used = {
        name.split(".")[0].lower()
        for path in MODULES
        for _, name, level in imports(path)
        if not level and name.split(".")[0] not in {*sys.stdlib_module_names, "hubkeep"}
    }
    assert used <= names
