"""What commands print: tables for people, JSON for programs."""

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON value on one line; in full on a terminal."""
    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False), flush=True)


def print_plain(text: str = "") -> None:
    """Text as it is, for pasting: no markup, no wrapping."""
    out.print(text, markup=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table that fits the terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(highlight=False).print(table)


def print_list(
    found: Sequence[Any], columns: Sequence[str], rows: Iterable[Sequence[object]], *, none: str, as_json: bool
) -> None:
    """What the hub answered a list with. rows: of ``found``, read for the table alone. none: said where it is empty."""
    if as_json:
        print_json(found)
    elif not found:
        print_plain(none)
    else:
        print_table(columns, rows)


def print_fields(fields: Mapping[str, object]) -> None:
    """Names and values in two columns; empty values are left out."""
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        if value not in {None, ""}:
            print_plain(f"{name:<{width}}  {value}")


@contextlib.contextmanager
def progress_bar(
    what: str, total: int | None, counted: ProgressColumn | None = None, *, shown: bool = True
) -> Iterator[tuple[Progress, TaskID]]:
    """A bar on standard error; nothing where that is no terminal, or if it is not to be ``shown``.

    total: None while it is not known. counted: how far it is, in other words than so many of so many.
    """
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), counted or MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as progress:
        yield progress, progress.add_task(what, total=total)
