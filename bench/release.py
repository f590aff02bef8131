"""How many erasures does a release hold, and at what cost? Champions made apart and released together, by
their sum, by the closed form, and, for comparison, by one training on all of them.

Targets are the first 3, 6, 12 and 24 of a seeded order of the concepts that are no reported target
(bench/targets.py) and that the original draws well enough; three orders. Each champion is trained once, under
params.yaml and --set. Every release is judged as `fade release` judges it: each target with its own
neighbours, held-out neighbours and unrelated concepts, and the concepts that the release could use and those
that are only measured, apart. The time to build it from stored champions, the time to add the last one to
what is stored, the peak of the process's memory and the prediction stand beside. Rows that --out has already
are not made again.

    python bench/release.py --sizes 3 6 --orders 1 --arms sum solve --set release.keep_weight=30 \
        --out bench/results/release-sizes.json
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from targets import DRAWN, REPORTED

from fade.adapters.kept import KeptConcepts
from fade.adapters.release import ReleaseSettings, build_release
from fade.data.vocabulary import prompts
from fade.generation.cache import Cache
from fade.governance.release_plan import kept_apart, numbers_of
from fade.mining.neighborhood import Neighborhood
from fade.run.context import RunContext
from fade.run.resolve_params import load_params, resolve
from fade.utils.files import write_json
from fade.utils.seeds import consecutive_seeds

ARMS = ("sum", "solve", "joint")
SIZES = (3, 6, 12, 24)
ORDERS = 3
SEED = 12000
SHOWN = ("A_er", "A_adj", "A_heldout", "A_rest")


def orders(names: Sequence[str], count: int, seed: int = SEED) -> list[list[str]]:
    """``count`` seeded orders of the names; a size's targets are the first of an order."""
    out = []
    for i in range(count):
        shuffled = sorted(names)
        random.Random(seed + i).shuffle(shuffled)
        out.append(shuffled)
    return out


def well_drawn(run: RunContext) -> list[str]:
    """The concepts, no reported target among them, of whose mined pictures the judge recognises enough."""
    config = run.params.neighborhood
    names = [name for name in run.vocabulary.names if name not in REPORTED]
    seeds = consecutive_seeds(config.seed, config.images_per_concept)
    out = []
    for name, prompt in zip(names, prompts(run.params.sampler.prompt, names), strict=True):
        pixels = run.generator.generate([prompt], seeds)[prompt].pixels
        top = run.models.judge(pixels).numpy().argmax(1)
        if 100 * float((top == run.models.judge.index(name)).mean()) >= DRAWN["A_tar"]:
            out.append(name)
    return out


def trained(first: RunContext, overrides: Sequence[str], targets: Sequence[str]) -> tuple[Neighborhood, Path]:
    """An adapter that was trained on all ``targets`` in one run; one that is there is not trained again."""
    from tasks.launch.run_job import run_job
    from tasks.registry.versions import ADAPTER
    from tasks.stages.mine import mine
    from tasks.stages.train import write_job

    run = first.with_params(resolve(overrides=overrides), targets)
    neighborhood = mine(run)
    job, base = write_job(run, neighborhood, {}), run.models.base
    run_job(job, deadline=job.train.deadline_seconds, device=base.device.type, base=base)
    return neighborhood, job.out / ADAPTER


