"""A drawing of two things, cut into the two: a judge of single drawings reads each of them. Ours."""

from __future__ import annotations

import numpy as np
from PIL import Image

INK = 232
"""A level of a colour below which a pixel is no paper."""


def two_things(pixels: np.ndarray) -> list[np.ndarray]:
    """The left and right, or upper and lower, part of a square picture (H, H, 3) uint8, each as large as a
    whole one.

    Cut along the line of the middle third across which the least is drawn; of several, the one with the most
    on its emptier side, then the one nearest the middle. A photograph, which has no paper, is halved."""
    ink, side = (pixels < INK).any(-1), len(pixels)
    cuts = []
    for axis, drawing in enumerate((ink.T, ink)):  # of columns, of rows
        amount = drawing.sum(1)
        for at in range(side // 3, side - side // 3):
            emptier = min(amount[:at].sum(), amount[at:].sum())
            cuts.append((int(amount[at]), -int(emptier), abs(at - side // 2), axis, at))
    *_, axis, at = min(cuts)
    parts = (pixels[:at], pixels[at:]) if axis else (pixels[:, :at], pixels[:, at:])
    return [enlarged(part, side) for part in parts]


def enlarged(part: np.ndarray, side: int) -> np.ndarray:
    """What is drawn in a part of a picture, its longer side ``side`` pixels, centred on white."""
    rows, columns = np.nonzero((part < INK).any(-1))
    if not len(rows):
        return np.full((side, side, 3), 255, np.uint8)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    size = max(bottom - top, right - left)
    square = np.full((size, size, 3), 255, np.uint8)
    y, x = (size - (bottom - top)) // 2, (size - (right - left)) // 2
    square[y : y + bottom - top, x : x + right - left] = part[top:bottom, left:right]
    return np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC))
