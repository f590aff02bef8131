"""Compare losses in the network's own output and in noise (train.loss_in) on a world's tuning targets.

Every method of WEIGHTS is trained in both with its main weight as configured, halved and doubled, on each
target of `bench.tuning` under the overrides of `bench.trial`. On a base that predicts noise the two are one,
and own alone is measured. A finished cell stays in --out, whatever base it is of, and is measured again only
when its settings or models have changed.

    python bench/spaces.py --world emoji --out bench/results/spaces.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from fade.errors import DivergedError
from fade.models.base import DiffusionModel
from fade.run.context import RunContext
from fade.run.resolve_params import method_overrides, resolve
from fade.run.worlds import world_overrides
from fade.utils.files import make_folder, read_json, write_json

PARAMS = Path("params.yaml")
WEIGHTS = {
    "fade/paper": "erase_weight",
    "nullspace/hinge": "erase_weight",
    "esd/x": "eta",  # its erase_weight scales the only term there is, and AdamW's steps have no scale
    "surgical/guidance": "guidance_weight",
}
"""Method -> the knob that says how strongly it erases."""
FACTORS = (1.0, 0.5, 2.0)
"""Of that knob's value in params.yaml."""
SPACES = ("own", "noise")
METRICS = ("A_er", "A_adj", "A_heldout", "ERB")
BASE_METRICS = ("A_tar", "A_adj", "A_heldout")
PLACE = ("base", "method", "factor", "target", "loss_in")
"""What names a cell."""

Row = dict[str, Any]


def cells(base: str, targets: Sequence[str], spaces: Sequence[str]) -> list[Row]:
    """The place of every cell: the configured weights first, the spaces of one weight beside each other."""
    places = product(FACTORS, WEIGHTS, targets, spaces)
    return [dict(zip(PLACE, (base, method, factor, *rest), strict=True)) for factor, method, *rest in places]


def overrides_of(cell: Row, overrides: Sequence[str], path: Path = PARAMS) -> list[str]:
    """A cell's settings; ``overrides``: the world's and the user's."""
    plain = [*overrides, *method_overrides(cell["method"])]
    configured, knob = resolve(path, plain), WEIGHTS[cell["method"]]
    weight = cell["factor"] * getattr(configured.method, knob)
    own = [f"method.{knob}={weight}", f"train.loss_in={cell['loss_in']}"]
    return [*configured.bench.trial, *plain, *own]


def predicts_noise(base: DiffusionModel) -> bool:
    """Whether the noise in x_t is the network's own output."""
    x, t, _ = base.example(torch.Generator().manual_seed(0))
    return torch.equal(base.to_noise(x, x, t), x)


def measure(run: RunContext) -> Row:
    """Mine, train and judge one cell; ``failed`` where the training diverged."""
    from fade.training.loop import train
    from tasks.stages.evaluate import evaluate
    from tasks.stages.mine import mine
    from tasks.stages.train import write_job

    neighborhood = mine(run)
    try:
        adapter = train(write_job(run, neighborhood, {}), base=run.models.base)
    except DivergedError as error:
        return {"failed": error.what}
    numbers = evaluate(run, neighborhood, adapter).numbers
    kept = {"metrics": METRICS, "base_metrics": BASE_METRICS}
    return {part: {name: numbers[part][name] for name in names} for part, names in kept.items()}


def measure_all(first: RunContext, overrides: Sequence[str], out: Path, path: Path = PARAMS) -> list[Row]:
    """Every cell of the base of ``first``; ``out`` is written after each. Returns the rows of ``out``."""
    rows: list[Row] = (read_json(out) or {}).get("rows", [])
    spaces = SPACES[:1] if predicts_noise(first.models.base) else SPACES
    places = cells(str(first.params.data.base), first.params.bench.tuning, spaces)
    make_folder(out.parent)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=len(places))
        for place in places:
            label = ", ".join(str(place[name]) for name in PLACE[1:])
            progress.update(bar, description=label)
            run = first.with_params(resolve(path, overrides_of(place, overrides, path)), place["target"])
            earlier = [row for row in rows if all(row[name] == place[name] for name in PLACE)]
            if not any(row["key"] == run.key for row in earlier):
                row = {**place, "key": run.key, **measure(run)}
                rows = [*(one for one in rows if one not in earlier), row]
                write_json(out, {"rows": rows})
                numbers = row.get("metrics", {}).items()
                result = "  ".join(f"{name} {value}" for name, value in numbers) or "diverged"
                progress.console.print(f"{label}: {result}")  # for a log: there is no bar in one
            progress.advance(bar)
    return rows


def main() -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", help="of params.yaml; without it, the default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of every cell")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("bench/results/spaces.json"))
    args = parser.parse_args()
    overrides = args.set
    if args.world is not None:
        overrides = world_overrides(PARAMS, args.world, args.set, here=True)
    params = resolve(PARAMS, overrides)
    first = RunContext(params, params.bench.tuning[0], args.runs_dir)
    rows = measure_all(first, overrides, args.out)
    print(f"{args.out}: {len(rows)} cells; `python bench/tables.py` writes their table.")


if __name__ == "__main__":
    main()
