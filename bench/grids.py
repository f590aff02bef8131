"""The kept cells' pictures of one target side by side, the original first: docs/images/methods-TARGET.png.

Rows are the target, two of its neighbours and a held-out one; columns are the methods, three pictures of the same seeds each.

    python bench/grids.py --target "green heart"
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from fade.concepts import slug
from fade.files import write_whole


def cells_of(folder: Path) -> list[dict[str, Any]]:
    """The folder's cells that have pictures, newest of each arm, by arm."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime):
        cell = json.loads(path.read_text(encoding="utf-8"))
        if cell.get("grid"):
            found[cell["inputs"]["arm"]] = cell
    return [found[arm] for arm in sorted(found)]


def draw(folder: Path, cells: list[dict[str, Any]], out: Path) -> None:
    """One figure. Every picture keeps its own pixels."""
    import io

    first = cells[0]["grid"]
    shown = [("original", first["original"]["file"]), *((cell["inputs"]["arm"], cell["grid"]["erased"]["file"]) for cell in cells)]
    across = 5
    down = -(-len(shown) // across)
    figure = Figure(figsize=(2.5 * across, 3.6 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, name) in zip(axes, shown, strict=False):
        picture = Image.open(folder / name).convert("RGB")
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=10)
    for i, row in enumerate(first["rows"]):
        height = 1 / len(first["rows"])
        axes[0].text(-0.02, 1 - (i + 0.5) * height, row, rotation=90, ha="right", va="center", fontsize=7, transform=axes[0].transAxes)
    body = io.BytesIO()
    figure.savefig(body, format="png", dpi=110, metadata={"Software": None})
    write_whole(out, body.getvalue())


def main() -> None:
    """Draw one target's methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--cells", type=Path, default=Path("bench/cells"))
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    folder = asked.cells / slug(asked.target)
    cells = cells_of(folder)
    if not cells:
        parser.error(f"{folder} holds no cell with pictures; `fade bench --targets {asked.target!r} --seeds 0` makes them.")
    out = asked.out or Path(f"docs/images/methods-{slug(asked.target)}.png")
    draw(folder, cells, out)
    print(f"{out}: {', '.join(cell['inputs']['arm'] for cell in cells)}")


if __name__ == "__main__":
    main()
