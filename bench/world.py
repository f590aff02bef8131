"""Measure the embedded world and draw its pages: the numbers of docs/world.md.

python bench/world.py --out bench/results/world.json --pages docs/images
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fade.data.manifest import read_manifest
from fade.data.vocabulary import fill
from fade.pretrain.drawings import MANIFEST
from fade.pretrain.measure import EACH, SEED, measure
from fade.reporting.image_grid import GridRow, image_grid
from fade.run.context import RunContext
from fade.run.resolve_params import load_params

SHOWN = 4
"""Pictures of each concept."""
SIDE = 64
"""Side of a picture in pixels: as the base draws it."""


def samples(run: RunContext, out: Path, columns: int = 3) -> None:
    """Every concept by the first seeds, drawn by the base, ``columns`` concepts a row."""
    names = run.vocabulary.names
    prompts = [fill(run.params.sampler.prompt, name) for name in names]
    generated = run.generator.generate(
        prompts, [SEED + i for i in range(EACH)]
    )  # as measured: from the cache
    blocks = {name: generated[prompt].pixels[:SHOWN] for name, prompt in zip(names, prompts, strict=True)}
    save_page(_titled(blocks, columns), out)


def styles(run: RunContext, concepts: Sequence[str], out: Path) -> None:
    """Each concept in every training style: one row a style."""
    rows = []
    for i, style in enumerate(run.vocabulary.styles):
        prompts = [fill(run.params.sampler.prompt, concept, style) for concept in concepts]
        generated = run.generator.generate(prompts, [SEED + i for i in range(SHOWN)])
        blocks = [generated[prompt].pixels for prompt in prompts]
        rows.append(GridRow(blocks, style, titles=() if i else concepts))
    save_page(rows, out)


def contact_sheet(images: Path, out: Path, columns: int = 3) -> None:
    """Every drawing of the data, a concept a block, its styles in one order: a wrong mapping can be seen."""
    frame = read_manifest(images / MANIFEST)
    names = list(dict.fromkeys(frame["style"]))
    blocks = {}
    for concept, some in frame.groupby("concept", sort=False):
        block = np.full((len(names), SIDE, SIDE, 3), 255, np.uint8)  # white where the style lacks the concept
        for path, style in zip(some["path"], some["style"], strict=True):
            block[names.index(style)] = np.asarray(Image.open(images / path).convert("RGB"))
        blocks[str(concept)] = block
    save_page(_titled(blocks, columns), out, f"From left to right: {', '.join(names)}.")


def _titled(blocks: Mapping[str, np.ndarray], columns: int) -> list[GridRow]:
    """``columns`` blocks a row, filled column by column, each below its name."""
    names = list(blocks)
    height = -(-len(names) // columns)
    rows = [names[start::height] for start in range(height)]
    return [GridRow([blocks[name] for name in row], titles=row) for row in rows]


def save_page(rows: Sequence[GridRow], out: Path, note: str = "") -> None:
    """Write the pictures in their own pixels, black on white, with small text."""
    page = image_grid(rows, side=SIDE, gap=2, text_size=13, paper="white", note=note)
    page.save(out, optimize=True)


def main() -> None:
    """Measure, print, and draw when asked."""
    from tasks.data.pull import pictures_md5

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--pages", type=Path, default=None)
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    params = load_params(overrides=args.set)
    run = RunContext(params, "", Path("runs"))
    numbers = {"data_md5": pictures_md5(params.data, run.root), **measure(run)}
    per = numbers["base"].pop("per_concept")
    print(json.dumps(numbers, indent=2))
    numbers["base"]["per_concept"] = per
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    if args.pages:
        args.pages.mkdir(parents=True, exist_ok=True)
        samples(run, args.pages / "samples.png")
        styles(run, ("panda", "red apple"), args.pages / "styles.png")
        contact_sheet(params.data.images, args.pages / "contact-sheet.png")


if __name__ == "__main__":
    main()
