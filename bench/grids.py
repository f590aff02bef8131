"""The kept cells' pictures of one target side by side, the original first: docs/images/methods-TARGET.png.

Rows are the target, two of its neighbours and a held-out one; columns are the methods, three pictures of the same seeds each.

    python bench/grids.py --target "green heart"
"""

from __future__ import annotations

import argparse
import base64
import io
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from fade.benchmark.record import read_record
from fade.concepts import slug
from fade.files import write_whole
from fade.report.benchmark import grids_of

ACROSS = 5
"""Methods side by side."""


def draw(page: dict[str, Any], out: Path) -> None:
    """One figure of a target's pictures, ``page`` as `grids_of` gives it. Every picture keeps its own pixels."""
    down = -(-len(page["figures"]) // ACROSS)
    figure = Figure(figsize=(2.5 * ACROSS, 3.6 * down), layout="constrained")
    axes = figure.subplots(down, ACROSS, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    for axis, shown in zip(axes, page["figures"], strict=False):
        body = base64.b64decode(shown["uri"].partition(",")[2])
        axis.imshow(Image.open(io.BytesIO(body)).convert("RGB"), interpolation="nearest")
        axis.set_title(shown["name"], fontsize=10)
    for i, row in enumerate(page["rows"]):
        height = 1 - (i + 0.5) / len(page["rows"])
        axes[0].text(-0.02, height, row, rotation=90, ha="right", va="center", fontsize=7, transform=axes[0].transAxes)
    sheet = io.BytesIO()
    figure.savefig(sheet, format="png", dpi=110, metadata={"Software": None})
    write_whole(out, sheet.getvalue())


def main() -> None:
    """Draw one target's methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--cells", type=Path, default=Path("bench/cells"))
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    folder = asked.cells / slug(asked.target)
    pages = grids_of({asked.target: folder}, [cell for path in sorted(folder.glob("*.json")) if (cell := read_record(path))])
    if not pages:
        parser.error(f"{folder} holds no cell with pictures; `fade bench --targets {asked.target!r} --seeds 0` makes them.")
    out = asked.out or Path(f"docs/images/methods-{slug(asked.target)}.png")
    draw(pages[0], out)
    print(f"{out}: {', '.join(shown['name'] for shown in pages[0]['figures'])}")


if __name__ == "__main__":
    main()
