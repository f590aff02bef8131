"""The evidence of one run, made readable: pictures, an HTML page, a model card. Never computes a metric."""

from __future__ import annotations

from pathlib import Path

from fade.report.data import NeighborhoodLike, Pictures, Report, Row

__all__ = ["NeighborhoodLike", "Pictures", "Report", "Row", "write_report"]


def write_report(report: Report, run_dir: Path, *, base_model: str) -> Path:
    """Draw everything into ``run_dir``: pictures/*.png, card.md, report.html; returns the page's path.

    ``base_model``: directory or hub id as the params name it, for the card. Raises StorageError when the folder cannot be written.
    """
    from fade.report.canvas import png, write
    from fade.report.card import card
    from fade.report.charts import charts
    from fade.report.grids import before_after, strip
    from fade.report.html import render

    light = charts(report)
    grids = {
        "before-after": before_after(report.rows, report.accuracies(), report.target),
        "neighbourhood": strip(report.neighborhood, report.mined),
    }
    for name, image in {**grids, **light}.items():
        write(png(image), run_dir / "pictures" / f"{name}.png")
    text = card(report.result, report.lineage, base_model=base_model, command=report.command)
    write(text.encode(), run_dir / "card.md")
    return write(render(report, light).encode(), run_dir / "report.html")
