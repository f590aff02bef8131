"""A command's result on standard output: as JSON, or as words."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

from fade.redact import redact
from flows.cli.screen import console, escape


def emit(result: Any, as_json: bool, show: Callable[[Any], None]) -> None:
    """Print a command's result: as JSON whose texts hold no password, or by ``show``."""
    if as_json:
        print(json.dumps(_redacted(result), indent=2))
    else:
        show(result)


def show_words(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str | None] = ()
) -> None:
    """A table of words, where `flows.cli.screen.show_rows` is one of numbers. styles: one a row."""
    from rich.table import Table

    table = Table(title=escape(title))
    for name in head:
        table.add_column(escape(name), overflow="fold")
    for row, style in itertools.zip_longest(rows, styles):
        table.add_row(*map(escape, row), style=style)
    console().print(table)


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _redacted(one) for key, one in value.items()}
    return [_redacted(one) for one in value] if isinstance(value, list | tuple) else value
