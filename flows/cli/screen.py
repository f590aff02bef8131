"""What a terminal shows: sentences, bars, tables, trees.

Every text of the commands goes through here. A text from outside (a name, a reason, a record, an error) is
shown as it is: no password, no markup, no emoji code, no control or invisible character takes effect."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fade.redact import redact
from fade.utils.text import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def console(*, stderr: bool = False) -> Console:
    """Where words go. ``:heart:`` in a text is no emoji."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, emoji=False)


def print_note(text: str) -> None:
    """A sentence, with rich markup, on the error stream; what is put into it goes through `escape`."""
    console(stderr=True).print(redact(text), soft_wrap=True)


def print_markup(text: str) -> None:
    """As `print_note`, on the output."""
    console().print(redact(text), soft_wrap=True)


def print_line(*lines: str) -> None:
    """Plain lines on the output."""
    for line in lines:
        print(shown(line))


def shown(text: str) -> str:
    """A text on one line, without passwords, its invisible characters as escapes."""
    return visible(redact(text))


def escape(text: str) -> str:
    """As `shown`, for a place where rich reads markup: brackets stay brackets."""
    from rich.markup import escape

    return escape(shown(text))


@contextmanager
def bars(silent: bool) -> Iterator[None]:
    """One bar a stage on the terminal's error stream; lines where that is a file; nothing with --json."""
    if silent:
        yield
        return
    from fade.utils import progress

    terminal = console(stderr=True)
    if not terminal.is_terminal:
        with progress.on_progress(progress.log_lines(sys.stderr)):
            yield
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    last = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # in 80 columns it gives way, not the numbers
    columns = (
        TextColumn("{task.description}", table_column=Column(min_width=11)),
        BarColumn(bar_width=16, table_column=Column(min_width=16)),
        MofNCompleteColumn(table_column=Column(min_width=9)),
        TimeElapsedColumn(table_column=Column(min_width=7)),
        TimeRemainingColumn(compact=True, table_column=Column(min_width=5)),
        TextColumn("[dim]{task.fields[text]}", table_column=last),
    )
    with Progress(*columns, console=terminal, expand=True) as progress_bars:
        stages: dict[str, Any] = {}

        def update(stage: str, done: int, total: int, text: str) -> None:
            if stage not in stages:
                for earlier in stages.values():
                    progress_bars.stop_task(earlier)
                stages[stage] = progress_bars.add_task(escape(stage), total=None, text="")
            progress_bars.update(stages[stage], completed=done, total=total or None, text=escape(text))

        with progress.on_progress(update):
            yield


def show_rows(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], note: str | None = None
) -> None:
    """A table of words and numbers; ``note`` stands below it."""
    table = _table(title, head, rows)
    table.caption = note and escape(note)
    console().print(table)


def show_tree(title: str, branches: Mapping[str, Iterable[tuple[str, str]]]) -> None:
    """A tree of two levels: ``branches`` name -> its leaves, each a label and a text."""
    from rich.tree import Tree

    tree = Tree(f"[bold]{escape(title)}[/]")
    for name, leaves in branches.items():
        branch = tree.add(f"[bold]{escape(name)}[/]")
        for label, text in leaves:
            branch.add(f"{escape(label)}  {escape(text)}")
    console().print(tree, soft_wrap=True)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table

    table = Table(title=escape(title))
    for i, name in enumerate(head):  # in 80 columns the heads give way, not the numbers
        widest = max((len(word) for row in rows for word in shown(row[i]).split()), default=0)
        table.add_column(escape(name), justify="right" if i else "left", overflow="fold", min_width=widest)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


_FULL_TITLES = {"A_heldout": "held-out neighbours"}
"""Titles where those of the registered metrics are short for a table's column."""


def show_metrics(result: dict[str, Any], title: str) -> None:
    """A run's accuracies before and after, with their intervals."""
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
    if (heldout := metrics.get("ERB_heldout")) is not None:
        table.add_row("ERB, held out", "", f"[bold]{heldout:.1f}[/]", _interval(spread["ERB_heldout"]), "")
    if (real := metrics.get("A_real")) is not None:
        ends, count = _interval(spread["A_real"]), str(n["target"])
        table.add_row("in its place, as real", f"{base['A_real']:.1f} %", f"{real:.1f} %", ends, count)
    console().print(table)


def _interval(ends: Sequence[float]) -> str:
    return f"{ends[0]:.1f} - {ends[1]:.1f}"
