"""Evaluate a release: as a whole, and each champion alone on the same concepts and seeds; and report it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import PromotionPolicy
from fade.data.vocabulary import fill
from fade.governance.release_plan import kept_apart, numbers_of, worst
from fade.provenance.lineage import Lineage
from fade.run.context import RunContext
from fade.run.worlds import load_adapter
from fade.utils import progress
from fade.utils.files import make_folder, write_json, write_whole
from fade.utils.hashing import sha256_of
from fade.utils.seeds import consecutive_seeds
from tasks.registry.versions import ADAPTER
from tasks.release.build_release import ReleaseParts
from tasks.stages.generate_pictures import distributed

if TYPE_CHECKING:
    import numpy as np

    from fade.adapters.release import ReleaseSettings
    from fade.mining.neighborhood import Neighborhood
    from tasks.stages.evaluate import EvaluationResult


def evaluate_release(
    run: RunContext,
    neighborhood: Neighborhood,
    selected: ReleaseParts,
    settings: ReleaseSettings,
    predicted: Mapping[str, Any],
    folder: Path,
) -> tuple[EvaluationResult, dict[str, dict[str, np.ndarray]]]:
    """Evaluate the adapter in ``folder``, and each champion alone on its own concepts, their neighbours and
    the unrelated ones; write ``evaluation.json``.

    A concept that another part erases is no neighbour, and not unrelated. Pictures of the original and of the
    champions come from the cache where their own runs made them.

    Returns the evaluation of the whole, whose ``parts`` are concept -> metrics, base_metrics, and alone: the
    metrics of its champion alone, percent; its ``kept``: the judged concepts that the release could use and
    those that are only measured, apart; its ``judged``: what `fade.governance.judged_release` reads; and
    erased concept -> tested concept -> pictures by its champion alone, (images, H, W, 3) uint8."""
    from tasks.stages.evaluate import evaluate_adapter

    # nothing gates a release where it is used, whatever the section `method` is
    whole = evaluate_adapter(run, neighborhood, folder / ADAPTER, gate=False)
    rows, rest = whole.numbers["per_concept"], list(whole.numbers["rest"])
    base, erased = ({row["concept"]: row[model] for row in rows} for model in ("base", "erased"))
    realism = whole.numbers["realism"]
    real = {} if realism.get("reason") else realism.get("per_target", {})
    groups = {
        one.target: {
            "targets": [one.target],
            "neighbours": one.neighbours,
            "heldout": one.heldout,
            "rest": rest,
        }
        for one in neighborhood.parts
    }
    concepts: dict[str, dict[str, Any]] = {}
    alone: dict[str, dict[str, np.ndarray]] = {}
    for done, part in enumerate(selected.parts):
        progress.report("champions", done, len(selected.parts), part.label)
        near = [name for concept in part.concepts for names in groups[concept].values() for name in names]
        tested = [*(name for name in near if name not in rest), *rest]  # the order decides the batches
        shares, pictures = _evaluate_alone(run, selected.adapters[part.label], list(dict.fromkeys(tested)))
        for concept in part.concepts:
            metrics = numbers_of(groups[concept], base, shares)["metrics"]
            numbers = numbers_of(groups[concept], base, erased, real.get(concept))
            concepts[concept] = {**numbers, "alone": metrics}
            alone[concept] = pictures
    progress.report("champions", len(selected.parts), len(selected.parts))
    mode = settings.config.mode
    method = {"method": "composition", "variant": mode, "neighbours_trained": False, "seed": "none"}
    apart = kept_apart({"used": settings.kept.used, "measured": settings.kept.measured}, rows)
    judged = {
        "shares": {name: [base[name], erased[name]] for name in base},
        "groups": {
            one.target: {key: list(getattr(one, key)) for key in ("neighbours", "heldout", "left_out")}
            for one in neighborhood.parts
        },
        "rest": rest,
    }
    numbers = {**whole.numbers, "parts": concepts, "kept": apart, "judged": judged, **method}
    numbers |= {"predicted": dict(predicted)} if predicted else {}
    write_json(folder / "evaluation.json", numbers)
    return replace(whole, numbers=numbers), alone


def _evaluate_alone(
    run: RunContext, adapter: Path, names: Sequence[str]
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Of one adapter: concept -> share of its pictures that are recognised, percent; concept -> pictures."""
    import numpy as np

    from fade.evaluation.accuracy import mean_accuracy, top1

    settings = run.params.evaluate
    seeds = consecutive_seeds(settings.seed, settings.images_per_concept)
    prompts = {name: fill(run.generator.sampler.prompt, name) for name in names}
    lora = load_adapter(run, adapter)
    lora.merge()  # as in the evaluation, whose pictures the cache may have
    try:
        with distributed(run, adapter):
            images = run.generator.generate(
                list(prompts.values()), seeds, sha256_of(adapter), partial(progress.report, "champions")
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
    sha256: str,
    selected: ReleaseParts,
    settings: ReleaseSettings,
    numbers: Mapping[str, Any],
    gate: PromotionPolicy,
) -> Lineage:
    """The release's closed record: that of a run, with its parts, how it was built, every concept's numbers,
    the worst ones as the metrics that the gate reads, and, where the gate refuses it, which parts have to
    stay out. sha256: of the adapter; numbers: of the evaluation."""
    from fade.governance.exclusion import exclusion

    checks = {
        f"{part.label} {stage}": results for part in selected.parts for stage, results in part.checks.items()
    }
    closed = opened.finish(after, sha256, checks=checks).content
    concepts = numbers["parts"]
    whole = {name: numbers[name] for name in ("metrics", "base_metrics")}
    outputs = {**closed["outputs"], **worst(concepts), "parts": concepts, "whole": whole}
    outputs["kept"] = numbers["kept"]
    parts = {part.label: part.to_json() for part in selected.parts}
    built = {
        "settings": settings.to_json(),
        "predicted": numbers.get("predicted", {}),
        "judged": numbers["judged"],
    }
    own = {"parts": parts, "release": built, "left_out": selected.left_out}
    record = {**closed, "outputs": outputs, **own}
    if stays_out := exclusion(record, gate):
        record["release"] = {**built, "stays_out": stays_out}
    return Lineage(record)


def make_release_report(
    run: RunContext,
    neighborhood: Neighborhood,
    selected: ReleaseParts,
    evaluation: EvaluationResult,
    alone: Mapping[str, Mapping[str, np.ndarray]],
    record: Mapping[str, Any],
    seconds: Mapping[str, float],
    command: str,
    folder: Path,
) -> None:
    """Write the page and the card of a run, and the pictures of each erased concept and its two nearest
    neighbours: by the original, the champion alone and the release. Raises StorageError."""
    from fade.reporting.image_grid import png
    from fade.reporting.pictures import RELEASE_PICTURES, ReleaseRow, release_grid
    from tasks.stages.report import make_report

    roles = {row["concept"]: row["role"] for row in evaluation.numbers["per_concept"]}
    labels = {concept: part.label for part in selected.parts for concept in part.concepts}
    rows, n = [], RELEASE_PICTURES
    for part in neighborhood.parts:
        for name in (part.target, *part.neighbours[:2]):
            base, erased = evaluation.pictures[name]
            champion, label = alone[part.target][name], labels[part.target]
            rows.append(ReleaseRow(name, roles[name], base[:n], champion[:n], erased[:n], label))
    make_folder(folder / "pictures")
    write_whole(folder / "pictures" / "release.png", png(release_grid(rows)), stage="report")
    make_report(run, neighborhood, evaluation, (), (), record, seconds, command, folder)
