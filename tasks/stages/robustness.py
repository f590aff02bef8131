"""What a cell measures beyond the evaluation: indirect prompts, attacks, ERR. The one place to plug a further
measurement in.

The code of this file is part of every cell's key.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.run.context import RunContext
from fade.utils import progress

if TYPE_CHECKING:
    from fade.adapters.lora import LoraAdapter
    from fade.mining.neighborhood import Neighborhood

CEILINGS = "attacks"
"""Folder below ``runs/cache`` of the base's condition, which all methods share."""


def probe(
    run: RunContext, neighborhood: Neighborhood, adapter: Path, numbers: dict[str, Any]
) -> dict[str, Any]:
    """Blocks of the cell's record by name (``attacks``, ``indirect``, ``err``), each JSON of summary numbers,
    no arrays of pictures.

    numbers: what the evaluation gave. The base's UNet is plain when this is called and must be so when it
    returns. A number that the tables shall show is registered in `fade.evaluation.metrics`."""
    from fade.adapters.lora import LoraAdapter
    from fade.evaluation.err import erasing_robustness, successes_of
    from fade.evaluation.evaluate import measured
    from fade.utils.hashing import sha256_of

    lora = LoraAdapter.load(run.base, adapter)
    lora.merge()
    try:
        indirect = numbers.get("indirect") or _indirect(run, neighborhood, lora, sha256_of(adapter))
        attacks = _attack(run, neighborhood.target, lora)
    finally:
        lora.remove()
    gone = indirect["A_indirect"]
    successes = successes_of(
        numbers, indirect=None if gone is None else gone / 100, adversarial=attacks["A_adv"] / 100
    )
    err = {"ERR": erasing_robustness(successes), **successes}
    short = {key: value for key, value in indirect.items() if key != "prompts"}  # a cell stays small
    blocks: dict[str, Any] = measured({"indirect": short, "attacks": attacks, "err": err})
    return blocks


def _indirect(run: RunContext, neighborhood: Neighborhood, lora: LoraAdapter, sha256: str) -> dict[str, Any]:
    from fade.evaluation.indirect import evaluate_indirect

    config = run.params.evaluate.model_copy(update={"indirect_images": run.params.attack.indirect_images})
    return evaluate_indirect(
        run.generator, lora, sha256, neighborhood.targets, run.vocabulary, run.judge, config
    )


def _attack(run: RunContext, target: str, lora: LoraAdapter) -> dict[str, Any]:
    from fade.evaluation.attacks import AttackContext
    from fade.evaluation.attacks.material import gather
    from fade.evaluation.attacks.run import attack_base, run_attacks

    config = run.params.attack
    material = gather(run.base, run.root / run.params.data.images, target, config)
    subject = AttackContext(run.base, run.judge, run.params.sampler, config, material, target)

    def on_progress(done: int, total: int) -> None:
        progress.report("attack", done, total, target)

    ceiling = attack_base(subject, lora, keep=run.runs / "cache" / CEILINGS)
    return run_attacks(subject, lora, base_condition=ceiling, on_attack=on_progress)