def released(
    first: RunContext, overrides: Sequence[str], targets: Sequence[str], arm: str, folder: Path
) -> tuple[Path, ReleaseSettings, dict[str, Any]]:
    """The adapter of all ``targets`` by one arm, the split of what must stay, and what making it took."""
    near: set[str] = set()
    champions = []
    for target in targets if arm != "joint" else ():
        neighborhood, path = trained(first, overrides, [target])
        near |= {*neighborhood.neighbours}
        champions.append(path)
    start = time.perf_counter()
    if arm == "joint":
        neighborhood, out = trained(first, overrides, targets)
        near |= {*neighborhood.neighbours}
    mode = "sum" if arm == "joint" else arm
    params = resolve(overrides=[*overrides, f"release.mode={mode}"])
    kept = KeptConcepts.of(first.vocabulary.names, targets, near, params.release)
    settings = ReleaseSettings(params.release, kept, params.sampler.prompt, params.sampler.negative_prompt)
    if arm == "joint":
        return out, settings, {"seconds": {"train": time.perf_counter() - start}}
    out, base = folder / f"{arm}.safetensors", first.models.base
    with tempfile.TemporaryDirectory() as fresh, tempfile.TemporaryDirectory() as before:
        start = time.perf_counter()
        built = build_release(base, champions, out, settings, Cache(Path(fresh)))
        seconds = {"build": time.perf_counter() - start}
        if len(champions) > 2:  # the last one comes to what the release of the others has stored
            others = KeptConcepts.of(first.vocabulary.names, targets[:-1], near, params.release)
            without = ReleaseSettings(params.release, others, settings.prompt, settings.negative_prompt)
            store = Cache(Path(before))
            build_release(base, champions[:-1], folder / "others.safetensors", without, store)
            start = time.perf_counter()
            build_release(base, champions, out, settings, store)
            seconds["add_one"] = time.perf_counter() - start
    return out, settings, {"seconds": seconds, "sha256": built.sha256, "predicted": dict(built.predicted)}


def row(
    first: RunContext, overrides: Sequence[str], targets: Sequence[str], arm: str, folder: Path
) -> dict[str, Any]:
    """One release, judged."""
    from tasks.stages.evaluate import evaluate_adapter
    from tasks.stages.mine import mine

    folder.mkdir(parents=True, exist_ok=True)
    adapter, settings, made = released(first, overrides, targets, arm, folder)
    run = first.with_params(resolve(overrides=overrides), targets)
    neighborhood = mine(run)
    whole = evaluate_adapter(run, neighborhood, adapter).numbers
    rows, rest = whole["per_concept"], list(whole["rest"])
    base, erased = ({one["concept"]: one[model] for one in rows} for model in ("base", "erased"))
    parts = {}
    for part in neighborhood.parts:
        near = {"neighbours": part.neighbours, "heldout": part.heldout, "rest": rest}
        parts[part.target] = numbers_of({"targets": [part.target], **near}, base, erased)
    apart = kept_apart({"used": settings.kept.used, "measured": settings.kept.measured}, rows)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**made, "metrics": whole["metrics"], "parts": parts, "kept": apart, "peak_mb": round(memory)}


def main() -> None:
    """Every arm on every size of every order; a line as each is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--orders", type=int, default=ORDERS)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--targets", nargs="+", default=[], help="these alone, in this order")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    names = [args.targets] if args.targets else None
    first = RunContext(load_params(overrides=args.overrides), (), args.runs_dir)
    stored = json.loads(args.out.read_text(encoding="utf-8")) if args.out and args.out.is_file() else {}
    rows: list[dict[str, Any]] = stored.get("rows", [])
    for number, order in enumerate(names or orders(well_drawn(first), args.orders)):
        for size in sorted({min(size, len(order)) for size in args.sizes}):
            for arm in args.arms:
                cell = {"order": number, "targets": order[:size], "arm": arm, "overrides": args.overrides}
                if any(all(one[key] == value for key, value in cell.items()) for one in rows):
                    continue
                folder = args.runs_dir / "bench-release" / f"{number}-{size}-{arm}"
                found = row(first, args.overrides, order[:size], arm, folder)
                rows.append({**cell, **found})
                shown = "  ".join(f"{key} {found['metrics'][key]:5.1f}" for key in SHOWN)
                print(f"order {number} {size:2} {arm:5} {shown}", flush=True)
                if args.out:  # after each: it may be interrupted
                    write_json(args.out, {"rows": rows})


if __name__ == "__main__":
    main()
