"""The evidence of one run, made readable: pictures, an HTML page, a model card. Never computes a metric."""

from __future__ import annotations

from pathlib import Path

from fade.report.data import NeighborhoodLike, Pictures, Report, Row

__all__ = ["NeighborhoodLike", "Pictures", "Report", "Row", "write_pictures", "write_report"]


def write_report(report: Report, run_dir: Path, *, base_model: str) -> Path:
    """Draw everything into ``run_dir``: pictures/*.png, card.md, report.html; returns the page's path.

    ``base_model``: directory or hub id as the params name it, for the card. Raises StorageError when the folder cannot be written.
    """
    from fade.report.canvas import write
    from fade.report.card import card
    from fade.report.html import render

    write_pictures(report, run_dir / "pictures")
    text = card(report.result, report.lineage, base_model=base_model, command=report.command)
    write(text.encode(), run_dir / "card.md")
    return write(render(report).encode(), run_dir / "report.html")


def write_pictures(report: Report, folder: Path) -> dict[str, Path]:
    """The five pictures as PNG files, by name; "losses" is left out when there is no history."""
    from fade.report.canvas import png, write
    from fade.report.charts import confusion_bar, heatmap, losses
    from fade.report.grids import before_after, strip

    result = report.result
    drawn = {
        "before-after": before_after(report.rows, report.accuracies(), report.target),
        "neighbourhood": strip(report.neighborhood, report.mined),
        "heatmap": heatmap(report.neighborhood),
        "confusion": confusion_bar(result["confusion"], result.get("base_confusion", []), report.target, report.roles),
    }
    if report.history:
        drawn["losses"] = losses(report.history)
    return {name: write(png(image), folder / f"{name}.png") for name, image in drawn.items()}
