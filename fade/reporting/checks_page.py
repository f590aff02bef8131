"""The page of the data checks: one self-contained HTML file. Renders what it is given and computes
nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fade.reporting.page import templates

SHOWN_ROWS = 20


def render_checks(title: str, results: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """HTML of normalised results (see tasks.data.validate.Checks.results) under a title, with a few facts
    about the data.

    All text is escaped: names come from data sets.
    """
    failed = [r for r in results if not r["success"]]
    order = {"critical": 0, "warning": 1}
    ordered = sorted(results, key=lambda r: (r["success"], order.get(r["severity"], 2)))
    counts = {
        "passed": len(results) - len(failed),
        "critical": sum(r["severity"] == "critical" for r in failed),
        "warning": sum(r["severity"] != "critical" for r in failed),
    }
    return (
        templates()
        .get_template("checks.html")
        .render(title=title, results=ordered, facts=facts, counts=counts, shown=SHOWN_ROWS)
    )
