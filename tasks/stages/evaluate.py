"""Judge the erased model against the original, and keep the numbers and the pictures beside the adapter."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.run.context import RunContext
from fade.run.worlds import load_adapter
from fade.utils import progress
from fade.utils.files import write_json
from tasks.stages.generate_pictures import announced, distributed

if TYPE_CHECKING:
    import numpy as np

    from fade.adapters.change import Change
    from fade.evaluation.realism import Substitute
    from fade.evaluation.second_opinion import Disputed
    from fade.generation.generator import ImageGenerator
    from fade.mining.neighborhood import Neighborhood


@dataclass(frozen=True)
class EvaluationResult:
    """The evaluation's JSON and the pictures behind it, concept -> (base, erased)."""

    numbers: dict[str, Any]
    pictures: dict[str, tuple[np.ndarray, np.ndarray]]
    seconds: float
    """Spent on the judge and the metrics, the making of pictures aside."""
    disputed: list[Disputed] = field(repr=False)
    """Pictures on which the judge and a second one differ."""
    substitutes: list[Substitute] = field(repr=False)
    """Pictures that stand in the target's place."""


def evaluate(run: RunContext, neighborhood: Neighborhood, adapter: Path) -> EvaluationResult:
    """Judge the run's adapter and write ``evaluation.json``."""
    from fade.erasers.base import get_eraser

    result = evaluate_adapter(run, neighborhood, adapter)
    method = run.params.method
    known = get_eraser(method.name, method.variant)
    trained_on = (
        known.requires_neighbours and not known.accepts_anchors
    ) or method.anchors == "neighbourhood"
    chosen = {
        "method": method.name,
        "variant": method.variant,
        "neighbours_trained": trained_on,
        "seed": run.params.train.seed,
    }
    if known.gated:  # the adapter alone takes more with it than these numbers say
        chosen["gated"] = True
    numbers = {**result.numbers, **chosen}
    write_json(run.folder / "evaluation.json", numbers)
    return replace(result, numbers=numbers)


def evaluate_adapter(
    run: RunContext, neighborhood: Neighborhood, adapter: Path, *, gate: bool = True
) -> EvaluationResult:
    """Load an adapter into the one denoiser and judge both models; the denoiser is left as it was. gate:
    whether the pictures of a gated method (the run's) are made with its gate."""
    from fade.evaluation.gated import generator_of
    from fade.utils.hashing import sha256_of

    lora = load_adapter(run, adapter)
    # drawing is faster without the adapter's extra products; off() and remove() give the base's bytes back
    lora.merge()
    try:
        generator = run.generator
        if gate:
            generator = generator_of(run.params.method, run.generator, lora, neighborhood.targets)
        with distributed(run, adapter):
            return evaluate_change(run, neighborhood, lora, sha256_of(adapter), generator)
    finally:
        lora.remove()


def evaluate_change(
    run: RunContext,
    neighborhood: Neighborhood,
    change: Change,
    sha256: str,
    generator: ImageGenerator | None = None,
) -> EvaluationResult:
    """Judge the model with and without a change that is in the denoiser. sha256: under which its pictures are
    cached; generator: makes them, the run's own when not given."""
    from fade.evaluation.evaluate import evaluate as evaluate_models
    from fade.evaluation.picture_count import pictures_to_make
    from fade.evaluation.realism import real_pictures
    from fade.models.prompts import require_distinct

    names = [*neighborhood.neighbours, *neighborhood.heldout]
    require_distinct(run.models.base, run.params.sampler.prompt, names, neighborhood.targets, "evaluate")

    made_by = generator or run.generator
    text, config = "pictures before and after", run.params.evaluate

    def on_progress(done: int, total: int) -> None:
        progress.report("evaluate", done, total, text)

    to_make = pictures_to_make(made_by, sha256, neighborhood, run.vocabulary, config)
    with announced(run, "evaluate", to_make, text):
        start, drawing = time.perf_counter(), run.generator.seconds  # with a gate it makes the pictures, too
        images, most = run.root / run.params.data.images, config.real_pictures
        evaluation = evaluate_models(
            made_by,
            change,
            sha256,
            neighborhood,
            run.vocabulary,
            run.models.judge,
            config,
            on_progress,
            encoder=run.models.encoder,
            second_judge=run.models.second_judge,
            real=real_pictures(run.models.judge, images, most, run.cache) if most else None,
        )
    judging = time.perf_counter() - start - (run.generator.seconds - drawing)
    shown = (evaluation.disputed, evaluation.substitutes)
    return EvaluationResult(evaluation.numbers, evaluation.pictures, judging, *shown)


evaluate_task = task(name="evaluate", cache_policy=NO_CACHE)(evaluate)
