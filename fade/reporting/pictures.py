"""The pictures of a run, a release and a benchmark cell, as rows of `image_grid`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from fade.errors import EvaluationError
from fade.reporting.image_grid import GridRow, image_grid, png
from fade.reporting.report_data import ROLES, Pictures, Row, members
from fade.reporting.theme import percent

if TYPE_CHECKING:
    from fade.mining.neighborhood import Neighborhood

SIDE = 152
"""Side of a picture in a run's and a release's grids, pixels."""
SMALL_SIDE, SMALL_GAP, SMALL_COLOURS = 64, 2, 64
"""Of a benchmark cell's grid: longest side of a picture and space between pictures in pixels, colours."""
ACROSS = 11
"""Pictures side by side in the picture of a neighbourhood."""
RELEASE_PICTURES = 3
"""Pictures of each concept by each model in the picture of a release."""


def before_after(
    rows: Sequence[Row], accuracies: Mapping[str, tuple[float, float]], target: str, *, side: int = SIDE
) -> Image.Image:
    """One row a concept: the original model's pictures left, the erased model's right, in the order of the
    seeds.

    ``accuracies``: concept -> (base, erased) in %, beside each block; ``side``: of a picture, in pixels.
    Raises EvaluationError when there is no picture or the two blocks of a row differ in number."""
    grid = []
    for i, row in enumerate(rows):
        if len(row.base) != len(row.erased) or not len(row.base):
            counts = f"{len(row.base)} pictures before, {len(row.erased)} after"
            what = f"{row.concept}: {counts}: the same seeds are needed."
            raise EvaluationError(what, stage="report", action="evaluate both models on the same latents.")
        titles = () if i else ("Original model", "Erased model")
        notes = [percent(value) for value in accuracies.get(row.concept, ())]
        grid.append(GridRow((row.base, row.erased), row.concept, row.role, titles, notes))
    note = "The same seeds in the same order. Percentages: how many of all judged pictures the judge "
    note += "recognises as the row's concept."
    return image_grid(grid, side=side, title=f"Before and after erasing “{target}”", note=note)


def neighbourhood_grid(
    neighborhood: Neighborhood, mined: Mapping[str, Pictures], *, side: int = SIDE, across: int = ACROSS
) -> Image.Image:
    """The targets, their neighbours and the held-out ones: name, cosine to the target, one mined picture.

    ``mined``: concept -> picture (H, W, 3); a concept without one is left out. ``across``: pictures of a row.
    Raises EvaluationError when there is no picture."""
    titles = {
        name: name if role == "target" else f"{name} {neighborhood.similarities[name]:.3f}"
        for name, role in members(neighborhood)
    }
    grid = []
    for role in ROLES:
        names = [name for name, of in members(neighborhood) if of == role and name in mined]
        for start in range(0, len(names), across):
            some = names[start : start + across]
            pictures = [mined[name][None] for name in some]
            grid.append(GridRow(pictures, role=role, titles=[titles[name] for name in some]))
    title = f"“{neighborhood.target}” and its neighbourhood"
    return image_grid(grid, side=side, title=title, note="Numbers: cosine to the target.")


@dataclass(frozen=True)
class ReleaseRow:
    """One concept's pictures by three models, from the same latents. uint8 (n, H, W, 3) each."""

    concept: str
    role: str
    base: Pictures
    alone: Pictures
    """By ``champion`` alone."""
    release: Pictures
    champion: str


def release_grid(rows: Sequence[ReleaseRow], *, side: int = SIDE) -> Image.Image:
    """One row a concept: the original, its champion alone, and the release. Each champion's first row has
    titles. Raises EvaluationError when there is no picture."""
    grid, champion = [], ""
    for row in rows:
        titles = ("Original model", f"Champion alone {row.champion}", "Release")
        blocks = (row.base, row.alone, row.release)
        grid.append(GridRow(blocks, row.concept, row.role, titles if row.champion != champion else ()))
        champion = row.champion
    note = "Erased concepts and their nearest neighbours; the same seeds in the same order."
    return image_grid(grid, side=side, title="What the release keeps of its parts", note=note)


def cell_grid(rows: Sequence[Pictures]) -> bytes:
    """PNG of a benchmark cell's pictures, rows of uint8 (n, H, W, 3); the same pictures give the same
    bytes."""
    grid = [GridRow([row]) for row in rows]
    image = image_grid(grid, side=SMALL_SIDE, enlarge=False, gap=SMALL_GAP, paper="white")
    return png(image, SMALL_COLOURS)
