"""The evidence of one run, made readable: pictures, an HTML page, a model card. Never computes a metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.reporting.report_data import NeighborhoodLike, Pictures, Report, Row

if TYPE_CHECKING:
    from PIL import Image

    from fade.reporting.html import Encoded

__all__ = ["NeighborhoodLike", "Pictures", "Report", "Row", "draw_report", "write_report"]


def draw_report(
    report: Report, run_dir: Path, dark: Callable[[], Mapping[str, Encoded]] | None = None
) -> dict[str, Any]:
    """Write ``pictures/*.png`` and return the page's pictures for `write_report`: a page that is written
    twice is drawn once.

    ``dark``: waits for charts in the dark theme that somebody else draws meanwhile. Raises StorageError when
    the folder cannot be written."""
    from concurrent.futures import ThreadPoolExecutor

    from fade.reporting.canvas import LIGHT, png, write
    from fade.reporting.grids import before_after, strip
    from fade.reporting.html import draw, encoded_charts

    folder = run_dir / "pictures"

    def keep(name: str, image: Image.Image) -> None:
        write(png(image), folder / f"{name}.png")

    grids = {
        "before-after": before_after(report.rows, report.accuracies(), report.target),
        "neighbourhood": strip(report.neighborhood, report.mined),
    }
    with ThreadPoolExecutor(1) as beside:  # Pillow compresses without Python's lock, matplotlib draws with it
        written = [beside.submit(keep, name, image) for name, image in grids.items()]
        light = encoded_charts(report, LIGHT)
        for name, (_, data) in light.items():
            write(data, folder / f"{name}.png")
        drawn = draw(report, light, dark)
        for one in written:
            one.result()
    return drawn


def write_report(report: Report, run_dir: Path, drawn: dict[str, Any], *, base_model: str) -> Path:
    """Write card.md and report.html into ``run_dir``; returns the page's path.

    ``drawn``: what `draw_report` returned. ``base_model``: directory or hub id as the params name it, for the
    card. Raises StorageError when the folder cannot be written."""
    from fade.reporting.canvas import write
    from fade.reporting.card import card
    from fade.reporting.html import render

    pictures = [file.stem for file in sorted((run_dir / "pictures").glob("*.png"))]
    text = card(
        report.result, report.lineage, base_model=base_model, command=report.command, pictures=pictures
    )
    write(text.encode(), run_dir / "card.md")
    return write(render(report, drawn).encode(), run_dir / "report.html")
