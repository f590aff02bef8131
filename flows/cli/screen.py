"""What a terminal shows: sentences, bars, tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def print_note(text: str) -> None:
    """A sentence, with rich markup, on the error stream."""
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(text)


def escape(text: str) -> str:
    """``text`` as it is, whatever brackets it holds."""
    from rich.markup import escape

    return escape(text)


@contextmanager
def bars(silent: bool) -> Iterator[None]:
    """One bar a stage on the terminal's error stream; lines where that is a file; nothing with --json."""
    if silent:
        yield
        return
    from rich.console import Console

    from fade.utils import progress

    console = Console(stderr=True)
    if not console.is_terminal:
        with progress.on_progress(progress.log_lines(sys.stderr)):
            yield
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    last = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # in 80 columns it gives way, not the numbers
    columns = (
        TextColumn("{task.description}", table_column=Column(min_width=11)),
        BarColumn(bar_width=16, table_column=Column(min_width=16)),
        MofNCompleteColumn(table_column=Column(min_width=9)),
        TimeElapsedColumn(table_column=Column(min_width=7)),
        TextColumn("[dim]{task.fields[text]}", table_column=last),
    )
    with Progress(*columns, console=console, expand=True) as progress_bars:
        stages: dict[str, Any] = {}

        def update(stage: str, done: int, total: int, text: str) -> None:
            if stage not in stages:
                for earlier in stages.values():
                    progress_bars.stop_task(earlier)
                stages[stage] = progress_bars.add_task(stage, total=None, text="")
            progress_bars.update(stages[stage], completed=done, total=total or None, text=text)

        with progress.on_progress(update):
            yield


def show_rows(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], note: str | None = None
) -> None:
    """A table of words and numbers; ``note`` stands below it."""
    from rich.console import Console

    table = _table(title, head, rows)
    table.caption = note and escape(note)
    Console().print(table)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table

    table = Table(title=title)
    for i, name in enumerate(head):  # in 80 columns the heads give way, not the numbers
        widest = max((len(word) for row in rows for word in row[i].split()), default=0)
        table.add_column(name, justify="right" if i else "left", overflow="fold", min_width=widest)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


_FULL_TITLES = {"A_heldout": "held-out neighbours"}
"""Titles where those of the registered metrics are short for a table's column."""


def show_metrics(result: dict[str, Any], title: str) -> None:
    """A run's accuracies before and after, with their intervals."""
    from rich.console import Console

    from fade.evaluation.metrics import report_rows

    metrics, base, spread, n = (result[key] for key in ("metrics", "base_metrics", "intervals", "n"))
    low, high = spread["A_er"]
    measured = [
        ("target recognised", base["A_tar"], 100 - metrics["A_er"], (100 - high, 100 - low), n["target"])
    ]
    for metric, row in report_rows(first_table=True):
        if metric.role == "retention":
            name, key = _FULL_TITLES.get(metric.name, metric.title), metric.name
            measured.append((name, base[row.base_name], metrics[key], spread[key], n[row.group]))
    rows = []
    for name, before, after, interval, count in measured:
        if before is None or after is None:  # a group without concepts: k_heldout or rest_concepts is 0
            rows.append([name, "-", "-", "-", "0"])
        else:
            rows.append([name, f"{before:.1f} %", f"{after:.1f} %", _interval(interval), str(count)])
    table = _table(title, ("", "original", "erased", "95 % interval", "pictures"), rows)
    table.add_section()
    table.add_row("ERB", "", f"[bold]{metrics['ERB']:.1f}[/]", _interval(spread["ERB"]), "")
    Console().print(table)


def _interval(ends: Sequence[float]) -> str:
    return f"{ends[0]:.1f} - {ends[1]:.1f}"
