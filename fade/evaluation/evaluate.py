"""Judge a base and its erased self on the same seeds: target, trained neighbours, held-out neighbours, and
the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fade.adapters.lora import LoraAdapter
from fade.config import EvaluateConfig
from fade.data.vocabulary import Vocabulary, fill
from fade.evaluation.accuracy import bootstrap_means, confusion, interval, mean_accuracy, top1
from fade.evaluation.clip_score import mean_clip_score
from fade.evaluation.consistency import ssim
from fade.evaluation.drift import drift_curve, null_drift
from fade.evaluation.erb import erasing_retention_balance
from fade.evaluation.frechet import frechet_summary
from fade.evaluation.indirect import evaluate_indirect
from fade.generation.generator import ImageGenerator, OnBatch
from fade.judges.classifier import Classifier
from fade.mining.image_encoder import ImageEncoder
from fade.mining.neighborhood import Neighborhood

GROUPS = ("target", "adjacent", "heldout", "rest")
_SHORT = {"target": "A_tar", "adjacent": "A_adj", "heldout": "A_heldout", "rest": "A_rest"}


@dataclass(frozen=True)
class Evaluation:
    """Numbers (percent) and the pictures behind them: concept -> (base, erased), each uint8 (n, H, W, 3)."""

    numbers: dict[str, Any]
    pictures: dict[str, tuple[np.ndarray, np.ndarray]] = field(repr=False)


def rest_sample(vocabulary: Vocabulary, taken: Sequence[str], size: int, seed: int) -> list[str]:
    """A fixed sample of the vocabulary without ``taken``: one seeded order for all targets, so its pictures
    are shared."""
    order = np.random.default_rng(seed).permutation(len(vocabulary))
    return [vocabulary.names[i] for i in order if vocabulary.names[i] not in set(taken)][:size]


def evaluate(
    generator: ImageGenerator,
    lora: LoraAdapter,
    adapter_sha256: str,
    neighborhood: Neighborhood,
    vocabulary: Vocabulary,
    judge: Classifier,
    config: EvaluateConfig,
    on_batch: OnBatch = lambda done, total: None,
    *,
    encoder: ImageEncoder,
) -> Evaluation:
    """Judge both models. The adapter is active when this is called, and active again when it returns.

    ``encoder`` is the base's CLIP, for the CLIP score. Indirect prompts are drawn only where
    ``evaluate.indirect_images`` says so. Raises EvaluationError when the judge lacks a label."""
    rest = rest_sample(
        vocabulary,
        [*neighborhood.targets, *neighborhood.neighbours, *neighborhood.heldout],
        config.rest_concepts,
        config.seed,
    )
    groups = {
        "target": neighborhood.targets,
        "adjacent": neighborhood.neighbours,
        "heldout": neighborhood.heldout,
        "rest": rest,
    }
    role = {name: group for group in GROUPS for name in groups[group]}
    judge.require(list(role))
    seeds = [config.seed + i for i in range(config.images_per_concept)]
    prompts = {name: fill(generator.sampler.prompt, name) for name in role}
    with lora.off():
        base_drawn = generator.generate(
            list(prompts.values()), seeds, on_batch=lambda done, total: on_batch(done, 2 * total)
        )
    erased_drawn = generator.generate(
        list(prompts.values()), seeds, adapter_sha256, lambda done, total: on_batch(total + done, 2 * total)
    )
    pictures = {name: (base_drawn[p].pixels, erased_drawn[p].pixels) for name, p in prompts.items()}
    base_odds, erased_odds = (_odds(judge, pictures, which) for which in (0, 1))
    hits = {
        which: {name: top1(odds[name], judge.index(name)) for name in role}
        for which, odds in (("base", base_odds), ("erased", erased_odds))
    }
    similar = {name: ssim(*pictures[name]) for name in role}
    numbers = _numbers(groups, hits, config)
    numbers |= {
        "target": neighborhood.target,
        "targets": neighborhood.targets,
        "neighbours": neighborhood.neighbours,
        "heldout": neighborhood.heldout,
        "rest": rest,
        "evaluation_seed": config.seed,
        "per_concept": [_row(name, role[name], hits, similar[name]) for name in role],
        "confusion": confusion(_together(erased_odds, neighborhood.targets), judge.labels),
        "base_confusion": confusion(_together(base_odds, neighborhood.targets), judge.labels),
        "spatial_consistency": _consistency(
            np.concatenate([similar[n] for n in rest]) if rest else np.array([]), config
        ),
        "target_probability": {
            "base": _own(base_odds, judge, neighborhood.targets),
            "erased": _own(erased_odds, judge, neighborhood.targets),
        },
        "null_drift": null_drift(
            generator.base,
            lora,
            _mixed_latents(base_drawn, prompts),
            seed=config.seed,
            negative_prompt=generator.sampler.negative_prompt,
        ),
    }
    numbers |= _utility(
        judge, encoder, [prompts[n] for n in rest], *([pictures[n][which] for n in rest] for which in (0, 1))
    )
    numbers["drift_over_t"] = drift_curve(
        generator.base,
        lora,
        _mixed_latents(base_drawn, prompts, each=1),
        seed=config.seed,
        bins=config.drift_bins,
        negative_prompt=generator.sampler.negative_prompt,
    )
    if config.indirect_images:
        numbers["indirect"] = evaluate_indirect(
            generator, lora, adapter_sha256, neighborhood.targets, vocabulary, judge, config
        )
    return Evaluation(measured(numbers), pictures)


def measured(value: Any) -> Any:
    """The same with None for NaN: JSON has no NaN, and what was not measured has no value."""
    if isinstance(value, dict):
        return {key: measured(item) for key, item in value.items()}
    if isinstance(value, list):
        return [measured(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _odds(
    judge: Classifier, pictures: dict[str, tuple[np.ndarray, np.ndarray]], which: int
) -> dict[str, np.ndarray]:
    names = list(pictures)
    odds = judge(np.concatenate([pictures[n][which] for n in names])).numpy()
    return dict(zip(names, np.split(odds, len(names)), strict=True))


def _numbers(
    groups: dict[str, list[str]], hits: dict[str, dict[str, np.ndarray]], config: EvaluateConfig
) -> dict[str, Any]:
    mean: dict[str, dict[str, float]] = {}
    spread: dict[str, dict[str, np.ndarray]] = {}
    for model in ("base", "erased"):
        rng = np.random.default_rng([config.seed, len(model)])
        group_hits = {g: [hits[model][n] for n in names] for g, names in groups.items()}
        mean[model] = {_SHORT[g]: mean_accuracy(h) for g, h in group_hits.items()}
        spread[model] = {_SHORT[g]: bootstrap_means(h, config.bootstrap, rng) for g, h in group_hits.items()}
    erased, boot = _with_balance(mean["erased"]), _with_balance(spread["erased"])
    n = config.images_per_concept
    return {
        "metrics": {k: float(v) for k, v in erased.items()},
        "base_metrics": mean["base"],
        "intervals": {k: interval(v) for k, v in boot.items()},
        "base_intervals": {k: interval(v) for k, v in spread["base"].items()},
        "n": {"per_concept": n, **{g: n * len(names) for g, names in groups.items()}},
    }


def _with_balance(accuracies: Mapping[str, Any]) -> dict[str, Any]:
    """A_er in place of A_tar, then the retentions, then ERB, in percent; numbers, or arrays of resamples."""
    erased = {"A_er": 100.0 - accuracies["A_tar"], **accuracies}
    del erased["A_tar"]
    return {**erased, "ERB": erasing_retention_balance(erased["A_er"], erased["A_adj"])}


def _row(name: str, role: str, hits: dict[str, dict[str, np.ndarray]], similar: np.ndarray) -> dict[str, Any]:
    base, erased = (100.0 * float(hits[m][name].mean()) for m in ("base", "erased"))
    return {
        "concept": name,
        "role": role,
        "n": len(similar),
        "base": base,
        "erased": erased,
        "ssim": float(similar.mean()),
    }


def _consistency(values: np.ndarray, config: EvaluateConfig) -> dict[str, Any]:
    if not len(values):
        return {"mean": float("nan"), "lo": float("nan"), "hi": float("nan"), "n": 0, "role": "rest"}
    rng = np.random.default_rng(config.seed)
    means = values[rng.integers(0, len(values), (config.bootstrap, len(values)))].mean(1)
    lo, hi = interval(means)
    return {"mean": float(values.mean()), "lo": lo, "hi": hi, "n": len(values), "role": "rest"}


def _utility(
    judge: Classifier,
    encoder: ImageEncoder,
    prompts: Sequence[str],
    base: Sequence[np.ndarray],
    erased: Sequence[np.ndarray],
) -> dict[str, Any]:
    """CLIP score and Fréchet distance over the unrelated concepts, uint8 (n, H, W, 3) a concept and model."""
    if not prompts:
        nothing = float("nan")
        apart = {"rest": nothing, "crossed": nothing, "floor": nothing, "n": 0, "n_half": 0}
        return {"clip_score": {"base": nothing, "erased": nothing, "n": 0}, "frechet": apart}
    features = [
        judge.features(np.concatenate(pictures)).unflatten(0, (len(prompts), -1))
        for pictures in (base, erased)
    ]
    scores = [mean_clip_score(encoder, pictures, prompts) for pictures in (base, erased)]
    n = len(prompts) * len(base[0])
    return {
        "clip_score": {"base": scores[0], "erased": scores[1], "n": n},
        "frechet": frechet_summary(*features),
    }


def _together(odds: dict[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    return np.concatenate([odds[name] for name in names])


def _own(odds: dict[str, np.ndarray], judge: Classifier, names: Sequence[str]) -> float:
    """Mean probability of its own name that a picture gets."""
    return float(np.mean([odds[name][:, judge.index(name)].mean() for name in names]))


def _mixed_latents(drawn: dict[str, Any], prompts: dict[str, str], each: int = 4) -> torch.Tensor:
    """A few clean latents of every judged concept: drift is measured where pictures are made, not only at the
    target."""
    return torch.cat([drawn[p].latents[:each] for p in prompts.values()])
