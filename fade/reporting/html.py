"""The report of one run: its page, its card, and the pictures beside them. Shows numbers, computes none."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fade.evaluation.metrics import at_path
from fade.reporting.card import GRIDS, card
from fade.reporting.charts import charts
from fade.reporting.graph import lineage_graph
from fade.reporting.image_grid import GridRow, image_grid, png
from fade.reporting.page import data_uri, render_template
from fade.reporting.pictures import before_after, neighbourhood_grid
from fade.reporting.report_data import ROLES, Pictures, Report, members
from fade.reporting.verdict import findings, headline, metric_rows
from fade.utils.files import storage_error, write_whole

THUMBNAIL = 128
"""Longest side of a picture in the page, pixels; smaller ones stay as they are."""
ROWS_NAMED = 5
"""Failing rows that the page names; the checks' own page has all of them."""
FAILED = {"critical": "failed", "warning": "warning", "info": "note"}


def write_pictures(report: Report, run_dir: Path) -> dict[str, Any]:
    """Write the run's ``pictures/`` (grids as PNG, charts as SVG) and return `page_pictures`: a page that is
    written twice needs them once. Raises StorageError when the folder cannot be written."""
    folder = run_dir / "pictures"
    pictures = page_pictures(report)
    grid = before_after(report.rows, report.accuracies(), str(report.result["target"]))
    bodies = {
        "before-after.png": png(grid),
        "neighbourhood.png": png(neighbourhood_grid(report.neighborhood, report.mined)),
        **{f"{name}.svg": chart.file(GRIDS[name]) for name, chart in pictures["charts"].items()},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder, "report") from error
    for name, body in bodies.items():
        write_whole(folder / name, body, stage="report")
    return pictures


def write_report(report: Report, run_dir: Path, pictures: Mapping[str, Any], *, base_model: str) -> Path:
    """Write report.html and, of what was made here, card.md into ``run_dir``; returns the page's path.

    ``pictures``: what `write_pictures` returned. ``base_model``: directory or hub id as the params name it,
    for the card. Raises StorageError when the folder cannot be written."""
    files = sorted(file.name for file in (run_dir / "pictures").glob("*.*"))
    if not report.foreign:  # what was not made here gets no model card
        facts: dict[str, str] = {"base_model": base_model, "command": report.command}
        text = card(report.result, report.lineage, **facts, pictures=files)
        write_whole(run_dir / "card.md", text, stage="report")
    return write_whole(run_dir / "report.html", render(report, pictures), stage="report")


def page_pictures(report: Report) -> dict[str, Any]:
    """What the page shows beside words: pictures as data: URIs (the mined ones by concept, base and erased of
    each row, a substitute and the real one nearest to it), and the charts."""
    return {
        "mined": {name: _side_by_side(picture[None]) for name, picture in report.mined.items()},
        "rows": [(_side_by_side(row.base), _side_by_side(row.erased)) for row in report.rows],
        "disputed": [_side_by_side(one.pixels[None]) for one in report.disputed],
        "substitutes": [
            (_side_by_side(one.pixels[None]), _side_by_side(one.nearest[None])) for one in report.substitutes
        ],
        "charts": charts(report),
    }


def _side_by_side(pictures: Pictures) -> str:
    """Pictures (n, H, W, 3) in one transparent row, at most THUMBNAIL pixels high, as a data: URI."""
    return data_uri(png(image_grid([GridRow([pictures])], side=THUMBNAIL, enlarge=False, gap=4, paper="")))


def render(report: Report, pictures: Mapping[str, Any] | None = None) -> str:
    """The page. It holds no clock of its own. ``pictures``: see `page_pictures`."""
    result, lineage = report.result, report.lineage
    level, line = headline(result)
    return render_template(
        "report.html",
        report=report,
        result=result,
        lineage=lineage,
        at=partial(at_path, lineage),
        members=members(report.neighborhood),
        scores=report.accuracies(),
        roles=ROLES,
        level=level,
        line=line,
        findings=findings(result),
        metrics=metric_rows(result),
        others=metric_rows(result, first_table=False),
        per_concept=sorted(result["per_concept"], key=lambda e: list(ROLES).index(e["role"])),
        checks_of=checks_of,
        graph=lineage_graph(lineage, result),
        seconds=seconds,
        **(pictures or page_pictures(report)),
    )


def checks_of(stage: Mapping[str, Any]) -> list[dict[str, str]]:
    """The results of one checks JSON (``checks/*.json``) as rows: title, severity, state, observed."""
    rows = []
    for item in stage.get("results", []):
        severity = str(item.get("severity", "critical"))
        state = "passed" if item.get("success") else FAILED.get(severity, "failed")
        observed = str(item.get("error") or item.get("observed") or "")
        if not item.get("success") and item.get("rows"):
            more = int(item.get("unexpected", len(item["rows"]))) - ROWS_NAMED
            observed += ": " + ", ".join(str(row["row"]) for row in item["rows"][:ROWS_NAMED])
            observed += f" and {more} more" if more > 0 else ""
        title = str(item.get("title") or item["name"])
        rows.append({"title": title, "severity": severity, "state": state, "observed": observed})
    return rows


def seconds(value: float) -> str:
    """``75.2`` -> ``"1 min 15 s"``, ``3.14`` -> ``"3.1 s"``."""
    minutes, rest = divmod(round(value), 60)
    return f"{value:.1f} s" if value < 60 else f"{minutes} min {rest:02d} s"
