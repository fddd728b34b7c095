"""The tables that everything relies on are whole: errors, operations, limits, settings."""

import ast
import re
import tomllib
from pathlib import Path

import pydantic
import pytest

import hubkeep
from hubkeep import errors, limits
from hubkeep.connection.https.api import openapi_document, paths_of
from hubkeep.connection.https.api.document import ROWS as DESCRIBED
from hubkeep.connection.operations import BY_NAME, OPERATIONS, allows
from hubkeep.errors import ON_WIRE, HubError
from hubkeep.limits import Limit
from hubkeep.model import Permission
from hubkeep.settings import Settings
from hubkeep.store.tables import HEAD

PACKAGE = Path(hubkeep.__file__).parent
PERMISSIONS = tomllib.loads((Path(__file__).parents[1] / "security" / "permissions.toml").read_text())
CONDITION = re.compile(r"(amqp|com\.microsoft):[a-z-]+(:[a-z-]+)?")


def below(kind: type) -> set[type]:
    return {kind}.union(*(below(each) for each in kind.__subclasses__()))


# -- errors ----------------------------------------------------------------------------------------------------------


def test_every_refusal_has_a_row() -> None:
    ours = {each for each in below(HubError) - {HubError} if each.__module__.startswith("hubkeep.")}
    assert ours == set(ON_WIRE)


@pytest.mark.parametrize("kind", ON_WIRE, ids=lambda kind: kind.__name__)
def test_a_row_says_the_refusal_on_every_surface(kind: type[HubError]) -> None:
    row = ON_WIRE[kind]
    assert 400 <= row.http <= 599
    assert 400_000 <= row.number <= 599_999
    assert re.fullmatch("[A-Z][A-Za-z]+", row.name)
    assert CONDITION.fullmatch(row.amqp)
    assert row.connack in {2, 3, 5}, "1 makes clients fall back to MQTT 3.1, 4 ends one of them for good"
    assert kind.text.endswith(".")
    assert ";" not in kind.text, "clients split the text there"
    assert kind.__doc__ or kind.text


def test_one_number_has_one_name_and_one_name_one_number() -> None:
    rows = [*ON_WIRE.values(), errors.BUG]
    assert (
        len({row.number for row in rows})
        == len({row.name for row in rows})
        == len({(row.number, row.name) for row in rows})
    )


def test_what_is_no_refusal_tells_nothing() -> None:
    assert errors.on_wire(ValueError("a secret")) == errors.BUG


# -- operations ------------------------------------------------------------------------------------------------------


def test_operations_have_names_and_addresses_of_their_own() -> None:
    assert len(BY_NAME) == len(OPERATIONS)
    assert len({(each.surface, each.address) for each in OPERATIONS}) == len(OPERATIONS)


def test_every_https_operation_is_described() -> None:
    """src/hubkeep/connection/https/api: a row beside each row of the table."""
    names = {each.name for each in OPERATIONS if each.surface == "https"}
    assert set(DESCRIBED) == names
    assert sorted(paths_of().values()) == sorted(names)
    ids = [each["operationId"] for methods in openapi_document()["paths"].values() for each in methods.values()]
    assert sorted(ids) == sorted(each.replace("/", ".") for each in names)


def test_every_https_operation_stands_in_the_list_of_permissions() -> None:
    """tests/security/permissions.toml, written from the specification and not from the table."""
    listed = {re.sub(r"\{\w+\}", "{}", each.lower()) for each in PERMISSIONS["https"]}
    wanted = {re.sub(r"\{\w+\}", "{}", each.address.lower()) for each in OPERATIONS if each.surface == "https"}
    assert wanted <= listed


