"""The picture of a release: the original, each champion alone, and all of them added up, the same seeds in
three blocks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from fade.errors import EvaluationError
from fade.reporting.canvas import LIGHT, Theme, paste, rule, sheet, text, tile, wrap
from fade.reporting.grids import GAP, LABEL, MARGIN, label
from fade.reporting.report_data import Pictures

SHOWN = 3
"""Pictures of each concept in each block."""
_BETWEEN, _HEAD = 26.0, 24.0


@dataclass(frozen=True)
class Trio:
    """One concept's pictures by three models, from the same latents. uint8 (n, H, W, 3) each."""

    concept: str
    role: str
    base: Pictures
    alone: Pictures
    release: Pictures
    by: str
    """The champion of the second block."""


def trios(rows: Sequence[Trio], *, side: float = 76, theme: Theme = LIGHT) -> Image.Image:
    """One line a concept; a rule and its name where the next champion begins. Raises EvaluationError when
    there is nothing to draw."""
    if not rows:
        raise EvaluationError(
            "there are no pictures to draw.", stage="report", action="give at least one concept's row."
        )
    n = max(len(row.base) for row in rows)
    block = n * side + (n - 1) * GAP
    starts = [MARGIN + LABEL + i * (block + _BETWEEN) for i in range(3)]
    groups = [(by, list(some)) for by, some in itertools.groupby(rows, key=lambda row: row.by)]
    pitch, top, width = side + 11, 112.0, starts[-1] + block + MARGIN
    image, draw = sheet(width, top + len(rows) * pitch + len(groups) * _HEAD + MARGIN - 8, theme)
    text(draw, MARGIN, 44, "What the release keeps of its parts", 20, theme.ink, bold=True)
    note = "Erased concepts and their nearest neighbours; the same seeds in the same order."
    for i, line in enumerate(wrap(note, 11, width - 2 * MARGIN)):
        text(draw, MARGIN, 66 + 15 * i, line, 11, theme.muted)
    for x, title in zip(starts, ("Original model", "Champion alone", "Release"), strict=True):
        text(draw, x, 106, title, 12.5, theme.ink, bold=True)
    y = top
    for by, some in groups:
        rule(draw, MARGIN, y + 2, width - 2 * MARGIN, theme.line)
        text(draw, starts[1], y + 17, by, 10.5, theme.muted)
        y += _HEAD
        for row in some:
            label(draw, row.concept, row.role, y, side, theme)
            for x, pictures in zip(starts, (row.base, row.alone, row.release), strict=True):
                for i, picture in enumerate(pictures):
                    paste(image, tile(picture, side), x + i * (side + GAP), y, theme.line)
            y += pitch
    return image
