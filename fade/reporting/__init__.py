"""The evidence of one run, made readable: pictures, an HTML page, a model card. Never computes a metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fade.reporting.report_data import Pictures, Report, Row

__all__ = ["Pictures", "Report", "Row", "draw_report", "write_report"]


def draw_report(report: Report, run_dir: Path) -> dict[str, Any]:
    """Write the run's ``pictures/`` (grids as PNG, charts as SVG) and return the page's pictures for
    `write_report`.

    A page that is written twice is drawn once. Raises StorageError when the folder cannot be written.
    """
    from fade.reporting.card import GRIDS
    from fade.reporting.html import draw
    from fade.reporting.image_grid import png
    from fade.reporting.pictures import before_after, neighbourhood_grid
    from fade.utils.files import storage_error, write_whole

    folder = run_dir / "pictures"
    drawn = draw(report)
    bodies = {
        "before-after.png": png(before_after(report.rows, report.accuracies(), report.target)),
        "neighbourhood.png": png(neighbourhood_grid(report.neighborhood, report.mined)),
        **{f"{name}.svg": chart.file(GRIDS[name]).encode() for name, chart in drawn["charts"].items()},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder, "report") from error
    for name, body in bodies.items():
        write_whole(folder / name, body, stage="report")
    return drawn


def write_report(report: Report, run_dir: Path, drawn: dict[str, Any], *, base_model: str) -> Path:
    """Write card.md and report.html into ``run_dir``; returns the page's path.

    ``drawn``: what `draw_report` returned. ``base_model``: directory or hub id as the params name it, for the
    card. Raises StorageError when the folder cannot be written."""
    from fade.reporting.card import card
    from fade.reporting.html import render
    from fade.utils.files import write_whole

    pictures = sorted(file.name for file in (run_dir / "pictures").glob("*.*"))
    text = card(
        report.result, report.lineage, base_model=base_model, command=report.command, pictures=pictures
    )
    write_whole(run_dir / "card.md", text, stage="report")
    return write_whole(run_dir / "report.html", render(report, drawn), stage="report")
