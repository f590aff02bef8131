"""The page of the data checks: one self-contained HTML file. Renders what it is given and computes
nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).with_name("templates")
SHOWN_ROWS = 20


def render_checks(title: str, results: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """HTML of normalised results (see tasks.data.validate.Checks.results) under a title, with a few facts
    about the data.

    All text is escaped: names come from data sets.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    failed = [r for r in results if not r["success"]]
    order = {"critical": 0, "warning": 1}
    ordered = sorted(results, key=lambda r: (r["success"], order.get(r["severity"], 2)))
    counts = {
        "passed": len(results) - len(failed),
        "critical": sum(r["severity"] == "critical" for r in failed),
        "warning": sum(r["severity"] != "critical" for r in failed),
    }
    return env.get_template("checks.html").render(
        title=title, results=ordered, facts=facts, counts=counts, shown=SHOWN_ROWS
    )
