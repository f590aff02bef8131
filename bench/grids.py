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

import numpy as np
from PIL import Image

from fade.benchmark.archive import read_archive
from fade.benchmark.record import read_picture, read_record
from fade.data.vocabulary import slug
from fade.reporting.benchmark import grids_of
from fade.reporting.image_grid import GridRow, image_grid, png
from fade.reporting.pictures import SMALL_GAP
from fade.utils.files import write_whole

ACROSS = 5
"""Methods side by side."""
SIDE = 96
"""Side of a picture, pixels."""
TARGETS = ("green heart", "oncoming taxi", "panda")
"""What a method's own figure shows: two tight families and a loose one."""


Picture = Callable[[str, str], bytes | None]
Cells = tuple[list[dict[str, Any]], Picture]


def cells_of(folder: Path | None, archive: Path, keys: frozenset[str]) -> Cells:
    """The record's cells (those with one of its ``keys``) and the function that reads their pictures."""
    if folder is None:
        table = read_archive(archive)
        return [cell for cell in table.cells["cells"] if cell["key"] in keys], table.picture
    cells = [
        cell
        for path in sorted(folder.glob("*/*.json"))
        if (cell := read_record(path)) and cell["key"] in keys
    ]
    return cells, partial(read_picture, folder)


def page_of(cells: Cells, target: str) -> dict[str, Any] | None:
    """What the cells hold of one target, as `grids_of` gives it."""
    records, picture = cells
    pages = grids_of(picture, [cell for cell in records if cell["inputs"]["target"] == target])
    return pages[0] if pages else None


def of_method(page: dict[str, Any], label: str) -> dict[str, Any] | None:
    """The page's original and the one method."""
    shown = {figure["name"]: figure for figure in page["figures"]}
    if not {"original", label} <= shown.keys():
        return None
    return {**page, "figures": [shown["original"], shown[label]]}


def rows_of(page: dict[str, Any], across: int) -> list[GridRow]:
    """The page's figures, ``across`` side by side, their names above and the concepts' left."""
    figures, rows = page["figures"], []
    for start in range(0, len(figures), across):
        some = figures[start : start + across]
        parts = [split(shown["uri"], len(page["rows"])) for shown in some]
        for i, concept in enumerate(page["rows"]):
            titles = () if i else [shown["name"] for shown in some]
            rows.append(GridRow([part[i] for part in parts], concept, titles=titles))
    return rows


def split(uri: str, count: int) -> list[np.ndarray]:
    """The ``count`` rows of a cell's PNG, uint8 (n, H, W, 3) each: the pictures that `cell_grid` laid out."""
    body = io.BytesIO(base64.b64decode(uri.partition(",")[2]))
    pixels = np.asarray(Image.open(body).convert("RGB"))
    pitch = (pixels.shape[0] + SMALL_GAP) // count
    side = pitch - SMALL_GAP  # pictures are square
    lefts = range(0, pixels.shape[1], pitch)
    return [
        np.stack([pixels[y : y + side, x : x + side] for x in lefts])
        for y in range(0, pixels.shape[0], pitch)
    ]


def draw(pages: Sequence[dict[str, Any]], across: int, out: Path) -> None:
    """The pages one below another, each with its methods' names. Every picture keeps its own pixels."""
    rows = [row for page in pages for row in rows_of(page, across)]
    image = image_grid(rows, side=SIDE, resample=Image.Resampling.NEAREST, gap=4, text_size=16, paper="white")
    write_whole(out, png(image))


def main() -> None:
    """Draw one target's methods, or some methods' targets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--target")
    choice.add_argument("--method", action="append", metavar="NAME/VARIANT")
    parser.add_argument("--cells", type=Path, help="folder of cells, instead of the archive")
    parser.add_argument("--archive", type=Path, default=Path("bench/archive/cells.jsonl.xz"))
    parser.add_argument(
        "--record", type=Path, default=Path("bench/record/benchmark.json"), help="which of the cells"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder")
    args = parser.parse_args()
    keys = frozenset(json.loads(args.record.read_text(encoding="utf-8"))["cells"]["keys"])
    cells, source = cells_of(args.cells, args.archive, keys), args.cells or args.archive
    for label in args.method or []:
        pages = [
            page
            for target in TARGETS
            if (whole := page_of(cells, target)) and (page := of_method(whole, label))
        ]
        if not pages:
            fix = f"`fade bench --methods {label!r} --seeds 0` makes them."
            parser.error(f"{source} holds no picture of {label}; {fix}")
        out = args.out / f"method-{slug(label)}.png"
        draw(pages, 2, out)
        print(f"{out}: {', '.join(page['target'] for page in pages)}")
    if args.target:
        page = page_of(cells, args.target)
        if page is None:
            parser.error(
                f"{source} holds no picture of {args.target}; "
                f"`fade bench --targets {args.target!r} --seeds 0` makes them."
            )
        out = args.out / f"methods-{slug(args.target)}.png"
        draw([page], ACROSS, out)
        print(f"{out}: {', '.join(shown['name'] for shown in page['figures'])}")


if __name__ == "__main__":
    main()
