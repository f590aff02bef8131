"""The pictures of the record's cells side by side, the original's first, three pictures of the same seeds
each.

Rows are the target, two of its neighbours and a held-out one. Of one target all methods:
docs/images/methods-TARGET.png; of one method several targets: docs/images/method-NAME.png.

The cells are those of --cells where it is given, else of the archived record (`fade bench --report-only`
pulls it).

    python bench/grids.py --target "green heart"
    python bench/grids.py --method fade/paper --method "esd/x + neighbours"
"""

from __future__ import annotations

import argparse
import base64
import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from fade.benchmark.archive import read_archive
from fade.benchmark.record import read_picture, read_record
from fade.data.vocabulary import slug
from fade.reporting.benchmark import grids_of
from fade.utils.files import write_whole

ACROSS = 5
"""Methods side by side."""
TARGETS = ("green heart", "oncoming taxi", "panda")
"""What a method's own figure shows: two tight families and a loose one."""


Picture = Callable[[str, str], bytes | None]
Cells = tuple[list[dict[str, Any]], Picture]


def cells_of(folder: Path | None, archive: Path, keys: frozenset[str]) -> Cells:
    """The cells of the record (its ``keys``) and what reads their pictures; cells of earlier settings lie
    there, too."""
    if folder is None:
        table = read_archive(archive)
        return [cell for cell in table.cells["cells"] if cell["key"] in keys], table.picture
    found = [
        cell
        for path in sorted(folder.glob("*/*.json"))
        if (cell := read_record(path)) and cell["key"] in keys
    ]
    return found, partial(read_picture, folder)


def page_of(cells: Cells, target: str) -> dict[str, Any] | None:
    """What the cells hold of one target, as `grids_of` gives it."""
    found, picture = cells
    pages = grids_of(picture, [cell for cell in found if cell["inputs"]["target"] == target])
    return pages[0] if pages else None


def of_method(page: dict[str, Any], arm: str) -> dict[str, Any] | None:
    """The page's original and the one method."""
    shown = {figure["name"]: figure for figure in page["figures"]}
    return {**page, "figures": [shown["original"], shown[arm]]} if {"original", arm} <= shown.keys() else None


def draw(pages: Sequence[dict[str, Any]], across: int, out: Path) -> None:
    """The pages' figures row by row, each page's rows named before its first. Every picture keeps its own
    pixels."""
    panels = [(i, page, shown) for page in pages for i, shown in enumerate(page["figures"])]
    down = -(-len(panels) // across)
    figure = Figure(figsize=(2.5 * across, 3.6 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    for axis, (i, page, shown) in zip(axes, panels, strict=False):
        body = base64.b64decode(shown["uri"].partition(",")[2])
        axis.imshow(Image.open(io.BytesIO(body)).convert("RGB"), interpolation="nearest")
        axis.set_title(shown["name"], fontsize=10)
        if i == 0:
            _name_rows(axis, page["rows"])
    sheet = io.BytesIO()
    figure.savefig(sheet, format="png", dpi=110, metadata={"Software": None})
    write_whole(out, sheet.getvalue())


def _name_rows(axis: Axes, rows: Sequence[str]) -> None:
    for i, row in enumerate(rows):
        height = 1 - (i + 0.5) / len(rows)
        name = row.replace(" ", "\n", 1) if len(row) > len("first quarter") else row
        axis.text(
            -0.02, height, name, rotation=90, ha="right", va="center", fontsize=7, transform=axis.transAxes
        )


def main() -> None:
    """Draw one target's methods, or some methods' targets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--target")
    wanted.add_argument("--method", action="append", metavar="NAME/VARIANT")
    parser.add_argument("--cells", type=Path, help="folder of cells, instead of the archive")
    parser.add_argument("--archive", type=Path, default=Path("bench/archive/cells.jsonl.xz"))
    parser.add_argument(
        "--record", type=Path, default=Path("bench/record/benchmark.json"), help="which of the cells"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder")
    asked = parser.parse_args()
    keys = frozenset(json.loads(asked.record.read_text(encoding="utf-8"))["cells"]["keys"])
    cells, source = cells_of(asked.cells, asked.archive, keys), asked.cells or asked.archive
    for arm in asked.method or []:
        pages = [
            page for target in TARGETS if (kept := page_of(cells, target)) and (page := of_method(kept, arm))
        ]
        if not pages:
            parser.error(
                f"{source} holds no picture of {arm}; `fade bench --methods {arm!r} --seeds 0` makes them."
            )
        out = asked.out / f"method-{slug(arm)}.png"
        draw(pages, 2 * len(pages), out)
        print(f"{out}: {', '.join(page['target'] for page in pages)}")
    if asked.target:
        page = page_of(cells, asked.target)
        if page is None:
            parser.error(
                f"{source} holds no picture of {asked.target}; `fade bench --targets {asked.target!r} --seeds 0` makes them."
            )
        out = asked.out / f"methods-{slug(asked.target)}.png"
        draw([page], ACROSS, out)
        print(f"{out}: {', '.join(shown['name'] for shown in page['figures'])}")


if __name__ == "__main__":
    main()
