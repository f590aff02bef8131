"""Compare settings on the tuning targets, in one process: the same base, the same mined pictures, the same
judged seeds.

Each --try is one setting: overrides of params.yaml, separated by blanks; an empty one is params.yaml itself.
The reported targets of bench/targets.py are refused.

    python bench/tune.py --try "" --try "train.lr=1e-3 method.adjacency_weight=10" --out
    bench/results/tuning.json

--probe attacks every model too, and asks it by indirect prompts: A_adv, each attack's success, A_indirect and
ERR."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
from targets import REPORTED, TUNING

from fade.run.context import RunContext
from fade.run.resolve_params import load_params, resolve

MEASURED = ("A_er", "A_adj", "A_heldout", "A_rest", "ERB")
ROLES = ("adjacent", "heldout", "rest")
"""Whose pictures' likeness (SSIM) to the original model's is kept too: it moves long before an accuracy
does."""


def cell(first: RunContext, overrides: list[str], target: str, attacked: bool) -> dict[str, Any]:
    """Mine, train, judge and, if asked, attack one target with one setting; the models are those of
    ``first``."""
    from fade.training.loop import train
    from tasks.data.pull import pictures_md5
    from tasks.stages.evaluate import evaluate
    from tasks.stages.mine import mine
    from tasks.stages.robustness import measure_robustness
    from tasks.stages.train import write_job

    run = first.with_params(resolve(overrides=overrides), target)
    neighborhood = mine(run)
    start = time.perf_counter()
    adapter = train(write_job(run, neighborhood, {}), base=run.models.base)
    seconds = time.perf_counter() - start
    numbers = evaluate(run, neighborhood, adapter).numbers
    retained = {
        k: 100 * numbers["metrics"][k] / numbers["base_metrics"][k] for k in ("A_adj", "A_heldout", "A_rest")
    }
    picked = {k: numbers[k] for k in ("metrics", "base_metrics", "neighbours", "heldout", "confusion")}
    ssim = {
        role: float(np.mean([r["ssim"] for r in numbers["per_concept"] if r["role"] == role]))
        for role in ROLES
    }
    how = {
        "overrides": overrides,
        "clip_sha256": run.models.encoder.sha256,
        "data_md5": pictures_md5(run.params.data, run.root),
        "train_seconds": round(seconds, 1),
    }
    row = {"target": target, **how, "kept": retained, "ssim": ssim, **picked}
    if attacked:
        blocks = measure_robustness(run, neighborhood, adapter, numbers)
        row["attacks"] = {name: attack["erased"] for name, attack in blocks["attacks"]["attacks"].items()}
        row["robust"] = {
            "A_adv": blocks["attacks"]["A_adv"],
            "A_indirect": blocks["indirect"]["A_indirect"],
            "ERR": blocks["err"]["ERR"],
        }
    return row


def main() -> None:
    """Every setting on every tuning target; a table as it goes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--try", dest="tries", action="append", default=[], metavar="OVERRIDES")
    parser.add_argument("--probe", action="store_true", help="attack every model too")
    parser.add_argument("--targets", nargs="*", default=list(TUNING))
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    if reported := sorted(set(args.targets) & set(REPORTED)):
        parser.error(f"{', '.join(reported)}: reported targets are never tuned on; choose others.")
    first = RunContext(load_params(), args.targets[0], args.runs_dir)
    rows: list[dict[str, Any]] = []
    for text in args.tries or [""]:
        some = []
        for target in args.targets:
            row = cell(first, shlex.split(text), target, args.probe)
            some.append(row)
            m, retained = row["metrics"], row["kept"]
            parts = "  ".join(f"{k[2:]} {m[k]:5.1f} ({retained[k]:5.1f} % kept)" for k in retained)
            alike = "/".join(f"{row['ssim'][role]:.2f}" for role in ROLES)
            print(
                f"{target:16} A_er {m['A_er']:5.1f}  {parts}  ERB {m['ERB']:5.1f}  SSIM {alike}  "
                f"{row['train_seconds']:5.1f} s",
                flush=True,
            )
            if args.probe:
                erased = "  ".join(f"{name} {value:.0f}" for name, value in row["attacks"].items())
                robust = row["robust"]
                values = (
                    f"A_adv {robust['A_adv']:.1f} ({erased})  A_indirect {robust['A_indirect']:.1f}  ERR "
                    f"{robust['ERR']:.3f}"
                )
                print(f"{'':16} {values}", flush=True)
            if args.out:  # after each: a sweep may be interrupted
                args.out.parent.mkdir(parents=True, exist_ok=True)
                args.out.write_text(json.dumps({"rows": rows + some}, indent=2) + "\n", encoding="utf-8")
        means = "  ".join(f"{k} {np.mean([r['metrics'][k] for r in some]):.1f}" for k in MEASURED)
        print(f"[{text or 'params.yaml'}]  {means}", flush=True)
        rows += some


if __name__ == "__main__":
    main()
