"""Measure the embedded world and draw its pages: the numbers of docs/world.md.

python bench/world.py --out bench/results/world.json --pages docs/images
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fade.pretrain import drawings
from fade.pretrain.measure import measure
from fade.reporting import gallery
from fade.run.context import RunContext
from fade.run.resolve_params import load_params


def main() -> None:
    """Measure, print, and draw when asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--pages", type=Path, default=None)
    parser.add_argument("--set", action="append", default=[])
    asked = parser.parse_args()
    params = load_params(overrides=asked.set)
    run = RunContext(params, "", Path("runs"))
    numbers = measure(run)
    per = numbers["base"].pop("per_concept")
    print(json.dumps(numbers, indent=2))
    numbers["base"]["per_concept"] = per
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    if asked.pages:
        asked.pages.mkdir(parents=True, exist_ok=True)
        gallery.samples(run, asked.pages / "samples.png")
        gallery.styles(run, ("panda", "red apple"), asked.pages / "styles.png")
        drawings.contact_sheet(params.data.images, asked.pages / "contact-sheet.png")


if __name__ == "__main__":
    main()
