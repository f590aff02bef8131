"""Pictures of pictures: the before/after grid and the strip of a target with its neighbours."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from fade.errors import EvaluationError
from fade.reporting.canvas import LIGHT, Theme, bar, paste, percent, rule, sheet, text, tile, width_of, wrap
from fade.reporting.report_data import ROLES, NeighborhoodLike, Pictures, Row

MARGIN = 28.0
LABEL = 168.0
SCORE = 62.0
GAP = 5.0


def before_after(
    rows: Sequence[Row],
    accuracies: Mapping[str, tuple[float, float]],
    target: str,
    *,
    side: float = 76,
    theme: Theme = LIGHT,
) -> Image.Image:
    """One line a concept: the original model's pictures left, the erased model's right, the same seeds in the
    same order.

    ``accuracies``: concept -> (base, erased) in %, printed beside each block; ``side``: a picture's side in
    layout pixels. Raises EvaluationError when there is nothing to draw or the two blocks of a line differ in
    number."""
    if not rows:
        raise EvaluationError(
            "there are no pictures to draw.", stage="report", action="give at least the target's row."
        )
    for row in rows:
        if len(row.base) != len(row.erased) or not len(row.base):
            what = f"{row.concept}: {len(row.base)} pictures before, {len(row.erased)} after: the same seeds are needed."
            raise EvaluationError(what, stage="report", action="evaluate both models on the same latents.")
    n = max(len(row.base) for row in rows)
    block = n * side + (n - 1) * GAP
    left = MARGIN + LABEL
    right = left + block + SCORE + 18
    width = right + block + SCORE + MARGIN
    top, pitch = 122.0, side + 11
    breaks = sum(a.role != b.role for a, b in itertools.pairwise(rows)) * 15
    image, draw = sheet(width, top + len(rows) * pitch + breaks + MARGIN - 8, theme)
    text(draw, MARGIN, 44, f"Before and after erasing “{target}”", 20, theme.ink, bold=True)
    note = "Percentages: how many of all judged pictures the judge recognises as the line's concept."
    for i, line in enumerate(wrap(note, 11, width - 2 * MARGIN)):
        text(draw, MARGIN, 66 + 15 * i, line, 11, theme.muted)
    for x, title, note in ((left, "Original model", ""), (right, "Erased model", "same seeds, same order")):
        text(draw, x, 106, title, 12.5, theme.ink, bold=True)
        text(
            draw,
            x + width_of(title, 12.5, bold=True) + 9,
            106,
            _fitting(note, block + SCORE, title),
            11,
            theme.muted,
        )
    y = top
    for index, row in enumerate(rows):
        if index and rows[index - 1].role != row.role:
            rule(draw, MARGIN, y + 2, width - 2 * MARGIN, theme.line)
            y += 15
        label(draw, row.concept, row.role, y, side, theme)
        base, erased = accuracies.get(row.concept, (None, None))
        for x, pictures, score in ((left, row.base, base), (right, row.erased, erased)):
            for i, picture in enumerate(pictures):
                paste(image, tile(picture, side), x + i * (side + GAP), y, theme.line)
            if score is not None:
                _score(draw, x + block + 12, y, side, score, theme.role(row.role), theme)
        y += pitch
    return image


def _fitting(note: str, width: float, title: str) -> str:
    return note if width_of(title, 12.5, bold=True) + 9 + width_of(note, 11) <= width else ""


def label(draw: ImageDraw.ImageDraw, concept: str, role: str, y: float, side: float, theme: Theme) -> None:
    """The name of a line's concept and its role, left of its pictures."""
    colour = theme.role(role)
    lines = wrap(concept, 12.5, LABEL - 28, bold=True, lines=3)
    height = 17 * len(lines) + 15
    start = y + (side - height) / 2
    bar(draw, MARGIN, y + 2, 3, side - 4, colour, radius=1.5)
    for i, line in enumerate(lines):
        text(draw, MARGIN + 13, start + 13 + 17 * i, line, 12.5, theme.ink, bold=True)
    text(draw, MARGIN + 13, start + 13 + 17 * len(lines), ROLES.get(role, role), 10.5, colour)


def _score(
    draw: ImageDraw.ImageDraw, x: float, y: float, side: float, score: float, colour: str, theme: Theme
) -> None:
    words = percent(score)
    middle = y + side / 2
    text(draw, x, middle + 2, words, 13, theme.ink, bold=True)
    bar(draw, x, middle + 10, 42, 4, theme.line, radius=2)
    bar(draw, x, middle + 10, max(42 * score / 100, 4 if score else 0), 4, colour, radius=2)


def strip(
    neighborhood: NeighborhoodLike,
    mined: Mapping[str, Pictures],
    *,
    side: float = 92,
    columns: int = 11,
    theme: Theme = LIGHT,
) -> Image.Image:
    """The target, its neighbours and the held-out ones, one mined picture (H, W, 3) each, with the cosine to
    the target."""
    members = [
        *((n, "target") for n in neighborhood.targets),
        *((n, "adjacent") for n in neighborhood.neighbours),
    ]
    members += [(n, "heldout") for n in neighborhood.heldout]
    members = [(name, role) for name, role in members if name in mined]
    if not members:
        raise EvaluationError(
            "no mined picture of the neighbourhood was given.", stage="report", action="mine it again."
        )
    columns = min(columns, len(members))
    pitch, cell = side + 14, side + 86
    lines = -(-len(members) // columns)
    wide = max(columns * pitch - 14, 460)
    image, draw = sheet(2 * MARGIN + wide, 66 + lines * cell + 4, theme)
    text(draw, MARGIN, 42, f"“{neighborhood.target}” and its neighbourhood", 17, theme.ink, bold=True)
    for index, (name, role) in enumerate(members):
        x, y = MARGIN + (index % columns) * pitch, 64 + (index // columns) * cell
        bar(draw, x, y, side, 3, theme.role(role), radius=1.5)
        paste(image, tile(mined[name], side), x, y + 8, theme.line)
        role_words = (
            ROLES[role] if role == "target" else f"{ROLES[role]} {neighborhood.similarities[name]:.3f}"
        )
        text(draw, x, y + side + 23, role_words, 9.5, theme.role(role))
        for i, line in enumerate(wrap(name, 10.5, side + 6, bold=True, lines=3)):
            text(draw, x, y + side + 38 + 14 * i, line, 10.5, theme.ink, bold=True)
    return image
