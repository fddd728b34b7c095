"""``hubkeep help``: the documentation that comes with the package, without a network."""

from pathlib import Path
from typing import Annotated

import typer

from .failure import MISUSED, CommandFailure
from .output import out, print_plain

_PACKAGE = Path(__file__).parent.parent


def help_command(
    topic: Annotated[str, typer.Argument(help="A topic of the list that 'hubkeep help topics' prints.")] = "topics",
) -> None:
    """Read the documentation. Without a topic: what there is to read."""
    found = topics()
    if topic == "topics":
        for name, path in found.items():
            print_plain(f"{name:36} {_title(path)}")
        return
    wanted = [path for name, path in found.items() if topic in {name, name.rpartition("/")[2]}]
    if not wanted:
        raise CommandFailure(f"there is no topic {topic!r}", "hubkeep help topics", MISUSED)
    text = wanted[0].read_text()
    if out.is_terminal:
        from rich.markdown import Markdown  # noqa: PLC0415  # slow to import, and the other commands need none

        out.print(Markdown(text))
    else:
        print_plain(text)


def topics() -> dict[str, Path]:
    """Topic to page. Installed, they lie in the package; in a clone, beside the sources."""
    for folder in (_PACKAGE / "docs", _PACKAGE.parent.parent / "docs"):
        if folder.is_dir():
            pages = sorted(folder.rglob("*.md"))
            return {str(path.relative_to(folder).with_suffix("")): path for path in pages}
    return {}


def _title(path: Path) -> str:
    with path.open() as lines:
        return next((line.lstrip("# ").strip() for line in lines if line.startswith("#")), "")
