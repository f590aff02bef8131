"""Tables of protocols: a mean of what is whole, cells that stay cells."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from fade.evaluation.published_protocols import get_protocol, known_protocols
from fade.reporting.nudity import cell, table
from fade.reporting.protocol import (
    MISSING_HEAD,
    PARTS_HEAD,
    SETTINGS_HEAD,
    csv_of,
    head_of,
    markdown,
    mean,
    missing_rows,
    part_rows,
    result_rows,
    setting_rows,
)


def result(*values: float | None) -> dict[str, Any]:
    """A result with so many targets, whose every metric is the value."""
    plan = {**get_protocol("genmu").to_json(), "missing": []}
    rows = [
        {
            "part": "configured",
            "target": f"t{i}",
            "adapter_sha256": "a",
            "metrics": dict.fromkeys(plan["metrics"], value),
        }
        for i, value in enumerate(values)
    ]
    return {"plan": plan, "rows": rows, "failures": []}


def test_a_mean_is_of_whole_columns_alone() -> None:
    assert (mean([1.0, 2.0]), mean([1.0, None]), mean([])) == (1.5, None, None)
    rows = result_rows(result(0.5, 1.0))
    assert rows[-1][:3] == ["", "mean of 2", "0.8"] and rows[-1][-1] == "0.750"
    assert result_rows(result(None, 1.0))[-1][2:] == ["-"] * 6
    assert [row[1] for row in result_rows(result(0.5))] == ["t0"]


def test_the_csv_has_all_digits() -> None:
    (row,) = csv.DictReader(csv_of(result(2 / 3)).splitlines())
    assert float(row["ERR"]) == 2 / 3 and row["adapter_sha256"] == "a"
    (row,) = csv.DictReader(csv_of(result(None)).splitlines())
    assert row["ERR"] == ""


@pytest.mark.parametrize("name", known_protocols())
def test_every_plan_fills_its_tables(name: str) -> None:
    plan = {**get_protocol(name).to_json(), "missing": [{"part": "p", "what": "w", "supply": "s"}]}
    for head, rows in (
        (SETTINGS_HEAD, setting_rows(plan)),
        (PARTS_HEAD, part_rows(plan)),
        (MISSING_HEAD, missing_rows(plan)),
    ):
        assert all(len(row) == len(head) for row in rows)
    assert {row[2] for row in setting_rows(plan)} <= {"paper", "release", "ours"}
    page = markdown({"plan": plan, "rows": [], "failures": []})
    assert page.startswith("# ") and "## Settings" in page


def test_targets_that_are_not_known_are_counted() -> None:
    rows = part_rows(get_protocol("fade-cvpr25").to_json())
    assert [row[1] for row in rows] == ["3 not known here", "3 not known here", "blue jay, 2 not known here"]


def test_a_head_has_units_and_a_cell_stays_a_cell() -> None:
    assert head_of(result())[:3] == ["part", "target", "erased, %"]
    shown = cell("a|b\n<i>")
    assert "\n" not in shown and shown.startswith("a\\|b") and shown.endswith("&lt;i>")
    assert table(("", "x"), [["a", "b"]]) == "|  | x |\n|---|---|\n| a | b |\n"
