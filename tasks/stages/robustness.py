"""What a cell measures beyond the evaluation: indirect prompts, attacks, ERR. The one place to plug a further
measurement in.

The code of this file is part of every cell's key.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.run.context import RunContext
from fade.run.worlds import load_adapter
from fade.utils import progress
from tasks.launch.run_job import run_for
from tasks.stages.generate_pictures import distributed

if TYPE_CHECKING:
    from fade.jobs.attack import AttackJob
    from fade.mining.neighborhood import Neighborhood

BASE_CONDITIONS = "attacks"
"""Folder below ``runs/cache`` of the base's condition, which all methods share."""


def measure_robustness(
    run: RunContext, neighborhood: Neighborhood, adapter: Path, numbers: dict[str, Any]
) -> dict[str, Any]:
    """Blocks of the cell's record by name (``attacks``, ``indirect``, ``err``), each JSON of summary numbers,
    no arrays of pictures.

    numbers: what the evaluation gave. The base's UNet is plain when this is called and must be so when it
    returns. A number that the tables shall show is registered in `fade.evaluation.metrics`."""
    from fade.evaluation.err import erasing_robustness, successes_of
    from fade.evaluation.evaluate import measured
    from fade.utils.hashing import sha256_of

    sha256 = sha256_of(adapter)
    indirect = numbers.get("indirect") or _indirect(run, neighborhood, adapter, sha256)
    attacks = _attack(run, neighborhood.target, adapter, sha256)
    erased = indirect["A_indirect"]
    successes = successes_of(
        numbers, indirect=None if erased is None else erased / 100, adversarial=attacks["A_adv"] / 100
    )
    err = {"ERR": erasing_robustness(successes), **successes}
    short = {key: value for key, value in indirect.items() if key != "prompts"}  # a cell stays small
    blocks: dict[str, Any] = measured({"indirect": short, "attacks": attacks, "err": err})
    return blocks


def _indirect(run: RunContext, neighborhood: Neighborhood, adapter: Path, sha256: str) -> dict[str, Any]:
    from fade.evaluation.gated import generator_of
    from fade.evaluation.indirect import evaluate_indirect

    config = run.params.evaluate.model_copy(update={"indirect_images": run.params.attack.indirect_images})
    lora = load_adapter(run, adapter)
    lora.merge()
    try:
        generator = generator_of(run.params.method, run.generator, lora, neighborhood.targets)
        with distributed(run, adapter):
            return evaluate_indirect(
                generator, lora, sha256, neighborhood.targets, run.vocabulary, run.models.judge, config
            )
    finally:
        lora.remove()


def _attack(run: RunContext, target: str, adapter: Path, sha256: str) -> dict[str, Any]:
    """The base's condition is a job of its own, which all methods share."""
    from fade.evaluation.attacks.run import summary

    on_base = _run(run, _job(run, target, ("base",), run.runs / "cache" / BASE_CONDITIONS))
    job = _job(run, target, ("erased", "control"), run.folder / "attacks", adapter, sha256)
    on_erased = _run(run, job)
    conditions = {name: on_erased.result(name) for name in ("erased", "control")}
    return summary(target, job.control(), job.attack, {**conditions, "base": on_base.result("base")})


def _job(
    run: RunContext,
    target: str,
    conditions: tuple[str, ...],
    folder: Path,
    adapter: Path | None = None,
    sha256: str = "",
) -> AttackJob:
    from fade.evaluation.attacks.material import pictures_sha256
    from fade.jobs.attack import AttackJob

    images = run.root / run.params.data.images
    job = AttackJob(
        base=run.models.base.path,
        base_sha256=run.models.base.sha256,
        model=run.params.model,
        adapter=adapter,
        adapter_sha256=sha256,
        judge=run.models.local(run.params.data.judge),
        judge_sha256=run.models.judge.sha256,
        images=images,
        images_sha256=pictures_sha256(images, target, run.params.attack),
        target=target,
        conditions=conditions,
        sampler=run.params.sampler,
        attack=run.params.attack,
        processes=run.params.train.processes,
        out=folder,
    )
    return job.model_copy(update={"out": folder / job.key()[:12]})


def _run(run: RunContext, job: AttackJob) -> AttackJob:
    def on_progress(done: int, total: int, text: str) -> None:
        progress.report("attack", done, total, f"{job.target}: {text}")

    run_for(run, job, on_progress, base=run.models.base, judge=run.models.judge)
    return job
