"""Evaluate a release: as a whole, and each champion alone on the same concepts and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.data.vocabulary import fill
from fade.governance.release_plan import numbers_of, worst
from fade.provenance.lineage import Lineage
from fade.run.context import RunContext
from fade.utils import progress
from fade.utils.files import write_json
from fade.utils.hashing import sha256_of
from tasks.registry.versions import ADAPTER
from tasks.release.build_release import ReleaseParts

if TYPE_CHECKING:
    import numpy as np

    from fade.mining.neighborhood import Neighborhood
    from tasks.stages.evaluate import EvaluationResult


@dataclass(frozen=True)
class ReleaseEvaluation:
    """The evaluation of the whole, and of each concept beside its champion alone."""

    whole: EvaluationResult
    concepts: dict[str, dict[str, Any]]
    """Concept -> metrics, base_metrics, and alone: the metrics of its champion alone; percent."""
    alone: dict[str, dict[str, np.ndarray]] = field(repr=False)
    """Erased concept -> tested concept -> pictures by its champion alone, (images, H, W, 3) uint8."""


def evaluate_release(
    run: RunContext, neighborhood: Neighborhood, selected: ReleaseParts, folder: Path
) -> ReleaseEvaluation:
    """Evaluate the adapter in ``folder``, and each champion alone on its own concepts, their neighbours and
    the unrelated ones; write ``evaluation.json``.

    A concept that another part erases is no neighbour, and not unrelated. Pictures of the original and of the
    champions come from the cache where their own runs made them."""
    from tasks.stages.evaluate import EvaluationResult, judge

    whole = judge(run, neighborhood, folder / ADAPTER)
    rows = {row["concept"]: row for row in whole.numbers["per_concept"]}
    base = {name: row["base"] for name, row in rows.items()}
    erased = {name: row["erased"] for name, row in rows.items()}
    rest = list(whole.numbers["rest"])
    groups = _groups(neighborhood, rest)
    concepts: dict[str, dict[str, Any]] = {}
    alone: dict[str, dict[str, np.ndarray]] = {}
    for done, part in enumerate(selected.parts):
        progress.report("champions", done, len(selected.parts), part.label)
        near = [name for concept in part.concepts for names in groups[concept].values() for name in names]
        tested = [*(name for name in near if name not in rest), *rest]  # the order decides the batches
        shares, pictures = _evaluate_alone(run, selected.adapters[part.label], list(dict.fromkeys(tested)))
        for concept in part.concepts:
            metrics = numbers_of(groups[concept], base, shares)["metrics"]
            concepts[concept] = {**numbers_of(groups[concept], base, erased), "alone": metrics}
            alone[concept] = pictures
    progress.report("champions", len(selected.parts), len(selected.parts))
    method = {"method": "composition", "variant": "sum", "neighbours_trained": False, "seed": "none"}
    numbers = {**whole.numbers, "parts": concepts, **method}
    write_json(folder / "evaluation.json", numbers)
    return ReleaseEvaluation(EvaluationResult(numbers, whole.pictures, whole.seconds), concepts, alone)


def _groups(neighborhood: Neighborhood, rest: list[str]) -> dict[str, dict[str, list[str]]]:
    """Erased concept -> targets, neighbours, heldout and rest -> concepts."""
    return {
        part.target: {
            "targets": [part.target],
            "neighbours": part.neighbours,
            "heldout": part.heldout,
            "rest": rest,
        }
        for part in neighborhood.parts
    }


def _evaluate_alone(
    run: RunContext, adapter: Path, names: Sequence[str]
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Of one adapter: concept -> share of its pictures that are recognised, percent; concept -> pictures."""
    import numpy as np

    from fade.adapters.lora import LoraAdapter
    from fade.evaluation.accuracy import mean_accuracy, top1

    settings = run.params.evaluate
    seeds = [settings.seed + i for i in range(settings.images_per_concept)]
    prompts = {name: fill(run.generator.sampler.prompt, name) for name in names}
    lora = LoraAdapter.load(run.models.base, adapter)
    lora.merge()  # as in the evaluation, whose pictures the cache may have
    try:
        images = run.generator.generate(
            list(prompts.values()),
            seeds,
            sha256_of(adapter),
            lambda done, total: progress.report("champions", done, total, adapter.name),
        )
    finally:
        lora.remove()
    pictures = {name: images[prompt].pixels for name, prompt in prompts.items()}
    probabilities = np.split(run.models.judge(np.concatenate(list(pictures.values()))).numpy(), len(names))
    shares = {
        name: mean_accuracy([top1(one, run.models.judge.index(name))])
        for name, one in zip(names, probabilities, strict=True)
    }
    return shares, pictures


def release_lineage(
    opened: Lineage,
    after: Mapping[str, str],
    adapter_sha256: str,
    selected: ReleaseParts,
    evaluation: ReleaseEvaluation,
) -> Lineage:
    """The release's closed record: that of a run, with its parts, every concept's numbers, and the worst ones
    as the metrics that the gate reads."""
    checks = {
        f"{part.label} {stage}": results for part in selected.parts for stage, results in part.checks.items()
    }
    closed = opened.finish(after, adapter_sha256, checks=checks).content
    outputs = {
        **closed["outputs"],
        **worst(evaluation.concepts),
        "parts": evaluation.concepts,
        "whole": {name: evaluation.whole.numbers[name] for name in ("metrics", "base_metrics")},
    }
    parts = {part.label: part.to_json() for part in selected.parts}
    return Lineage({**closed, "outputs": outputs, "parts": parts, "left_out": selected.left_out})
