"""Do erasures of several concepts disturb one another? The same judged seeds under adapters made apart, in
one training, and added up.

Each target of a pair is judged, with its own neighbours, under four adapters: its own, one that was trained
on both, the sum of the two that were trained apart, and, as the control, the other target's alone. Neither is
a neighbour of the other.

    python bench/together.py --pair "kissing cat + pear" --try "method.name=fade method.variant=paper" \
        --try "method.name=nullspace method.variant=hinge" --out bench/results/together.json
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fade.adapters.compose import compose
from fade.data.vocabulary import TOGETHER
from fade.mining.neighborhood import Neighborhood
from fade.run.context import RunContext
from fade.run.resolve_params import load_params, resolve

MEASURED = ("A_er", "A_adj", "A_heldout", "A_rest")


def made(
    first: RunContext, overrides: Sequence[str], targets: Sequence[str]
) -> tuple[RunContext, Neighborhood, Path]:
    """An adapter that was trained on all ``targets`` in one run."""
    from fade.training.loop import train
    from tasks.stages.mine import mine
    from tasks.stages.train import write_job

    run = first.with_params(resolve(overrides=overrides), targets)
    neighborhood = mine(run)
    return run, neighborhood, train(write_job(run, neighborhood, {}), base=run.models.base)


def pair(first: RunContext, overrides: Sequence[str], targets: Sequence[str]) -> list[dict[str, Any]]:
    """A row for every target and adapter."""
    from tasks.stages.evaluate import evaluate_adapter

    alone = {target: made(first, overrides, [target])[2] for target in targets}
    run, both, joint = made(first, overrides, targets)
    summed = run.folder / "summed.safetensors"
    compose(run.models.base, list(alone.values()), summed)
    rows = []
    for part in both.parts:
        other = next(path for target, path in alone.items() if target != part.target)
        for how, adapter in {
            "alone": alone[part.target],
            "joint": joint,
            "summed": summed,
            "control": other,
        }.items():
            metrics = evaluate_adapter(run, part, adapter).numbers["metrics"]
            rows.append(
                {
                    "targets": list(targets),
                    "overrides": list(overrides),
                    "target": part.target,
                    "adapter": how,
                    "metrics": metrics,
                }
            )
            print(
                f"{part.target:20} {how:8}", "  ".join(f"{k} {metrics[k]:5.1f}" for k in MEASURED), flush=True
            )
    return rows


def main() -> None:
    """Every setting on every pair; a table as it goes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pair", dest="pairs", action="append", required=True, metavar="'A + B'")
    parser.add_argument("--try", dest="tries", action="append", default=[], metavar="OVERRIDES")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    pairs = [text.split(TOGETHER) for text in args.pairs]
    first = RunContext(load_params(), pairs[0][0], args.runs_dir)
    rows: list[dict[str, Any]] = []
    for text in args.tries or [""]:
        for targets in pairs:
            print(f"[{text or 'params.yaml'}] {TOGETHER.join(targets)}", flush=True)
            rows += pair(first, shlex.split(text), targets)
            if args.out:  # after each: it may be interrupted
                args.out.parent.mkdir(parents=True, exist_ok=True)
                args.out.write_text(json.dumps({"rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
