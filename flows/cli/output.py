"""A command's result on standard output: as JSON, or as words."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

from flows.cli.screen import escape


def emit(result: Any, as_json: bool, show: Callable[[Any], None]) -> None:
    """Print a command's result: as JSON, or by ``show``."""
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


def show_words(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str | None] = ()
) -> None:
    """A table of words, where `flows.cli.screen.show_rows` is one of numbers. styles: one a row."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for name in head:
        table.add_column(name, overflow="fold")
    for row, style in itertools.zip_longest(rows, styles):
        table.add_row(*map(escape, row), style=style)
    Console().print(table)
