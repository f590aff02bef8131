"""At which budget does each attack bring a concept back from a plain ESD model?

An attack that fails on `esd/x`, which only unhooks a name, is no evidence that another eraser holds. So each
attack runs on an `esd/x` adapter of every tuning target (`bench.tuning`: none of them is reported), trained
as `fade run --method esd/x` trains it, first with `attack.budget` UNet calls, then with twice as many, until
it brings the concept back in at least 80 % of its pictures, the mean over the targets, or --most is reached:
then it is ineffective. Beside it the same budget on the base itself (the ceiling) and with another concept's
material (the floor). `noised` searches nothing, so no budget changes it.

Each number is a cell of --out, written as soon as it is measured: a call with the same settings measures what
is missing, and may name a larger --most.

    python bench/attacks.py --out bench/results/attacks.json
    python bench/attacks.py --world sd3 --most 2400 --out bench/results/attacks-sd3.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from esd import PARAMS, open_world, world_items
from text_paths import measure, train_adapter

from fade.config import AttackConfig
from fade.errors import UsageError
from fade.evaluation.attacks import AttackContext
from fade.evaluation.attacks.material import gather
from fade.evaluation.attacks.run import CONDITIONS, run_attack
from fade.run.context import RunContext
from fade.run.resolve_params import method_overrides, resolve
from fade.utils.hashing import fingerprint, sha256_of
from fade.utils.progress import log_lines, on_progress

METHOD, ENOUGH, UNSEARCHED = "esd/x", 80.0, ("noised",)


def erased(run: RunContext) -> Path:
    """The adapter that erases the run's target."""
    from tasks.stages.mine import mine

    return train_adapter(run, mine(run), "")


def attacked(run: RunContext, adapter: Path, attack: str, budget: int) -> dict[str, float]:
    """Condition -> pictures that show the run's target (percent), by one attack at a budget."""
    from fade.run.worlds import load_adapter

    config = run.params.attack.model_copy(update={"budget": budget})
    base, judge = run.models.base, run.models.judge
    material = gather(base, run.root / run.params.data.images, run.target, config)
    subject = AttackContext(base, judge, run.params.sampler, config, material, run.target)
    found = {"base": run_attack(subject, attack)["success"]}
    lora = load_adapter(run, adapter)
    lora.merge()
    try:
        for condition, concept in (("erased", run.target), ("control", material.control)):
            one = replace(subject, concept=concept, adapter=sha256_of(adapter))
            found[condition] = run_attack(one, attack)["success"]
    finally:
        lora.remove()
    return {name: found[name] for name in CONDITIONS}


def budgets_of(config: AttackConfig, attack: str, most: int) -> list[int]:
    """From the configured one on, each twice the one before; one for an attack that searches nothing."""
    budgets = [config.budget]
    while attack not in UNSEARCHED and 2 * budgets[-1] <= most:
        budgets.append(2 * budgets[-1])
    return budgets


def least_budget(
    attack: str,
    budgets: Sequence[int],
    targets: Sequence[str],
    success_at: Callable[[str, int, str], Mapping[str, float]],
) -> int | None:
    """The first budget at which the attack succeeds in ENOUGH percent, the mean over the targets; None where
    none does. ``success_at``: (attack, budget, target) -> its success by condition."""
    for budget in budgets:
        each = [success_at(attack, budget, target)["erased"] for target in targets]
        if np.mean(each) >= ENOUGH:
            return budget
    return None


def shown(value: Mapping[str, float]) -> str:
    """A cell on one line."""
    return "  ".join(f"{name} {value[name]:.0f} %" for name in CONDITIONS)


def main() -> None:
    """Every attack of `attack.names` on every tuning target."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", default="", help="of params.yaml; without it the default one")
    parser.add_argument("--most", type=int, default=4800, help="UNet calls beyond which no budget is tried")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    params = resolve(PARAMS, world_items(args.world, [*method_overrides(METHOD), *args.set]))
    targets = params.bench.tuning
    first = open_world(args.world, args.set, targets[0], args.runs_dir)
    runs = {target: first.with_params(params, target) for target in targets}
    settings: dict[str, Any] = {
        "world": args.world,
        "method": METHOD,
        "targets": list(targets),
        "base_sha256": first.models.base.sha256,
        "params": fingerprint(params.run_fields()),
        "images": params.attack.images,
        "seed": params.attack.seed,
        "overrides": args.set,
    }

    adapter_of = cache(lambda target: erased(runs[target]))  # trained once, and only where a cell is missing

    def success_at(attack: str, budget: int, target: str) -> Mapping[str, float]:
        key = f"{attack} | {budget} | {target}"
        cells = {key: lambda: attacked(runs[target], adapter_of(target), attack, budget)}
        return measure(cells, settings, args.out, shown)["cells"][key]  # type: ignore[no-any-return]

    try:
        with on_progress(log_lines(sys.stderr)):
            for attack in params.attack.names:
                budgets = budgets_of(params.attack, attack, args.most)
                found = least_budget(attack, budgets, targets, success_at)
                print(f"{attack}: {found or f'ineffective up to {budgets[-1]}'}", flush=True)
    except UsageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
