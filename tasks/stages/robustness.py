"""What a cell measures beyond the evaluation: indirect prompts, attacks, ERR. The one place to plug a further measurement in.

This file's hash is part of every cell's key.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.run.context import Workshop
from fade.utils import progress

if TYPE_CHECKING:
    from fade.adapters.lora import Mesh
    from fade.mining.neighborhood import Neighborhood

CEILINGS = "attacks"
"""Folder below ``runs/cache`` of the base's arms, which all methods share."""


def probe(shop: Workshop, hood: Neighborhood, adapter: Path, numbers: dict[str, Any]) -> dict[str, Any]:
    """Blocks of the cell's record by name (``attacks``, ``indirect``, ``err``), each JSON of summary numbers, no arrays of pictures.

    numbers: what the evaluation gave. The base's UNet is plain when this is called and must be so when it returns. A number that
    the tables shall show gets a line in `fade.benchmark.metrics.METRICS`.
    """
    from fade.adapters.lora import Mesh
    from fade.evaluation.err import erasing_robustness, successes_of
    from fade.evaluation.evaluate import measured
    from fade.utils.hashing import sha256_of

    mesh = Mesh.load(shop.base, adapter)
    mesh.merge()
    try:
        indirect = numbers.get("indirect") or _indirect(shop, hood, mesh, sha256_of(adapter))
        attacks = _attack(shop, hood.target, mesh)
    finally:
        mesh.remove()
    gone = indirect["A_indirect"]
    successes = successes_of(numbers, indirect=None if gone is None else gone / 100, adversarial=attacks["A_adv"] / 100)
    err = {"ERR": erasing_robustness(successes), **successes}
    short = {key: value for key, value in indirect.items() if key != "prompts"}  # a cell stays small
    blocks: dict[str, Any] = measured({"indirect": short, "attacks": attacks, "err": err})
    return blocks


def _indirect(shop: Workshop, hood: Neighborhood, mesh: Mesh, sha256: str) -> dict[str, Any]:
    from fade.evaluation.indirect import evaluate_indirect

    config = shop.params.evaluate.model_copy(update={"indirect_images": shop.params.attack.indirect_images})
    return evaluate_indirect(shop.studio, mesh, sha256, hood.targets, shop.vocabulary, shop.judge, config)


def _attack(shop: Workshop, target: str, mesh: Mesh) -> dict[str, Any]:
    from fade.evaluation.attacks import Subject
    from fade.evaluation.attacks.material import gather
    from fade.evaluation.attacks.run import attack_base, run_attacks

    config = shop.params.attack
    material = gather(shop.base, shop.root / shop.params.data.images, target, config)
    subject = Subject(shop.base, shop.judge, shop.params.sampler, config, material, target)

    def told(done: int, total: int) -> None:
        progress.report("attack", done, total, target)

    ceiling = attack_base(subject, mesh, keep=shop.runs / "cache" / CEILINGS)
    return run_attacks(subject, mesh, base_arm=ceiling, on_attack=told)