def test_what_is_open_to_anybody_says_why() -> None:
    assert {each.name for each in OPERATIONS if not each.any_of} == {
        "cbs",
        "admin/openapi",
        "admin/trust-bundle",
        "trust/bundle",
        "files/write",
        "people/sign-in",
        *(f"people/{each}" for each in ("page", "login", "callback", "logout")),
        "revocation/list",
        "revocation/ask",
        "revocation/ask/get",
        *(
            f"est/{each}{label}"
            for each in ("cacerts", "csrattrs", "serverkeygen", "fullcmc")
            for label in ("", "/label")
        ),
    }
    assert all(each.note for each in OPERATIONS if not each.any_of)
    assert all(allows(Permission(0), each) == (not each.any_of) for each in OPERATIONS)


def named_in_code() -> set[str]:
    """Every text in `connection` that is the name of an operation: where it is handled or asked for."""
    found: set[str] = set()
    for path in (PACKAGE / "connection").rglob("*.py"):
        if path.name != "operations.py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return found


def test_every_operation_has_a_handler() -> None:
    assert set(BY_NAME) <= named_in_code()


def endpoints_in_code() -> set[str]:
    """First arguments of every Endpoint(...): the HTTPS handlers."""
    return {
        node.args[0].value
        for path in (PACKAGE / "connection" / "https").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Endpoint"
        and isinstance(node.args[0], ast.Constant)
    }


def test_https_handlers_and_operations_are_the_same_set() -> None:
    assert endpoints_in_code() == {each.name for each in OPERATIONS if each.surface == "https"}


def authorized_in_code() -> set[str]:
    """What is asked of ``authorize`` by name: each must be a row, or nobody is let in."""
    asked: set[str] = set()
    for path in (PACKAGE / "connection").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "authorize":
                asked |= {each.value for each in node.args if isinstance(each, ast.Constant)}
    return asked


def test_what_is_authorized_is_an_operation() -> None:
    assert authorized_in_code() <= set(BY_NAME)


def test_addresses_that_limit_to_an_identity_need_its_right() -> None:
    for each in OPERATIONS:
        if "{device}" in each.address:
            assert each.any_of == (Permission.DEVICE_CONNECT,), each.name


# -- limits and settings ---------------------------------------------------------------------------------------------

LIMITS = {name: value for name, value in vars(limits).items() if isinstance(value, Limit)}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_has_a_unit_and_a_source(name: str) -> None:
    limit = LIMITS[name]
    assert limit.value > 0
    assert len(limit.unit) > 3
    assert limit.source


def test_limits_in_force_are_the_defaults() -> None:
    in_force = limits.Limits()
    for name in in_force.__slots__:
        assert getattr(in_force, name) == LIMITS[name.upper()].value


def settings_of(model: type[pydantic.BaseModel], before: str = "") -> dict[str, str | None]:
    """Dotted name of every setting to its description; of a section, those of its own."""
    found: dict[str, str | None] = {}
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, pydantic.BaseModel):
            assert inner.__doc__, f"{before}{name}: a section says what it is for"
            found |= settings_of(inner, f"{before}{name}.")
        else:
            found[before + name] = field.description
    return found


def test_every_setting_is_described() -> None:
    described = settings_of(Settings)
    assert len(described) > 15
    assert not [name for name, text in described.items() if not text or not text.endswith(".")]


# -- migrations ------------------------------------------------------------------------------------------------------


def test_migrations_are_one_chain_that_ends_at_the_tables() -> None:
    follows: dict[str | None, str] = {}
    for path in sorted((PACKAGE / "store/migrations/versions").glob("v*.py")):
        text = path.read_text()
        revision = re.search(r'^revision = "(\d{4})"$', text, re.MULTILINE)
        before = re.search(r'^down_revision(?:: [^=]+)? = (?:"(\d{4})"|None)$', text, re.MULTILINE)
        assert revision is not None, path.name
        assert before is not None, path.name
        assert path.name.startswith(f"v{revision[1]}_"), path.name
        assert before[1] not in follows, (
            f"{path.name} and v{follows[before[1]]} both follow {before[1]}: number it anew"
        )
        follows[before[1]] = revision[1]
    newest: str | None = None
    for _ in range(len(follows)):
        newest = follows.pop(newest)
    assert newest == HEAD
