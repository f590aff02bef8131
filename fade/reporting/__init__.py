"""The evidence of one run, made readable: pictures, an HTML page, a model card. Never computes a metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fade.reporting.report_data import NeighborhoodLike, Pictures, Report, Row

__all__ = ["NeighborhoodLike", "Pictures", "Report", "Row", "draw_report", "write_report"]


def draw_report(report: Report, run_dir: Path) -> dict[str, Any]:
    """Write the run's ``pictures/`` (grids as PNG, charts as SVG) and return the page's pictures for
    `write_report`.

    A page that is written twice is drawn once. Raises StorageError when the folder cannot be written.
    """
    from fade.reporting.canvas import png, write
    from fade.reporting.card import GRIDS
    from fade.reporting.grids import before_after, strip
    from fade.reporting.html import draw

    folder = run_dir / "pictures"
    grids = {
        "before-after": before_after(report.rows, report.accuracies(), report.target),
        "neighbourhood": strip(report.neighborhood, report.mined),
    }
    for name, image in grids.items():
        write(png(image), folder / f"{name}.png")
    drawn = draw(report)
    for name, chart in drawn["charts"].items():
        write(chart.file(GRIDS[name]).encode(), folder / f"{name}.svg")
    return drawn


def write_report(report: Report, run_dir: Path, drawn: dict[str, Any], *, base_model: str) -> Path:
    """Write card.md and report.html into ``run_dir``; returns the page's path.

    ``drawn``: what `draw_report` returned. ``base_model``: directory or hub id as the params name it, for the
    card. Raises StorageError when the folder cannot be written."""
    from fade.reporting.canvas import write
    from fade.reporting.card import card
    from fade.reporting.html import render

    pictures = sorted(file.name for file in (run_dir / "pictures").glob("*.*"))
    text = card(
        report.result, report.lineage, base_model=base_model, command=report.command, pictures=pictures
    )
    write(text.encode(), run_dir / "card.md")
    return write(render(report, drawn).encode(), run_dir / "report.html")
