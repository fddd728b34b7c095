"""Every command explains itself, with an example (src/hubkeep/cli/examples.py)."""

from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from hubkeep.cli.examples import EXAMPLES
from hubkeep.cli.main import app


def commands(group: typer.Typer, noun: str = "") -> Iterator[str]:
    for each in group.registered_commands:
        assert each.callback is not None
        yield f"{noun} {each.name or each.callback.__name__}".strip()
    for each in group.registered_groups:
        assert each.typer_instance is not None
        own = f"{noun} {each.name}".strip()
        if each.typer_instance.info.invoke_without_command is True:
            yield own
        yield from commands(each.typer_instance, own)


@pytest.mark.parametrize("words", list(commands(app)))
def test_help_ends_with_an_example(words: str) -> None:
    assert words in EXAMPLES, f"hubkeep {words} has no row in examples.py"
    shown = CliRunner().invoke(app, [*words.split(), "--help"])
    assert shown.exit_code == 0
    assert "Example:" in shown.output


def test_every_example_is_of_a_command() -> None:
    assert set(EXAMPLES) == set(commands(app))
