"""The page of an audit: ONE HTML file with everything that a third person needs; no script, no network. Shows
numbers, computes none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fade.governance.audit import GOOD
from fade.reporting.page import data_uri, templates
from fade.reporting.theme import DARK, LIGHT

PICTURES = {"recorded": "as it was registered", "again": "made again by the audit"}
ROWS = 40
"""Differences that the page names; audit.json has all."""


def render_audit(content: Mapping[str, Any], folder: Path) -> str:
    """The page of ``audit.json``. ``folder``: holds its pictures, ``recorded.png`` and ``again.png``, as far
    as there are any."""
    verdict = content["verdict"]
    pictures = [
        {"title": title, "uri": data_uri((folder / f"{name}.png").read_bytes())}
        for name, title in PICTURES.items()
        if (folder / f"{name}.png").is_file()
    ]
    differences = [{**one, "kind": kind} for kind in ("differences", "reasons") for one in verdict[kind]]
    return (
        templates()
        .get_template("audit.html")
        .render(
            audit=content,
            level="good" if verdict["name"] in GOOD else "bad",
            differences=differences[:ROWS],
            more=max(0, len(differences) - ROWS),
            metrics=metrics(content),
            pictures=pictures,
            light=LIGHT,
            dark=DARK,
        )
    )


def metrics(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a metric: recorded, again (None where it was not made again)."""
    if not content["recorded"]:
        return []
    record, again = content["recorded"]["lineage"]["outputs"], (content["again"] or {}).get("outputs", {})
    return [
        {"name": f"{prefix}{name}", "recorded": value, "again": (again.get(section) or {}).get(name)}
        for section, prefix in (("metrics", ""), ("base_metrics", "original "))
        for name, value in (record.get(section) or {}).items()
    ]
