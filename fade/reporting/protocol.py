"""A protocol's plan and its table, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fade.evaluation.protocols import column
from fade.evaluation.published import setting_row
from fade.reporting.nudity import cell, table

SETTINGS_HEAD = ("setting", "value", "source", "note")
PARTS_HEAD = ("part", "targets", "source", "set by the part (ours)")
MISSING_HEAD = ("part", "missing", "what to supply")


def setting_rows(plan: Mapping[str, Any]) -> list[list[str]]:
    """One row a setting, under SETTINGS_HEAD."""
    return [setting_row(one) for one in plan["settings"]]


def part_rows(plan: Mapping[str, Any]) -> list[list[str]]:
    """One row a part of the protocol, under PARTS_HEAD."""
    rows = []
    for part in plan["parts"]:
        unknown = max(0, part["count"] - len(part["targets"]))
        names = [*part["targets"], *([f"{unknown} not known here"] if unknown else [])]
        places = ", ".join(f"{one['key']} = {setting_row(one)[1]}" for one in part["settings"])
        rows.append([f"{part['name']}: {part['title']}", ", ".join(names), part["source"], places])
    return rows


def missing_rows(plan: Mapping[str, Any]) -> list[list[str]]:
    """One row a missing thing, under MISSING_HEAD."""
    return [[one["part"], one["what"], one["supply"]] for one in plan["missing"]]


def head_of(result: Mapping[str, Any]) -> list[str]:
    """Head of a result's table: part, target, and the metrics with their units."""
    names = []
    for name in result["plan"]["metrics"]:
        title, unit, _ = column(name)
        names.append(f"{title}, {unit}" if unit else title)
    return ["part", "target", *names]


def result_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """One row a target, and their mean where there are several."""
    metrics = result["plan"]["metrics"]
    rows = [
        [row["part"], row["target"], *(_digits(name, row["metrics"][name]) for name in metrics)]
        for row in result["rows"]
    ]
    if len(result["rows"]) > 1:
        means = [_digits(name, mean(row["metrics"][name] for row in result["rows"])) for name in metrics]
        rows.append(["", f"mean of {len(result['rows'])}", *means])
    return rows


def mean(values: Iterable[float | None]) -> float | None:
    """The mean; None where a value is missing."""
    numbers = list(values)
    known = [one for one in numbers if one is not None]
    return sum(known) / len(known) if known and len(known) == len(numbers) else None


def csv_of(result: Mapping[str, Any]) -> str:
    """The targets' numbers with all their digits."""
    stream, metrics = io.StringIO(newline=""), result["plan"]["metrics"]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["part", "target", *metrics, "adapter_sha256"])
    for row in result["rows"]:
        numbers = ["" if row["metrics"][name] is None else repr(row["metrics"][name]) for name in metrics]
        writer.writerow([row["part"], row["target"], *numbers, row["adapter_sha256"]])
    return stream.getvalue()


def markdown(result: Mapping[str, Any]) -> str:
    """The table, what is published to hold it against, what failed, and all settings with their sources."""
    plan = result["plan"]
    lines = [f"# {cell(plan['title'])}", "", f"`{plan['name']}`; {cell(plan['citation'])}.", ""]
    if result["rows"]:
        lines += [table(head_of(result), result_rows(result))]
    lines += _list("Published", plan["results"])
    failed = [f"{one['part']}, {one['target']}: {one['why']}" for one in result["failures"]]
    lines += _list("Failed", failed)
    lines += ["## Settings", "", table(SETTINGS_HEAD, setting_rows(plan))]
    if plan["parts"]:
        lines += ["## Targets", "", table(PARTS_HEAD, part_rows(plan))]
    lines += _list("Not published, or not measured here", plan["gaps"])
    return "\n".join(lines)


def _list(title: str, items: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {cell(one)}" for one in items), ""] if items else []


def _digits(name: str, value: float | None) -> str:
    return "-" if value is None else f"{value:.{column(name)[2]}f}"
