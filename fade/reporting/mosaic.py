"""Pictures side by side as one small PNG of few colours: what the benchmark keeps of a cell to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from fade.reporting.canvas import png
from fade.reporting.report_data import Pictures

SIDE = 64
"""Longest side of a picture, pixels."""
COLOURS = 64
GAP = 2


def mosaic(rows: Sequence[Pictures]) -> bytes:
    """PNG of rows of pictures, each (n, H, W, 3) uint8, white between them; the same pictures give the same
    bytes."""
    tiles = [[_small(picture) for picture in row] for row in rows]
    width, height = tiles[0][0].size
    sheet = Image.new(
        "RGB", (max(map(len, tiles)) * (width + GAP) - GAP, len(tiles) * (height + GAP) - GAP), "white"
    )
    for i, row in enumerate(tiles):
        for j, tile in enumerate(row):
            sheet.paste(tile, (j * (width + GAP), i * (height + GAP)))
    return png(sheet.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE))


def _small(picture: Pictures) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image
