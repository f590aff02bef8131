"""Pages of the world for people to look at: every concept, one concept in every style, the contact sheet, a
before/after grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fade.data.vocabulary import fill
from fade.pretrain.measure import EACH, SEED
from fade.run.context import RunContext

LABEL = 190  # pixels


def samples(run: RunContext, out: Path, each: int = 4) -> None:
    """Every concept by ``each`` seeds, drawn by the base, names beside, two concepts a row."""
    names = run.vocabulary.names
    prompts = [fill(run.params.sampler.prompt, n) for n in names]
    drawn = run.generator.draw(
        prompts, [SEED + i for i in range(EACH)]
    )  # those that were judged, from the cache
    _page([(n, list(drawn[p].pixels[:each])) for n, p in zip(names, prompts, strict=True)], out, columns=3)


def styles(run: RunContext, concepts: Sequence[str], out: Path, each: int = 4) -> None:
    """Each concept in every training style: one row a style."""
    rows = []
    for concept in concepts:
        prompts = [fill(run.params.sampler.prompt, concept, s) for s in run.vocabulary.styles]
        drawn = run.generator.draw(prompts, [SEED + i for i in range(each)])
        rows += [
            (f"{concept}, {s}", list(drawn[p].pixels))
            for s, p in zip(run.vocabulary.styles, prompts, strict=True)
        ]
    _page(rows, out, columns=len(concepts))


def _page(rows: Sequence[tuple[str, Sequence[np.ndarray]]], out: Path, columns: int, gap: int = 2) -> None:
    """Labelled strips of pictures (H, W, 3) uint8, filled column by column."""
    side = rows[0][1][0].shape[0] + gap
    height = -(-len(rows) // columns)
    block = LABEL + side * len(rows[0][1]) + 8
    page = Image.new("RGB", (columns * block, height * side + gap), "white")
    pen = ImageDraw.Draw(page)
    for place, (label, pictures) in enumerate(rows):
        x, y = (place // height) * block, gap + (place % height) * side
        pen.text((x + 6, y + side // 2 - 6), label, fill="black")
        for i, picture in enumerate(pictures):
            page.paste(Image.fromarray(picture), (x + LABEL + i * side, y))
    out.parent.mkdir(parents=True, exist_ok=True)
    page.save(out, optimize=True)
